"""What is held against each other before a training or a test starts."""

import logging
import re
from collections.abc import Iterator, Mapping

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Priority
from torch import nn

from paif_mm.compat import has_compiled_ops
from paif_mm.data.splits import shared
from paif_mm.spelling import choices

#: Names of the heads whose ``num_classes`` are the data set's.
HEADS = ('decode_head', 'auxiliary_head', 'bbox_head', 'mask_head', 'panoptic_head', 'head')
#: Parts of a model whose classes are their own: objectness, identities, another model's.
OTHERS = ('rpn_head', 'reid', 'track_head', 'teacher', 'language_model')
#: Settings that are numbers: their dotted key, whether they must be whole, and from where on they make sense.
NUMBERS = (
    (r'train_cfg\.(max_iters|max_epochs|val_interval)', True, 1),
    (r'(train|val|test)_dataloader\.batch_size', True, 1),
    (r'(train|val|test)_dataloader\.num_workers', True, 0),
    (r'randomness\.seed', True, 0),
    (r'optim_wrapper\.(\w+\.)?optimizer\.lr', False, 0),
)
SYNCHRONISED = ('torch', 'mmcv')  # batch norms that ``sync_bn`` may ask for
LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
SHOWN = 20  # classes in a message
TRIES = 20  # of a pipeline that breaks pairs at random


class ClassCountError(ValueError):
    """Classes of a model and its data sets differ; the message is one line for the user."""


class SettingError(ValueError):
    """A setting of a config has no value that it can have; the message is one line for the user."""


def check_settings(config: Mapping) -> None:
    """Check the numbers and words of a config that OpenMMLab and torch take as they are.

    Raises:
        SettingError: one is of another kind, or too small.
    """
    for key, value in _settings(config):
        for pattern, whole, least in NUMBERS:
            if value is not None and re.fullmatch(pattern, key) and not _is_number(value, whole, least):
                raise SettingError(f'{key} must be a {"whole " if whole else ""}number from {least} on, not {value!r}')
        named = isinstance(value, str) and value.upper() not in Priority.__members__
        if named and re.fullmatch(r'(custom|default)_hooks\.\w+\.priority', key):
            raise SettingError(f'{key}: there is no priority {value!r}: {choices(value, Priority.__members__)}')
        if key == 'log_level' and isinstance(value, str) and not isinstance(logging.getLevelName(value), int):
            raise SettingError(f'log_level: there is no level {value!r}: {choices(value, LEVELS)}')
        if key == 'sync_bn' and value is not None and value not in SYNCHRONISED:
            raise SettingError(f'sync_bn: there is no {value!r}: {choices(str(value), SYNCHRONISED)}')
        if key == 'sync_bn' and value == 'mmcv' and not has_compiled_ops():
            raise SettingError("sync_bn='mmcv' needs the compiled operators of the full mmcv: set sync_bn='torch'")


def _settings(node, path: str = '') -> Iterator[tuple[str, object]]:
    """(dotted key, value) of all settings that hold no others."""
    if isinstance(node, list | tuple):
        node = {str(place): item for place, item in enumerate(node)}
    if not isinstance(node, Mapping):
        yield path, node
        return
    for key, value in node.items():
        yield from _settings(value, f'{path}.{key}' if path else str(key))


def _is_number(value, whole: bool, least: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= least and (not whole or value == int(value))


def check_run(runner) -> None:
    """Check a runner whose loops are built.

    Raises:
        ClassCountError: the model's classes or class weights are not as many as the data sets' classes, or two data
            sets' classes differ.
    """
    metas = {name: getattr(dataset, 'metainfo', None) or {} for name, dataset in datasets_of(runner).items()}
    for meta in metas.values():
        check_class_count(runner.model, meta)
    check_class_weights(runner.model)
    check_same_classes(metas)


def shared_samples(runner) -> list[str]:
    """A line for each data set of a runner whose loops are built that holds samples of the training set.

    A search's training set is the whole of it. Data sets that cannot tell their samples are left out.
    """
    datasets = datasets_of(runner)
    training = [datasets.pop('train', None), getattr(getattr(runner, '_train_loop', None), 'arch_dataloader', None)]
    training[1] = getattr(training[1], 'dataset', None)
    lines = []
    for name, dataset in datasets.items():
        try:
            common = [key for part in training if part is not None for key in shared(dataset, part)]
        except TypeError:
            continue
        if common:
            lines.append(
                f'{len(common)} of the {len(dataset)} samples of {name}_dataloader are training samples (the first: '
                f'{common[0]}): its figures say nothing about new ones'
            )
    return lines


def class_count(model) -> int:
    """Number of classes of a segmentor, or of a detector with one or two stages."""
    for path in (('num_classes',), ('bbox_head', 'num_classes'), ('roi_head', 'bbox_head', 'num_classes')):
        part = model
        for name in path:
            part = getattr(part, name, None)
            if isinstance(part, nn.ModuleList):  # cascades
                part = part[-1]
        if part is not None:
            return part
    raise TypeError(f'{type(model).__name__} tells no number of classes: it is no segmentor or detector of boxes')


def check_class_count(model: nn.Module, dataset_meta: Mapping) -> None:
    """Check that every head of a model has as many classes as the data set.

    Args:
        model: a segmentor, detector or classifier, wrapped or not.
        dataset_meta: ``metainfo`` of the data set; nothing is checked where it names no classes.

    Raises:
        ClassCountError: a head has more or fewer; a :class:`ValueError`.
    """
    classes = dataset_meta.get('classes')
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    if not classes or hasattr(model, 'language_model') or type(model).__name__ == 'DepthEstimator':
        return  # nothing to compare: classes are words, or there are none
    count = len(classes)
    for path, head in model.named_modules():
        parts = [part for part in path.split('.') if not part.isdigit()]
        if not parts or parts[-1] not in HEADS or set(parts) & set(OTHERS) or (parts[-1] == 'head' and len(parts) > 1):
            continue
        setting, given = _class_count(head)
        if given is not None and given not in _right_counts(head, dataset_meta):
            key = re.sub(r'\.(\d+)', r'[\1]', f'model.{path}.{setting}')
            names = ', '.join(map(str, classes[:SHOWN])) + (', ...' if count > SHOWN else '')
            raise ClassCountError(
                f'{key} is {given}, but the data set has {count} classes ({names}): set {key}={count}, or '
                'metainfo.classes of the data sets'
            )


def check_class_weights(model: nn.Module) -> None:
    """Check that the losses of mmseg's heads have one weight per class, where they have any.

    Raises:
        ClassCountError: one has more or fewer.
    """
    for path, loss in model.named_modules():
        head, found, rest = path.rpartition('.loss_decode')
        weights = getattr(loss, 'class_weight', None)
        count = getattr(model.get_submodule(head), 'num_classes', None) if found else None
        if isinstance(weights, list | tuple) and isinstance(count, int) and len(weights) != count:
            key = re.sub(r'\.(\d+)', r'[\1]', f'model.{head.removeprefix("module.")}.loss_decode{rest}')
            raise ClassCountError(
                f'{key}.class_weight has {len(weights)} weights, but the head has {count} classes: give one weight per '
                'class, or None'
            )


def transforms_that_break_pairs(datasets: Mapping[str, object]) -> list[str]:
    """A line for the first transform of each data set after which a loaded image is no pair; for a failed run.

    Args:
        datasets: 'train', 'val' or 'test' -> data set, which may be a wrapper of others.
    """
    lines = []
    for name, dataset in datasets.items():
        for inner in _inner(dataset):
            for _ in range(TRIES):
                line = _broken_by(inner, f'{name}_dataloader.dataset.pipeline')
                if line:
                    lines.append(line)
                    break
    return lines


def _broken_by(dataset, where: str) -> str | None:
    results = dataset.get_data_info(0)
    for place, step in enumerate(dataset.pipeline.transforms):
        before = results.get('img')
        results = step(results)
        image = results.get('img') if results else None
        if image is None or (image.ndim == 3 and image.shape[2] == 4):
            continue
        channels = image.shape[2] if image.ndim == 3 else 1
        what = f'{where}[{place}], {type(step).__name__},'
        if before is None:
            return f"{what} loads {channels} channel(s), but the model fuses pairs: use type='paif_mm.LoadPairFromFile'"
        return (
            f'{what} makes {channels} channel(s) of the 4 of a pair: put it into '
            f"dict(type='paif_mm.VisibleOnly', transforms=[dict(type={type(step).__name__!r}, ...)])"
        )
    return None


def _inner(dataset) -> list:
    """The data sets with a pipeline of their own in one that may wrap them."""
    if hasattr(getattr(dataset, 'pipeline', None), 'transforms') and hasattr(dataset, 'get_data_info'):
        return [dataset] if not hasattr(dataset, 'datasets') else [i for d in dataset.datasets for i in _inner(d)]
    inside = [*getattr(dataset, 'datasets', ()), *([dataset.dataset] if hasattr(dataset, 'dataset') else [])]
    return [found for one in inside for found in _inner(one)]


def datasets_of(runner) -> dict:
    """'train', 'val', 'test' -> data set, of the loops that are built."""
    loops = {'train': runner._train_loop, 'val': runner._val_loop, 'test': runner._test_loop}
    return {name: loop.dataloader.dataset for name, loop in loops.items() if isinstance(loop, BaseLoop)}


def check_same_classes(metas: Mapping[str, Mapping]) -> None:
    """Check that data sets agree on their classes.

    Args:
        metas: 'train', 'val' or 'test' -> ``metainfo``; those without classes are left out.

    Raises:
        ClassCountError: they do not.
    """
    known = {name: [str(c) for c in meta['classes']] for name, meta in metas.items() if meta.get('classes')}
    for name, classes in known.items():
        first, expected = next(iter(known.items()))
        if classes != expected:
            raise ClassCountError(
                f'the classes of {name}_dataloader.dataset ({", ".join(classes)}) are not those of '
                f'{first}_dataloader.dataset ({", ".join(expected)}): give both the same metainfo.classes'
            )


def _class_count(head: nn.Module) -> tuple[str, int | None]:
    """Name and value of a head's number of classes; None if they are not the data set's."""
    if getattr(head, 'class_agnostic', False) is True or hasattr(head, 'boundary_threshold'):  # masks; STDC's edges
        return '', None
    for names in (('num_things_classes', 'num_stuff_classes'), ('num_classes',)):
        values = [getattr(head, name, None) for name in names]
        if all(isinstance(value, int) for value in values):
            return ' + '.join(names), sum(values)
    return '', None


def _right_counts(head: nn.Module, meta: Mapping) -> set[int]:
    counts = {len(meta['classes'])}
    if 'thing_classes' in meta:  # boxes and masks of a panoptic data set
        counts.add(len(meta['thing_classes']))
    if getattr(head, 'out_channels', None) == 1 and counts == {2}:
        counts.add(1)  # one logit, foreground against background
    return counts
