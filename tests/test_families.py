"""Other model families behind the fusion network: each shipped config trains, predicts and is attacked."""

import pytest
import torch
from conftest import REPO
from helpers import box_batch, pair_batch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData  # noqa: F401 (data samples)

from paif_mm.attacks import PGD
from paif_mm.losses import FusionLossHook

SIZES = [(64, 96), (64, 96)]


def class_batch():
    from mmpretrain.structures import DataSample

    batch = pair_batch(SIZES)
    samples = []
    for i in range(2):
        sample = DataSample().set_gt_label(i)
        sample.set_metainfo({'img_shape': SIZES[i]})
        samples.append(sample)
    return {'inputs': batch['inputs'], 'data_samples': samples}


BATCHES = {
    'faster-rcnn_m3fd': lambda: box_batch(SIZES),
    'retinanet_m3fd': lambda: box_batch(SIZES),
    'segformer_convnext_mfnet': lambda: pair_batch(SIZES),
    'resnet18_pairs': class_batch,
}


def without_downloads(node):
    if isinstance(node, dict):
        node.pop('init_cfg', None) if 'Pretrained' in str(node.get('init_cfg')) else None
        for value in node.values():
            without_downloads(value)
    return node


def test_every_family_is_tested():
    assert set(BATCHES) == {path.stem for path in (REPO / 'configs' / 'families').glob('*.py')}


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] if 'rcnn' in name else []) for name in BATCHES]
)
def test_family(name):
    config = Config.fromfile(REPO / 'configs' / 'families' / f'{name}.py')
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(without_downloads(config.model))
        if name == 'segformer_convnext_mfnet':
            model.data_preprocessor.task.size = SIZES[0]
        model.init_weights()
        hook = FusionLossHook(weight=1.0)
        hook.before_train(type('Runner', (), {'model': model}))

        model.train()
        losses = model(**model.data_preprocessor(BATCHES[name](), True), mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        assert losses['loss_fusion'] > 0
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.data_preprocessor.fusion.parameters())
        hook.after_train(None)

        model.eval()
        batch = BATCHES[name]()
        result = PGD(eps=8 / 255, step_size=4 / 255, steps=2, keep='last')(model, batch)
        for attacked, clean in zip(result.images, result.clean, strict=True):
            assert 0 < (attacked - clean).abs().max() <= 8 + 1e-3
        with torch.no_grad():
            assert len(model.test_step({**batch, 'inputs': result.images})) == 2
