"""The losses that published fusion networks were trained with, where they are one function.

Each maps a fused luminance and its **clean** sources to one value, as :class:`~.fusion.FusionLoss` does, and takes its
place: ``dict(type='FusionLossHook', loss=dict(type='SeAFusionLoss'))``. Values are per image and averaged, so that an
image's does not depend on the others of its batch. They are computed in fp32, also under autocast, and only what the
network makes gets a gradient.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice
from paif_mm.weights import load_weights, state_of

from .fusion import REDUCTIONS, WINDOW, check_luminances, image_similarity, similarity_map
from .saliency import saliency_weights


class PublishedLoss(nn.Module):
    """``loss(fused, ir, vis) -> value``; subclasses implement :meth:`per_image`.

    Attributes:
        needs_network (bool): whether it also looks at what the network makes of other images.
    """

    needs_network = False

    def forward(
        self, fused: Tensor, ir: Tensor, vis: Tensor, reduction: str = 'mean', network: nn.Module | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            fused (Tensor): u, (N, 1, H, W).
            ir, vis (Tensor): the clean luminances, (N, 1, H, W) in [0, 1].
            reduction (str): ``'mean'`` over the images, or ``'none'`` for one value per image, (N,).
            network (nn.Module, optional): the fusion network, for a loss that needs it.

        Raises:
            ValueError: shapes that differ or are not (N, 1, H, W), images too small for SSIM, another reduction, or
                no network, or one that this loss is not made for.
        """
        check_choice('reduction', reduction, REDUCTIONS)
        check_luminances(fused, ir, vis)
        ir, vis = ir.detach().float(), vis.detach().float()
        seen = self.seen(network, fused, ir, vis) if self.needs_network else ()
        with torch.autocast(fused.device.type, enabled=False):
            losses = self.per_image(fused.float(), ir, vis, *(x.float() for x in seen))
        return losses.mean() if reduction == 'mean' else losses

    def seen(self, network: nn.Module | None, fused: Tensor, ir: Tensor, vis: Tensor) -> tuple[Tensor, ...]:
        """What :meth:`per_image` takes of the network, for a loss that needs it."""
        return ()

    @abstractmethod
    def per_image(self, fused: Tensor, ir: Tensor, vis: Tensor, *seen: Tensor) -> Tensor:
        """(N, 1, H, W) each, fp32 -> (N,)."""


@MODELS.register_module()
class SeAFusionLoss(PublishedLoss):
    """SeAFusion's: the brighter intensity, and the larger gradient, at each pixel (Tang et al. 2022, Eq. 6-8).

    ``mean |u - max(x, y)| + gradient_weight * mean | G u - max(G x, G y) |`` with G = |Sobel_x| + |Sobel_y|, the image
    being black beyond its border.

    Args:
        gradient_weight (float): Default: 10 (the authors' release).
    """

    def __init__(self, gradient_weight: float = 10.0):
        super().__init__()
        self.gradient_weight = gradient_weight

    def per_image(self, fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
        slopes = [sum(part.abs() for part in sobel(F.pad(image, [1] * 4))) for image in (fused, ir, vis)]
        intensity = (fused - torch.maximum(ir, vis)).abs()
        gradient = (slopes[0] - torch.maximum(slopes[1], slopes[2])).abs()
        return mean(intensity) + self.gradient_weight * mean(gradient)


@MODELS.register_module()
class SDNetLoss(PublishedLoss):
    """SDNet's: intensities, gradients of whichever source has more of them, and what can be told from the fused image
    again (Zhang and Ma 2021, Eq. 1-7).

    With s = 2u - 1, i = 2x - 1, v = 2y - 1, L the Laplacian, and W = 1 where |L low(v)| > |L low(i)|, else 0::

        mean (s - i)^2 + vis_weight mean (s - v)^2
        + gradient_weight (mean (1 - W) (L s - L i)^2 + mean W (L s - L v)^2)
        + decomposition_weight (mean (i' - i)^2 + mean (v' - v)^2)

    low(.) is a Gaussian of 3x3 pixels; i' and v' are what the network's other half decomposes u into.

    Args:
        vis_weight (float): Default: 0.5 (the authors' release for infrared and visible images).
        gradient_weight (float): Default: 80 (as above).
        decomposition_weight (float): Default: 1. With 0 it takes any network, and otherwise an
            ``SDNet(decomposition=True)``.
    """

    def __init__(self, vis_weight: float = 0.5, gradient_weight: float = 80.0, decomposition_weight: float = 1.0):
        super().__init__()
        self.vis_weight = vis_weight
        self.gradient_weight = gradient_weight
        self.decomposition_weight = decomposition_weight
        self.needs_network = decomposition_weight != 0

    def seen(self, network: nn.Module | None, fused: Tensor, ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
        return own_method(self, network, 'decompose', 'an SDNet(decomposition=True)')(fused)

    def per_image(self, fused: Tensor, ir: Tensor, vis: Tensor, *decomposed: Tensor) -> Tensor:
        s, i, v = (2 * image - 1 for image in (fused, ir, vis))
        loss = mean((s - i).square()) + self.vis_weight * mean((s - v).square())
        visible = laplacian(low_pass(v)).abs() > laplacian(low_pass(i)).abs()
        gradient = laplacian(s) - torch.where(visible, laplacian(v), laplacian(i))
        loss = loss + self.gradient_weight * mean(gradient.square())
        for image, source in zip(decomposed, (ir, vis), strict=bool(decomposed)):
            loss = loss + self.decomposition_weight * mean((2 * (image - source)).square())
        return loss


@MODELS.register_module()
class TarDALLoss(PublishedLoss):
    """TarDAL's generator's, without its discriminators (Liu et al. 2022, Eq. 6-9): both sources, weighed by saliency.

    ``mean M_x d(u, x) + M_y d(u, y)`` over the pixels, where ``d(u, x) = ssim_weight (1 - SSIM) / 2 + l1_weight |u -
    x|`` and M_x + M_y = 1 as in :func:`~.saliency.saliency_weights`. SSIM is that of windows inside the image, and its
    part the mean over their pixels.

    Args:
        ssim_weight (float): Default: 1 (the authors' release).
        l1_weight (float): Default: 20 (as above).
    """

    def __init__(self, ssim_weight: float = 1.0, l1_weight: float = 20.0):
        super().__init__()
        self.ssim_weight = ssim_weight
        self.l1_weight = l1_weight

    def per_image(self, fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
        loss, reach = 0.0, WINDOW // 2
        for weight, source in zip(saliency_weights(ir, vis), (ir, vis), strict=True):
            inner = weight[..., reach:-reach, reach:-reach]
            structure = inner * (1 - similarity_map(fused, source)) / 2
            loss = loss + self.ssim_weight * mean(structure) + self.l1_weight * mean(weight * (fused - source).abs())
        return loss


@MODELS.register_module()
class DIDFuseLoss(PublishedLoss):
    """DIDFuse's: an autoencoder's on each source by itself (Zhao et al. 2020, Eq. 1-4); nothing is fused in it.

    With x', y' the images that the network makes of its features of x and y, B and D their base and detail features,
    S the Sobel gradient in both directions (an eighth of the kernel, borders repeated), and
    f(x) = mean (x' - x)^2 + 5 (1 - SSIM(x', x)) / 2::

        tanh(mean |B_x - B_y|) - 0.5 tanh(mean |D_x - D_y|) + 2 f(x) + 2 f(y) + 10 mean |S y' - S y|

    The sources pass the network once more for it, in whose mode it is: in training, batch norms count them too.
    Weights are those of the authors' release. The fused image gets no gradient.
    """

    needs_network = True

    def seen(self, network: nn.Module | None, fused: Tensor, ir: Tensor, vis: Tensor) -> tuple[Tensor, ...]:
        reconstruct = own_method(self, network, 'reconstruct', 'a DIDFuse')
        return *reconstruct(ir, 'ir'), *reconstruct(vis, 'vis')

    def per_image(self, fused: Tensor, ir: Tensor, vis: Tensor, *seen: Tensor) -> Tensor:
        ir_again, ir_base, ir_detail, vis_again, vis_base, vis_detail = seen
        loss = mean((ir_base - vis_base).abs()).tanh() - 0.5 * mean((ir_detail - vis_detail).abs()).tanh()
        for again, source in ((ir_again, ir), (vis_again, vis)):
            difference = mean((again - source).square())
            loss = loss + 2 * (difference + 5 * (1 - image_similarity(again, source)) / 2)
        slopes = sobel(F.pad(vis_again - vis, [1] * 4, mode='replicate'))
        return loss + 10 * sum(mean(slope.abs()) for slope in slopes) / (2 * 8)


@MODELS.register_module()
class U2FusionLoss(PublishedLoss):
    """U2Fusion's: both sources, weighed by how much information each holds (Xu et al. 2020, Eq. 1-6).

    ``sum w (1 - SSIM(u, x)) + mse_weight sum w mean (u - x)^2`` over the two sources, with w = softmax(g / constant) of
    both, and g the mean square of the Laplacian (the mean of eight neighbours minus the pixel) of VGG-16's features
    before each of its five poolings, for the source at 224x224. Elastic weight consolidation, which is for training on
    several tasks one after the other, is no part of it.

    Args:
        mse_weight (float): Default: 20 (the authors' release).
        constant (float): Default: 3200 (the release's for infrared and visible images).
        vgg (str, optional): weights of VGG-16's convolutions by torchvision's names, a file or an address. Default:
            torchvision's copy of the original ones, made for images in [0, 255] as here: 500 MB, downloaded once.

    Raises:
        WeightsError: the file does not hold them.
    """

    MEAN = (123.68, 116.779, 103.939)  # of red, green and blue in VGG's training
    LAYERS = (3, 8, 15, 22, 29)  # of VGG-16: the last activation before each pooling

    def __init__(self, mse_weight: float = 20.0, constant: float = 3200.0, vgg: str | None = None):
        from torchvision.models.vgg import VGG16_Weights, cfgs, make_layers  # slow to import

        super().__init__()
        self.mse_weight = mse_weight
        self.constant = constant
        self.vgg = make_layers(cfgs['D'], batch_norm=False)[: self.LAYERS[-1] + 1].requires_grad_(False).eval()
        vgg = vgg or VGG16_Weights.IMAGENET1K_FEATURES.url
        state = state_of(CheckpointLoader.load_checkpoint(vgg, map_location='cpu', logger='silent'), vgg)
        start = 'features.'
        state = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        load_weights(self.vgg, state, vgg)

    def per_image(self, fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
        shares = torch.stack([self.information(source) for source in (ir, vis)]).div(self.constant).softmax(0)
        loss = 0.0
        for share, source in zip(shares, (ir, vis), strict=True):
            difference = 1 - image_similarity(fused, source) + self.mse_weight * mean((fused - source).square())
            loss = loss + share * difference
        return loss

    @torch.no_grad()
    def information(self, image: Tensor) -> Tensor:
        """g, (N, 1, H, W) in [0, 1] -> (N,)."""
        features = self.features(image)
        return torch.stack([mean(neighbours_minus_pixel(x).square()) for x in features]).mean(0)

    def features(self, image: Tensor) -> list[Tensor]:
        """VGG-16's of a grey image, (N, 1, H, W) in [0, 1] -> five (N, C, H', W')."""
        self.vgg.to(image.device)
        x = F.interpolate(image, (224, 224)).expand(-1, 3, -1, -1) * 255
        x = x - x.new_tensor(self.MEAN)[:, None, None]
        found = []
        for number, layer in enumerate(self.vgg):
            x = layer(x)
            if number in self.LAYERS:
                found.append(x)
        return found


def own_method(loss: nn.Module, network: nn.Module | None, name: str, wanted: str):
    """A method that the networks of one class alone have.

    Raises:
        ValueError: the network is of another.
    """
    if not hasattr(network, name):
        given = 'there is none' if network is None else f'not for {type(network).__name__}'
        raise ValueError(f'{type(loss).__name__} is for {wanted} in a FusionLossHook, {given}: use FusionLoss instead')
    return getattr(network, name)


def mean(x: Tensor) -> Tensor:
    """(N, ...) -> (N,)."""
    return x.flatten(1).mean(1)


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences along x and along y, weighed (1, 2, 1) across: (N, 1, H + 2, W + 2) -> two (N, 1, H, W)."""
    along_x, along_y = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    return (
        along_x[..., :-2, :] + 2 * along_x[..., 1:-1, :] + along_x[..., 2:, :],
        along_y[..., :-2] + 2 * along_y[..., 1:-1] + along_y[..., 2:],
    )


def laplacian(x: Tensor) -> Tensor:
    """The sum of four neighbours minus four times the pixel, with zeros beyond the border."""
    y = F.pad(x, [1] * 4)
    return y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:] - 4 * x


def low_pass(x: Tensor) -> Tensor:
    """SDNet's Gaussian of 3x3 pixels, with zeros beyond the border."""
    y = F.pad(x, [1] * 4)
    edges = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    corners = y[..., :-2, :-2] + y[..., 2:, :-2] + y[..., :-2, 2:] + y[..., 2:, 2:]
    return 0.1478 * x + 0.1183 * edges + 0.0947 * corners


def neighbours_minus_pixel(x: Tensor) -> Tensor:
    """The mean of eight neighbours minus the pixel, with zeros beyond the border."""
    return (9 * F.avg_pool2d(x, 3, 1, 1) - x) / 8 - x
