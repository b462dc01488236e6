"""Measures of fused images against closed forms and independent implementations."""

import math
import re

import numpy as np
import pytest
import torch

from paif_mm.evaluation.quality import (
    ALONE,
    RANGES,
    WITH_SOURCES,
    average_gradient,
    correlation,
    edge_preservation,
    entropy,
    fused_image_quality,
    mutual_information,
    peak_signal_to_noise,
    spatial_frequency,
    standard_deviation,
    structural_similarity,
    sum_of_correlations_of_differences,
    visual_information_fidelity,
)

RAMP = torch.arange(256.0).repeat(16, 1)  # every level alike, slope 1 along rows
FLAT = torch.full((16, 256), 90.0)
CHECKERS = 255.0 * (torch.arange(64)[:, None] + torch.arange(48)).remainder(2)  # every neighbour at the other end


def noise(seed, size=(32, 40)):
    return torch.randint(0, 256, size, generator=torch.Generator().manual_seed(seed)).float()


def test_one_image_by_hand():
    assert entropy(RAMP) == pytest.approx(8)
    assert entropy(FLAT) == 0
    assert standard_deviation(RAMP) == pytest.approx(math.sqrt((256**2 - 1) / 12))
    assert spatial_frequency(RAMP) == pytest.approx(1)
    assert spatial_frequency(RAMP + 2 * torch.arange(16.0)[:, None]) == pytest.approx(math.sqrt(1 + 4))
    assert average_gradient(RAMP + 2 * torch.arange(16.0)[:, None]) == pytest.approx(math.sqrt(5 / 2))
    assert average_gradient(FLAT) == 0
    assert standard_deviation(CHECKERS) == pytest.approx(127.5)
    assert spatial_frequency(CHECKERS) == pytest.approx(255 * math.sqrt(2))
    assert average_gradient(CHECKERS) == pytest.approx(255)


def test_entropy_agrees_with_scikit_image():
    measure = pytest.importorskip('skimage.measure')
    assert entropy(noise(0)) == pytest.approx(measure.shannon_entropy(noise(0).byte().numpy()), rel=1e-12)


def test_information_of_equal_and_of_independent_images():
    assert mutual_information(RAMP, RAMP, FLAT) == pytest.approx(8)  # its own entropy, and nothing of a constant
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij')
    assert mutual_information(rows, columns, columns) == pytest.approx(0, abs=1e-9)


def test_information_agrees_with_scikit_image():
    """It has NMI = (H(F) + H(X)) / H(F, X), so I(F; X) = (H(F) + H(X)) (1 - 1 / NMI)."""
    metrics, measure = pytest.importorskip('skimage.metrics'), pytest.importorskip('skimage.measure')
    x, y = (noise(seed, (64, 80)) for seed in (0, 1))
    fused = ((2 * x + y) / 3).round()
    x, y, f = (image.byte().numpy() for image in (x, y, fused))

    def theirs(source):
        ratio = metrics.normalized_mutual_information(f, source, bins=(range(257), range(257)))  # a bin per level
        return (measure.shannon_entropy(f) + measure.shannon_entropy(source)) * (1 - 1 / ratio)

    ours = mutual_information(fused, *map(torch.from_numpy, (x, y)))
    assert ours == pytest.approx(theirs(x) + theirs(y), rel=1e-12)


def test_correlations():
    x, y = noise(0), noise(1)
    r = np.corrcoef(x.flatten(), y.flatten())[0, 1]
    assert correlation(x, x, y) == pytest.approx((1 + r) / 2)
    assert correlation(255 - x, x, x) == pytest.approx(-1)
    assert sum_of_correlations_of_differences(x + y, x, y) == pytest.approx(2)
    assert correlation(FLAT, FLAT, RAMP) == 0
    fused = (x + 2 * y) / 3
    of_differences = [np.corrcoef((fused - a).flatten(), b.flatten())[0, 1] for a, b in ((y, x), (x, y))]
    assert sum_of_correlations_of_differences(fused, x, y) == pytest.approx(sum(of_differences), rel=1e-6)


def test_peak_signal_to_noise():
    assert peak_signal_to_noise(FLAT + 5, FLAT, FLAT) == pytest.approx(10 * math.log10(255**2 / 25))
    assert peak_signal_to_noise(FLAT, FLAT, FLAT) == math.inf
    assert peak_signal_to_noise(255 - CHECKERS, CHECKERS, CHECKERS) == pytest.approx(0)


def test_peak_signal_to_noise_agrees_with_scikit_image():
    """Both sources side by side have the mean of the two errors."""
    metrics = pytest.importorskip('skimage.metrics')
    fused, x, y = (noise(seed) for seed in range(3))
    theirs = metrics.peak_signal_noise_ratio(np.stack([x, y]), np.stack([fused, fused]), data_range=255)
    assert peak_signal_to_noise(fused, x, y) == pytest.approx(theirs, rel=1e-12)


def test_similarity_and_edges_of_equal_images():
    x = noise(0)
    assert structural_similarity(x, x, x) == pytest.approx(1)
    largest = 0.9994 / (1 + math.exp(-15 * 0.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert edge_preservation(x, x, x) == pytest.approx(largest)
    assert edge_preservation(FLAT[:, :40], noise(1, (16, 40)), noise(2, (16, 40))) < 0.02
    square = torch.arange(40.0).repeat(40, 1)
    assert edge_preservation(square.T, square, square) < 0.1  # as strong, but at a right angle, save at two borders
    halved = 0.9994 / 2 * 0.9879 / (1 + math.exp(-22 * 0.2))  # half the strength, in the same direction
    assert edge_preservation(x / 2, x, x) == pytest.approx(halved)
    assert edge_preservation(x, x, x / 2) == pytest.approx((2 * largest + halved) / 3)  # weighted by own edges
    assert edge_preservation(x, x, torch.zeros_like(x)) == pytest.approx(largest)  # no edges, no weight


def test_similarity_agrees_with_scikit_image():
    metrics = pytest.importorskip('skimage.metrics')
    x, y = noise(0), noise(1) / 2 + noise(0) / 2
    theirs = metrics.structural_similarity(
        x.numpy(), y.numpy(), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    ours = structural_similarity(x, y, y)
    assert ours == pytest.approx(theirs[5:-5, 5:-5].mean(), abs=1e-6)  # our window's weights are of single precision


def vif_of_piq(fused: torch.Tensor, source: torch.Tensor) -> float:
    piq = pytest.importorskip('piq')
    return float(piq.vif_p(fused.double()[None, None], source.double()[None, None], data_range=255))


@pytest.mark.parametrize('size', [(41, 41), (45, 62), (64, 96)], ids=str)
def test_vif_agrees_with_piq(size):
    """Same windows, noise variance (2) and borders (none); piq adds 1e-8 to both sums of logarithms, hence the rest."""
    x, y = noise(0, size), noise(1, size) / 4 + 2 * torch.arange(float(size[1]))
    fused = (0.6 * x + 0.4 * y).round()
    x[:, :24], fused[:24] = 255, 0  # windows without variance in the source, in the fused image and in both
    ours = visual_information_fidelity(fused, x, y)
    assert ours == pytest.approx(vif_of_piq(fused, x) + vif_of_piq(fused, y), rel=1e-8)


def test_vif_of_images_too_small_for_its_windows_is_that_of_their_mirror():
    x, y = noise(0), noise(1)  # 32x40, mirrored to 41x41
    fused = (x + y) / 2
    larger = [torch.from_numpy(np.pad(image, ((4, 5), (0, 1)), mode='reflect')) for image in (fused, x, y)]
    ours = visual_information_fidelity(fused, x, y)
    assert ours == pytest.approx(visual_information_fidelity(*larger), rel=1e-12)
    assert ours == pytest.approx(sum(vif_of_piq(larger[0], source) for source in larger[1:]), rel=1e-8)
    with pytest.raises(ValueError, match=r'at least 15 pixels, got \(14, 40\)'):
        visual_information_fidelity(fused[:14], x[:14], y[:14])


@pytest.mark.parametrize('size', [(15, 15), (32, 40), (64, 80)], ids=str)
def test_vif_of_equal_images_is_one_per_source(size):
    x, flat = noise(0, size), torch.full(size, 90.0)
    assert visual_information_fidelity(x, x, x) == pytest.approx(2)
    assert visual_information_fidelity(x, x, flat) == pytest.approx(2)  # nothing to be lost of a flat source
    assert visual_information_fidelity(flat, x, x) == pytest.approx(0, abs=1e-9)


def test_vif_of_a_ramp_of_twice_the_contrast_by_hand():
    """A ramp's variance is the same in all windows, its slope doubles from scale to scale, and 2 X leaves no rest."""
    ramp = torch.arange(64.0).repeat(64, 1)
    kept, whole = 0.0, 0.0
    for window, slope, places in ((17, 1, 48), (9, 2, 20), (5, 4, 8), (3, 8, 3)):
        offsets = np.arange(window) - window // 2
        weights = np.exp(-((offsets / (window / 5)) ** 2) / 2)
        variance = slope**2 * np.average(offsets**2, weights=weights)
        kept += places**2 * math.log(1 + 4 * variance / 2)
        whole += places**2 * math.log(1 + variance / 2)
    assert visual_information_fidelity(2 * ramp, ramp, ramp) == pytest.approx(2 * kept / whole)


def test_vif_falls_with_noise():
    x = 2 * torch.arange(96.0).repeat(64, 1) + noise(0, (64, 96)) / 8
    added = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    values = [visual_information_fidelity(x + deviation * added, x, x) for deviation in (0, 1, 4, 16, 64)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(2)
    assert values[-1] < 0.1


def test_unit_and_range_are_given_for_exactly_all_measures():
    assert list(RANGES) == [*ALONE, *WITH_SOURCES]


def test_measures_stay_in_their_ranges():
    images = [noise(0, (64, 48)), noise(1, (64, 48)), CHECKERS, 255 - CHECKERS, torch.full((64, 48), 90.0)]
    for fused in images:
        for ir, vis in zip(images, images[1:], strict=False):
            for name, value in fused_image_quality(fused, ir, vis).items():
                low, high = re.search(r'(-?\d+)\.\.([\d.]*)', RANGES[name]).groups()
                assert float(low) - 1e-9 <= value <= float(high or 'inf') + 1e-9, (name, value)


def test_an_average_keeps_more_of_both_sources_than_either():
    x, y = noise(0), noise(1)
    both, one = fused_image_quality((x + y) / 2, x, y), fused_image_quality(x, x, y)
    names = 'EN SD SF AG MI CC CC_ir CC_vis SCD PSNR SSIM Qabf VIF'
    assert list(both) == names.split()
    for name in ('SCD', 'PSNR', 'CC'):
        assert both[name] > one[name]
    assert both['SD'] < one['SD']


def test_each_modality_has_its_own_correlation():
    """Of F = (a X + b Y) with orthogonal X and Y of one variance: r(F, X) = a / sqrt(a^2 + b^2), r(F, Y) = b / ..."""
    x, y = 100 + 50 * torch.tensor([[1.0, 1, -1, -1]]), 100 + 50 * torch.tensor([[1.0, -1, 1, -1]])
    x, y = (image.expand(16, -1).repeat(1, 4) for image in (x, y))
    values = fused_image_quality((4 * x + 3 * y) / 7, x, y)
    assert (values['CC_ir'], values['CC_vis'], values['CC']) == pytest.approx((0.8, 0.6, 0.7))
    values = fused_image_quality(x, x, y)
    assert (values['CC_ir'], values['CC_vis']) == pytest.approx((1, 0), abs=1e-9)
