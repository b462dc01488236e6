"""ALMA prox as an attack on segmentors: how small a perturbation is enough."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paif_mm.arguments import named_fraction
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.randomness import OwnDraws
from paif_mm.registry import ATTACKS
from paif_mm.spelling import choices

from .attack import Attack, AttackResult
from .bpda import read_bpda, substituted
from .frozen import frozen, unwrap
from .functional import Generators, check_samples, check_settings
from .minimum_norm import alma_prox
from .objectives import pixel_logits, require_annotations, require_segmentor
from .pixel_losses import scaled_margin

PARTS = {'both': slice(None), 'ir': INFRARED, 'vis': VISIBLE}


@ATTACKS.register_module()
class ALMAProx(Attack):
    """The smallest perturbation that makes a share of the labelled pixels wrong (Rony et al., CVPR 2023).

    Unlike attacks within a radius it promises none: where a model is robust, what it finds is large. The constraint of
    a pixel is its difference of logits ratio, (z_y - max_{j != y} z_j) / (z_1st - z_3rd).

    Args:
        share (float): of the labelled pixels that must be wrong, in (0, 1]. Default: .99, the paper's.
        norm (str): ``'linf'`` or ``'l2'``, of all channels that may be changed together.
        steps (int): forward and backward passes. Default: 500, the paper's.
        modality (str): what may be changed: ``'both'``, ``'ir'`` or ``'vis'``.
        eot_samples (int): draws of the model's randomness over which margins are averaged. Default: 1.
        bpda (dict): see :class:`~.attack.PGD`.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        ValueError: a setting is none of these; when called, a modality of images that are no pairs.
        TypeError: when called, the model is no segmentor.
    """

    def __init__(
        self,
        share: float = 0.99,
        norm: str = 'linf',
        steps: int = 500,
        modality: str = 'both',
        eot_samples: int = 1,
        bpda: dict | None = None,
        objective: dict | None = None,
    ):
        super().__init__(objective)
        check_settings(norm, 'worst')
        share = named_fraction('share', share)
        if not 0 < share <= 1:
            raise ValueError(f'share must be within (0, 1], not {share}')
        if modality not in PARTS:
            raise ValueError(f'there is no modality {modality!r}: {choices(modality, PARTS)}')
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f'steps must be a whole number from 1, not {steps!r}')
        self.share, self.norm, self.steps, self.modality = share, norm, steps, modality
        self.eot_samples, self.bpda = check_samples(eot_samples), read_bpda(bpda)

    def __call__(
        self,
        model,
        data_batch: dict,
        index: Sequence[int] | None = None,
        training: bool = False,
        rng: Generators = None,
    ) -> AttackResult:
        """See :meth:`~.attack.Attack.__call__`; it draws nothing itself."""
        model = require_segmentor(unwrap(model), 'ALMAProx')
        device = next(model.parameters()).device
        index = list(range(len(data_batch['inputs']))) if index is None else list(index)
        clean = [data_batch['inputs'][i].to(device).float() for i in index]
        if self.modality != 'both' and clean[0].size(0) != 4:
            raise ValueError(f'modality {self.modality!r} needs pairs, but the images have {clean[0].size(0)} channels')
        samples = [data_batch['data_samples'][i].to(device) for i in index]
        require_annotations(samples)
        draws = OwnDraws(device)

        def margins(images: list[Tensor]) -> list[Tensor]:
            with draws:
                found = [_margins(model, images, samples, training) for _ in range(self.eot_samples)]
            return [sum(of_image) / self.eot_samples for of_image in zip(*found, strict=True)]

        with frozen(model), substituted(model, self.bpda):
            images, _ = alma_prox(margins, clean, self.share, self.steps, self.norm, PARTS[self.modality])
        return AttackResult(index, images, clean, None)


def _margins(model, images: list[Tensor], data_samples: list, training: bool) -> list[Tensor]:
    """Of each image's labelled pixels, (P_i,)."""
    found = []
    for logits, label in pixel_logits(model, images, data_samples, training):
        labelled = (label >= 0) & (label < logits.size(1))
        margins = scaled_margin(logits, torch.where(labelled, label, 0))
        found += [margin[seen] for margin, seen in zip(margins, labelled, strict=True)]
    return found
