"""Quality of fused images beside the task's metrics."""

from types import SimpleNamespace

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.data.colour import bgr_to_luma
from paif_mm.evaluation import FusedImageQualityHook
from paif_mm.evaluation.quality import fused_image_quality


class Runner:
    def __init__(self, model, dataset=()):
        self.model = model.eval()
        self.test_dataloader = SimpleNamespace(dataset=dataset)


def evaluate(model, *batches, dataset=()) -> dict:
    hook, metrics = FusedImageQualityHook(), {'mIoU': 1.0}
    runner = Runner(model, dataset)
    hook.before_test_epoch(runner)
    for batch in batches:
        with torch.no_grad():
            model.test_step(batch)
        hook.after_test_iter(runner, 0, batch)
    hook.after_test_epoch(runner, metrics)
    return metrics


def sources(pair):
    return pair[3].float(), (bgr_to_luma(pair[:3].float() / 255)[0] * 255).round()


def test_means_over_images_are_added_to_the_metrics():
    """With the infrared image as the fused one, every value is known."""
    model = build_model(tiny_segformer({'type': 'AverageFusion', 'ir_weight': 1.0}))
    batches = [pair_batch([(32, 40), (32, 40)]), pair_batch([(40, 48)], seed=1)]
    pairs = [image for batch in batches for image in batch['inputs']]
    metrics = evaluate(model, *batches)
    each = [fused_image_quality(sources(pair)[0], *sources(pair)) for pair in pairs]
    assert metrics.pop('mIoU') == 1.0
    assert metrics == pytest.approx({f'fused/{name}': sum(e[name] for e in each) / 3 for name in each[0]})


def test_attacked_pairs_are_compared_with_the_clean_ones():
    model = build_model(tiny_segformer({'type': 'AverageFusion', 'ir_weight': 1.0}))
    clean, attacked = pair_batch([(32, 40)]), pair_batch([(32, 40)], seed=1)
    metrics = evaluate(model, {**attacked, 'clean_inputs': clean['inputs']})
    expected = fused_image_quality(attacked['inputs'][0][3].float(), *sources(clean['inputs'][0]))
    assert metrics['fused/PSNR'] == pytest.approx(expected['PSNR'])


def test_images_that_a_sampler_repeats_are_measured_once(monkeypatch):
    """Of three images, the second of two processes gets the second, and the first again."""
    model = build_model(tiny_segformer({'type': 'AverageFusion', 'ir_weight': 1.0}))
    own, repeated = pair_batch([(32, 40)]), pair_batch([(32, 40)], seed=1)
    expected = evaluate(model, own)
    monkeypatch.setattr('paif_mm.engine.repeats.get_dist_info', lambda: (1, 2))
    assert evaluate(model, own, repeated, dataset=range(3)) == expected


def test_a_model_without_fusion_has_no_such_metrics():
    config = tiny_segformer()
    config.data_preprocessor = config.data_preprocessor.task
    assert evaluate(build_model(config), pair_batch([(32, 40)], channels=3)) == {'mIoU': 1.0}
