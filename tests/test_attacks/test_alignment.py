"""GradAlign: the angle between gradients within the ball, against closed forms, and as a loss of real trainings."""

import copy

import pytest
import torch
from helpers import backbone_form, box_batch, build_model, deterministic, pair_batch, tiny_fcos, tiny_segformer
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from searching import loader

from paif_mm.attacks import NFGSM, PGD, AdversarialAttackHook, TaskLoss, frozen
from paif_mm.attacks.alignment import aligned, alignment, cosine
from paif_mm.losses import FusionLossHook
from paif_mm.randomness import kept_draws

EPS = 8 / 255
WHOLE = [slice(0, 4)]
ATTACK = {'type': 'PGD', 'eps': EPS, 'step_size': 10 / 255, 'steps': 1, 'keep': 'last'}


def points(count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 5, 6 + i, generator=generator) for i in range(count)]


def test_the_gradient_of_a_linear_loss_is_the_same_everywhere():
    weight = torch.randn(4, 1, 1, requires_grad=True)
    found = alignment(
        lambda images, _: torch.stack([(weight * x).sum() for x in images]), points(), points(2, 1), WHOLE
    )
    torch.testing.assert_close(found, torch.ones(2))
    (gradient,) = torch.autograd.grad(found.sum(), weight)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)


def test_the_angle_of_a_quadratic_loss_and_its_gradient_are_known():
    """l = sum_c a_c |x_c|^2 / 2 has the gradient a x: cos = <a x, a y> / (|a x| |a y|)."""
    a = torch.tensor([0.5, 1.0, 2.0, 3.0]).view(4, 1, 1).requires_grad_()
    first, second = points(), points(2, 1)
    found = alignment(lambda images, _: torch.stack([(a * x.square()).sum() / 2 for x in images]), first, second, WHOLE)
    b = a.detach().double().requires_grad_()
    expected = torch.stack(
        [
            ((b * x) * (b * y)).sum() / ((b * x).square().sum() * (b * y).square().sum()).sqrt()
            for x, y in zip([p.double() for p in first], [p.double() for p in second], strict=True)
        ]
    )
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    (gradient,), (derived,) = (torch.autograd.grad(value.sum(), it) for value, it in ((found, a), (expected, b)))
    torch.testing.assert_close(gradient.double(), derived, atol=1e-5, rtol=1e-4)
    assert derived.abs().max() > 1e-2


def test_only_channels_with_a_radius_count():
    attack = PGD(eps={'ir': EPS, 'vis': 0}, step_size={'ir': EPS, 'vis': 0}, steps=1)
    clean = [torch.full((4, 3, 3), 100.0)]
    asked = aligned(attack, None, clean, [], None, 1.0)
    assert asked.channels == [slice(3, 4)]
    assert torch.equal(asked.noisy[0][:3], clean[0][:3])
    assert 0 < (asked.noisy[0][3] - 100).abs().max() <= 8 + 1e-4
    assert aligned(PGD(eps=0, steps=1), None, clean, [], None, 1.0) is None


class Kinked:
    """l = sum_c a_c |x_c|^power of each image: where x is 0, derivatives of an order above the power are not finite."""

    def __init__(self, a: torch.Tensor, powers: list[float]):
        self.a, self.powers = a, powers

    def __call__(self, images, progress):
        return torch.stack(
            [(self.a * x.abs().pow(self.powers[i % len(self.powers)])).sum() for i, x in enumerate(images)]
        )

    def of(self, places):
        return Kinked(self.a, [self.powers[i] for i in places])


@pytest.mark.parametrize('which', ['clean', 'noisy', 'both'])
@pytest.mark.parametrize(
    ('power', 'value'), [(0.5, torch.nan), (1.5, 0.0)], ids=['gradient no number', 'gradient 0, its slope infinite']
)
def test_an_image_whose_gradient_says_nothing_leaves_the_weights_those_of_the_others(power, value, which):
    a = torch.tensor([0.5, 1.0, 2.0, 3.0]).view(4, 1, 1).requires_grad_()
    first, second = points(3), points(3, 1)
    for images in [first] * (which != 'noisy') + [second] * (which != 'clean'):
        images[1].zero_()
    (gradient,) = torch.autograd.grad((a * (x := torch.zeros(4, 5, 5, requires_grad=True)).abs().pow(power)).sum(), x)
    assert torch.equal(gradient, torch.full_like(gradient, value)) or gradient.isnan().all() and value != 0
    loss_fn = Kinked(a, [2.0, power, 3.0])
    found = alignment(loss_fn, first, second, WHOLE)
    assert found[1] == 1
    (gradient,) = torch.autograd.grad((found * torch.tensor([1.0, 5.0, 2.0])).sum(), a)
    others = [0, 2]
    alone = alignment(loss_fn.of(others), [first[i] for i in others], [second[i] for i in others], WHOLE)
    torch.testing.assert_close(found[others], alone)
    (expected,) = torch.autograd.grad((alone * torch.tensor([1.0, 2.0])).sum(), a)
    assert torch.isfinite(gradient).all()
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(gradient, expected)


def test_where_no_gradient_says_anything_there_is_no_angle():
    a = torch.ones(4, 1, 1, requires_grad=True)
    nowhere = [torch.zeros(4, 5, 5)] * 2
    for loss_fn in (Kinked(a, [0.5, 1.5]), lambda images, _: a.detach().sum() * torch.ones(len(images))):
        found = alignment(loss_fn, nowhere, nowhere, WHOLE)
        assert torch.equal(found, torch.ones(2))
        assert not found.requires_grad


class Roots(TaskLoss):
    """The model's loss, of dark images 0 by a square root: their gradients are no numbers."""

    def __call__(self, model, inputs, data_samples, clean, training, progress=1.0):
        losses = super().__call__(model, inputs, data_samples, clean, training, progress)
        pairs = zip(losses, clean, strict=True)
        return torch.stack([(loss * 0).sqrt() if image.mean() < 20 else loss for loss, image in pairs])


def test_a_training_step_goes_on_without_images_whose_gradients_are_no_numbers():
    model = without_drawing(build_model(tiny_segformer())).eval()
    batch = pair_batch([(32, 32)] * 3)
    clean = [image.float() for image in batch['inputs']]
    clean[1] = clean[1] / 100
    samples, parameters = batch['data_samples'], [p for p in model.parameters() if p.requires_grad]
    attack, gradients = PGD(EPS, steps=1, step_size=EPS), []
    attack.objective = Roots()
    for places in ([0, 1, 2], [0, 2]):
        rng = [torch.Generator().manual_seed(place) for place in places]
        asked = aligned(attack, model, [clean[i] for i in places], [samples[i] for i in places], rng, 1.0)
        with frozen(model, parameters=True):
            cosines = alignment(asked.loss_fn, asked.clean, asked.noisy, asked.channels)
        assert cosines.isfinite().all()
        assert (cosines == 1).tolist() == [place == 1 for place in places]
        gradients.append(torch.autograd.grad(cosines.sum(), parameters, allow_unused=True))
    found = [(a, b) for a, b in zip(*gradients, strict=True) if b is not None]
    assert len(found) > 50
    for a, b in found:
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_noisy_copies_lie_in_the_ball_to_be_defended_not_in_the_wider_one_of_nfgsm():
    attack, clean = NFGSM(EPS, noise=2.0, step=1.0), [torch.full((4, 24, 24), 128.0)] * 2
    assert attack.budgets(4)[0].eps == pytest.approx(24)
    asked = aligned(attack, None, clean, [], [torch.Generator().manual_seed(i) for i in range(2)], 1.0)
    for noisy, image in zip(asked.noisy, clean, strict=True):
        assert 0.95 * 8 < (noisy - image).abs().max() <= 8 + 1e-4


def test_small_and_large_gradients_have_angles_too():
    first, second = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])
    assert cosine(first * 1e-30, second * 1e30) == pytest.approx(0.6)


def iteration(model, align, batch, weight=None, fusion=True):
    """Losses of one training step, and the gradients of the parameters."""
    hook = AdversarialAttackHook(ATTACK, ratio=1.0, align=align, weight=weight)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    runner = Namespace(model=model, iter=3, seed=0, optim_wrapper=wrapper)
    hooks = [FusionLossHook(), hook] if fusion else [hook]
    for each in hooks:
        each.before_train(runner)
    hook.before_train_iter(runner, 0, batch)
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    for each in hooks:
        each.after_train(runner)
    return {name: value.detach() for name, value in losses.items() if 'loss' in name}, gradients


class Namespace:
    """What the hooks need of a runner."""

    def __init__(self, **attributes):
        self.__dict__ = attributes


def without_drawing(model):
    for module in model.modules():
        if isinstance(module, (torch.nn.Dropout, torch.nn.Dropout2d)):
            module.p = 0.0
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    return model


def by_hand(model, batch, weight):
    """The regulariser's gradients with respect to the parameters, by two passes of their own."""
    clean = [image.float() for image in batch['inputs']]
    hook = AdversarialAttackHook(ATTACK)
    rng = [hook._generator('align', 'train', 3, i) for i in range(len(clean))]
    noisy = [
        (x + 8 * torch.empty_like(x).uniform_(-1, 1, generator=g)).clamp(0, 255)
        for x, g in zip(clean, rng, strict=True)
    ]
    with frozen(model, parameters=True), kept_draws():
        gradients = []
        for images in (clean, noisy):
            images = [image.clone().requires_grad_() for image in images]
            losses = TaskLoss()(model, images, batch['data_samples'], clean, True)
            gradients.append(torch.autograd.grad(losses.sum(), images, create_graph=True))
    cosines = [torch.cosine_similarity(g.flatten(), h.flatten(), 0, 1e-30) for g, h in zip(*gradients, strict=True)]
    loss = weight * (1 - torch.stack(cosines)).mean()
    return loss.detach(), torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


@pytest.mark.parametrize('case', ['plain', 'checkpoints', 'fused in the backbone'])
def test_a_training_step_follows_the_angle_beside_its_losses(case):
    config = tiny_segformer()
    config.backbone.with_cp = case == 'checkpoints'
    config.backbone.drop_path_rate = 0.0
    config.decode_head.dropout_ratio = 0.0
    if case == 'fused in the backbone':
        config = backbone_form(config)
    model = without_drawing(build_model(config)).train()
    batch = pair_batch([(32, 32)] * 2)
    plain_model, reference = copy.deepcopy(model), copy.deepcopy(model)
    found, gradients = iteration(model, 0.5, copy.deepcopy(batch))
    plain, others = iteration(plain_model, None, copy.deepcopy(batch))
    reference.load_state_dict(model.state_dict())  # with the batch-norm statistics of after the training pass
    loss, expected = by_hand(reference, copy.deepcopy(batch), 0.5)
    assert loss > 1e-4
    torch.testing.assert_close(found.pop('loss_align'), 4 * loss)  # the model's own losses count 4 times
    torch.testing.assert_close(found, plain)
    for gradient, other, of_angle in zip(gradients, others, expected, strict=True):
        if gradient is not None:
            share = 0 if of_angle is None else 4 * of_angle
            torch.testing.assert_close(gradient, other + share, atol=1e-5, rtol=1e-3)
    buffers = zip(model.named_buffers(), plain_model.named_buffers(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in buffers), 'batch norms see the training batch alone'
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_mixed_precision_does_not_reach_the_angle():
    found = []
    for enabled in (False, True):
        model = deterministic(build_model(tiny_segformer())).train()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses, gradients = iteration(model, 0.5, pair_batch([(32, 32)] * 2))
        found.append(losses)
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    plain, mixed = found
    assert plain['decode.loss_ce'] != mixed['decode.loss_ce']
    torch.testing.assert_close(mixed['loss_align'], plain['loss_align'], rtol=1e-6, atol=0)


def test_images_of_different_weights_do_not_weigh_the_angle():
    """Of a detector, whose parts pass one after the other."""
    model = build_model(tiny_fcos()).train()
    other = copy.deepcopy(model)
    found, gradients = iteration(model, 0.5, box_batch(), weight=2.0, fusion=False)
    alone, _ = iteration(other, 0.5, box_batch(), fusion=False)
    assert found['loss_align'] == pytest.approx(float(alone['loss_align']), rel=1e-4)
    assert 0 < alone['loss_align'] < 1
    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


def test_the_angle_shrinks_when_it_is_trained(tmp_path):
    def angles(align):
        runner = Runner(
            model=build_model(tiny_segformer()),
            work_dir=str(tmp_path / str(align)),
            train_dataloader=loader(),
            train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 8},
            optim_wrapper={'optimizer': {'type': 'Adam', 'lr': 0.005}},
            custom_hooks=[
                {'type': 'paif_mm.FusionLossHook'},
                {'type': 'paif_mm.AdversarialAttackHook', 'attack': ATTACK, 'ratio': 0.5, 'align': align},
            ],
            default_hooks={'checkpoint': None, 'logger': {'type': 'LoggerHook', 'interval': 1}},
            log_processor={'by_epoch': False},
            randomness={'seed': 0},
            experiment_name=f'{tmp_path}_{align}'.replace('/', '_'),
            default_scope='mmseg',
        )
        runner.train()
        model = runner.model.eval()
        return float(by_hand(model, pair_batch([(32, 32)] * 4, seed=5), 1.0)[0])

    assert angles(5.0) < 0.5 * angles(1e-9)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'align': 0.0}, 'align must be positive'),
        (
            {'align': 0.2, 'attack': {'type': 'Corruption', 'name': 'fog', 'severity': 1}},
            'needs an attack with a radius',
        ),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        AdversarialAttackHook(**{'attack': ATTACK, **settings})


def test_what_cannot_be_differentiated_twice_is_refused():
    hook = AdversarialAttackHook(ATTACK, align=0.2)
    compiled = build_model(tiny_segformer({'type': 'FusionNet', 'channels': 4, 'compile': True}))
    with pytest.raises(TypeError, match='differentiates twice'):
        hook.before_train(Namespace(model=compiled, optim_wrapper=None))
    wrapper = OptimWrapperDict(weights=OptimWrapper(torch.optim.SGD(compiled.parameters(), lr=0.1)))
    with pytest.raises(TypeError, match='not for a search'):
        hook.before_train(Namespace(model=build_model(tiny_segformer()), optim_wrapper=wrapper))
