"""Minimum-norm attacks where the least change is known: linear classifiers of pixels, and the proximity operators."""

import copy
import math

import pytest
import torch
from test_robustness.benches import Scenes, trained
from torch import nn

from paif_mm.attacks import APGD, DAG, PDPGD, ALMAProx, PixelLoss, alma_prox, dag, pdpgd
from paif_mm.attacks.proximity import prox_l2, prox_linf

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


@pytest.fixture(scope='module')
def segmentor():
    return trained()


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


@pytest.mark.parametrize('share', [0.5, 0.99])
def test_pdpgd_finds_the_smallest_linf_radius_too(linear, share):
    found, norms = pdpgd(linear.margins, linear.images, share, 100)
    assert all(got >= share for got in wrong(linear, found))
    for image, clean, norm, best in zip(found, linear.images, norms.tolist(), linear.least('linf', share), strict=True):
        assert float((image - clean).abs().max()) == pytest.approx(norm, rel=1e-4)
        assert best * (1 - 1e-3) < norm < 1.01 * best


def test_dag_stops_where_enough_pixels_are_wrong(linear):
    """It minimises no norm: what pulls most is changed most. More steps change nothing."""
    found, norms = dag(linear.margins, linear.images, 0.9, 100)
    assert all(got >= 0.9 for got in wrong(linear, found))
    for image, clean, norm, best in zip(found, linear.images, norms.tolist(), linear.least('linf', 0.9), strict=True):
        assert float((image - clean).abs().max()) == pytest.approx(norm, rel=1e-4)
        assert best * (1 - 1e-3) < norm < 1.25 * best
    _, again = dag(linear.margins, linear.images, 0.9, 150)
    assert torch.equal(again, norms)
    _, short = dag(linear.margins, linear.images, 0.9, 20)
    assert short.isinf().all(), 'twenty steps of .5 reach 10 levels'


def test_dag_steps_along_the_gradient_of_the_pixels_that_are_right(linear):
    """By hand: one step from the clean images, gamma x gradient / its largest value."""
    found, _ = dag(linear.margins, linear.images, 1.0, 1, 7.0)  # the step is seen by nobody: nothing is found, but ...
    assert all(torch.equal(a, b) for a, b in zip(found, linear.images, strict=True)), '... at the clean images'
    found, _ = dag(linear.margins, linear.images, 1.0, 2, 7.0)
    stepped = 0
    for image, clean, label in zip(found, linear.images, linear.labels, strict=True):
        slope = (linear.weight[1 - label] - linear.weight[label]).permute(2, 0, 1)
        step = 7.0 * slope / slope.abs().max()
        if (linear.logits(clean + step).argmax(0) != label).any():  # else the clean image is as good
            torch.testing.assert_close(image - clean, step, atol=1e-3, rtol=1e-4)
            stepped += 1
    assert stepped


def test_dag_leaves_an_image_alone_once_it_has_fallen():
    """Though its neighbour in the batch needs ten times as many steps."""
    places = []

    def margins(images: list[torch.Tensor]) -> list[torch.Tensor]:
        places.append(images[0].item())
        return [(limit - image).flatten() for limit, image in zip((100.0, 200.0), images, strict=True)]

    images = [torch.full((1, 1, 1), 90.0)] * 2
    found, norms = dag(margins, images, 1.0, 50, 3.0)
    steps = places[:38]  # until the neighbour has fallen, too; the line search follows
    assert [place for place in steps if place <= 100] == [90, 93, 96, 99]
    assert set(steps[4:]) == {102}
    torch.testing.assert_close(norms, torch.tensor([10.0, 110.0]), atol=0.1, rtol=0)
    assert found[0] > 100


SEARCHES = {
    'alma': (alma_prox, ('linf', 'l2')),
    'pdpgd': (pdpgd, ('linf', 'l2')),
    'dag': (lambda margins, images, share, steps, norm, **more: dag(margins, images, share, steps, **more), ('linf',)),
}
EVERY = [(name, norm) for name, (_, norms) in SEARCHES.items() for norm in norms]


@pytest.mark.parametrize('norm', ['linf', 'l2'])
def test_the_baselines_find_upper_limits_and_none_less_than_alma_prox(norm):
    """Valid everywhere: enough pixels are wrong, at no less than the least norm; ALMA prox is the nearest."""
    linear = Linear(count=1)
    (least,), radii = linear.least(norm, 0.9), {}
    for name in (name for name, known in EVERY if known == norm):
        found, norms = SEARCHES[name][0](linear.margins, linear.images, 0.9, 150, norm)
        assert wrong(linear, found)[0] >= 0.9
        radii[name] = norms.item()
        assert least * (1 - 1e-3) < radii[name] < 1.6 * least, name
    assert len(radii) == (3 if norm == 'linf' else 2)
    assert radii['alma'] < 1.01 * min(radii.values())


def test_in_l2_pdpgd_is_nearer_where_half_of_the_pixels_is_enough():
    """ALMA prox masks out the hardest pixels step by step, PDPGD from the start."""
    linear = Linear(count=1)
    norms = {name: SEARCHES[name][0](linear.margins, linear.images, 0.5, 80, 'l2')[1] for name in ('alma', 'pdpgd')}
    assert linear.least('l2', 0.5)[0] < norms['pdpgd'] < norms['alma']


@pytest.mark.parametrize(('name', 'norm'), EVERY)
def test_what_is_wrong_already_needs_nothing(linear, name, norm):
    flipped = lambda images: [-margins for margins in linear.margins(images)]  # noqa: E731
    found, norms = SEARCHES[name][0](flipped, linear.images, 0.99, 5, norm)
    assert norms.tolist() == [0, 0]
    assert all(torch.equal(a, b) for a, b in zip(found, linear.images, strict=True))


@pytest.mark.parametrize(('name', 'norm'), EVERY)
def test_images_without_labels_and_without_hope_are_told(linear, name, norm):
    search = SEARCHES[name][0]
    nothing, norms = search(lambda images: [image[:0].flatten() for image in images], linear.images, 0.9, 3, norm)
    assert norms.tolist() == [0, 0]
    assert all(torch.equal(a, b) for a, b in zip(nothing, linear.images, strict=True))
    found, norms = search(
        lambda images: [image.new_ones(5) + 0 * image.sum() for image in images], linear.images, 0.9, 3, norm
    )
    assert norms.isinf().all()
    assert all(image.isfinite().all() for image in found)


@pytest.mark.parametrize(('name', 'norm'), EVERY)
def test_the_other_channels_stay_bit_for_bit(linear, name, norm):
    found, _ = SEARCHES[name][0](linear.margins, linear.images, 0.5, 60, norm, channels=slice(0, 3))
    assert all(torch.equal(image[3], clean[3]) for image, clean in zip(found, linear.images, strict=True))
    assert all(not torch.equal(image[:3], clean[:3]) for image, clean in zip(found, linear.images, strict=True))


@pytest.mark.parametrize(('value', 'is_wrong'), [(torch.nan, True), (torch.inf, False), (-torch.inf, True)])
def test_a_margin_that_is_no_number_is_one_pixel_and_spoils_none_of_the_others(linear, value, is_wrong):
    first = torch.zeros(SIZE).flatten().bool().index_fill(0, torch.tensor(0), True)

    def margins(images):
        return [torch.where(first, value, d) for d in linear.margins(images)]

    found, norms = alma_prox(margins, linear.images, 0.9, 100)
    for image, radii, norm in zip(found, linear.radii('linf'), norms.tolist(), strict=True):
        radii = torch.where(first, 0 if is_wrong else torch.inf, radii)
        best = float(radii.sort().values[math.ceil(0.9 * len(radii)) - 1])
        assert image.isfinite().all()
        assert best * (1 - 1e-3) < norm < 1.01 * best


@pytest.mark.parametrize(('name', 'norm'), EVERY)
def test_the_box_is_kept(linear, name, norm):
    images = [image.clamp(120, 130) for image in linear.images]
    found, _ = SEARCHES[name][0](linear.margins, images, 1.0, 60, norm, bounds=(120, 130))
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
    assert prox_l2(point, -free, free, one, 50.0).tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize('size', [0.0, 0.5, 1.0, 1.001, 1.05, 2.0, 100.0, 1e6])
def test_the_l2_proximity_operator_shortens_a_point_by_the_length(size):
    """p (1 - length / (metric ||p||)), and 0 where that is none."""
    direction = torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(0)).double()
    direction /= direction.norm()
    free = torch.full_like(direction, 1e12)
    for metric in (1e-4, 1.0, 1e4):
        found = prox_l2(size / metric * direction, -free, free, torch.full_like(direction, metric), 1.0)
        expected = max(size - 1, 0) / metric * direction
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12 / metric)


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_l2_proximity_operator_is_the_root_that_bisection_finds(seed, dtype):
    """Metrics over six orders of magnitude, in boxes that cut much, with pulls just beyond the length and far."""
    g = torch.Generator().manual_seed(seed)
    point = torch.randn(3, 8, 9, generator=g).double()
    metric = 10 ** (6 * torch.rand(3, 8, 9, generator=g).double() - 3)
    low, high = (side * (torch.rand(3, 8, 9, generator=g).double() - 0.2).clamp_min(0) for side in (-1, 1))
    pull = metric * point
    threshold = float((pull * torch.where(pull > 0, high > 0, low < 0)).norm())
    for share in (0.1, 0.9, 0.999, 1.001):
        length = share * threshold
        shortest, longest = 1e-300, 1e3
        for _ in range(2000):
            r = math.sqrt(shortest * longest)
            longer = (pull * r / (metric * r + length)).clamp(low, high).norm() > r
            shortest, longest = (r, longest) if longer else (shortest, r)
        expected = (pull * r / (metric * r + length)).clamp(low, high) if share < 1 else torch.zeros_like(point)
        found = prox_l2(*(x.to(dtype) for x in (point, low, high, metric)), length)
        relative = 1e-3 if dtype == torch.float32 else 1e-6
        assert (found - expected).norm() <= relative * expected.norm()


class PixelModel(nn.Module):
    """Not a segmentor."""


def batch_of(*items):
    return {key: [item[key] for item in items] for key in items[0]}


def test_on_a_segmentor_it_is_below_what_auto_pgd_needs(segmentor):
    model, scenes = segmentor, Scenes(2, seed=5)
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


def test_the_baselines_on_a_segmentor_find_no_less(segmentor):
    """Enough pixels are wrong where a radius is told, and in as many steps ALMA prox needs no more."""
    batch = batch_of(Scenes(1, seed=5)[0])
    radii = {}
    for attack in (ALMAProx(0.9, steps=60), PDPGD(0.9, steps=60), DAG(0.9, steps=60, step_size=2 / 255)):
        found = attack(segmentor, batch)
        with torch.no_grad():
            lost = PixelLoss()(segmentor, found.images, batch['data_samples'], found.clean, False).harm
        assert lost >= 0.9, type(attack).__name__
        radii[type(attack).__name__] = float((found.images[0] - found.clean[0]).abs().max())
    assert radii['ALMAProx'] < 1.02 * min(radii.values())
    assert max(radii.values()) < 80
    infrared = DAG(0.5, steps=5, modality='ir')(segmentor, batch)
    assert torch.equal(infrared.images[0][:3], infrared.clean[0][:3])


class Broken(nn.Module):
    """A fusion network in whose result one pixel is no number."""

    def forward(self, ir, vis):
        luma = (ir + vis) / 2
        return torch.where(torch.arange(luma[0].numel()).view(luma.shape[1:]) == 0, torch.nan, luma)


def test_a_model_with_a_pixel_that_is_no_number_is_still_attacked(segmentor):
    model, batch = copy.deepcopy(segmentor), batch_of(Scenes(1, seed=5)[0])
    whole = ALMAProx(0.5, steps=30)(model, batch)
    model.data_preprocessor.fusion = Broken()
    found = ALMAProx(0.5, steps=30)(model, batch)
    reach, expected = (float((r.images[0] - r.clean[0]).abs().max()) for r in (found, whole))
    assert 0 < reach < 1.1 * expected


def test_mistakes_are_told():
    with pytest.raises(ValueError, match='share must be within'):
        ALMAProx(1.5)
    with pytest.raises(ValueError, match="no modality 'irr': did you mean ir"):
        ALMAProx(modality='irr')
    with pytest.raises(ValueError, match='norm must be'):
        ALMAProx(norm='l1')
    with pytest.raises(ValueError, match='step_size must be within'):
        DAG(step_size=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'norm'"):
        DAG(norm='l2')
    for attack in (ALMAProx, PDPGD, DAG):
        with pytest.raises(TypeError, match=f'{attack.__name__} attacks segmentors, not PixelModel'):
            attack()(PixelModel(), {'inputs': []})
