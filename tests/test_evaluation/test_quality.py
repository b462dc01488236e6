"""Measures of fused images against closed forms and independent implementations."""

import math

import numpy as np
import pytest
import torch

from paif_mm.evaluation.quality import (
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
)

RAMP = torch.arange(256.0).repeat(16, 1)  # every level alike, slope 1 along rows
FLAT = torch.full((16, 256), 90.0)


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


def test_information_of_equal_and_of_independent_images():
    assert mutual_information(RAMP, RAMP, FLAT) == pytest.approx(8)  # its own entropy, and nothing of a constant
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij')
    assert mutual_information(rows, columns, columns) == pytest.approx(0, abs=1e-9)


def test_correlations():
    x, y = noise(0), noise(1)
    r = np.corrcoef(x.flatten(), y.flatten())[0, 1]
    assert correlation(x, x, y) == pytest.approx((1 + r) / 2)
    assert correlation(255 - x, x, x) == pytest.approx(-1)
    assert sum_of_correlations_of_differences(x + y, x, y) == pytest.approx(2)
    assert correlation(FLAT, FLAT, RAMP) == 0


def test_peak_signal_to_noise():
    assert peak_signal_to_noise(FLAT + 5, FLAT, FLAT) == pytest.approx(10 * math.log10(255**2 / 25))
    assert peak_signal_to_noise(FLAT, FLAT, FLAT) == math.inf


def test_similarity_and_edges_of_equal_images():
    x = noise(0)
    assert structural_similarity(x, x, x) == pytest.approx(1)
    largest = 0.9994 / (1 + math.exp(-15 * 0.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert edge_preservation(x, x, x) == pytest.approx(largest)
    assert edge_preservation(FLAT[:, :40], noise(1, (16, 40)), noise(2, (16, 40))) < 0.02
    square = torch.arange(40.0).repeat(40, 1)
    assert edge_preservation(square.T, square, square) < 0.1  # as strong, but at a right angle, save at two borders


def test_similarity_agrees_with_scikit_image():
    metrics = pytest.importorskip('skimage.metrics')
    x, y = noise(0), noise(1) / 2 + noise(0) / 2
    theirs = metrics.structural_similarity(
        x.numpy(), y.numpy(), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    ours = structural_similarity(x, y, y)
    assert ours == pytest.approx(theirs[5:-5, 5:-5].mean(), abs=1e-4)


def test_an_average_keeps_more_of_both_sources_than_either():
    x, y = noise(0), noise(1)
    both, one = fused_image_quality((x + y) / 2, x, y), fused_image_quality(x, x, y)
    assert list(both) == ['EN', 'SD', 'SF', 'AG', 'MI', 'CC', 'SCD', 'PSNR', 'SSIM', 'Qabf']
    for name in ('SCD', 'PSNR', 'CC'):
        assert both[name] > one[name]
    assert both['SD'] < one['SD']
