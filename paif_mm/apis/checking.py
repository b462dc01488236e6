"""A data set read to its last file, with all that is wrong with it: what ``paif data check`` prints."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from paif_mm.data.faults import fault, gathered_faults
from paif_mm.data.loading import LoadPairAnnotations, LoadPairFromFile
from paif_mm.engine.launch import inner_datasets
from paif_mm.registry import SCOPE

THUMBNAIL = (32, 24)  # width and height of what near-duplicates are found by
ALIKE = 0.9  # correlation of both modalities' thumbnails: of other streets at most .66, of a video's neighbours to .94


class Split(NamedTuple):
    """What was found of one data set.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        pairs: how many could be read.
        faults: what is wrong, a line each, in the order of reading.
    """

    name: str
    pairs: int
    faults: list[str]


def check_data(splits: Mapping[str, Mapping]) -> Iterator[Split]:
    """Splits, one after the other, and at last what they should not share.

    Args:
        splits: settings of data sets by name, see :func:`splits_of`.

    Yields:
        Split: of each, then one called 'all splits' of near-duplicates: pairs of two splits whose visible and infrared
        images both look alike, as neighbouring frames of a video do.
    """
    seen = {}
    for name, dataset in splits.items():
        with gathered_faults() as faults:
            seen[name] = _read(dataset)
        yield Split(name, len(seen[name]), faults)
    if len(seen) > 1:
        yield Split('all splits', sum(map(len, seen.values())), list(_shared(seen)))


def splits_of(config: Mapping) -> dict[str, Mapping]:
    """The settings of a config's data sets, by the names of their splits; of those that are the same, the first."""
    init_default_scope(config.get('default_scope', 'mmseg'))
    found = {}
    for name in ('train', 'val', 'test'):
        settings = (config.get(f'{name}_dataloader') or {}).get('dataset')
        if settings and not any(_files(settings) == _files(other) for other in found.values()):
            found[name] = settings
    return found


def known_layouts(root: str | Path, settings: str | Path) -> dict[str, dict[str, Mapping]]:
    """The shipped settings that a folder is laid out as, by their names: their splits, reading from this folder.

    Settings that read the same files are one. Where parts are missing for all settings, it is that of which most is
    there.

    Args:
        root: the folder.
        settings: the folder of the shipped settings, one a data set.

    Raises:
        ValueError: it is laid out as none of them.
    """
    whole, best, known, checked = {}, (0, '', {}), [], []
    for path in sorted(Path(settings).glob('*.py')):
        splits = splits_of(Config.fromfile(path))
        if not all(dataset['type'].startswith(f'{SCOPE}.') for dataset in splits.values()):
            continue  # any folder would do
        known.append(path.stem)
        top = os.path.commonpath([dataset['data_root'] for dataset in splits.values()])
        for dataset in splits.values():
            dataset['data_root'] = os.path.normpath(os.path.join(root, os.path.relpath(dataset['data_root'], top)))
        parts = [there for dataset in splits.values() for there in _parts(dataset)]
        if all(parts) and not all(_files(dataset) in checked for dataset in splits.values()):
            whole[path.stem] = splits
            checked += map(_files, splits.values())
        if sum(parts) > best[0]:
            best = sum(parts), path.stem, splits
    if not best[0]:
        raise ValueError(
            f'{root} is laid out as none of {", ".join(known)} (docs/datasets.md shows their folders): give a config '
            'that says where its files are, in the place of the folder'
        )
    return whole or {best[1]: best[2]}


def _parts(dataset: Mapping) -> list[bool]:
    """Of each folder and list of a data set, whether it is there."""
    root, folders = Path(dataset['data_root']), dataset.get('data_prefix') or DATASETS.get(dataset['type']).FOLDERS
    return [(root / part).exists() for part in (*folders.values(), dataset.get('ann_file')) if part]


def _files(dataset: Mapping) -> dict:
    return {key: value for key, value in dataset.items() if key not in ('pipeline', 'test_mode', 'filter_cfg')}


def _read(settings: Mapping) -> dict[str, np.ndarray]:
    """Thumbnails of all pairs that can be read, by their files; what is wrong are faults."""
    found = {}
    for part in inner_datasets(settings):
        loaders = [one for one in part['pipeline'] if one['type'].split('.')[-1] == LoadPairFromFile.__name__]
        loader = LoadPairFromFile(**{key: value for one in loaders for key, value in one.items() if key != 'type'})
        try:
            dataset = DATASETS.build({**part, 'pipeline': [], 'lazy_init': True})
            items = dataset.load_data_list()
        except (ValueError, TypeError, OSError) as error:
            fault(error)
            continue
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for item, small in zip(items, pool.map(partial(_load, loader), items), strict=True):
                if small is not None:
                    found[item['img_path']] = small
    return found


def _load(loader: LoadPairFromFile, item: dict) -> np.ndarray | None:
    try:
        results = loader(dict(item))
        if 'num_labels' in item:  # a segmentation data set's
            LoadPairAnnotations()(results)
        return thumbnail(results['img'])
    except (ValueError, OSError) as error:
        fault(error)
        return None


def thumbnail(pair: np.ndarray) -> np.ndarray:
    """Small grey images of both modalities of a pair HxWx4, (2, 768), of mean 0 and length 1; 0 of uniform ones."""
    visible = cv2.cvtColor(np.ascontiguousarray(pair[..., :3]), cv2.COLOR_BGR2GRAY)
    small = np.stack([cv2.resize(one, THUMBNAIL, interpolation=cv2.INTER_AREA) for one in (visible, pair[..., 3])])
    small = small.reshape(2, -1).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    return np.where(length > np.sqrt(small.shape[1]), small / np.maximum(length, 1), 0)  # a grey level each, at least


def _shared(splits: Mapping[str, Mapping[str, np.ndarray]]) -> Iterator[str]:
    """A line for each pair of a later split that an earlier one has as well, or nearly."""
    for (first, one), (second, other) in combinations(splits.items(), 2):
        if not one or not other:
            continue
        names, before = list(one), np.stack(list(one.values()))
        for path, found in other.items():
            likeness = (before * found).sum(-1).min(1)
            best = int(likeness.argmax())
            if likeness[best] >= ALIKE or path in one:
                twin = path if path in one else names[best]
                yield f'{path} of {second} is {_likeness(path, twin, likeness[best])} {twin} of {first}'


def _likeness(path: str, twin: str, correlation: float) -> str:
    return 'also' if path == twin else f'nearly (correlation {correlation:.2f})'
