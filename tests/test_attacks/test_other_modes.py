"""Attacks on models whose loss depends on their mode, that checkpoint activations, or that remember things."""

import pickle

import pytest
import torch
import torch.utils.checkpoint
from conftest import REPO
from helpers import box_batch, build_model, generators_untouched, pair_batch, tiny_fcos, tiny_segformer
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.checkpoint import checkpoint

from paif_mm.attacks import PGD, TaskLoss, frozen
from paif_mm.attacks.foreign import composite_modules
from paif_mm.attacks.frozen import fingerprint, loss_mode
from paif_mm.attacks.objectives import own_losses
from paif_mm.losses import FusionLossHook


def detector(config):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(config)


def loss_of(model, batch, training=True) -> float:
    inputs = [image.float() for image in batch['inputs']]
    with frozen(model), torch.no_grad():
        return TaskLoss()(model, inputs, batch['data_samples'], inputs, training).sum().item()


# ---------------------------------------------------------------------------------------------------- modes


def test_a_detector_is_attacked_by_the_loss_that_it_is_trained_by():
    """FCOS with normed boxes multiplies them by the stride in evaluation mode, before their loss."""
    config = tiny_fcos()
    config.bbox_head.norm_on_bbox = True
    config.backbone.norm_eval = True
    model = detector(config)
    batch = box_batch([(32, 40)])
    model.train()
    with torch.no_grad():
        data = {key: [value.clone() for value in values] for key, values in batch.items()}
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        data = model.data_preprocessor(data, True)
        expected = model.parse_losses(model(**data, mode='loss'))[0].item()
    for mode in (True, False):
        model.train(mode)
        assert loss_of(model, batch) == pytest.approx(expected, rel=1e-5)
        assert loss_of(model, batch, training=False) == pytest.approx(expected, rel=1e-5)


def test_what_draws_or_normalises_by_the_batch_stays_in_evaluation_mode():
    model = build_model(tiny_segformer()).train()
    composite = set(composite_modules(model))
    assert model in composite and model.backbone in composite and model.decode_head in composite
    names = {type(module).__name__ for module in composite}
    assert not {name for name in names if 'Drop' in name or 'Norm' in name}
    assert not composite & set(model.data_preprocessor.modules())
    with frozen(model):
        assert not any(module.training for module in model.modules())
        with loss_mode(model):
            assert {module for module in model.modules() if module.training} == composite
        assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.modules())


def test_functional_dropout_of_a_module_in_training_mode_is_off():
    class Careless(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, self.training)

    model, x = Careless(), torch.ones(100)
    with frozen(model), loss_mode(model):
        assert model.training
        assert torch.equal(model(x), x)
    assert model(x).min() == 0


def test_the_fusion_loss_of_a_training_run_is_no_part_of_the_attack():
    model = build_model(tiny_segformer()).train()
    sample, image = pair_batch()['data_samples'][0], pair_batch()['inputs'][0].float()
    with frozen(model):
        before = own_losses(model, image, sample, True)

        class Runner:
            pass

        runner = Runner()
        runner.model = model
        FusionLossHook().before_train(runner)
        after = own_losses(model, image, sample, True)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# ---------------------------------------------------------------------------------------------- checkpoints


class Checkpointed(nn.Module):
    """A convolution that is computed again on the way back, called as the two customs of importing have it."""

    def __init__(self, by_name: bool):
        super().__init__()
        self.by_name, self.calls = by_name, 0
        self.layer = nn.Conv2d(3, 8, 3, 4, 1)

    def forward(self, x):
        def inner(x):
            self.calls += 1
            return self.layer(x).tanh()

        if self.by_name:
            return (checkpoint(inner, x, use_reentrant=True),)
        return (torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=True),)


def checkpointed(by_name: bool):
    config = tiny_segformer()
    config.backbone = {'type': Checkpointed, 'by_name': by_name}
    config.decode_head = {
        'type': 'FCNHead',
        'in_channels': 8,
        'channels': 8,
        'num_convs': 1,
        'num_classes': 9,
        'loss_decode': {'type': 'CrossEntropyLoss'},
    }
    return build_model(config)


@pytest.mark.parametrize('by_name', [False, True])
def test_reentrant_checkpoints_are_attacked_and_still_save_memory(by_name):
    model, batch = checkpointed(by_name), pair_batch()
    former = torch.utils.checkpoint.CheckpointFunction
    result = PGD(8 / 255, steps=2)(model, batch, training=True)
    assert all((image != clean).any() for image, clean in zip(result.images, result.clean, strict=True))
    assert model.backbone.calls == 2 + 2 + 1  # two steps there and back, and a last look
    assert torch.utils.checkpoint.CheckpointFunction is former
    plain = checkpointed(by_name)
    plain.backbone.forward = lambda x: (plain.backbone.layer(x).tanh(),)
    rng = [torch.Generator().manual_seed(i) for i in range(2)]
    same = PGD(8 / 255, steps=2)(plain, batch, training=True, rng=rng)
    rng = [torch.Generator().manual_seed(i) for i in range(2)]
    again = PGD(8 / 255, steps=2)(model, batch, training=True, rng=rng)
    assert all(torch.equal(a, b) for a, b in zip(same.images, again.images, strict=True))


def test_checkpoints_are_reentrant_again_after_an_exception():
    former = torch.utils.checkpoint.CheckpointFunction
    model = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match='planted'), frozen(model):
        assert torch.utils.checkpoint.CheckpointFunction is not former
        raise RuntimeError('planted')
    assert torch.utils.checkpoint.CheckpointFunction is former


# ---------------------------------------------------------------------------------------------------- state


class Remembering(nn.Module):
    """Updates everything that a module can, whenever it is asked for its loss."""

    class Assigner:
        def __init__(self):
            self.threshold, self.history = 0.5, [1]

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, 4, 1)
        self.register_buffer('mean', torch.zeros(8))
        self.register_buffer('count', torch.zeros(1), persistent=False)
        self.seen, self.log, self.queue = 0, [0.5], torch.zeros(2)
        self.assigner = self.Assigner()

    def forward(self, x):
        x = self.layer(x)
        if self.training:
            self.mean = 0.9 * self.mean + x.detach().mean((0, 2, 3))  # another tensor
            self.count += 1  # the same
            self.queue += 1
            self.seen += 1
            self.log.append(self.seen)
            self.assigner.threshold += 0.1
            self.assigner.history.clear()
            self.cache = x.detach()
        return (x + self.mean[:, None, None] + self.count + self.queue.sum() + self.seen + self.assigner.threshold,)

    def remembered(self):
        plain = {name: vars(self)[name] for name in ('seen', 'log', 'queue')}
        return pickle.dumps((plain, vars(self.assigner), self.mean, self.count, 'cache' in vars(self)))


def test_nothing_that_a_model_remembers_is_changed_and_the_loss_is_a_function_of_the_image():
    config = tiny_segformer()
    config.backbone = {'type': Remembering}
    config.decode_head = {
        'type': 'FCNHead',
        'in_channels': 8,
        'channels': 8,
        'num_classes': 9,
        'loss_decode': {'type': 'DiceLoss'},
    }
    model = build_model(config).train()
    batch = pair_batch(ignored=False)
    remembered, print_, mean = model.backbone.remembered(), fingerprint(model), model.backbone.mean
    with generators_untouched():
        losses = {loss_of(model, batch) for _ in range(3)}
    result = PGD(8 / 255, steps=2)(model, batch, training=True)
    assert len(losses) == 1
    assert all((image != clean).any() for image, clean in zip(result.images, result.clean, strict=True))
    assert model.backbone.remembered() == remembered
    assert fingerprint(model) == print_
    assert model.backbone.mean is mean


def test_dynamic_r_cnn_keeps_its_history_and_thresholds():
    config = Config.fromfile(REPO / 'configs/families/faster-rcnn_m3fd.py').model
    config.backbone.init_cfg = None
    config.roi_head.type = 'DynamicRoIHead'
    config.roi_head.bbox_head.loss_bbox = {'type': 'SmoothL1Loss', 'beta': 1.0}
    config.train_cfg.rcnn.dynamic_rcnn = {
        'iou_topk': 1,
        'beta_topk': 1,
        'update_iter_interval': 2,
        'initial_iou': 0.4,
        'initial_beta': 1.0,
    }
    model = detector(config)
    batch = box_batch([(64, 96)])
    head = model.roi_head

    def remembered():
        thresholds = head.bbox_assigner.pos_iou_thr, head.bbox_head.loss_bbox.beta
        return list(head.iou_history), list(head.beta_history), thresholds

    before = remembered()
    assert len({loss_of(model, batch) for _ in range(4)}) == 1
    assert remembered() == before


# ---------------------------------------------------------------------------------------------- processes


def test_processes_do_not_average_over_each_others_objects(monkeypatch):
    """A model that waited for others here would wait for ever where they attack fewer images."""
    model = detector(tiny_fcos())
    batch = box_batch([(32, 40)])
    alone = loss_of(model, batch)

    def waiting(*args, **kwargs):
        raise AssertionError('asks another process')

    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda *args: 2)
    monkeypatch.setattr(torch.distributed, 'all_reduce', waiting)
    assert loss_of(model, batch) == alone
    assert torch.distributed.is_initialized()
    PGD(8 / 255, steps=1)(model, batch)


# ------------------------------------------------------------------------------------- draws inside of classifiers


def classifier(batch_augments=None, **backbone):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    arch = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}
    model = MODELS.build(
        {
            'type': 'ImageClassifier',
            'data_preprocessor': {'num_classes': 5, 'batch_augments': batch_augments},
            'backbone': {'type': 'VisionTransformer', 'arch': arch, 'img_size': 32, 'patch_size': 8, **backbone},
            'head': {'type': 'VisionTransformerClsHead', 'num_classes': 5, 'in_channels': 32},
        }
    )
    return model.train()


def asked(model) -> list[float]:
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    image, sample = torch.rand(3, 32, 32, generator=generator) * 255, DataSample().set_gt_label(2)
    with frozen(model):
        return [own_losses(model, image, sample, training=True)['loss'].item() for _ in range(3)]


def test_dropout_inside_of_attention_is_off():
    """It is a number that the attention of a library reads by its own mode, in a kernel of torch."""
    plain, dropping = classifier(), classifier(layer_cfgs={'attn_drop_rate': 0.8})
    dropping.load_state_dict(plain.state_dict())
    assert asked(dropping) == asked(plain)
    assert all(layer.attn.attn_drop == 0.8 for layer in dropping.backbone.layers)


def test_augmentations_of_training_batches_are_the_same_in_every_step():
    losses = asked(classifier(batch_augments={'augments': [{'type': 'Mixup', 'alpha': 0.8}]}))
    assert len(set(losses)) == 1
