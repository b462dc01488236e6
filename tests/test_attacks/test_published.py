"""Our attacks against published implementations: torchattacks (images in [0, 1]) and cospgd.

Both see one small segmentor in double precision, so that the sign of a gradient does not hang on rounding.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import build_model, pair_batch, tiny_segformer
from torch import nn

from paif_mm.attacks import PGD, Budget, Losses, auto_pgd, functional, projected_gradient, square, square_attack
from paif_mm.attacks.pixel_losses import PIXEL_LOSSES

CLASSES = 4
EPS = 8 / 255
ALPHA = EPS / 5


class Scene:
    """Images (N, 3, H, W) in [0, 1], labels (N, H, W), and a net that has learned to tell most of their pixels."""

    def __init__(self, count: int = 6, size: tuple[int, int] = (24, 28)):
        torch.manual_seed(0)
        fields = F.interpolate(torch.randn(count, CLASSES, 4, 4), size, mode='bicubic')
        self.labels = fields.argmax(1)
        palette = torch.rand(CLASSES, 3)
        images = 0.25 * palette[self.labels].permute(0, 3, 1, 2) + 0.4 + 0.06 * torch.randn(count, 3, *size)
        self.images = images.clamp(0, 1).double().contiguous()
        self.net = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.Tanh(), nn.Conv2d(12, 12, 3, padding=1), nn.Tanh(), nn.Conv2d(12, 4, 1)
        ).double()
        optimiser = torch.optim.Adam(self.net.parameters(), 0.02)
        for _ in range(60):
            optimiser.zero_grad()
            F.cross_entropy(self.net(self.images), self.labels).backward()
            optimiser.step()
        self.net.requires_grad_(False)

    def pixel_losses(self, images: torch.Tensor) -> torch.Tensor:
        """Cross-entropies (N,) of images in [0, 1]."""
        return F.cross_entropy(self.net(images), self.labels, reduction='none').mean((1, 2))

    def wrong(self, images: torch.Tensor) -> torch.Tensor:
        """Shares of wrong pixels (N,)."""
        return (self.net(images).argmax(1) != self.labels).double().mean((1, 2))

    def ours(self, attack, *args, loss='cross_entropy', harm=False, step=ALPHA, eps=EPS, **settings) -> torch.Tensor:
        """One of our functions, which take images in [0, 255], on the scene; back in [0, 1]."""

        def losses(images, progress):
            logits = self.net(torch.stack(images) / 255)
            values = PIXEL_LOSSES[loss](logits, self.labels, progress).mean((1, 2))
            return Losses(values, (logits.argmax(1) != self.labels).double().mean((1, 2))) if harm else values

        budgets = [Budget(slice(None), 255 * eps, 255 * step)]
        return torch.stack(attack(losses, list(255 * self.images), budgets, *args, **settings)[0]) / 255


class AsClassifier(nn.Module):
    """Two logits of a whole image, whose cross-entropy for class 0 is ``share`` x the mean of its pixels'.

    torchattacks' APGD and Square know one label per image. log(1 + exp(z_1 - z_0)) is that loss where z_0 = 0 and
    z_1 = log(exp(loss) - 1). Class 0 is the model's choice up to a loss of log 2.
    """

    def __init__(self, scene: Scene, share: float = 1.0):
        super().__init__()
        self.scene, self.share = scene, share
        self.place = nn.Parameter(torch.zeros(()))  # torchattacks takes the device of the parameters

    def forward(self, images):
        second = torch.expm1(self.share * self.scene.pixel_losses(images)).log()
        return torch.stack([torch.zeros_like(second), second], 1)


@pytest.fixture(scope='module')
def scene():
    return Scene()


@pytest.fixture
def torchattacks():
    """With what it makes itself in double precision, too."""
    library = pytest.importorskip('torchattacks')
    torch.set_default_dtype(torch.float64)
    yield library
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope='module')
def published():
    return pytest.importorskip('cospgd').functions


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """To a billionth of the range of 255 values."""
    torch.testing.assert_close(255 * ours, 255 * theirs, atol=255e-9, rtol=0)


def test_the_scene_is_learned_and_can_be_attacked(scene):
    assert scene.wrong(scene.images).mean() < 0.2
    assert scene.wrong(scene.ours(projected_gradient, 5)).mean() > 0.3


@pytest.mark.parametrize('steps', range(1, 9))
def test_pgd_is_torchattacks_pgd_in_every_step(scene, torchattacks, steps):
    """BIM's start. Their loss is the mean over the batch, ours one per image: the same signs."""
    theirs = torchattacks.PGD(scene.net, eps=EPS, alpha=ALPHA, steps=steps, random_start=False)
    found = scene.ours(projected_gradient, steps, random_start=False, keep='last')
    assert_same(found, theirs(scene.images, scene.labels))
    assert (found - scene.images).abs().max() == pytest.approx(min(steps * ALPHA, EPS))


@pytest.mark.parametrize('steps', range(1, 9))
def test_momentum_is_torchattacks_mifgsm_in_every_step(scene, torchattacks, steps):
    """Both divide a gradient by its mean absolute value over all channels and pixels of its own image."""
    theirs = torchattacks.MIFGSM(scene.net, eps=EPS, alpha=ALPHA, steps=steps, decay=0.9)
    found = scene.ours(projected_gradient, steps, random_start=False, keep='last', momentum=0.9)
    assert_same(found, theirs(scene.images, scene.labels))


def test_momentum_matters_in_the_scene(scene):
    plain, fast = (scene.ours(projected_gradient, 8, random_start=False, keep='last', momentum=m) for m in (0, 0.9))
    assert (plain - fast).abs().max() > ALPHA


def test_l2_pgd_is_torchattacks_pgdl2_in_every_step(scene, torchattacks):
    for steps in range(1, 7):
        theirs = torchattacks.PGDL2(scene.net, eps=1.0, alpha=0.3, steps=steps, random_start=False)
        found = scene.ours(projected_gradient, steps, 'l2', random_start=False, keep='last', eps=1.0, step=0.3)
        # they add 1e-10 to a gradient's norm, ours is divided by the norm itself
        torch.testing.assert_close(found, theirs(scene.images, scene.labels), atol=1e-6, rtol=0)


def test_smoothing_is_torchattacks_tifgsm_with_a_wider_gaussian(scene, torchattacks):
    """A window of 15 has a standard deviation of 15 / 6 pixels here; theirs is (15 - 1) / (2 nsig), 14 / 6 by default.

    With nsig = 2.8 they are the same.
    """
    settings = {'eps': EPS, 'alpha': ALPHA, 'steps': 6, 'decay': 1.0, 'diversity_prob': 0.0}
    found = scene.ours(projected_gradient, 6, random_start=False, keep='last', momentum=1.0, smoothing=15)
    results = []
    for nsig in (2.8, 3):
        theirs = torchattacks.TIFGSM(scene.net, nsig=nsig, **settings)
        theirs.stacked_kernel = theirs.stacked_kernel.double()
        results.append(theirs(scene.images, scene.labels))
    assert_same(found, results[0])
    assert (found - results[1]).abs().max() > ALPHA


@pytest.mark.parametrize('steps', [10, 18, 80])
def test_auto_pgd_is_torchattacks_apgd_from_the_same_start(scene, torchattacks, monkeypatch, steps):
    """The result of highest loss, after as many steps as leave no tie between the two rules, see the next test.

    Their start is stretched until one value touches the ball, so the noise given to both has a maximum of 1.
    """
    noise = torch.rand(scene.images.shape, generator=torch.Generator().manual_seed(steps)).double() * 2 - 1
    noise /= noise.abs().amax((1, 2, 3), keepdim=True)
    theirs = torchattacks.APGD(AsClassifier(scene), eps=EPS, steps=steps, loss='ce')
    with monkeypatch.context() as patch:
        patch.setattr(torch, 'rand', lambda *args, **kwargs: (noise + 1) / 2)
        losses, expected = theirs.perturb(scene.images, torch.zeros(len(scene.images), dtype=torch.long), True)
    draws = iter(noise)
    monkeypatch.setattr(functional, 'drawn', lambda *args: next(draws))
    found = scene.ours(auto_pgd, steps)
    assert_same(found, expected)
    torch.testing.assert_close(scene.pixel_losses(found), losses.double(), atol=1e-6, rtol=0)


def test_torchattacks_apgd_also_halves_at_a_tie(scene, torchattacks):
    """Three rises in four steps are .75 of them: the paper halves below rho = .75, torchattacks at .75, too.

    So the two part where an interval is a multiple of four. In the first interval their loss before the first step is
    taken to be 0, not that of the start, and they don't halve for want of a better point.
    """
    theirs = torchattacks.APGD(AsClassifier(scene), steps=20)
    rises = np.array([[1.0], [2], [3], [4], [3.5]])
    assert theirs.check_oscillation(rises, 4, 4, None).tolist() == [True]
    first = np.array([[1.0], [2], [0]])  # two steps of three are done: had the start 3, the first would be a fall
    assert theirs.check_oscillation(first, 1, 2, None).tolist() == [False]


@pytest.mark.parametrize('steps', [5, 20])
def test_auto_pgd_is_as_strong_as_torchattacks_apgd(scene, torchattacks, steps):
    """Random starts of their own. Ours may count wrong pixels as harm, theirs knows only the loss."""
    theirs = torchattacks.APGD(AsClassifier(scene), eps=EPS, steps=steps, loss='ce')
    labels = torch.zeros(len(scene.images), dtype=torch.long)
    found = {'theirs': [], 'loss': [], 'harm': []}
    for seed in range(3):
        torch.manual_seed(seed)
        found['theirs'].append(theirs.perturb(scene.images, labels, best_loss=True)[1])
        found['loss'].append(scene.ours(auto_pgd, steps))
        found['harm'].append(scene.ours(auto_pgd, steps, harm=True))
    losses = {name: torch.stack([scene.pixel_losses(x) for x in runs]).mean() for name, runs in found.items()}
    wrong = {name: torch.stack([scene.wrong(x) for x in runs]).mean() for name, runs in found.items()}
    assert losses['loss'] >= 0.995 * losses['theirs'] > 2 * scene.pixel_losses(scene.images).mean()
    assert wrong['harm'] >= wrong['theirs'] - 0.005
    assert all((x - scene.images).abs().max() <= EPS + 1e-9 for x in found['loss'] + found['harm'])


def test_square_is_as_strong_as_torchattacks_square(scene, torchattacks):
    """As many forward passes each. They stop at a loss of log 2: a hundredth of ours stays below it."""
    queries = 500
    theirs = torchattacks.Square(AsClassifier(scene, 1e-2), eps=EPS, n_queries=queries - 1, loss='ce')
    theirs.init_hyperparam(scene.images)
    torch.manual_seed(0)
    used, expected = theirs.attack_single_run(scene.images, torch.zeros(len(scene.images), dtype=torch.long))
    assert (used == queries).all()
    with torch.no_grad():
        found = scene.ours(square_attack, queries)
    assert (found - scene.images).abs().max() <= EPS + 1e-9
    losses = [scene.pixel_losses(images).mean() for images in (found, expected, scene.images)]
    assert losses[0] >= 0.95 * losses[1] > 3 * losses[2]


@pytest.mark.parametrize('queries', [100, 1000])
def test_squares_shrink_as_torchattacks_squares(scene, torchattacks, monkeypatch, queries):
    shares = []
    monkeypatch.setattr(square, '_with_square', lambda point, image, eps, share, g: shares.append(share) or point)
    square_attack(lambda images, progress: torch.zeros(1), [torch.zeros(1, 2, 2)], [Budget(slice(None), 1, 0)], queries)
    theirs = torchattacks.Square(scene.net, n_queries=queries)
    assert shares == [theirs.p_selection(i) for i in range(queries)]
    assert shares[0] == 0.8


def test_cospgd_weighs_as_published(scene, published):
    """p_y / |p| is the cosine of the softmax and the one-hot label; no gradient flows through it, here or there."""
    logits = scene.net(scene.images).requires_grad_()
    loss = F.cross_entropy(logits, scene.labels, reduction='none')
    theirs = published.cospgd_scale(logits, scene.labels, loss, num_classes=CLASSES)
    ours = PIXEL_LOSSES['cospgd'](logits, scene.labels, 0.3)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)
    (mine,), (other,) = (torch.autograd.grad(x.sum(), logits) for x in (ours, theirs))
    torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-8)
    weights = ours / loss
    assert weights.min() < 0.1 < 0.9 < weights.max() <= 1 + 1e-9


@pytest.mark.parametrize('iteration', [0, 3, 9])
def test_segpgd_weighs_as_published(scene, published, iteration):
    """Their iterations count from 0: lambda = iteration / (2 iterations) is the paper's (t - 1) / (2 T), t = 1..T.

    They return one number, the sum over the batch of each image's mean, where ours is one value per pixel.
    """
    logits = scene.net(scene.images)
    loss = F.cross_entropy(logits, scene.labels, reduction='none')
    for i, mine in enumerate(PIXEL_LOSSES['segpgd'](logits, scene.labels, iteration / 10)):
        own = slice(i, i + 1)
        theirs = published.segpgd_scale(logits[own], scene.labels[own], loss[own], iteration, 10)
        torch.testing.assert_close(mine.mean(), theirs)
    for row, column in ((0, 0), (11, 17)):  # of single pixels
        at = (slice(0, 1), slice(row, row + 1), slice(column, column + 1))
        pixel = logits[:1, :, row : row + 1, column : column + 1]
        theirs = published.segpgd_scale(pixel, scene.labels[at], loss[at], iteration, 10)
        torch.testing.assert_close(PIXEL_LOSSES['segpgd'](logits, scene.labels, iteration / 10)[0, row, column], theirs)


def climbed(published, model, labels, images, name: str, steps: int, eps: float, step: float) -> torch.Tensor:
    """An attack made of the published functions, ignored pixels 255 taken care of by the cross-entropy."""
    points = images.clone()
    for iteration in range(steps):
        points.requires_grad_()
        logits = model(points)
        loss = F.cross_entropy(logits, labels, reduction='none', ignore_index=255)
        if name == 'cospgd':
            loss = published.cospgd_scale(logits, labels, loss, num_classes=logits.size(1))
        elif name == 'segpgd':
            loss = published.segpgd_scale(logits, labels, loss, iteration, steps)
        (gradient,) = torch.autograd.grad(loss.sum(), points)
        points = published.step_inf(points, eps, gradient, images, step, targeted=False)
    return points


@pytest.mark.parametrize('name', ['cross_entropy', 'segpgd', 'cospgd'])
def test_pixel_attacks_are_the_published_ones_in_every_step(scene, published, name):
    for steps in range(1, 7):
        theirs = climbed(published, scene.net, scene.labels, scene.images, name, steps, EPS, ALPHA)
        assert_same(scene.ours(projected_gradient, steps, loss=name, random_start=False, keep='last'), theirs)


def test_l2_steps_are_the_published_ones(scene, published):
    theirs = scene.images.clone()
    for _ in range(5):
        theirs.requires_grad_()
        (gradient,) = torch.autograd.grad(scene.pixel_losses(theirs).sum(), theirs)
        theirs = published.step_l2(theirs, torch.tensor(1.0), gradient, scene.images, 0.3, targeted=False)
    found = scene.ours(projected_gradient, 5, 'l2', random_start=False, keep='last', eps=1.0, step=0.3)
    assert_same(found, theirs)


@pytest.mark.parametrize('name', ['cross_entropy', 'segpgd', 'cospgd'])
def test_attacks_on_a_segmentor_are_the_published_ones(published, name):
    """The whole way, in single precision: raw pairs, fusion, normalisation, resized logits, ignored pixels.

    Where the weights of pixels ignore 255, cospgd takes their class for the last one: it weighs a loss of 0. It divides
    by all pixels, ours by the labelled ones, which changes no sign. A pixel in a thousand may differ by rounding.
    """
    model = build_model(tiny_segformer()).eval()
    batch = pair_batch([(32, 40)] * 2)
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch['data_samples']])

    def segmentor(images):
        data = model.data_preprocessor({'inputs': list(255 * images), 'data_samples': None}, False)
        return F.interpolate(model(**data, mode='tensor'), labels.shape[1:], mode='bilinear', align_corners=False)

    clean = torch.stack(batch['inputs']).float() / 255
    theirs = climbed(published, segmentor, labels, clean, name, 3, 8 / 255, 3 / 255)
    attack = PGD(8 / 255, 3 / 255, 3, random_start=False, keep='last', objective={'type': 'PixelLoss', 'name': name})
    ours = torch.stack(attack(model, batch).images)
    moved = (ours - 255 * clean).abs()
    assert moved.max() == pytest.approx(8, abs=1e-3)
    assert ((ours - 255 * theirs).abs() > 0.01).float().mean() < 1e-3
    assert math.isclose(moved.mean(), (255 * (theirs - clean)).abs().mean(), rel_tol=1e-3)
