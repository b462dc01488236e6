"""Auto-PGD on problems whose answer is known, and on a segmentor."""

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.attacks import APGD, PGD, Budget, auto_pgd, projected_gradient

WHOLE = slice(None)


def linear(weights):
    return lambda images, progress=1.0: torch.stack([(w * x).sum() for w, x in zip(weights, images, strict=True)])


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    sizes = [(4, 6, 5), (4, 3, 7)]
    images = [torch.randint(20, 235, size, generator=generator).float() for size in sizes]
    return images, [torch.randn(size, generator=generator) for size in sizes]


@pytest.mark.parametrize('stages', [((1.0, 1.0),), ((0.3, 2.0), (0.3, 1.5), (0.4, 1.0))])
def test_linf_reaches_the_optimum_of_a_linear_model(problem, stages):
    images, weights = problem
    adv, losses = auto_pgd(linear(weights), images, [Budget(WHOLE, 8, 0)], 20, stages=stages)
    for x, a, w, loss in zip(images, adv, weights, losses.loss, strict=True):
        assert torch.equal(a, x + 8 * w.sign())
        assert loss == pytest.approx(float((w * a).sum()), rel=1e-5)


def test_l2_reaches_the_optimum_and_modalities_keep_their_budgets(problem):
    images, weights = problem
    budgets = [Budget(slice(0, 3), 0, 0), Budget(slice(3, 4), 10, 0)]
    adv, _ = auto_pgd(linear(weights), images, budgets, 60, norm='l2')
    for x, a, w in zip(images, adv, weights, strict=True):
        assert torch.equal(a[:3], x[:3])
        torch.testing.assert_close(a[3:] - x[3:], 10 * w[3:] / w[3:].norm(), atol=0.1, rtol=0)
        assert (a - x).norm() <= 10 + 1e-3


def valley(images, progress=1.0):
    """Its top lies between the points that steps of a fixed length reach."""
    return torch.stack([-((x - 103.3).square()).sum() for x in images])


def test_steps_are_halved_where_they_overshoot():
    image = torch.full((1, 1, 2), 100.0)
    fixed = projected_gradient(valley, [image], [Budget(WHOLE, 8, 2)], 40, random_start=False)[1].loss
    torch.manual_seed(0)
    adaptive = auto_pgd(valley, [image], [Budget(WHOLE, 8, 0)], 40)[1].loss
    assert adaptive > -0.1 > fixed


def test_images_of_a_batch_do_not_influence_each_other(problem):
    images, _ = problem

    def rugged(batch, progress=1.0):
        return torch.stack([torch.sin(x / 3).sum() for x in batch])

    def attacked(batch):
        torch.manual_seed(0)
        if len(batch) == 1:
            torch.empty_like(images[0]).uniform_()  # what the other image would have drawn
        return auto_pgd(rugged, batch, [Budget(WHOLE, 8, 0)], 15)[0][-1]

    assert torch.equal(attacked(images), attacked(images[1:]))


def test_it_takes_as_many_gradients_as_steps(problem):
    images, weights = problem
    seen = []

    def counted(batch, progress):
        seen.append((torch.is_grad_enabled(), progress))
        return linear(weights)(batch)

    auto_pgd(counted, images, [Budget(WHOLE, 8, 0)], 10)
    assert [progress for grad, progress in seen if grad] == [i / 10 for i in range(10)]
    assert [progress for grad, progress in seen if not grad] == [1.0]


def test_stages_must_end_in_the_ball(problem):
    with pytest.raises(ValueError, match='end at radius 1'):
        auto_pgd(linear(problem[1]), problem[0], [Budget(WHOLE, 8, 0)], 9, stages=((0.5, 1.0), (0.5, 2.0)))


def test_a_segmentor_falls_further_than_under_pgd():
    model = build_model(tiny_segformer()).eval()
    objective = {'type': 'PixelLoss', 'name': 'cross_entropy'}
    torch.manual_seed(0)
    weak = PGD(eps=8 / 255, steps=5, objective=objective)(model, pair_batch())
    strong = APGD(eps=8 / 255, steps=25, objective=objective)(model, pair_batch())
    assert strong.losses.sum() > weak.losses.sum()
    for attacked, clean in zip(strong.images, strong.clean, strict=True):
        assert (attacked - clean).abs().max() <= 8 + 1e-3
