"""Fused images alone: ``FusionInferencer('paif_mm://NAME')(('visible', 'infrared'), out_dir='out')``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.utils import ProgressBar
from torch import Tensor, nn

from paif_mm.data.colour import bgr_to_luma, replace_luma, split_pair
from paif_mm.data.listing import inform, warn
from paif_mm.engine.launch import model_files, read_config
from paif_mm.perception import require_fuser
from paif_mm.registry import MODELS, build
from paif_mm.weights import load_weights

from .machine import usable_device
from .reading import loader_of, naming, open_pairs
from .results import write_image

HALO = 48  # pixels around a tile, which what lies beyond changes by about a grey level at most, see tests


class Fused(NamedTuple):
    """A fused pair.

    Attributes:
        name: of its file.
        image: HxWx3 (B,G,R) in colour, HxW of luminance, uint8 or uint16.
    """

    name: str
    image: np.ndarray


class FusionInferencer:
    """Fuses pairs, without a task.

    Args:
        model (str | Config | dict): ``paif_mm://NAME`` or a config (file or read) of a fused model, whose
            fusion network is taken; or a fusion network's own config, e.g. ``dict(type='AverageFusion')``.
        weights (str | None): a checkpoint of the model, or of the network. A network without parameters needs none.
        device (str | None): Default: the GPU if there is one.
        show_progress (bool): a bar with the time that is left. Default: True.

    Attributes:
        failures (list[str]): as :class:`~.inferencer.PairInferencer`'s.

    Raises:
        ValueError: a network with parameters and no weights, or no such device.
        WeightsError: weights that do not fit.
    """

    def __init__(self, model, weights: str | None = None, device: str | None = None, show_progress: bool = True):
        self.device = usable_device(device)
        self.network, self._loader = _network(model, weights)
        self.network.to(self.device).eval()
        self.show_progress = show_progress
        self.failures: list[str] = []

    def __call__(self, inputs, **kwargs) -> dict[str, list]:
        """Fuse, and keep all results; :meth:`stream`, which takes the same, keeps none.

        Returns:
            dict: ``fused``: images as :class:`Fused` has them; ``names``: of the pairs, in the same order. What was
            left out has no place in them: it is in ``failures``, and logged as a warning.
        """
        found = list(self.stream(inputs, **kwargs))
        for line in self.failures:
            warn(line)
        return {'fused': [one.image for one in found], 'names': [one.name for one in found]}

    @torch.no_grad()
    def stream(
        self,
        inputs,
        *,
        ir_range: tuple[float, float] | str | None = None,
        align: str | np.ndarray | None = None,
        colour: bool = True,
        bits: int = 8,
        tile: int | None = None,
        out_dir: str = '',
    ) -> Iterator[Fused]:
        """Fuse one pair after the other.

        Args:
            inputs: see :func:`~.pairs.source_of`.
            ir_range, align: as :meth:`.inferencer.PairInferencer.stream` takes.
            colour (bool): the visible image's colours under the fused luminance; otherwise that alone. Default: True.
            bits (int): 8 or 16 of each channel. Default: 8.
            tile (int | None): fuse in squares of so many pixels a side, each with 48 more around it, where memory is
                short. Operations that see the whole image (CA, TB) then see the tile. Default: in one piece.
            out_dir (str): folder of ``NAME.png``. Default: nowhere.

        Raises:
            ValueError, FileNotFoundError: as :meth:`.inferencer.PairInferencer.stream`.
        """
        if bits not in (8, 16):
            raise ValueError(f'bits must be 8 or 16, not {bits}')
        if tile is not None and tile < 1:
            raise ValueError(f'tile must be a number of pixels, not {tile}')
        source, reader = open_pairs(inputs, self._loader, ir_range, align, [Path(out_dir)] if out_dir else [])
        self.failures = list(source.left_out)
        if out_dir:
            Path(out_dir).mkdir(parents=True, exist_ok=True)
        bar = ProgressBar(source.total) if self.show_progress and (source.total or 0) > 1 else None
        for pair in source.pairs:
            try:
                image = reader(pair)['img']
                with naming(pair.name, image.shape[:2]):
                    fused = Fused(pair.name, self.fuse(image, colour, bits, tile))
            except (ValueError, OSError) as error:
                if source.single:
                    raise
                self.failures.append(str(error))
                continue
            if out_dir:
                write_image(Path(out_dir) / f'{pair.name}.png', fused.image)
            if bar:
                bar.update()
            yield fused
        for line in reader.notes:
            inform(line)

    @torch.no_grad()
    def fuse(self, image: np.ndarray, colour: bool = True, bits: int = 8, tile: int | None = None) -> np.ndarray:
        """Fuse a pair HxWx4 (B,G,R,IR) in [0, 255]; see :meth:`stream`."""
        pair = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(self.device).float() / 255
        infrared, visible = split_pair(pair)
        luma = bgr_to_luma(visible)
        fused = self._tiled(infrared, luma, tile) if tile else self.network(infrared, luma)
        fused = replace_luma(visible, fused)[0].permute(1, 2, 0) if colour else fused[0, 0]
        largest = 2**bits - 1
        levels = (fused.float().clamp(0, 1) * largest).round().cpu().numpy()
        return levels.astype(np.uint8 if bits == 8 else np.uint16)

    def _tiled(self, infrared: Tensor, luma: Tensor, side: int) -> Tensor:
        fused = torch.empty_like(luma)
        height, width = luma.shape[-2:]
        for top in range(0, height, side):
            for left in range(0, width, side):
                start = max(0, top - HALO), max(0, left - HALO)
                part = (..., slice(start[0], top + side + HALO), slice(start[1], left + side + HALO))
                piece = self.network(infrared[part], luma[part])
                inner = (
                    ...,
                    slice(top - start[0], top - start[0] + side),
                    slice(left - start[1], left - start[1] + side),
                )
                fused[..., top : top + side, left : left + side] = piece[inner]
        return fused


def _network(model, weights: str | None) -> tuple[nn.Module, Mapping]:
    """A fusion network with its weights, and the settings of its config's loader."""
    if isinstance(model, Mapping) and not isinstance(model, Config) and 'model' not in model:
        network = build(MODELS, dict(model))
        if weights is None and any(True for _ in network.parameters()):
            raise ValueError(f'{type(network).__name__} has parameters: give weights')
        if weights is not None:
            load_weights(network, CheckpointLoader.load_checkpoint(weights, 'cpu', logger='silent'), weights)
        return network, {}
    if isinstance(model, str):
        model, weights = model_files(model, weights)
        model = read_config(model)
    elif weights is None:
        raise ValueError('a config needs weights, a checkpoint')
    init_default_scope(model.get('default_scope', 'mmseg'))
    whole = MMENGINE_MODELS.build(model.model)
    load_weights(whole, CheckpointLoader.load_checkpoint(weights, 'cpu', logger='silent'), weights)
    return require_fuser(whole, 'FusionInferencer').fusion, loader_of(model)
