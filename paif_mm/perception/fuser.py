"""What fuses pairs for a model, whichever of its parts that is."""

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paif_mm.compat import teach_inferencers
from paif_mm.data.colour import bgr_to_luma, replace_luma, split_pair
from paif_mm.registry import MODELS, build

MARKS = ('image_weights', 'twins')  # of a batch, for its losses


@dataclass
class FusedGroup:
    """The pairs of one batch that share a size, and what became of them.

    Attributes:
        index (list[int]): places in the batch, n of them.
        pair (Tensor): what was fused, (n, 4, H, W) B,G,R,IR in [0, 1]; attacked if the batch was.
        clean (Tensor): the pairs before any attack, like ``pair`` (the same object where there was none).
        luma (Tensor): fused luminance (n, 1, H, W), differentiable.
        fused (Tensor): fused image (n, 3, H, W), B,G,R in [0, 1].
    """

    index: list[int]
    pair: Tensor
    clean: Tensor
    luma: Tensor
    fused: Tensor


class NotPairsError(ValueError):
    """What is to be fused are no pairs; the message is one line for the user."""


class FusionError(ValueError):
    """A fusion network does not do what one must; the message is one line for the user."""


class PairFuser:
    """Mixin of the modules that hold a fusion network: ``FusionDataPreprocessor`` and ``FusionBackbone``.

    Attributes:
        fusion (nn.Module): N, ``(ir, vis_luma) -> luma``, each (n, 1, H, W) in [0, 1].
        groups (list[FusedGroup]): of the last batch, for the fusion loss and for pictures.
        image_weights (list[float] | None): of the last batch, for its losses; None: all alike.
        twins (paif_mm.losses.trades.Twins | None): which images of the last batch are attacked copies of others.
    """

    def hold(self, fusion: dict, stretch: bool = False, grey: bool = False) -> None:
        """Build the fusion network; called once, by ``__init__``."""
        teach_inferencers()
        self.fusion = build(MODELS, fusion)
        self.stretch = stretch
        self.grey = grey
        self.groups: list[FusedGroup] = []
        self.take_marks({})

    def take_marks(self, data: dict) -> None:
        """Note what a batch says of its images for their losses."""
        self.image_weights, self.twins = (data.get(mark) for mark in MARKS)

    def watch(self, model: nn.Module) -> None:
        """Learn from the batches of ``model`` what else they hold (``clean_inputs``, ``image_weights``)."""

    def canvas(self, training: bool) -> tuple[int, int] | None:
        """The ``canvas`` of :meth:`fuse` for the pairs of a batch, as they come from a data loader."""
        return None

    def fuse(self, inputs, clean=None, canvas: tuple[int, int] | None = None) -> list[Tensor]:
        """Fuse pairs (4, H, W) in [0, 255] to images (3, H, W), B,G,R in [0, 255]; fills ``groups``.

        Args:
            inputs: pairs, a list or one tensor.
            clean: the same pairs before an attack, if there was one.
            canvas: height and width of the one tensor that N sees in training, or of the largest pair where that is
                larger: pairs are extended by their border pixels, and what is fused beyond them is cut off again. So
                batch statistics are taken once a batch, in every process, and autotuning and compilation see one
                shape. Default: every pair at its own size, untouched by the others of its batch.

        Raises:
            NotPairsError: the inputs are not pairs.
            FusionError: see :meth:`luma`.
        """
        self.groups = []  # frees the last batch's graph before this one is built
        by_size = defaultdict(list)
        for index, image in enumerate(inputs):
            if image.dim() != 3 or image.size(0) != 4:
                raise NotPairsError(
                    f'{type(self).__name__} fuses pairs (4, H, W), but an input has the shape {tuple(image.shape)}: '
                    "load images with dict(type='paif_mm.LoadPairFromFile') instead of LoadImageFromFile, and put "
                    "photometric transforms into dict(type='paif_mm.VisibleOnly', transforms=[...])"
                )
            by_size[image.shape].append(index)

        pairs = [torch.stack([inputs[i] for i in index]).float() / 255 for index in by_size.values()]
        outputs = [None] * len(inputs)
        for index, pair, luma in zip(by_size.values(), pairs, self._fused_lumas(pairs, canvas), strict=True):
            before = pair if clean is None else torch.stack([clean[i] for i in index]).float() / 255
            group = self.compose(index, pair, before, luma)
            for place, image in zip(index, group.fused * 255, strict=True):
                outputs[place] = image
        return outputs

    def _fused_lumas(self, pairs: list[Tensor], canvas: tuple[int, int] | None) -> list[Tensor]:
        """N's (n, 1, H_i, W_i) of groups of pairs (n, 4, H_i, W_i) in [0, 1], by one pass each, or by one for all."""
        if canvas is None:
            return [self.luma(*luminances(pair)) for pair in pairs]
        size = [max(least, *(pair.size(dim) for pair in pairs)) for least, dim in zip(canvas, (-2, -1), strict=True)]
        sources = zip(*(luminances(pair) for pair in pairs), strict=True)
        luma = self.luma(*(torch.cat([_extended(part, size) for part in source]) for source in sources))
        groups = zip(luma.split([len(pair) for pair in pairs]), pairs, strict=True)
        return [part[..., : pair.size(-2), : pair.size(-1)] for part, pair in groups]

    def luma(self, ir: Tensor, visible: Tensor) -> Tensor:
        """N's fused luminance of infrared and visible luminance, (n, 1, H, W) each.

        Raises:
            FusionError: N does not take or does not give that.
        """
        try:
            luma = self.fusion(ir, visible)
        except (RuntimeError, TypeError) as error:
            if isinstance(error, torch.cuda.OutOfMemoryError) or type(self.fusion).__module__.startswith('paif_mm.'):
                raise
            raise FusionError(f'{self._contract(ir)}; given that, it says: {" ".join(str(error).split())}') from error
        if not isinstance(luma, Tensor) or luma.shape != ir.shape:
            given = f'a tensor {tuple(luma.shape)}' if isinstance(luma, Tensor) else f'a {type(luma).__name__}'
            raise FusionError(f'{self._contract(ir)}; it returns {given}')
        return luma

    def _contract(self, ir: Tensor) -> str:
        shape = tuple(ir.shape)
        return (
            f'a fusion network maps (infrared, visible luminance), two tensors {shape} in [0, 1], to one fused '
            f'luminance {shape}, and {type(self.fusion).__name__} does not'
        )

    def compose(self, index: list[int], pair: Tensor, clean: Tensor, luma: Tensor) -> FusedGroup:
        """Put a fused luminance (n, 1, H, W) in the place of the visible one; the result joins ``groups``."""
        self.groups.append(FusedGroup(index, pair, clean, luma, self.image(pair, luma)))
        return self.groups[-1]

    def image(self, pair: Tensor, luma: Tensor) -> Tensor:
        """The fused image (n, 3, H, W), B,G,R in [0, 1], of pairs (n, 4, H, W) and fused luminances (n, 1, H, W)."""
        visible = split_pair(pair)[1]
        luminance = luma.float()
        fused = luminance.clamp(0, 1).expand(-1, 3, -1, -1) if self.grey else replace_luma(visible, luminance)
        if self.stretch:
            low, high = fused.amin((1, 2, 3), keepdim=True), fused.amax((1, 2, 3), keepdim=True)
            fused = (fused - low) / (high - low).clamp_min(1e-6)
        return fused


def luminances(pair: Tensor) -> tuple[Tensor, Tensor]:
    """What a fusion network takes of a pair (n, 4, H, W): infrared and the visible luminance, (n, 1, H, W) each."""
    ir, visible = split_pair(pair)
    return ir, bgr_to_luma(visible)


def _extended(images: Tensor, size: list[int]) -> Tensor:
    """Images (n, 1, H, W), continued by their border pixels to the right and below."""
    right, below = size[1] - images.size(-1), size[0] - images.size(-2)
    return F.pad(images, (0, right, 0, below), mode='replicate') if right or below else images


def find_fuser(model: nn.Module) -> PairFuser | None:
    """The part of a model (not wrapped) that fuses pairs; None where it has none."""
    return next((module for module in model.modules() if isinstance(module, PairFuser)), None)


def normalised_channels(model: nn.Module) -> int:
    """For how many channels the preprocessor of a model that fuses no images knows means; 0: it does not normalise."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    return 0 if mean is None else mean.numel()


def require_fuser(model: nn.Module, who: str) -> PairFuser:
    """As :func:`find_fuser`, and it watches the model from now on.

    Raises:
        TypeError: there is none; the message is for the user of ``who``.
    """
    fuser = find_fuser(model)
    if fuser is None:
        raise TypeError(
            f'{who} needs a fused model: wrap model.data_preprocessor, now {type(model.data_preprocessor).__name__}, '
            'in a paif_mm.FusionDataPreprocessor (see docs/dropin.md)'
        )
    fuser.watch(model)
    return fuser
