"""Annotation files in COCO's format: read, checked, and completed where the meaning is certain."""

import json
from collections import Counter, defaultdict
from numbers import Integral, Real

from mmengine import fileio

from .faults import fault
from .listing import count, inform, warn


def read_coco(path: str, may_lack_annotations: bool, backend_args: dict | None = None) -> dict:
    """Images, annotations and categories of a file.

    Args:
        path (str): the file.
        may_lack_annotations (bool): whether a file without any is a test set, and no error.
        backend_args (dict | None): file backend.

    Returns:
        dict: ``categories``: names by their ids, in the order of the ids; ``images``: as in the file, ``width`` and
        ``height`` perhaps None; ``annotations``: lists by the image's id, each complete: without ``area`` it becomes
        that of the box, without ``iscrowd`` 0, without ``id`` the next free number. What was completed, and
        annotations of images that the file does not list, are counted in the log.

    Raises:
        ValueError: no JSON, or a part that is missing, of a wrong type, contradictory or there twice.
    """
    try:
        content = json.loads(fileio.get(path, backend_args=backend_args))
    except ValueError as error:
        raise ValueError(f'{path} cannot be read as JSON: {error}') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} is no COCO file: expected images, annotations and categories')
    if content.get('annotations') is None and may_lack_annotations:
        inform(f'{path} has no annotations: taken as a test set')
        content = {**content, 'annotations': []}
    for part in ('images', 'annotations', 'categories'):
        if not isinstance(content.get(part), list) or not all(isinstance(entry, dict) for entry in content[part]):
            raise ValueError(f'{path} has no list of {part}: it is no COCO file')
    categories = _categories(content['categories'], path)
    images = _images(content['images'], path)
    return {
        'categories': categories,
        'images': list(images.values()),
        'annotations': _annotations(content['annotations'], images, categories, path),
    }


def _categories(entries: list[dict], path: str) -> dict[int, str]:
    for entry in entries:
        if not _is(Integral, entry.get('id')) or not isinstance(entry.get('name'), str):
            raise ValueError(f'{path}: the category {entry} needs an id, a whole number, and a name')
    for part in ('id', 'name'):
        _refuse_twice([entry[part] for entry in entries], f'{path}: category {part}')
    return {entry['id']: entry['name'] for entry in sorted(entries, key=lambda entry: entry['id'])}


def _images(entries: list[dict], path: str) -> dict:
    for entry in entries:
        if not _is(Integral, entry.get('id')) and not isinstance(entry.get('id'), str):
            raise ValueError(f'{path}: the image {entry} has no id')
        if not isinstance(entry.get('file_name'), str) or not entry['file_name']:
            raise ValueError(f'{path}: image {entry["id"]} has no file_name')
        for side in ('width', 'height'):
            value = entry.setdefault(side, None)
            if value is not None and not (_is(Integral, value) and value > 0):
                raise ValueError(f'{path}: {entry["file_name"]} has {side} {value!r}, no positive whole number')
    for part in ('id', 'file_name'):
        _refuse_twice([entry[part] for entry in entries], f'{path}: image {part}')
    return {entry['id']: entry for entry in entries}


def _annotations(entries: list[dict], images: dict, categories: dict, path: str) -> dict[object, list[dict]]:
    found, lost, completed = defaultdict(list), [], Counter()
    given = [entry['id'] for entry in entries if entry.get('id') is not None]
    _refuse_twice(given, f'{path}: annotation id')
    free = 1 + max((value for value in given if _is(Integral, value)), default=0)
    for place, entry in enumerate(entries):
        name, key = entry.get('id', f'in place {place + 1}'), entry.get('image_id')
        if not _is(Integral, key) and not isinstance(key, str):
            fault(ValueError(f'{path}: annotation {name} has no image_id'))
        elif key not in images:
            lost.append(name)
        else:
            where = f'{path}: annotation {name} of {images[key]["file_name"]}'
            try:
                completed.update(_complete(entry, free + place, categories, where))
            except ValueError as error:
                fault(error)
            else:
                found[key].append({**entry, 'where': where})
    if lost:
        warn(f'{path}: {count(lost, "annotation", "annotations")} not used: of images that the file does not list')
    if completed:
        parts = ', '.join(f'{part} of {number}' for part, number in completed.items())
        warn(f'{path}: {parts} annotations completed here, which a metric that reads the file by itself will miss')
    return found


def _complete(entry: dict, number: int, categories: dict[int, str], where: str) -> list[str]:
    """Give an annotation what it lacks; the names of these parts."""
    category, box, lacking = entry.get('category_id'), entry.get('bbox'), []
    if not _is(Integral, category) or category not in categories:
        raise ValueError(f'{where} has the unknown category {category}: the file defines {categories}')
    if not isinstance(box, list) or len(box) != 4 or not all(_is(Real, value) for value in box):
        raise ValueError(f'{where} has the bbox {box!r}: expected four numbers: x, y, width and height')
    for part, value in (('id', number), ('area', box[2] * box[3]), ('iscrowd', 0)):
        if entry.get(part) is None:
            entry[part] = value
            lacking.append(part)
        elif part == 'area' and not (_is(Real, entry[part]) and entry[part] > 0):
            raise ValueError(f'{where} has the area {entry[part]!r}: remove it to take that of the box, or correct it')
        elif part == 'iscrowd' and entry[part] not in (0, 1):
            raise ValueError(f'{where} has iscrowd {entry[part]!r}: write 0 or 1')
    return lacking


def _refuse_twice(values: list, what: str) -> None:
    twice = [value for value, number in Counter(values).items() if number > 1]
    if twice:
        raise ValueError(f'{what} is there more than once: {", ".join(map(str, twice[:3]))}')


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
