"""Auto-PGD on problems whose answer is known, and on a segmentor."""

import importlib
from functools import partial

import pytest
import torch
from conftest import REPO
from helpers import build_model, pair_batch, tiny_segformer
from test_attacks.test_published import Scene

from paif_mm.attacks import APGD, PGD, Budget, Losses, auto_pgd, projected_gradient
from paif_mm.attacks.pixel_losses import PIXEL_LOSSES, class_weighted_cross_entropy

WHOLE = slice(None)
SEA = ((0.3, 2.0), (0.3, 1.5), (0.4, 1.0))


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


@pytest.mark.parametrize('steered', [True, False])
def test_steps_are_not_halved_while_the_steering_loss_rises(steered):
    """A loss that falls all the way, as a masked one does; what steers says that every step is a success."""
    image, points = torch.full((1, 1, 1), 100.0), []

    def falls(images, progress):
        points.append(images[0].item())
        x = torch.stack([image.sum() for image in images])
        away = (x - 100).abs().detach()
        loss = x - x.detach() - away  # its gradient is 1, its value -away
        return Losses(loss, away, away if steered else None)

    torch.manual_seed(0)
    auto_pgd(falls, [image], [Budget(WHOLE, 50, 0)], 20)
    moves = [abs(b - a) for a, b in zip(points, points[1:], strict=False)]
    assert points[1] == 150
    returned = any(move > 0 for move in moves[1:])
    assert returned == (not steered), 'back to the start, which lost least, with half the step'


def test_each_stage_starts_from_the_point_of_highest_harm_so_far():
    """In the first ball the highest loss is at its edge, the highest harm inside."""
    image, starts = torch.full((1, 1, 1), 100.0), []

    def peaked(images, progress):
        if progress == 0:
            starts.append(images[0].item())
        x = torch.stack([image.sum() for image in images])
        return Losses(x, -(x.detach() - 108).abs())

    torch.manual_seed(0)
    adv, _ = auto_pgd(peaked, [image], [Budget(WHOLE, 10, 0)], 30, stages=((0.5, 3.0), (0.5, 1.0)))
    assert starts[1] < 110, 'not the edge of either ball'
    assert abs(adv[0].item() - 108) <= abs(starts[1] - 108)


def test_a_start_without_a_number_is_left_for_good():
    image = torch.full((1, 1, 1), 100.0)

    def broken(images, progress):
        x = torch.stack([image.sum() for image in images])
        return torch.where(x < 101, torch.nan, x) + 0 * x

    image += 3  # the random start may lie on either side
    for seed in range(4):
        torch.manual_seed(seed)
        adv, losses = auto_pgd(broken, [image], [Budget(WHOLE, 8, 0)], 12)
        if losses.loss.isfinite():
            assert adv[0].item() == 111


@pytest.mark.parametrize('name', ['masked_cross_entropy', 'balanced_cross_entropy', 'jensen_shannon'])
def test_the_attacks_of_sea_are_those_of_its_paper(name, monkeypatch):
    """As strong, on four small scenes: ties of equal accuracy are all that is broken another way."""
    monkeypatch.syspath_prepend(REPO / 'benchmarks')
    reference = importlib.import_module('sea')
    scene = Scene(4)
    weight = (1 / scene.labels.flatten().bincount(minlength=4)).double()
    of_pixels = PIXEL_LOSSES[name]
    if name == 'balanced_cross_entropy':
        of_pixels = partial(class_weighted_cross_entropy, weight)
    harms = []
    for image, label in zip(255 * scene.images, scene.labels, strict=True):

        def net(x):
            return scene.net(x[None] / 255)[0]

        def loss(logits, label=label):
            return reference.sea_loss(name, logits, label, weight)

        def ours(images, progress, label=label, net=net):
            logits = net(images[0])
            losses = of_pixels(logits[None], label[None], progress)[0]
            entropy = torch.nn.functional.cross_entropy(logits[None], label[None])
            wrong = (logits.argmax(0) != label).double().mean()
            return Losses(losses.sum()[None], wrong[None], entropy.detach()[None])

        def wrong(x, label=label, net=net):
            return float((net(x).argmax(0) != label).double().mean())

        torch.manual_seed(0)
        found = auto_pgd(ours, [image], [Budget(WHOLE, 8, 0)], 30, stages=SEA)[0][0]
        torch.manual_seed(0)
        start = image + 16 * torch.empty_like(image).uniform_(-1, 1)
        harms.append((wrong(found), wrong(reference.sea(net, image, label, 8, 30, loss, start))))
    found, expected = torch.tensor(harms).mean(0)
    assert found == pytest.approx(float(expected), abs=0.01)
    assert found > 0.3
