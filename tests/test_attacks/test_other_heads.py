"""Attacks see what other kinds of models predict by."""

import pytest
import torch
from helpers import CLASSES, box_batch, build_model, pair_batch, tiny_fcos, tiny_segformer
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
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
    if terms is None:  # auxiliary heads predict nothing
        decoded = {name: value for name, value in own.items() if name.startswith('decode')}
        torch.testing.assert_close(together[0], model.parse_losses(decoded)[0])
    torch.testing.assert_close(
        torch.autograd.grad(together.sum(), inputs), torch.autograd.grad(torch.cat(alone).sum(), inputs)
    )
    assert not any('loss_by_feat' in vars(module) for module in model.modules())


def test_an_image_without_a_label_has_no_lovasz_loss():
    model = build_model(with_more_losses(auxiliary_head=None)).eval()
    batch = pair_batch([SIZE] * 2)
    batch['data_samples'][0].gt_sem_seg.data.fill_(255)
    inputs = [image.float().requires_grad_() for image in batch['inputs']]
    with frozen(model):
        losses = TaskLoss(('decode.loss_lovasz',))(model, inputs, batch['data_samples'], inputs, False)
    nothing, something = torch.autograd.grad(losses.sum(), inputs)
    assert losses[0] == 0 < losses[1] and not nothing.any() and something.any()


@pytest.mark.parametrize(
    'test',
    [{}, {'size_divisor': 32}, {'size': (64, 80)}, {'mode': 'slide', 'crop_size': (32, 32), 'stride': (16, 16)}],
    ids=['plain', 'divisor', 'size', 'windows'],
)
def test_a_loss_beside_cross_entropy_is_of_what_the_model_predicts_too(test):
    """Beside a Dice loss of weight 0, it is the cross-entropy that has a way of its own; on padded and slid tests."""
    losses, gradients = [], []
    for more in ([], [{'type': 'DiceLoss', 'loss_weight': 0.0}]):
        config = tiny_segformer()
        config.decode_head.loss_decode = [{'type': 'CrossEntropyLoss', 'avg_non_ignore': True}, *more]
        if 'mode' in test:
            config.test_cfg = test
        elif test:
            config.data_preprocessor.task.test_cfg = test
        torch.manual_seed(0)
        model = build_model(config).eval()
        batch = pair_batch([(36, 44)] * 2, ignored=False)
        inputs = [image.float().requires_grad_() for image in batch['inputs']]
        with frozen(model):
            losses.append(TaskLoss()(model, inputs, batch['data_samples'], inputs, training=False))
            gradients.append(torch.autograd.grad(losses[-1].sum(), inputs))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


class Noise(torch.nn.Module):
    """A random defence before a preprocessor, whose draws the class remembers: a model's attributes are put back."""

    draws = ()

    def __init__(self, preprocessor):
        super().__init__()
        self.preprocessor = preprocessor
        Noise.draws = []

    def forward(self, data, training=False):
        noise = [torch.randn(image.shape) for image in data['inputs']]
        Noise.draws.append(noise[0].sum().item())
        noisy = [image.float() + 9 * one for image, one in zip(data['inputs'], noise, strict=True)]
        return self.preprocessor({**data, 'inputs': noisy}, training)


@pytest.mark.parametrize('samples', [1, 4])
@pytest.mark.parametrize(
    ('config', 'objective'),
    [
        (tiny_segformer, {'type': 'TaskLoss'}),
        (tiny_segformer, {'type': 'TaskLoss', 'terms': ['decode.loss_ce']}),
        (with_more_losses, {'type': 'TaskLoss'}),
        (tiny_fcos, {'type': 'TaskLoss'}),
        (tiny_fcos, {'type': 'TOG', 'aim': 'vanishing'}),
    ],
    ids=['cross-entropy', 'terms', 'more losses', 'detector', 'TOG'],
)
def test_every_pass_sees_another_draw_of_a_random_defence(config, objective, samples):
    model = build_model(config()).eval()
    model.data_preprocessor = Noise(model.data_preprocessor).eval()
    batch = box_batch([SIZE]) if config is tiny_fcos else pair_batch([SIZE])
    before = torch.get_rng_state()
    attack = PGD(8 / 255, steps=2, keep='last', random_start=False, eot_samples=samples, objective=objective)
    attack(model, batch)
    assert len(set(Noise.draws)) == len(Noise.draws) >= 2 * samples
    assert torch.equal(torch.get_rng_state(), before)


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


def test_a_model_without_features_is_asked_too():
    """Of a library of somebody's own: all that it draws is the same every time."""

    class Plain(BaseModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            noisy = torch.stack(list(inputs)) + torch.rand(1)
            return {'loss': noisy.mean()}

    inputs, sample = [torch.ones(4, 8, 8)], pair_batch([(8, 8)])['data_samples']
    model = Plain()
    with frozen(model):
        found = {TaskLoss()(model, inputs, sample, inputs, training=False).item() for _ in range(3)}
    assert len(found) == 1


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
