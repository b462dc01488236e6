"""Quality of fused images, as the image fusion literature measures it.

Every function takes luminances of 8 bits: tensors (H, W), floating point, in [0, 255], a fused image F and its sources,
infrared X and visible Y. Published toolkits disagree on ranges, bins and sums: what is counted here is said of each.
"""

import math

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim as msssim_ssim
from torch import Tensor

LEVELS = 256
VIF_WINDOWS = 17, 9, 5, 3  # pixels, at the full, half, quarter and eighth resolution
VIF_NOISE = 2.0  # levels^2, variance of the visual noise
VIF_SIDES = 15, 41  # pixels: the shortest side that can be mirrored, and the one in which all windows fit


def entropy(fused: Tensor) -> float:
    """EN: -sum p log2 p of the histogram of the 256 levels, in bits, [0, 8] (Roberts et al. 2008)."""
    return _bits(_histogram(_levels(fused), LEVELS))


def standard_deviation(fused: Tensor) -> float:
    """SD: of the pixels, in levels (population formula)."""
    return float(fused.double().std(correction=0))


def spatial_frequency(fused: Tensor) -> float:
    """SF: sqrt(RF^2 + CF^2), root mean squares of the differences of neighbours along rows and columns, in levels."""
    fused = fused.double()
    return float((fused.diff(dim=1).square().mean() + fused.diff(dim=0).square().mean()).sqrt())


def average_gradient(fused: Tensor) -> float:
    """AG: mean of sqrt((dx^2 + dy^2) / 2) over pixels with a right and a lower neighbour, in levels."""
    fused = fused.double()
    dx, dy = fused.diff(dim=1)[:-1], fused.diff(dim=0)[:, :-1]
    return float(((dx.square() + dy.square()) / 2).sqrt().mean())


def mutual_information(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """MI: I(F; X) + I(F; Y) of the joint histograms of 256 levels, in bits (Qu et al. 2002)."""
    return sum(_information(fused, source) for source in (ir, vis))


def correlation(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """CC: mean of the correlation coefficients r(F, X) and r(F, Y), in [-1, 1]; 0 for a constant image."""
    return (correlation_with_infrared(fused, ir, vis) + correlation_with_visible(fused, ir, vis)) / 2


def correlation_with_infrared(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """CC_ir: r(F, X). Beside CC_vis, it tells a network that fuses from one that passes one modality on."""
    return _pearson(fused, ir)


def correlation_with_visible(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """CC_vis: r(F, Y)."""
    return _pearson(fused, vis)


def sum_of_correlations_of_differences(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """SCD: r(F - Y, X) + r(F - X, Y), in [-2, 2] (Aslantas and Bendes 2015)."""
    return _pearson(fused - vis, ir) + _pearson(fused - ir, vis)


def peak_signal_to_noise(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """PSNR: 10 log10(255^2 / MSE) in dB, MSE the mean of those to X and to Y; infinite if it is 0."""
    error = sum(float((fused.double() - source.double()).square().mean()) for source in (ir, vis)) / 2
    return 10 * math.log10(255**2 / error) if error else math.inf


def structural_similarity(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """SSIM: mean of SSIM(F, X) and SSIM(F, Y), 11x11 Gaussian window, in [-1, 1] (Wang et al. 2004)."""

    def one(source: Tensor) -> float:
        return float(msssim_ssim(fused[None, None].double(), source[None, None].double(), data_range=255))

    return (one(ir) + one(vis)) / 2


def edge_preservation(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """Qabf: share of the sources' edges, in strength and direction, that the fused image keeps, in [0, 1].

    Sobel edges; each source's preservation is averaged with its own edge strength as weight (Xydeas and Petrovic 2000,
    with their constants).
    """
    strength, angle = _edges(fused)
    kept, weights = 0.0, 0.0
    for source in (ir, vis):
        own, own_angle = _edges(source)
        low, high = torch.minimum(own, strength), torch.maximum(own, strength)
        ratio = torch.where(high > 0, low / high.clamp_min(1e-12), 1.0)
        alike = 1 - (own_angle - angle).abs() / (math.pi / 2)
        q = (0.9994 / (1 + torch.exp(-15 * (ratio - 0.5)))) * (0.9879 / (1 + torch.exp(-22 * (alike - 0.8))))
        kept, weights = kept + (q * own).sum(), weights + own.sum()
    return float(kept / weights) if weights > 0 else 1.0


def visual_information_fidelity(fused: Tensor, ir: Tensor, vis: Tensor) -> float:
    """VIF: VIFp(F; X) + VIFp(F; Y), in [0, inf); 2 if F = X = Y, and beyond if F has more contrast than its sources.

    VIFp(F; X) = sum log(1 + g^2 v_X / (v_E + 2)) / sum log(1 + v_X / 2) over four scales and all Gaussian windows, of
    the local model F = g X + E with variances v: the pixel domain variant of Sheikh and Bovik 2006, by the constants of
    their published code. The source is the reference. Summed over sources as in the toolkits of fusion (L. Tang's
    Image-Fusion, CDDFuse's Evaluator, IVIF_ZOO); few take the mean, half of it. A source without structure counts 1.

    Images with a side below 41 pixels are mirrored at their borders up to it, so that every value has all four scales.

    Raises:
        ValueError: if a side is below 15 pixels, too short to be mirrored.
    """
    images = torch.stack([fused, ir, vis]).double()  # (3, H, W)
    if min(fused.shape) < VIF_SIDES[0]:
        raise ValueError(f'VIF needs sides of at least {VIF_SIDES[0]} pixels, got {tuple(fused.shape)}')
    missing = [max(0, VIF_SIDES[1] - side) for side in (fused.shape[1], fused.shape[0])]
    images = F.pad(images, [part for n in missing for part in (n // 2, n - n // 2)], mode='reflect')
    kept, whole = images.new_zeros(2), images.new_zeros(2)  # of X and of Y
    for window in VIF_WINDOWS:
        if window != VIF_WINDOWS[0]:
            images = _blur(images, window)[:, ::2, ::2]
        means = _blur(images, window)
        covariance = _blur(images[:1] * images[1:], window) - means[:1] * means[1:]  # of F with X and with Y
        variance = _blur(images.square(), window) - means.square()
        variance = torch.where(variance > 1e-8, variance, 0.0)  # less is rounding
        fused_variance, source_variance = variance[:1], variance[1:]
        gain = torch.where(source_variance > 0, covariance.clamp_min(0) / source_variance, 0.0)
        rest = (fused_variance - gain * covariance).clamp_min(0)
        kept += (gain.square() * source_variance / (rest + VIF_NOISE)).log1p().sum((1, 2))
        whole += (source_variance / VIF_NOISE).log1p().sum((1, 2))
    return float(torch.where(whole > 0, kept / whole, 1.0).sum())


#: Of the fused image alone, and of it and both sources; by the names of the literature.
ALONE = {
    'EN': entropy,
    'SD': standard_deviation,
    'SF': spatial_frequency,
    'AG': average_gradient,
}
WITH_SOURCES = {
    'MI': mutual_information,
    'CC': correlation,
    'CC_ir': correlation_with_infrared,
    'CC_vis': correlation_with_visible,
    'SCD': sum_of_correlations_of_differences,
    'PSNR': peak_signal_to_noise,
    'SSIM': structural_similarity,
    'Qabf': edge_preservation,
    'VIF': visual_information_fidelity,
}
#: Unit and range of each, for luminances of 8 bits in 0..255.
RANGES = {
    'EN': 'bits, 0..8',
    'SD': 'levels, 0..127.5',
    'SF': 'levels, 0..360.7',
    'AG': 'levels, 0..255',
    'MI': 'bits, 0..16',
    'CC': '-1..1',
    'CC_ir': '-1..1',
    'CC_vis': '-1..1',
    'SCD': '-2..2',
    'PSNR': 'dB, 0..',
    'SSIM': '-1..1',
    'Qabf': '0..1',
    'VIF': '0.., 2 if F = X = Y',
}


def fused_image_quality(fused: Tensor, ir: Tensor, vis: Tensor) -> dict[str, float]:
    """All measures of one fused image, by name."""
    values = {name: function(fused) for name, function in ALONE.items()}
    return {**values, **{name: function(fused, ir, vis) for name, function in WITH_SOURCES.items()}}


def _levels(image: Tensor) -> Tensor:
    return image.round().clamp(0, LEVELS - 1).long().flatten()


def _histogram(values: Tensor, bins: int) -> Tensor:
    return values.bincount(minlength=bins).double() / values.numel()


def _bits(shares: Tensor) -> float:
    shares = shares[shares > 0]
    return float(-(shares * shares.log2()).sum()) + 0.0  # no -0


def _information(a: Tensor, b: Tensor) -> float:
    a, b = _levels(a), _levels(b)
    joint = _histogram(a * LEVELS + b, LEVELS**2)
    return _bits(_histogram(a, LEVELS)) + _bits(_histogram(b, LEVELS)) - _bits(joint)


def _pearson(a: Tensor, b: Tensor) -> float:
    a, b = (x.double() - x.double().mean() for x in (a, b))
    size = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / size) if size > 0 else 0.0


def _edges(image: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and direction, in (-pi / 2, pi / 2], of Sobel edges; the border is repeated."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64, device=image.device)
    padded = F.pad(image.double()[None, None], (1, 1, 1, 1), mode='replicate')
    gx, gy = (F.conv2d(padded, k[None, None])[0, 0] for k in (kernel, kernel.T))
    angle = torch.where(gx == 0, math.pi / 2, torch.atan(gy / torch.where(gx == 0, 1.0, gx)))
    return torch.hypot(gx, gy), torch.where((gx == 0) & (gy == 0), 0.0, angle)


def _blur(images: Tensor, window: int) -> Tensor:
    """Gaussian means of ``window`` pixels, deviation a fifth of it, wherever it fits in (N, H, W).

    By shifted sums: torch's own convolution of doubles takes several times as long on a CPU.
    """
    weights = [math.exp(-(((i - window // 2) * 5 / window) ** 2) / 2) for i in range(window)]
    for dim in (1, 2):
        size = images.shape[dim] - window + 1
        shifted = [images.narrow(dim, i, size) for i in range(window)]
        images = torch.zeros_like(shifted[0])
        for weight, image in zip(weights, shifted, strict=True):
            images.add_(image, alpha=weight / sum(weights))
    return images
