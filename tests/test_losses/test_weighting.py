"""Lambda of Eq. 4: how much attacked images count."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import backbone_form, box_batch, build_model, deterministic, pair_batch, tiny_fcos, tiny_segformer

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.losses import FusionLossHook
from paif_mm.losses.trades import pixel_divergence
from paif_mm.losses.weighting import attacked_weights, passes

SIZES = ((32, 32),) * 4


def training_model(weight, fusion_loss: bool):
    """A model in training with the hooks of an adversarial training, and the attack hook."""
    model = deterministic(build_model(tiny_segformer())).train()
    runner = SimpleNamespace(model=model, iter=0)
    attack = AdversarialAttackHook({'type': 'PGD', 'eps': 8 / 255, 'steps': 1}, ratio=0.25, weight=weight)
    hooks = [FusionLossHook(), attack] if fusion_loss else [attack]
    for hook in hooks:
        hook.before_train(runner)
    return model, runner, hooks


def losses_of(model, batch) -> dict:
    return {k: v for k, v in model(**model.data_preprocessor(batch, True), mode='loss').items() if 'loss' in k}


def part(batch, index) -> dict:
    return {key: [value[i] for i in index] for key, value in batch.items() if key != 'image_weights'}


@pytest.mark.parametrize('fusion_loss', [False, True], ids=['task alone', 'with fusion loss'])
@pytest.mark.parametrize('weight', [0.0, 0.5, 3.0])
def test_the_loss_is_the_weighted_sum_of_the_clean_and_the_attacked_part(weight, fusion_loss):
    model, runner, hooks = training_model(weight, fusion_loss)
    batch = pair_batch(SIZES, ignored=False)
    hooks[-1].before_train_iter(runner, 0, batch)
    index = [i for i in range(4) if not torch.equal(batch['inputs'][i].float(), batch['clean_inputs'][i].float())]
    assert len(index) == 1
    weighted = losses_of(model, batch)
    attacked = losses_of(model, part(batch, index))
    clean = losses_of(model, part(batch, [i for i in range(4) if i not in index]))
    assert ('loss_fusion' in weighted) is fusion_loss
    for name, value in weighted.items():
        torch.testing.assert_close(value, (clean[name] + weight * attacked[name]) / (1 + weight))
    gradient = torch.autograd.grad(sum(weighted.values()), model.data_preprocessor.fusion.head[0].weight)[0]
    assert gradient.abs().sum() > 0


def test_without_a_weight_the_loss_is_the_mean_over_the_batch():
    model, runner, hooks = training_model(None, True)
    batch = pair_batch(SIZES, ignored=False)
    hooks[-1].before_train_iter(runner, 0, batch)
    assert 'image_weights' not in batch
    whole = losses_of(model, batch)
    single = [losses_of(model, part(batch, [i])) for i in range(4)]
    for name, value in whole.items():
        torch.testing.assert_close(value, sum(row[name] for row in single) / 4)


def test_a_weighted_batch_passes_a_segmentor_once():
    model, runner, hooks = training_model(2.0, True)
    batch = pair_batch(SIZES, ignored=False)
    hooks[-1].before_train_iter(runner, 0, batch)
    passed = []
    model.backbone.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    losses_of(model, batch)
    assert passed == [4]


@pytest.mark.parametrize('weight', [0.0, 3.0])
def test_a_detector_passes_each_weight_by_itself(weight):
    """Whose losses are normalised by the objects of a batch."""
    model = deterministic(build_model(tiny_fcos())).train()
    runner = SimpleNamespace(model=model, iter=0)
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': 8 / 255, 'steps': 1}, ratio=0.25, weight=weight)
    hook.before_train(runner)
    batch = box_batch(SIZES)
    hook.before_train_iter(runner, 0, batch)
    index = [i for i in range(4) if not torch.equal(batch['inputs'][i].float(), batch['clean_inputs'][i].float())]
    passed = []
    model.backbone.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    weighted = losses_of(model, batch)
    assert sorted(passed) == [1, 3]
    attacked = losses_of(model, part(batch, index))
    clean = losses_of(model, part(batch, [i for i in range(4) if i not in index]))
    for name, value in weighted.items():
        torch.testing.assert_close(value, (clean[name] + weight * attacked[name]) / (1 + weight))


def test_a_detector_that_fuses_inside_is_refused():
    model = build_model(backbone_form(tiny_fcos()))
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': 8 / 255, 'steps': 1}, weight=1.0)
    with pytest.raises(TypeError, match='FusionBackbone inside the model cannot follow'):
        hook.before_train(SimpleNamespace(model=model))


def test_trades_adds_the_divergence_of_clean_and_attacked_predictions():
    """L_clean + beta KL, on the labelled pixels of the attacked images; one pass for all."""
    model = deterministic(build_model(tiny_segformer())).train()
    runner = SimpleNamespace(model=model, iter=0)
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': 8 / 255, 'steps': 1}, ratio=0.5, trades=6.0)
    hooks = [FusionLossHook(task_weight=1.0), hook]
    for each in hooks:
        each.before_train(runner)
    batch = pair_batch(SIZES)
    clean = part(batch, range(4))
    before = losses_of(model, clean)
    hook.before_train_iter(runner, 0, batch)
    assert len(batch['inputs']) == len(batch['data_samples']) == 6
    places = batch['twins'].places
    assert batch['twins'].share == 1
    passed = []
    model.backbone.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    compared = []
    hooks[0].loss.register_forward_pre_hook(lambda _, args: compared.append(len(args[0])))
    losses = losses_of(model, batch)
    assert passed == [6]
    assert compared == [4], 'attacked copies, which do not count, have no fusion loss'
    divergence = losses.pop('decode.loss_trades') / 6
    for name, value in losses.items():
        torch.testing.assert_close(value, before[name], msg=f'{name} is that of the clean images')
    data = model.data_preprocessor(batch, True)
    logits = model(**data, mode='tensor')
    labels = torch.stack([data['data_samples'][i].gt_sem_seg.data for i in places])
    seen = F.interpolate(labels.float(), logits.shape[-2:])[:, 0] != 255
    assert 0 < seen.float().mean() < 1
    p, q = logits[places].softmax(1), logits[4:].softmax(1)
    expected = [(p[i] * (p[i] / q[i]).log()).sum(0)[seen[i]].mean() for i in range(2)]
    torch.testing.assert_close(divergence, sum(expected) / 2, rtol=1e-4, atol=1e-6)
    assert divergence > 0


def test_without_twins_trades_adds_nothing():
    model = deterministic(build_model(tiny_segformer())).train()
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': 8 / 255, 'steps': 1}, ratio=0.0, trades=6.0)
    runner = SimpleNamespace(model=model, iter=0)
    hook.before_train(runner)
    batch = pair_batch(SIZES)
    hook.before_train_iter(runner, 0, batch)
    assert 'decode.loss_trades' not in losses_of(model, batch)


def test_the_divergence_of_a_binary_head_is_that_of_its_two_classes():
    clean, attacked = torch.tensor([[[[1.0]]]]), torch.tensor([[[[-1.0]]]])
    p, q = clean.sigmoid().item(), attacked.sigmoid().item()
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = pixel_divergence(clean, attacked, torch.ones(1, 1, 1, dtype=torch.bool))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_hooks_are_removed_after_training():
    for weight, trades in ((2.0, None), (None, 1.0)):
        model = build_model(tiny_segformer())
        runner = SimpleNamespace(model=model, iter=0)
        attack = AdversarialAttackHook({'type': 'PGD', 'eps': 8 / 255, 'steps': 1}, weight=weight, trades=trades)
        hooks = [FusionLossHook(), attack]
        for hook in hooks:
            hook.before_train(runner)
        assert 'loss_by_feat' in vars(model.decode_head)
        for hook in hooks:
            hook.after_train(runner)
        assert 'loss_by_feat' not in vars(model.decode_head)
        assert not model._forward_hooks


def test_weights_are_one_on_average_and_keep_the_ratio():
    clean, attacked = attacked_weights(4, 1, 3.0)
    assert 3 * clean + attacked == pytest.approx(4)
    assert attacked / (3 * clean) == pytest.approx(3), 'L_attacked counts three times L_clean'


def test_processes_make_as_many_passes_whatever_they_hold():
    assert passes([1.5, 0.5, 1.5]) == [[1], [0, 2]]
    assert passes([1.5, 1.5, 1.5]) == [[0], [1, 2]]
    assert passes([1.5]) == [[0]]


def test_bad_uses_are_refused():
    with pytest.raises(ValueError, match='weight must not be negative'):
        AdversarialAttackHook({'type': 'PGD', 'eps': 0.1}, weight=-1)
    with pytest.raises(ValueError, match='trades must be positive, and without a weight'):
        AdversarialAttackHook({'type': 'PGD', 'eps': 0.1}, weight=1, trades=6)
    with pytest.raises(TypeError, match='trades of AdversarialAttackHook compares logits'):
        hook = AdversarialAttackHook({'type': 'PGD', 'eps': 0.1}, trades=6)
        hook.before_train(SimpleNamespace(model=build_model(tiny_fcos())))
    model = build_model(tiny_segformer())
    model.data_preprocessor = model.data_preprocessor.task
    with pytest.raises(TypeError, match='weight of AdversarialAttackHook needs a fused model'):
        AdversarialAttackHook({'type': 'PGD', 'eps': 0.1}, weight=1).before_train(SimpleNamespace(model=model))
