"""ALMA prox where the least perturbation is known: linear classifiers of pixels, and the proximity operators."""

import math

import pytest
import torch
from test_robustness.benches import Scenes, trained
from torch import nn

from paif_mm.attacks import APGD, ALMAProx, PixelLoss
from paif_mm.attacks.minimum_norm import alma_prox, prox_l2, prox_linf

KINDS, SIZE = 2, (12, 14)


class Linear:
    """Every pixel is classified by a linear function of its own channels: z = W x + b."""

    def __init__(self, channels: int = 4, count: int = 2):
        g = torch.Generator().manual_seed(0)
        self.weight = torch.randn(KINDS, channels, generator=g)
        self.images = [60 + 130 * torch.rand(channels, *SIZE, generator=g) for _ in range(count)]
        self.bias = -(self.weight * 125).sum(1)
        self.labels = [self.logits(image).argmax(0) for image in self.images]

    def logits(self, image):
        return torch.einsum('kc,chw->khw', self.weight, image) + self.bias[:, None, None]

    def margins(self, images):
        return [self._margin(self.logits(image), label) for image, label in zip(images, self.labels, strict=True)]

    @staticmethod
    def _margin(logits, label):
        own = logits.gather(0, label[None])[0]
        return (own - logits.scatter(0, label[None], -torch.inf).amax(0)).flatten()

    def radii(self, norm: str, channels: slice = slice(None)) -> list[torch.Tensor]:
        """Of each pixel the distance to the nearest border of its class, (H W,) for each image."""
        found = []
        for image, label in zip(self.images, self.labels, strict=True):
            logits = self.logits(image)
            distances = []
            for other in range(KINDS):
                gap = logits.gather(0, label[None])[0] - logits[other]
                slope = (self.weight[label] - self.weight[other])[..., channels]  # (H, W, c)
                size = slope.abs().sum(-1) if norm == 'linf' else slope.norm(dim=-1)
                distances.append(torch.where(label == other, torch.inf, gap / size))
            found.append(torch.stack(distances).amin(0).flatten())
        return found

    def least(self, norm: str, share: float, channels: slice = slice(None)) -> list[float]:
        """The norm at which a share of the pixels is lost: pixels don't share channels, so that each falls by itself.

        L-inf: the radius of the last pixel needed. L2: the squares of the nearest pixels add up.
        """
        found = []
        for radii in self.radii(norm, channels):
            nearest = radii.sort().values[: math.ceil(share * len(radii))]
            found.append(float(nearest[-1] if norm == 'linf' else nearest.norm()))
        return found


@pytest.fixture(scope='module')
def linear():
    return Linear()


def wrong(linear, images) -> list[float]:
    return [float((margins < 0).float().mean()) for margins in linear.margins(images)]


@pytest.mark.parametrize('share', [0.5, 0.9, 0.99, 1.0])
def test_the_smallest_linf_radius_is_that_of_the_last_pixel_needed(linear, share):
    found, norms = alma_prox(linear.margins, linear.images, share, 100)
    least = linear.least('linf', share)
    assert 10 < min(least) < max(least) < 60, 'the box is far away'
    assert all(got >= share for got in wrong(linear, found))
    for image, clean, norm, best in zip(found, linear.images, norms.tolist(), least, strict=True):
        assert float((image - clean).abs().max()) == pytest.approx(norm, rel=1e-4)
        assert best * (1 - 1e-3) < norm < 1.01 * best


def test_the_smallest_l2_norm_adds_up_the_nearest_pixels(linear):
    found, norms = alma_prox(linear.margins, linear.images, 0.99, 300, 'l2')
    assert all(got >= 0.99 for got in wrong(linear, found))
    for image, clean, norm, best in zip(found, linear.images, norms.tolist(), linear.least('l2', 0.99), strict=True):
        assert float((image - clean).norm()) == pytest.approx(norm, rel=1e-4)
        assert best * (1 - 1e-3) < norm < 1.05 * best


def test_one_modality_alone_needs_more_and_the_other_stays_bit_for_bit(linear):
    part = slice(0, 3)
    found, norms = alma_prox(linear.margins, linear.images, 0.9, 100, channels=part)
    for image, clean, norm, best in zip(
        found, linear.images, norms.tolist(), linear.least('linf', 0.9, part), strict=True
    ):
        assert torch.equal(image[3], clean[3])
        assert norm < 1.01 * best
    assert (norms > torch.tensor(linear.least('linf', 0.9))).all()


def test_what_is_wrong_already_needs_nothing(linear):
    flipped = lambda images: [-margins for margins in linear.margins(images)]  # noqa: E731
    found, norms = alma_prox(flipped, linear.images, 0.99, 5)
    assert norms.tolist() == [0, 0]
    assert all(torch.equal(a, b) for a, b in zip(found, linear.images, strict=True))


def test_images_without_labels_and_without_hope_are_told(linear):
    nothing, norms = alma_prox(lambda images: [image[:0].flatten() for image in images], linear.images, 0.9, 3)
    assert norms.tolist() == [0, 0]
    assert all(torch.equal(a, b) for a, b in zip(nothing, linear.images, strict=True))
    _, norms = alma_prox(
        lambda images: [image.new_ones(5) + 0 * image.sum() for image in images], linear.images, 0.9, 3
    )
    assert norms.isinf().all()


def test_the_box_is_kept(linear):
    images = [image.clamp(120, 130) for image in linear.images]
    found, _ = alma_prox(linear.margins, images, 1.0, 60, bounds=(120, 130))
    assert all(image.min() >= 120 and image.max() <= 130 for image in found)


def objective(norm: str, delta, point, metric, length) -> float:
    size = delta.abs().amax() if norm == 'linf' else delta.norm()
    return float(length * size + (metric * (delta - point).square()).sum() / 2)


@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize('seed', range(5))
def test_proximity_operators_are_minima(norm, seed):
    """No small change inside of the box does better, and the known answers without a box."""
    g = torch.Generator().manual_seed(seed)
    point = torch.randn(1, 4, 5, generator=g).double()
    metric = 0.1 + torch.rand(1, 4, 5, generator=g).double()
    low, high = -0.7 * torch.rand(1, 4, 5, generator=g).double(), 0.7 * torch.rand(1, 4, 5, generator=g).double()
    prox, length = (prox_linf if norm == 'linf' else prox_l2), 0.4
    found = prox(point, low, high, metric, length)
    assert (found >= low).all()
    assert (found <= high).all()
    best = objective(norm, found, point, metric, length)
    for step in (1e-3, 1e-2, 0.1):
        for _ in range(200):
            other = (found + step * torch.randn(found.shape, generator=g).double()).clamp(low, high)
            assert objective(norm, other, point, metric, length) >= best - 1e-9
        for scale in (1 - step, 1 + step):
            assert objective(norm, (scale * found).clamp(low, high), point, metric, length) >= best - 1e-9


def test_proximity_operators_without_a_box_are_the_textbooks():
    point, one = torch.tensor([[[3.0, -4.0]]]), torch.ones(1, 1, 2)
    free = torch.full((1, 1, 2), 100.0)
    assert prox_linf(point, -free, free, one, 0.5).tolist() == [[[3.0, -3.5]]]
    assert prox_linf(point, -free, free, one, 3.0).tolist() == [[[2.0, -2.0]]], 'what is over the l1 ball of length'
    assert prox_linf(point, -free, free, one, 7.5).tolist() == [[[0.0, 0.0]]]
    torch.testing.assert_close(prox_l2(point, -free, free, one, 2.5), point / 2)
    assert prox_l2(point, -free, free, one, 50.0).abs().max() < 1e-6


class PixelModel(nn.Module):
    """Not a segmentor."""


def batch_of(*items):
    return {key: [item[key] for item in items] for key in items[0]}


def test_on_a_segmentor_it_is_below_what_auto_pgd_needs():
    model, scenes = trained(), Scenes(2, seed=5)
    batch = batch_of(scenes[0], scenes[1])
    found = ALMAProx(0.9, steps=60)(model, batch)
    radii = [float((a - c).abs().max()) for a, c in zip(found.images, found.clean, strict=True)]
    rate = PixelLoss()

    def lost(images):
        with torch.no_grad():
            return rate(model, images, batch['data_samples'], images, False).harm

    assert (lost(found.images) >= 0.9).all()
    assert (lost(found.clean) < 0.1).all()
    tighter = APGD(0.8 * min(radii) / 255, 60, objective={'type': 'PixelLoss', 'name': 'jensen_shannon'})
    assert (lost(tighter(model, batch).images) < 0.9).all(), 'not even Auto-PGD gets there with a fifth less'
    again = ALMAProx(0.9, steps=60)(model, batch_of(scenes[1]))
    torch.testing.assert_close(again.images[0], found.images[1], atol=0.5, rtol=0)
    visible = ALMAProx(0.5, 'l2', steps=30, modality='vis')(model, batch)
    assert all(torch.equal(a[3], c[3]) for a, c in zip(visible.images, visible.clean, strict=True))


def test_mistakes_are_told():
    with pytest.raises(ValueError, match='share must be within'):
        ALMAProx(1.5)
    with pytest.raises(ValueError, match="no modality 'irr': did you mean ir"):
        ALMAProx(modality='irr')
    with pytest.raises(ValueError, match='norm must be'):
        ALMAProx(norm='l1')
    with pytest.raises(TypeError, match='ALMAProx attacks segmentors, not PixelModel'):
        ALMAProx()(PixelModel(), {'inputs': []})
