"""The attack core on problems whose answer is known."""

import math

import pytest
import torch

from paif_mm.attacks import Budget, Losses, projected_gradient
from paif_mm.attacks.auto_pgd import auto_pgd
from paif_mm.attacks.functional import Worst, complete

WHOLE = slice(None)


def linear(weights):
    """Loss <w, x> of each image: its maximum over a ball is known in closed form."""
    return lambda images, progress=1.0: torch.stack([(w * x).sum() for w, x in zip(weights, images, strict=True)])


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    sizes = [(4, 6, 5), (4, 3, 7)]  # images of different sizes in one batch
    images = [torch.randint(20, 235, size, generator=generator).float() for size in sizes]
    weights = [torch.randn(size, generator=generator) for size in sizes]
    return images, weights


def test_linf_reaches_the_optimum_of_a_linear_model(problem):
    images, weights = problem
    adv, losses = projected_gradient(linear(weights), images, [Budget(WHOLE, 8, 2)], steps=9)
    for x, a, w, loss in zip(images, adv, weights, losses.loss, strict=True):
        assert torch.equal(a, x + 8 * w.sign())
        assert loss == pytest.approx(float((w * x).sum() + 8 * w.abs().sum()), rel=1e-5)


def test_l2_reaches_the_optimum_of_a_linear_model(problem):
    images, weights = problem
    adv, _ = projected_gradient(linear(weights), images, [Budget(WHOLE, 10, 5)], steps=60, norm='l2')
    for x, a, w in zip(images, adv, weights, strict=True):
        torch.testing.assert_close(a - x, 10 * w / w.norm(), atol=0.05, rtol=0)
        assert (a - x).norm() <= 10 + 1e-4


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_budgets_hold_per_modality_and_zero_means_untouched(problem, norm):
    images, weights = problem
    budgets = [Budget(slice(0, 3), 0, 1), Budget(slice(3, 4), 4, 1)]
    adv, _ = projected_gradient(linear(weights), images, budgets, steps=6, norm=norm)
    for x, a in zip(images, adv, strict=True):
        assert torch.equal(a[:3], x[:3])
        moved = (a[3:] - x[3:]).abs().max() if norm == 'linf' else (a[3:] - x[3:]).norm()
        assert moved == pytest.approx(4, abs=1e-4)


def test_the_ball_is_met_exactly_in_floating_point():
    """For pixel values and radii that have no short binary form, where x + eps rounds outwards."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 64, 64, generator=generator) * 255
    eps = torch.tensor(0.7 / 3).item()
    for sign in (1, -1):
        adv, _ = projected_gradient(linear([sign * torch.ones_like(image)]), [image], [Budget(WHOLE, eps, eps)], 3)
        assert (adv[0] - image).abs().max() <= torch.tensor(eps)
    naive = (image + eps) - image
    assert (naive > torch.tensor(eps)).any(), 'the case is not hard enough to show anything'


def test_results_stay_in_the_box():
    image = torch.tensor([0.0, 1.0, 254.0, 255.0]).reshape(4, 1, 1)
    adv, _ = projected_gradient(
        linear([torch.tensor([-1.0, -1, 1, 1]).reshape(4, 1, 1)]), [image], [Budget(WHOLE, 8, 8)], 2
    )
    assert adv[0].flatten().tolist() == [0, 0, 255, 255]


def test_the_worst_iterate_is_kept_per_image():
    """A loss with a bump: large steps overshoot it, so that the last iterate is not the worst."""

    def bump(images, progress=1.0):
        return torch.stack([-(x - 103.0).abs().sum() for x in images])

    images = [torch.full((1, 1, 1), 100.0), torch.full((1, 1, 1), 106.0)]
    budgets = [Budget(WHOLE, 8, 3)]
    worst, losses = projected_gradient(bump, images, budgets, steps=4, random_start=False)
    last, _ = projected_gradient(bump, images, budgets, steps=4, random_start=False, keep='last')
    assert [x.item() for x in worst] == [103, 103]
    assert losses.loss.tolist() == [0, 0]
    assert bump(last).max() <= 0
    worst, losses = projected_gradient(bump, images, [Budget(WHOLE, 8, 5)], steps=3, random_start=False)
    last, _ = projected_gradient(bump, images, [Budget(WHOLE, 8, 5)], steps=3, random_start=False, keep='last')
    assert (losses.loss >= bump(last)).all()
    assert torch.equal(losses.loss, bump(worst))


def test_restarts_keep_the_worst_and_never_lose_to_one_try():
    def rugged(images, progress):
        return torch.stack([torch.sin(3 * x).sum() for x in images])

    image = torch.full((1, 8, 8), 100.0)
    results = {}
    for restarts in (1, 8):
        torch.manual_seed(0)
        results[restarts] = projected_gradient(rugged, [image], [Budget(WHOLE, 8, 0.05)], 5, restarts=restarts)[1].loss
    assert results[8] > results[1] or torch.equal(results[8], results[1])
    torch.manual_seed(0)
    singles = [projected_gradient(rugged, [image], [Budget(WHOLE, 8, 0.05)], 5)[1].loss for _ in range(8)]
    assert results[8] == max(singles)


def test_random_start_is_inside_the_ball_and_random():
    image = torch.full((1, 16, 16), 100.0)
    flat = lambda images, progress: torch.stack([(0 * x).sum() for x in images])  # noqa: E731 (zero gradient: start stays)
    starts = [projected_gradient(flat, [image], [Budget(WHOLE, 8, 1)], 1, keep='last')[0][0] for _ in range(2)]
    assert not torch.equal(*starts)
    assert 6 < (starts[0] - image).abs().max() <= 8
    l2 = projected_gradient(flat, [image], [Budget(WHOLE, 8, 1)], 1, norm='l2', keep='last')[0][0]
    assert 0 < (l2 - image).norm() <= 8 + 1e-4


def test_images_of_a_batch_do_not_influence_each_other(problem):
    images, weights = problem

    def quadratic(ws):
        return lambda xs, progress: torch.stack([(w * x).sum().square() for w, x in zip(ws, xs, strict=True)])

    both, _ = projected_gradient(quadratic(weights), images, [Budget(WHOLE, 8, 2)], 5, random_start=False)
    one, _ = projected_gradient(quadratic(weights[1:]), images[1:], [Budget(WHOLE, 8, 2)], 5, random_start=False)
    assert torch.equal(both[1], one[0])


def test_one_step_without_random_start_is_fgsm(problem):
    images, weights = problem
    adv, _ = projected_gradient(linear(weights), images, [Budget(WHOLE, 4, 4)], steps=1, random_start=False)
    assert torch.equal(adv[0], images[0] + 4 * weights[0].sign())


@pytest.mark.parametrize(('norm', 'ours', 'theirs'), [('linf', 8, 8 / 255), ('l2', 0.5 * 255, 0.5)])
@pytest.mark.parametrize('random_start', [False, True])
def test_iterates_agree_with_torchattacks(norm, ours, theirs, random_start):
    """Same model, same start: the published PGD takes the same steps in [0, 1] as ours in [0, 255]."""
    torchattacks = pytest.importorskip('torchattacks')
    if norm == 'l2' and random_start:
        pytest.skip('torchattacks draws its L2 start differently')
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.LazyLinear(5))
    images, labels = torch.rand(1, 3, 12, 12), torch.tensor([3])
    model(images)
    model.eval()
    if norm == 'linf':
        reference = torchattacks.PGD(model, eps=theirs, alpha=theirs / 4, steps=5, random_start=random_start)
    else:
        reference = torchattacks.PGDL2(model, eps=theirs, alpha=theirs / 4, steps=5, random_start=random_start)
    torch.manual_seed(1)
    expected = reference(images, labels)

    def loss(batch, progress):
        return torch.nn.functional.cross_entropy(model(torch.stack(batch) / 255), labels, reduction='none')

    torch.manual_seed(1)
    adv, _ = projected_gradient(
        loss, [images[0] * 255], [Budget(WHOLE, ours, ours / 4)], 5, norm, random_start=random_start, keep='last'
    )
    assert (expected - images).abs().max() > theirs / 50
    torch.testing.assert_close(adv[0] / 255, expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize('argument', [{'norm': 'l1'}, {'keep': 'best'}])
def test_unknown_settings_are_refused(argument, problem):
    images, weights = problem
    with pytest.raises(ValueError, match=next(iter(argument.values()))):
        projected_gradient(linear(weights), images, [Budget(WHOLE, 1, 1)], steps=1, **argument)


def test_l2_steps_are_normalised():
    image = torch.full((1, 2, 2), 100.0)
    weight = torch.tensor([3.0, 4.0, 0, 0]).reshape(1, 2, 2)
    adv, _ = projected_gradient(linear([weight]), [image], [Budget(WHOLE, 100, 10)], 1, 'l2', random_start=False)
    assert (adv[0] - image).norm() == pytest.approx(10, rel=1e-5)
    assert math.isclose((adv[0] - image)[0, 0, 1].item(), 8, rel_tol=1e-5)


def test_momentum_follows_the_mean_of_scaled_gradients():
    """A gradient that turns round: by hand g1 = 1, g2 = .8 * 1 - 1 = -.2, so that both steps follow the signs of g."""

    def turning(images, progress):
        return torch.stack([(x * (1.0 if progress == 0 else -30.0)).sum() for x in images])

    image = torch.full((1, 1, 1), 100.0)
    ends = {}
    for mu in (0.8, 1.5):
        adv, _ = projected_gradient(
            turning, [image], [Budget(WHOLE, 8, 2)], 2, random_start=False, keep='last', momentum=mu
        )
        ends[mu] = adv[0].item()
    assert ends == {0.8: 100, 1.5: 104}


def test_harm_decides_which_iterate_is_worst_and_loss_breaks_ties():
    def two(images, progress):
        x = torch.stack([image.sum() for image in images])
        return Losses(x, (x.detach() < 104).float())

    image = torch.full((1, 1, 1), 100.0)
    adv, losses = projected_gradient(two, [image], [Budget(WHOLE, 8, 1)], 8, random_start=False)
    assert adv[0].item() == 103
    assert losses == Losses(torch.tensor([103.0]), torch.tensor([1.0]))


@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize('auto', [False, True], ids=['pgd', 'apgd'])
@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_gradients_that_are_no_numbers_spoil_no_image(norm, auto, bad):
    """Where the gradient is a number, the attack climbs all the same: to the known optimum in L-inf."""
    image = torch.full((1, 2, 2), 100.0)
    slope = torch.tensor([[1.0, -2.0], [bad, 3.0]])

    def loss(images, progress):
        return torch.stack([Slope.apply(x[0], slope) for x in images])

    budgets = [Budget(slice(0, 1), 8.0, 2.0)]
    if auto:
        (found,), _ = auto_pgd(loss, [image], budgets, 12, norm)
    else:
        (found,), _ = projected_gradient(loss, [image], budgets, 12, norm, momentum=0.5, random_start=False)
    delta = (found - image)[0]
    assert torch.isfinite(delta).all()
    if norm == 'linf':
        assert delta[0].tolist() == [8, -8]
        assert delta[1, 1] == 8
    else:
        assert 4 < delta.norm() <= 8 + 1e-4, 'one bad value does not hold the others back'


def test_huge_gradients_are_followed_too():
    """Their squares are no floats any more."""
    image = torch.full((1, 2, 2), 100.0)
    slope = torch.tensor([[1e30, -2e30], [0.0, 2e30]])
    budgets = [Budget(slice(0, 1), 9.0, 3.0)]
    (found,), _ = projected_gradient(lambda images, _: torch.stack([(x[0] * slope).sum() for x in images]), [image],
                                     budgets, 6, 'l2', random_start=False)  # fmt: skip
    torch.testing.assert_close((found - image)[0], 9 * slope / 3e30)


class Slope(torch.autograd.Function):
    """A linear loss of the known values alone, whose gradient is not a number everywhere."""

    @staticmethod
    def forward(ctx, image, slope):
        ctx.slope = slope
        return (torch.nan_to_num(slope, 0, 0, 0) * image).sum()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.slope, None


def test_a_loss_that_is_no_number_is_never_the_worst():
    image = torch.zeros(1, 1, 1)
    worst = Worst([image])
    for value, harm in ((1.0, math.nan), (2.0, 0.3), (3.0, math.nan), (4.0, 0.1)):
        worst.update([image + value], complete(torch.tensor([harm])))
    assert worst.images[0] == 2
    assert worst.losses.harm == pytest.approx(0.3)
