"""mmseg's and mmdet's own ways to use a trained model, on the pairs of fused ones.

Their functions and inferencers look for ``LoadImageFromFile`` by its name, and load and draw images of three channels.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import numpy as np
from mmengine.dataset import Compose, pseudo_collate

LOADER = 'LoadPairFromFile'


def teach_inferencers() -> None:
    """Let those of the libraries' inferencers that are imported take pairs, where the config loads pairs. Idempotent.

    Called for each fused model that is built, which is after the import of whatever builds it. Every other config
    takes the libraries' own way. A pair is an RGBA file with infrared as fourth channel, an array HxWx4, or two files:
    a tuple, or ``img_path`` and ``ir_path`` of a dict.
    """
    for name, patches in PATCHES.items():
        if (module := sys.modules.get(name)) is None:
            continue
        for owner, attribute, patch in patches:
            holder = getattr(module, owner) if owner else module
            original = getattr(holder, attribute)
            if not hasattr(original, 'takes_pairs'):
                patched = wraps(original)(patch(original))
                patched.takes_pairs = True
                setattr(holder, attribute, patched)


def inference_pipeline(transforms: Sequence[Mapping]) -> list[Mapping]:
    """A test pipeline of pairs for what a user gives, without labels; empty where it does not load pairs."""
    kinds = [str(transform['type']).split('.')[-1] for transform in transforms]
    if LOADER not in kinds:
        return []
    kept = [one for one, kind in zip(transforms, kinds, strict=True) if kind == LOADER or not kind.startswith('Load')]
    return [{'type': 'paif_mm.TakePair'}, *kept]


def _building(original: Callable) -> Callable:
    """``_init_pipeline`` of an inferencer."""

    def _init_pipeline(self, cfg):
        transforms = inference_pipeline(cfg.test_dataloader.dataset.get('pipeline', []))
        return Compose(transforms) if transforms else original(self, cfg)

    return _init_pipeline


def _drawing(original: Callable) -> Callable:
    """``visualize`` of an inferencer, which draws on the visible image."""

    def visualize(self, inputs, *args, **kwargs):
        return original(self, [_visible(one) for one in inputs], *args, **kwargs)

    return visualize


def _visible(given):
    if isinstance(given, Mapping):
        given = given.get('img', given.get('img_path'))
    if isinstance(given, tuple):
        given = given[0]
    # B,G,R, which the libraries draw as R,G,B
    return given[..., 2::-1] if isinstance(given, np.ndarray) and given.shape[2:] == (4,) else given


def _preparing(original: Callable) -> Callable:
    """What mmseg's ``inference_model`` prepares its batch with."""

    def _preprare_data(imgs, model):
        transforms = inference_pipeline(model.cfg.test_dataloader.dataset.get('pipeline', []))
        if not transforms:
            return original(imgs, model)
        several = isinstance(imgs, list | tuple)
        return pseudo_collate([*map(Compose(transforms), imgs if several else [imgs])]), several

    return _preprare_data


def _reading(original: Callable) -> Callable:
    """What mmdet's ``inference_detector`` takes its pipeline from; it may replace the first transform by its own."""

    def get_test_pipeline_cfg(cfg):
        transforms = original(cfg)
        pairs = inference_pipeline(transforms)
        return [type(transforms[0])(one) for one in pairs] if pairs else transforms

    return get_test_pipeline_cfg


PATCHES = {
    'mmseg.apis.inference': [('', '_preprare_data', _preparing)],
    'mmseg.apis.mmseg_inferencer': [
        ('MMSegInferencer', '_init_pipeline', _building),
        ('MMSegInferencer', 'visualize', _drawing),
    ],
    'mmdet.apis.inference': [('', 'get_test_pipeline_cfg', _reading)],
    'mmdet.apis.det_inferencer': [
        ('DetInferencer', '_init_pipeline', _building),
        ('DetInferencer', 'visualize', _drawing),
    ],
}
