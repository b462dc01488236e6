"""What weather, light and sensors do to a pair, used like an attack."""

import zlib

import torch
from torch import Tensor

from paif_mm.corruptions import COMMON, CORRUPTIONS, SEVERITIES, TIME_OFFSET, corrupted
from paif_mm.corruptions.frames import Frames
from paif_mm.corruptions.imagenet_c import published
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.registry import ATTACKS
from paif_mm.spelling import choices

from .attack import Attack, AttackResult
from .frozen import unwrap


@ATTACKS.register_module()
class Corruption(Attack):
    """Corrupts a pair as :data:`~paif_mm.corruptions.CORRUPTIONS` says, but asks the model nothing.

    What is random depends on ``seed`` and the visible image alone, not on its place in the data set or in a batch: a
    model of visible images sees what one of pairs sees.

    Args:
        name (str): a key of the table.
        severity (int): 1 to 5; a missing modality knows no degrees.
        seed (int): another seed, other noise.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        ValueError: an unknown name or severity, or a corruption of a package that is not installed.
    """

    def __init__(self, name: str, severity: int = 3, seed: int = 0, objective: dict | None = None):
        super().__init__(objective)
        if name not in CORRUPTIONS:
            raise ValueError(f'there is no Corruption {name!r}: {choices(name, CORRUPTIONS)}')
        if severity not in SEVERITIES:
            raise ValueError(f'severity must be 1 to 5, not {severity}')
        if CORRUPTIONS[name].family == COMMON:
            published(name.removeprefix('common_'))
        self.name, self.severity, self.seed = name, severity, seed
        self.frames: Frames | None = None

    def prepare(self, dataset) -> None:
        if self.name == TIME_OFFSET and dataset is not None:
            self.frames = Frames(dataset)

    def __call__(self, model, data_batch: dict, index=None, training: bool = False, rng=None):
        """Corrupt some images of a batch; see :class:`~.attack.Attack`. ``rng`` is not needed.

        Raises:
            ValueError: what it corrupts is not there, as of infrared in plain images.
        """
        device = next(unwrap(model).parameters()).device
        index = list(range(len(data_batch['inputs']))) if index is None else list(index)
        clean = [data_batch['inputs'][i].to(device).float() for i in index]
        if self.frames is None:
            return AttackResult(index, [self.corrupt(pair) for pair in clean], clean, None)
        paths = [data_batch['data_samples'][i].img_path for i in index]
        return AttackResult(index, [self._earlier(*pair) for pair in zip(clean, paths, strict=True)], clean, None)

    def corrupt(self, pair: Tensor) -> Tensor:
        """(4, H, W) in [0, 255] to the same in whole levels; (3, H, W), where the visible image alone is changed."""
        self._check_channels(pair)
        content = pair[VISIBLE].round().clamp(0, 255).to(torch.uint8).cpu().numpy().tobytes()
        rng = torch.Generator().manual_seed(zlib.crc32(content) + self.seed)
        return corrupted(self.name, pair, self.severity, rng)

    def _earlier(self, pair: Tensor, path: str) -> Tensor:
        self._check_channels(pair)
        return torch.cat([pair[VISIBLE], self.frames.infrared(path, self.severity, pair[INFRARED])])

    def _check_channels(self, pair: Tensor) -> None:
        if pair.size(0) not in (3, 4) or CORRUPTIONS[self.name].channels.stop > pair.size(0):
            raise ValueError(f'{self.name} needs pairs (4, H, W), but an input has {pair.size(0)} channels')
