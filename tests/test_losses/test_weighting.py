"""Lambda of Eq. 4: how much attacked images count."""

from types import SimpleNamespace

import pytest
import torch
from helpers import build_model, deterministic, pair_batch, tiny_segformer

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.losses import FusionLossHook
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


def test_the_hooks_are_removed_after_training():
    model, runner, hooks = training_model(2.0, True)
    assert len(model._forward_hooks) == 2
    for hook in hooks:
        hook.after_train(runner)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


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
    model = build_model(tiny_segformer())
    model.data_preprocessor = model.data_preprocessor.task
    with pytest.raises(TypeError, match='weight of AdversarialAttackHook needs a fused model'):
        AdversarialAttackHook({'type': 'PGD', 'eps': 0.1}, weight=1).before_train(SimpleNamespace(model=model))
