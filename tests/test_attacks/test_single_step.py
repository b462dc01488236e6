"""Cheaper adversarial training: single steps, ramps, 'free' replays, and the watch over them."""

import logging
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import REPO
from helpers import box_batch, build_model, deterministic, pair_batch, tiny_fcos, tiny_segformer
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from searching import loader

from paif_mm.attacks import NFGSM, PGD, AdversarialAttackHook, FreeAdversarialHook, StepControlFGSM, frozen
from paif_mm.attacks.functional import Budget
from paif_mm.attacks.ramps import Ramps

EPS = 8 / 255


@pytest.fixture(scope='module')
def model():
    return deterministic(build_model(tiny_segformer())).eval()


def slope(weight):
    """A loss whose gradient is known: its sign is that of ``weight``."""
    return lambda images, progress: torch.stack([(image * weight).sum() for image in images])


def test_nfgsm_is_noise_and_one_unprojected_step():
    weight = torch.where(torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    image = torch.full((4, 6, 6), 128.0)
    attack = NFGSM(eps=4 / 255, noise=2.0, step=1.0)
    assert attack.budgets(4) == [Budget(slice(0, 4), pytest.approx(12), pytest.approx(4))]
    found, losses = attack.optimise(slope(weight), [image], attack.budgets(4), [torch.Generator().manual_seed(1)])
    noise = torch.empty(4, 6, 6).uniform_(-2 / 3, 2 / 3, generator=torch.Generator().manual_seed(1)) * 12
    torch.testing.assert_close(found[0], image + noise + 4 * weight)
    assert losses is None
    assert (found[0] - image).abs().max() > 4, 'outside of the ball of radius eps'


def test_nfgsm_stays_within_pixel_values_and_costs_one_gradient(model):
    batch, calls = pair_batch([(32, 32)] * 2), []
    handle = model.backbone.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    result = NFGSM(eps=EPS)(model, batch, training=True)
    handle.remove()
    assert calls == [True]
    for image in result.images:
        assert image.min() >= 0 and image.max() <= 255


def test_nfgsm_is_refused_where_robustness_is_measured():
    with pytest.raises(ValueError, match='NFGSM is for training alone'):
        AdversarialAttackHook({'type': 'NFGSM', 'eps': EPS}, phases=('train', 'val'))
    with pytest.raises(ValueError, match='noise must not be negative'):
        NFGSM(eps=EPS, noise=-1)


def test_controlled_steps_end_where_a_linear_margin_does_or_at_the_ball():
    """-M = w x - b: the step that makes it 0 is b - w x over sum_i eps_i |w_i|, in radii."""
    weight = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0))
    image, attack = torch.full((4, 6, 6), 128.0), StepControlFGSM(eps={'ir': 8 / 255, 'vis': 4 / 255})
    reach = float(weight[:3].abs().sum() * 4 + weight[3:].abs().sum() * 8)

    def loss_fn(images, progress):
        margins = (0.25 * reach, 3 * reach, 0.0)
        return torch.stack([(x - 128).mul(weight).sum() - b for x, b in zip(images, margins, strict=True)])

    near, far, lost = attack.optimise(loss_fn, [image] * 3, attack.budgets(4), None)[0]
    direction = torch.cat([weight[:3].sign() * 4, weight[3:].sign() * 8])
    torch.testing.assert_close(near, image + 0.25 * direction)
    assert (near - 128).mul(weight).sum() == pytest.approx(0.25 * reach, rel=1e-4), 'the margin is used up'
    torch.testing.assert_close(far, image + direction)
    assert torch.equal(lost, image), 'no margin is left'


def test_controlled_steps_are_those_of_the_margins_of_a_segmentor(model):
    batch, calls = pair_batch([(32, 32)] * 2), []
    handle = model.backbone.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    result = StepControlFGSM(eps=EPS)(model, batch, training=True)
    handle.remove()
    assert calls == [True]
    for i, (image, clean) in enumerate(zip(result.images, result.clean, strict=True)):
        pixels = clean.clone().requires_grad_()
        with frozen(model):
            fused = model.data_preprocessor({'inputs': [pixels], 'data_samples': None})
            logits = F.interpolate(model(**fused, mode='tensor'), (32, 32), mode='bilinear')[0]
        label = batch['data_samples'][i].gt_sem_seg.data[0]
        own = logits.gather(0, label.clamp_max(8)[None])[0]
        others = logits.scatter(0, label.clamp_max(8)[None], -torch.inf).amax(0)
        margin = (own - others).clamp_min(0)[label != 255].mean()
        (gradient,) = torch.autograd.grad(margin, pixels)
        length = min(1.0, float(margin / (8 * gradient.abs().sum())))
        assert 0 < length <= 1
        torch.testing.assert_close(image, (clean - 8 * length * gradient.sign()).clamp(0, 255), atol=1e-3, rtol=0)


def test_ramps_grow_linearly_and_leave_the_attack_alone():
    attack = PGD(eps={'ir': 8 / 255, 'vis': 4 / 255}, steps=5)
    ramps = Ramps(attack, {'eps': 4, 'steps': 2})
    first, third = ramps.at(0), ramps.at(2)
    assert first.eps == {'ir': pytest.approx(2 / 255), 'vis': pytest.approx(1 / 255)}
    assert first.step_size['ir'] == pytest.approx(2 / 255 / 4)
    assert [ramps.at(i).steps for i in range(3)] == [3, 5, 5]
    assert third.eps['ir'] == pytest.approx(6 / 255)
    assert ramps.at(3) is attack
    assert attack.eps['ir'] == 8 / 255
    assert ramps.grown('ratio', 0) == 1


@pytest.mark.parametrize(
    ('attack', 'lengths', 'message'),
    [
        ({'type': 'PGD', 'eps': EPS}, {'radius': 5}, 'ramp knows eps, ratio, steps, not radius'),
        ({'type': 'PGD', 'eps': EPS}, {'eps': 0}, 'iterations from 1 on'),
        ({'type': 'NFGSM', 'eps': EPS}, {'steps': 5}, 'needs an attack of several steps'),
    ],
)
def test_ramps_are_checked(attack, lengths, message):
    with pytest.raises((ValueError, TypeError), match=message):
        AdversarialAttackHook(attack, ramp=lengths)


def test_ramps_of_a_training_start_with_the_attacks(model):
    hook = AdversarialAttackHook(
        {'type': 'PGD', 'eps': EPS, 'steps': 1, 'step_size': EPS}, ratio=1.0, begin=10, ramp={'eps': 4, 'ratio': 2}
    )
    largest, attacked = [], []
    for iteration in (9, 10, 11, 12, 13):
        batch = pair_batch([(32, 32)] * 4)
        clean = [image.float() for image in batch['inputs']]
        hook.before_train_iter(SimpleNamespace(model=model, iter=iteration), 0, batch)
        moved = [float((a.float() - b).abs().max()) for a, b in zip(batch['inputs'], clean, strict=True)]
        largest.append(max(moved))
        attacked.append(sum(value > 0 for value in moved))
    assert largest == [0, *(pytest.approx(value, abs=1e-3) for value in (2, 4, 6, 8))]
    assert attacked == [0, 2, 4, 4, 4]


def test_free_replays_follow_the_gradients_of_training():
    """Weights and perturbations after one iteration are those of a loop written by hand."""
    results = []
    for by_hook in (True, False):
        model = deterministic(build_model(tiny_segformer())).train()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        batch = pair_batch([(32, 32)] * 2, ignored=False)
        clean = [image.float() for image in batch['inputs']]
        hook = FreeAdversarialHook(eps=EPS, replays=3)
        runner = SimpleNamespace(model=model, iter=5, seed=0, optim_wrapper=wrapper)
        hook.before_train(runner)
        hook.before_train_iter(runner, 0, batch)
        points = [point.detach() for point in batch['inputs']]
        if by_hook:
            model.train_step(batch, wrapper)
            hook.after_train_iter(runner, 0, batch)
        else:
            for replay in range(3):
                leaves = [point.requires_grad_() for point in points]
                model.train_step({**batch, 'inputs': leaves}, wrapper)
                steps = [p.detach() + 8 * p.grad.sign() for p in leaves]
                if replay < 2:
                    points = [
                        torch.min(torch.max(p, c - 8), c + 8).clamp(0, 255) for p, c in zip(steps, clean, strict=True)
                    ]
        final = batch['inputs'] if by_hook else points
        results.append((final, model.state_dict()))
    (a, weights), (b, others) = results
    torch.testing.assert_close([p.detach() for p in a], [p.detach() for p in b])
    torch.testing.assert_close(weights, others)
    assert max(float((p.detach() - c).abs().max()) for p, c in zip(a, clean, strict=True)) == pytest.approx(8, abs=1e-3)


def test_free_replays_train_detectors_too():
    model = build_model(tiny_fcos()).train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    hook, batch = FreeAdversarialHook(eps=EPS, replays=2), box_batch()
    runner = SimpleNamespace(model=model, iter=0, seed=0, optim_wrapper=wrapper)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, batch)
    model.train_step(batch, wrapper)
    hook.after_train_iter(runner, 0, batch)
    assert len(passes) == 2


def test_free_settings_are_checked(model):
    with pytest.raises(ValueError, match='replays must be at least 2'):
        FreeAdversarialHook(eps=EPS, replays=1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    search = OptimWrapperDict(weights=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    for refused in (wrapper, search):
        with pytest.raises(TypeError, match='accumulative_counts'):
            FreeAdversarialHook(eps=EPS).before_train(SimpleNamespace(seed=0, optim_wrapper=refused))


def training(work_dir, least: float, iterations: int = 4, resume: bool = False, **monitor) -> Runner:
    return Runner(
        model=build_model(tiny_segformer()),
        work_dir=str(work_dir),
        train_dataloader=loader(),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': iterations, 'val_interval': 100},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        val_dataloader=loader(6),
        val_evaluator={'type': 'paif_mm.PairIoUMetric'},
        val_cfg={},
        custom_hooks=[
            {'type': 'paif_mm.AdversarialAttackHook', 'attack': {'type': 'NFGSM', 'eps': 1e-6}, 'ratio': 1.0},
            {
                'type': 'paif_mm.OverfittingMonitorHook',
                'attack': {'type': 'PGD', 'eps': 32 / 255, 'step_size': 8 / 255, 'steps': 8, 'keep': 'last'},
                'interval': 2,
                'images': 3,
                'least': least,
                **monitor,
            },
        ],
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'interval': 2, 'by_epoch': False},
            'logger': {'type': 'LoggerHook', 'log_metric_by_epoch': False, 'interval': 2},
        },
        log_processor={'by_epoch': False},
        randomness={'seed': 0},
        resume=resume,
        experiment_name=f'{work_dir}_{iterations}'.replace('/', '_'),
        default_scope='mmseg',
    )


def test_the_monitor_tells_of_an_attack_that_does_no_harm_and_falls_back(tmp_path):
    fallback = {'type': 'PGD', 'eps': EPS, 'steps': 2, 'keep': 'last'}
    runner = training(tmp_path, 0.9, fallback=fallback)
    runner.train()
    text = next(tmp_path.rglob('*.log')).read_text()
    assert 'catastrophic overfitting: the training attack raises the harm' in text
    assert text.count('training goes on with PGD') == 1
    assert 'monitor_clean' in text and 'monitor_training_attack' in text
    attacking = next(hook for hook in runner.hooks if isinstance(hook, AdversarialAttackHook))
    assert attacking.attack.steps == 2
    again = training(tmp_path, 0.9, iterations=5, resume=True, fallback=fallback)
    again.train()
    attacking = next(hook for hook in again.hooks if isinstance(hook, AdversarialAttackHook))
    assert isinstance(attacking.attack, PGD) and attacking.attack.steps == 2, 'a resumed training remembers'


def test_the_monitor_is_silent_about_a_healthy_training(tmp_path, caplog):
    runner = training(tmp_path, 0.5, attack={'type': 'PGD', 'eps': 1e-6, 'steps': 2, 'keep': 'last'})
    with caplog.at_level(logging.WARNING):
        runner.train()
    assert 'catastrophic' not in next(tmp_path.rglob('*.log')).read_text()


def documented() -> list[list[dict]]:
    """The hooks of every config in docs/training.md."""
    blocks = re.findall(r'```python\n(.*?)```', (REPO / 'docs/training.md').read_text(), re.DOTALL)
    return [Config.fromstring(block, '.py').custom_hooks for block in blocks]


@pytest.mark.parametrize('hooks', documented())
def test_the_documented_recipes_train(tmp_path, hooks):
    runner = Runner(
        model=build_model(tiny_segformer()),
        work_dir=str(tmp_path),
        train_dataloader=loader(),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 100},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        val_dataloader=loader(4),
        val_evaluator={'type': 'paif_mm.PairIoUMetric'},
        val_cfg={},
        custom_hooks=hooks,
        default_hooks={
            'checkpoint': None,
            'logger': {'type': 'LoggerHook', 'log_metric_by_epoch': False, 'interval': 1},
        },
        log_processor={'by_epoch': False},
        randomness={'seed': 0},
        experiment_name=str(tmp_path).replace('/', '_'),
        default_scope='mmseg',
    )
    runner.train()
    assert runner.iter == 2
    assert all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())
