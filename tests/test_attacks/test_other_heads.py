"""Attacks see what other kinds of models predict by."""

import pytest
import torch
from helpers import CLASSES, box_batch, build_model, pair_batch, tiny_segformer
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from paif_mm.attacks import PGD, PixelLoss, TaskLoss, frozen
from paif_mm.attacks.objectives import pixel_logits

SIZE = (48, 64)


def fcn(**changes) -> dict:
    head = {'type': 'FCNHead', 'in_channels': 8, 'in_index': 3, 'channels': 8, 'num_convs': 1, 'num_classes': CLASSES}
    return ConfigDict({**head, 'norm_cfg': {'type': 'BN'}, 'align_corners': False, **changes})


def predicted(model, batch) -> torch.Tensor:
    """The share of wrong pixels, by the model's own prediction."""
    with torch.no_grad():
        samples = model.test_step(
            {'inputs': batch['inputs'], 'data_samples': [s.clone() for s in batch['data_samples']]}
        )
    shares = []
    for sample, truth in zip(samples, batch['data_samples'], strict=True):
        label = truth.gt_sem_seg.data
        shares.append((sample.pred_sem_seg.data != label)[label != 255].float().mean())
    return torch.stack(shares)


def harm(model, batch) -> torch.Tensor:
    inputs = [image.float() for image in batch['inputs']]
    with frozen(model), torch.no_grad():
        return PixelLoss()(model, inputs, batch['data_samples'], inputs, training=False).harm


def models():
    sliding = tiny_segformer()
    sliding.test_cfg = {'mode': 'slide', 'crop_size': (32, 32), 'stride': (16, 16)}
    binary = tiny_segformer()
    binary.decode_head = fcn(num_classes=2, out_channels=1, threshold=0.47)
    binary.decode_head.loss_decode = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
    cascade = tiny_segformer()
    cascade.type = 'CascadeEncoderDecoder'
    cascade.num_stages = 2
    second = {'type': 'OCRHead', 'in_channels': 8, 'in_index': 3, 'channels': 8, 'ocr_channels': 4}
    second |= {'num_classes': CLASSES, 'norm_cfg': {'type': 'BN'}, 'align_corners': False}
    cascade.decode_head = [fcn(), second]
    return {'sliding window': sliding, 'one channel of foreground': binary, 'cascade': cascade}


@pytest.mark.parametrize('kind', models())
def test_harm_is_the_share_of_wrongly_predicted_pixels(kind):
    model = build_model(models()[kind]).eval()
    batch = pair_batch([SIZE, SIZE])
    if kind.startswith('one'):
        for sample in batch['data_samples']:
            label = sample.gt_sem_seg.data
            label[label != 255] %= 2
    found = harm(model, batch)
    assert (found > 0.1).all()
    torch.testing.assert_close(found, predicted(model, batch), atol=2e-3, rtol=0)
    attack = PGD(8 / 255, objective={'type': 'PixelLoss', 'name': 'jensen_shannon'})
    result = attack(model, batch)
    before, after = (attack.losses(model, images, result, batch) for images in (result.clean, result.images))
    assert (after > before).all()


def test_a_sliding_window_is_attacked_window_by_window():
    model = build_model(models()['sliding window']).eval()
    batch = pair_batch([SIZE])
    inputs = [image.float() for image in batch['inputs']]
    with frozen(model), torch.no_grad():
        slid = pixel_logits(model, inputs, batch['data_samples'], training=False)[0][0]
        model.test_cfg.mode = 'whole'
        whole = pixel_logits(model, inputs, batch['data_samples'], training=False)[0][0]
    assert (slid - whole).abs().max() > 1e-3


def test_a_two_stage_detector_has_one_loss_for_one_image():
    """Its sampler draws proposals at random, here always the same ones, and leaves torch's generator alone."""
    from conftest import REPO

    config = Config.fromfile(REPO / 'configs/families/faster-rcnn_m3fd.py').model
    config.backbone.init_cfg = None
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    batch = box_batch([(64, 96)])
    inputs = [image.float() for image in batch['inputs']]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with frozen(model), torch.no_grad():
        losses = [TaskLoss()(model, inputs, batch['data_samples'], inputs, training=False).item() for _ in range(4)]
    assert len(set(losses)) == 1
    assert torch.equal(torch.get_rng_state(), before)
