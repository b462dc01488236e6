"""Folders with faults drawn at random: what is on disk is used, counted in the log, or an error names it."""

import re

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from test_data.pairs import (
    FOLDERS,
    LAYOUTS,
    OBJECT,
    XML,
    coco_of,
    make_set,
    open_set,
    paths_of,
    write_coco,
    write_file,
)

from paif_mm.data import M3FDDataset, PairCocoDataset

IDS = [f'{i:05d}{"DN"[i % 2]}' for i in range(8)]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


def counted(messages: list[str], pattern: str) -> int:
    """The sum of the counts of all messages of a pattern, of which each must name as many things, up to three."""
    total = 0
    for text in messages:
        found = re.search(pattern, text)
        if found:
            number, names = int(found.group(1)), re.search(r'\((.*?)\)', text[found.start(1) :])
            if names:
                assert len(names.group(1).split(', ')) == min(number, 4), text
            total += number
    return total


def spoil(rng, root, kind, fatal: bool) -> set[str]:
    """Faults in a good folder; the names that an error may name."""
    named = set()
    leading = 'xml_path' if kind is M3FDDataset else 'img_path'
    for role, folder in FOLDERS[kind].items():
        own = '.xml' if role == 'xml_path' else '.png'
        for i in range(rng.integers(3)):  # files without a partner; of the leading role they are a missing partner
            if role != leading or fatal:
                write_file(root / folder / f'orphan{i}{own}', kind, role)
                named |= {f'orphan{i}'} if role == leading else set()
        for i in range(rng.integers(6)):
            (root / folder / f'{rng.choice(["Thumbs.db", "notes.txt", "x.png.part", "a.gif"])}{i or ".tmp"}').touch()
        if rng.random() < 0.5:
            (root / folder / 'more').mkdir()
        if fatal and rng.random() < 0.3:
            name = rng.choice(IDS)
            write_file(root / folder / f'{name}{".XML" if role == "xml_path" else ".bmp"}', kind, role)
            named.add(name)
        if fatal and rng.random() < 0.3:
            name = rng.choice(IDS)
            (root / folder / f'{name}{own}').unlink(missing_ok=True)
            named.add(name)
    return named


@pytest.mark.parametrize('seed', range(12))
@pytest.mark.parametrize('listed', [False, True], ids=['all', 'by list'])
@pytest.mark.parametrize('kind', LAYOUTS, ids=lambda kind: kind.__name__)
def test_every_file_and_line_is_used_counted_or_named(tmp_path, said, kind, listed, seed):
    rng = np.random.default_rng([seed, listed, LAYOUTS.index(kind)])
    make_set(tmp_path, kind, IDS)
    fatal = seed % 2 == 1
    named = spoil(rng, tmp_path, kind, fatal)
    lines = rng.choice(IDS, rng.integers(1, 12)).tolist()
    if fatal and rng.random() < 0.3:
        lines.append('99999D')
        named.add('99999D')
    if listed:
        (tmp_path / 'list.txt').write_text('\n'.join(f'{name}{rng.choice(["", ".png", ".JPG"])}' for name in lines))
    try:
        dataset = open_set(kind, tmp_path, ann_file='list.txt' if listed else '')
    except (ValueError, FileNotFoundError) as error:
        assert fatal and any(name in str(error) for name in named), error
        return
    used = paths_of(dataset)
    ids = [paths['img_path'].split('/')[-1].split('.')[0] for paths in used]
    if listed:
        assert ids == list(dict.fromkeys(lines))
        assert counted(said('WARNING'), r'list\.txt: (\d+) ids? .*listed more') == sum(
            lines.count(name) > 1 for name in ids
        )
    else:
        assert set(ids) >= set(IDS) - named
    unlisted = counted(said('INFO'), r'(\d+) of \d+ images in .* are in no line of')
    for role, folder in FOLDERS[kind].items():
        here = {str(path) for path in (tmp_path / folder).iterdir()}
        left = len(here - {paths[role] for paths in used})
        about = [text for text in said('WARNING') + said('INFO') if text.startswith(f'{tmp_path / folder}: ')]
        assert left == unlisted + counted(about, r': (\d+) (?:entry|entries|files?) ')


@pytest.mark.parametrize('seed', range(20))
def test_every_image_box_and_category_of_coco_is_used_or_counted(tmp_path, said, seed):
    rng = np.random.default_rng(seed)
    names = [f'{name}.png' for name in IDS]
    make_set(tmp_path, PairCocoDataset, IDS)
    unlisted = sorted(rng.choice(names, rng.integers(4), replace=False).tolist())
    content = coco_of([name for name in names if name not in unlisted])
    rng.shuffle(content['categories'])
    boxes = []
    for image in content['images']:
        for _ in range(rng.integers(1, 5)):
            x, y = rng.uniform(0, [9, 6])
            w, h = rng.uniform(0.3, 6, 2)
            box = {'image_id': image['id'], 'category_id': int(rng.integers(1, 4)), 'bbox': [x, y, w, h]}
            boxes.append({**box, **({'ignore': 1} if rng.random() < 0.2 else {})})
    boxes += [{**box, 'image_id': 1000 + i} for i, box in enumerate(boxes[: rng.integers(3)])]
    lost = sum(box['image_id'] >= 1000 for box in boxes)
    write_coco(tmp_path, {**content, 'annotations': boxes})
    orphans = rng.integers(5)
    for i in range(orphans):
        write_file(tmp_path / 'thermal' / f'orphan{i}.png', PairCocoDataset, 'ir_path')
    for folder in ('rgb', 'thermal'):
        (tmp_path / folder / 'notes.txt').touch()
    classes = tuple(rng.permutation(['person', 'bicycle', 'car'])[: rng.integers(1, 4)].tolist())
    dataset = open_set(PairCocoDataset, tmp_path, metainfo={'classes': classes}, clip_boxes=bool(seed % 2))
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    used = [instance for info in infos for instance in info['instances']]
    assert len(infos) == len(content['images'])
    assert len(used) + counted(said('INFO'), r'(\d+) of \d+ boxes left out') == len(boxes) - lost
    assert counted(said('WARNING'), r'(\d+) annotations? .*that the file does not list') == lost
    assert counted(said('WARNING'), r'thermal: (\d+) files? ') == orphans + 1
    assert counted(said('WARNING'), r'rgb: (\d+) files? ') == 1
    assert counted(said('INFO'), r'(\d+) of \d+ images in .*rgb are not listed') == len(unlisted)
    numbers = {category['name']: category['id'] for category in content['categories']}
    wanted = [numbers[name] for name in classes]
    for info in infos:  # each label is the category of its name
        truth = [
            wanted.index(box['category_id'])
            for box in boxes
            if box['image_id'] == info['img_id']
            and box['category_id'] in wanted
            and not box.get('ignore')
            and min(box['bbox'][2:]) >= 1
        ]
        assert [instance['bbox_label'] for instance in info['instances']] == truth


@pytest.mark.parametrize('seed', range(10))
def test_every_object_of_voc_is_used_or_counted(tmp_path, said, seed):
    rng = np.random.default_rng(seed)
    make_set(tmp_path, M3FDDataset, IDS)
    names, written = M3FDDataset.METAINFO['classes'], 0
    for name in IDS:
        count = int(rng.integers(4))
        objects = [
            OBJECT.format(rng.choice(names), *rng.integers(1, 6, 2), *rng.integers(7, 20, 2)) for _ in range(count)
        ]
        objects += [OBJECT.format('Car', 18, 3, 25, 9)] * int(rng.integers(2))  # beside its image
        (tmp_path / 'Annotation' / f'{name}.xml').write_text(XML.format(''.join(objects)))
        written += len(objects)
    classes = tuple(rng.permutation(names)[: rng.integers(1, 7)].tolist())
    dataset = open_set(
        M3FDDataset, tmp_path, metainfo={'classes': classes}, clip_boxes=True, filter_cfg={'filter_empty_gt': True}
    )
    used = [instance for i in range(len(dataset)) for instance in dataset.get_data_info(i)['instances']]
    assert len(used) + counted(said('INFO'), r'(\d+) of \d+ boxes left out') == written
    assert len(dataset) + counted(said('INFO'), r'(\d+) of \d+ pairs of .* left out by filter_cfg') == len(IDS)
    absent = len(set(range(len(classes))) - {instance['bbox_label'] for instance in used})
    assert counted(said('WARNING'), r'no box of (\d+) class') == (absent if written else 0)


def test_both_images_may_lie_in_one_folder(tmp_path, said):
    """As FLIR-aligned is shared: only the names tell which is which."""
    for name in ('1_RGB.jpg', '1_IR.jpg', '2_RGB.jpg', '2_IR.jpg'):
        write_file(tmp_path / 'all' / name, PairCocoDataset, 'ir_path' if 'IR' in name else 'img_path')
    write_coco(tmp_path, coco_of(['1_RGB.jpg']))
    prefix = {'img': 'all', 'ir': 'all'}
    dataset = open_set(PairCocoDataset, tmp_path, data_prefix=prefix, ir_name=('_RGB', '_IR'))
    assert dataset.get_data_info(0)['ir_path'] == str(tmp_path / 'all' / '1_IR.jpg')
    assert [text[:10] for text in said('INFO')] == ['1 of 2 ima']
    assert not [text for text in said('WARNING') if 'not used' in text]
    with pytest.raises(ValueError, match=r'1_RGB\.jpg would be its own infrared partner'):
        open_set(PairCocoDataset, tmp_path, data_prefix=prefix)
    with pytest.raises(ValueError, match=r'1_RGB\.jpg of .*boxes\.json has no _rgb for ir_name to replace'):
        open_set(PairCocoDataset, tmp_path, data_prefix=prefix, ir_name=('_rgb', '_IR'))
