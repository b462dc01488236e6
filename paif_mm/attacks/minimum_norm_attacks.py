"""Minimum-norm attacks on segmentors: how small a perturbation is enough."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from paif_mm.arguments import named_fraction
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.randomness import OwnDraws
from paif_mm.registry import ATTACKS
from paif_mm.spelling import choices

from .alma_prox import alma_prox
from .attack import Attack, AttackResult
from .bpda import read_bpda, substituted
from .dag import dag
from .frozen import frozen, unwrap
from .functional import Generators, check_samples, check_settings
from .minimum_norm import MarginFunction
from .objectives import pixel_logits, require_annotations, require_segmentor
from .pdpgd import pdpgd
from .pixel_losses import logit_margin, scaled_margin

PARTS = {'both': slice(None), 'ir': INFRARED, 'vis': VISIBLE}


class MinimumNorm(Attack):
    """The smallest perturbation that makes a share of the labelled pixels wrong.

    Unlike attacks within a radius it promises none: where a model is robust, what it finds is large.

    Args:
        share (float): of the labelled pixels that must be wrong, in (0, 1]. Default: .99.
        norm (str): ``'linf'`` or ``'l2'``, of all channels that may be changed together.
        steps (int): forward and backward passes. Default: 500.
        modality (str): what may be changed: ``'both'``, ``'ir'`` or ``'vis'``.
        eot_samples (int): draws of the model's randomness over which margins are averaged. Default: 1.
        bpda (dict): see :class:`~.attack.PGD`.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        ValueError: a setting is none of these; when called, a modality of images that are no pairs.
        TypeError: when called, the model is no segmentor.
    """

    #: Of logits (N, K, H, W) and labels (N, H, W), what the attack counts as each pixel's distance, (N, H, W).
    margin = staticmethod(scaled_margin)

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

    def check_model(self, model) -> None:
        super().check_model(model)
        require_segmentor(model, type(self).__name__)

    @abstractmethod
    def search(self, margins_fn: MarginFunction, images: list[Tensor], channels: slice) -> list[Tensor]:
        """The images found."""

    def __call__(
        self,
        model,
        data_batch: dict,
        index: Sequence[int] | None = None,
        training: bool = False,
        rng: Generators = None,
    ) -> AttackResult:
        """See :meth:`~.attack.Attack.__call__`; it draws nothing itself."""
        model = unwrap(model)
        self.check_model(model)
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
                found = [self._margins(model, images, samples, training) for _ in range(self.eot_samples)]
            return [sum(of_image) / self.eot_samples for of_image in zip(*found, strict=True)]

        with frozen(model), substituted(model, self.bpda):
            images = self.search(margins, clean, PARTS[self.modality])
        return AttackResult(index, images, clean, None)

    def _margins(self, model, images: list[Tensor], data_samples: list, training: bool) -> list[Tensor]:
        """Of each image's labelled pixels, (P_i,)."""
        found = []
        for logits, label in pixel_logits(model, images, data_samples, training):
            labelled = (label >= 0) & (label < logits.size(1))
            margins = self.margin(logits, torch.where(labelled, label, 0))
            found += [margin[seen] for margin, seen in zip(margins, labelled, strict=True)]
        return found


@ATTACKS.register_module()
class ALMAProx(MinimumNorm):
    """ALMA prox (Rony et al., CVPR 2023), the strongest of the literature: see :func:`~.alma_prox.alma_prox`.

    The constraint of a pixel is its difference of logits ratio, (z_y - max_{j != y} z_j) / (z_1st - z_3rd).

    Settings are those of :class:`MinimumNorm`, whose defaults are the paper's.
    """

    def search(self, margins_fn: MarginFunction, images: list[Tensor], channels: slice) -> list[Tensor]:
        return alma_prox(margins_fn, images, self.share, self.steps, self.norm, channels)[0]


@ATTACKS.register_module()
class PDPGD(MinimumNorm):
    """Primal-dual proximal gradient descent (Matyasko and Chau, 2021), a baseline: see :func:`~.pdpgd.pdpgd`.

    The constraint of a pixel is that of :class:`ALMAProx`, and settings are those of :class:`MinimumNorm`.
    """

    def search(self, margins_fn: MarginFunction, images: list[Tensor], channels: slice) -> list[Tensor]:
        return pdpgd(margins_fn, images, self.share, self.steps, self.norm, channels)[0]


@ATTACKS.register_module()
class DAG(MinimumNorm):
    """Dense adversary generation (Xie et al., ICCV 2017), a baseline: see :func:`~.dag.dag`. It knows L-inf alone.

    Args:
        share (float): of the labelled pixels that must be wrong, in (0, 1]. Default: .99.
        steps (int): forward and backward passes at most. Default: 200, the paper's.
        step_size (float | str): gamma, in [0, 1] units. Default: .5 / 255, the paper's.
        modality, eot_samples, bpda, objective: see :class:`MinimumNorm`.
    """

    margin = staticmethod(logit_margin)

    def __init__(
        self,
        share: float = 0.99,
        steps: int = 200,
        step_size: float | str = 0.5 / 255,
        modality: str = 'both',
        eot_samples: int = 1,
        bpda: dict | None = None,
        objective: dict | None = None,
    ):
        super().__init__(share, 'linf', steps, modality, eot_samples, bpda, objective)
        self.step_size = named_fraction('step_size', step_size)
        if not 0 < self.step_size <= 1:
            raise ValueError(f'step_size must be within (0, 1], not {step_size}')

    def search(self, margins_fn: MarginFunction, images: list[Tensor], channels: slice) -> list[Tensor]:
        return dag(margins_fn, images, self.share, self.steps, 255 * self.step_size, channels)[0]
