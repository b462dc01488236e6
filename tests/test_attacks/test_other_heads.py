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


def with_more_losses(**changes) -> ConfigDict:
    """A segmentor with Dice or Lovasz beside its cross-entropy, a choice of pixels, and two auxiliary heads."""
    config = tiny_segformer()
    cross_entropy = {'type': 'CrossEntropyLoss', 'class_weight': [0.5] + [2.0] * (CLASSES - 1)}
    lovasz = {'type': 'LovaszLoss', 'reduction': 'none', 'loss_weight': 0.5}
    config.decode_head.loss_decode = [cross_entropy, {'type': 'DiceLoss'}, lovasz]
    config.auxiliary_head = [fcn(in_index=2), fcn(sampler={'type': 'OHEMPixelSampler', 'thresh': 0.7, 'min_kept': 50})]
    config.update(changes)
    return config


@pytest.mark.parametrize('training', [True, False], ids=['training', 'test'])
@pytest.mark.parametrize('terms', [None, ('decode.loss_lovasz', 'aux_*.loss_ce')], ids=['all terms', 'some'])
def test_losses_of_any_kind_take_one_pass_for_images_of_one_size(training, terms):
    """One by one, batches of one image, is what mmseg itself says."""
    model = build_model(with_more_losses()).eval()
    batch = pair_batch([SIZE] * 3)
    inputs = [image.float().requires_grad_() for image in batch['inputs']]
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    task = TaskLoss(terms)
    with frozen(model):
        together = task(model, inputs, batch['data_samples'], inputs, training)
        assert len(passes) == 1
        alone = [
            task(model, [image], [sample], [image], training)
            for image, sample in zip(inputs, batch['data_samples'], strict=True)
        ]
        own = model.forward(
            **model.data_preprocessor({'inputs': inputs[:1], 'data_samples': batch['data_samples'][:1]}, True),
            mode='loss',
        )
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.unique().numel() == 3
    if terms is None:
        torch.testing.assert_close(together[0], model.parse_losses(own)[0])
    torch.testing.assert_close(
        torch.autograd.grad(together.sum(), inputs), torch.autograd.grad(torch.cat(alone).sum(), inputs)
    )
    assert not any('loss_by_feat' in vars(module) for module in model.modules())


def test_a_segmentor_with_a_loss_of_its_own_is_asked_image_by_image():
    model = build_model(with_more_losses()).eval()

    class More(type(model)):
        def loss(self, inputs, data_samples):
            return {**super().loss(inputs, data_samples), 'loss_of_its_own': inputs.square().mean()}

    model.__class__ = More
    batch = pair_batch([SIZE] * 2)
    inputs = [image.float() for image in batch['inputs']]
    with frozen(model), torch.no_grad():
        found = TaskLoss(('loss_of_its_own',))(model, inputs, batch['data_samples'], inputs, True)
    assert found[0] != found[1]


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
