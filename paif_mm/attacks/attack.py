"""Attacks on OpenMMLab models: functions of (model, data batch)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paif_mm.arguments import named_fraction
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.randomness import kept_draws
from paif_mm.registry import ATTACKS, OBJECTIVES, build

from .auto_pgd import auto_pgd
from .bpda import read_bpda, substituted
from .frozen import frozen, unwrap
from .functional import Budget, Generators, Losses, LossFunction, check_samples, check_settings, projected_gradient
from .objectives import Questions, check_model
from .square import square_attack

MODALITIES = {'vis': VISIBLE, 'ir': INFRARED}
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}


@dataclass
class AttackResult:
    """N attacked images.

    Attributes:
        index (list[int]): their places in the batch.
        images (list[Tensor]): (C, H_i, W_i), float, in [0, 255].
        clean (list[Tensor]): the same before the attack.
        losses (Tensor | None): objective per image (N,) at the result, where the attack evaluated it.
        blind (Tensor | None): whether a gradient of an image held values that are not finite (N,), of attacks that
            follow gradients.
    """

    index: list[int]
    images: list[Tensor]
    clean: list[Tensor]
    losses: Tensor | None
    blind: Tensor | None = None


class Attack(ABC):
    """What every attack is: ``attack(model, data_batch) -> AttackResult``, which changes neither.

    Args:
        objective (dict): what it maximises, or what its effect is measured by. Default: the model's own loss,
            ``dict(type='TaskLoss')``.
    """

    norm = 'linf'
    for_training = False  # whether what it returns may lie outside of the ball that it is named after

    def __init__(self, objective: dict | None = None):
        self.objective = build(OBJECTIVES, objective or {'type': 'TaskLoss'})

    @abstractmethod
    def __call__(
        self,
        model,
        data_batch: dict,
        index: Sequence[int] | None = None,
        training: bool = False,
        rng: Generators = None,
    ) -> AttackResult:
        """Attack some images of a batch; neither the batch nor the model is changed.

        Args:
            model (nn.Module): an OpenMMLab model, wrapped or not.
            data_batch (dict): ``inputs`` (list of (C, H, W) or (N, C, H, W), in [0, 255]) and ``data_samples``.
            index: places in the batch. Default: all.
            training: whether it is a training batch (padded by the preprocessor together with its labels).
            rng: one CPU generator per attacked image, so that its result does not depend on its batch. Default:
                torch's global generator.
        """

    def check_model(self, model) -> None:
        """Raise a TypeError where it can't attack, or measure, a model that is not wrapped: before anything is run."""
        check_model(self.objective, model)

    def losses(self, model, images: list[Tensor], result: AttackResult, data_batch: dict, training: bool = False):
        """Objective (N,) of any images in the places of ``result``, e.g. of the clean ones."""
        model = unwrap(model)
        samples = [data_batch['data_samples'][i].to(images[0].device) for i in result.index]
        with frozen(model), torch.no_grad(), kept_draws(images[0].device):
            values = self.objective(model, images, samples, result.clean, training)
        return values.loss if isinstance(values, Losses) else values

    def budgets(self, channels: int) -> list[Budget]:
        """What it may do to images of so many channels, in pixel units; empty where nothing is promised."""
        return []

    def prepare(self, dataset) -> None:  # noqa: B027 (few need it)
        """Learn which data set (None: unknown) is about to be tested, before its first batch."""


@ATTACKS.register_module()
class PGD(Attack):
    """Projected gradient descent (Madry et al. 2018) on raw pixels, before the fusion and before any normalisation.

    FGSM is ``steps=1, random_start=False, step_size=eps``; BIM is ``random_start=False``. A pair is one input: both
    modalities are attacked at once (Eq. 1, 2), each within its own budget if told so.

    Args:
        eps (float | str | dict): radius in [0, 1] units, ``8 / 255`` or ``'8/255'``; or per modality
            ``dict(ir=..., vis=...)``.
            For L2 a single number is the norm of the whole pair's perturbation, a dict one norm per modality.
            0 leaves a modality untouched bit for bit.
        step_size (float | str | dict | None): in the same units. Default: eps / 4, the paper's.
        steps (int): gradient steps. Default: 5, the paper's.
        norm (str): ``'linf'`` or ``'l2'``.
        random_start (bool): start at a random point of the ball.
        restarts (int): tries; the worst per image is kept.
        keep (str): ``'worst'`` iterate per image (one more forward pass) or the ``'last'``.
        momentum (float): of MI-FGSM (Dong et al. 2018), e.g. 1.0, for attacks that are to transfer. Default: 0.
        input_diversity (float): probability of a resampled view in each step, for transfer, too; asks for
            ``keep='last'``. Default: 0.
        smoothing (int): side of a Gaussian that smooths gradients (translation invariance), for transfer, too; odd.
            Default: 0, none.
        restarts_at_once (int): restarts that share a batch: faster on a GPU, same results. Default: 1.
        objective (dict): what is maximised. Default: the model's own loss, ``dict(type='TaskLoss')``.
        dtype (str): of the model's passes: ``'float32'``, also in a training with mixed precision, or ``'bfloat16'``,
            which is faster on a GPU and somewhat weaker (docs/training.md). The perturbations themselves, and so the
            budgets, are always those of fp32. Default: ``'float32'``.
        eot_samples (int): draws of the model's randomness over which each step's gradient and losses are averaged, one
            pass each (expectation over transformation, Athalye et al., ICML 2018): for models that draw when they
            predict. Default: 1.
        bpda (dict): what the backward pass takes in the place of modules that hide their gradients, by their names
            in the model: ``{'data_preprocessor.quantise': 'identity'}``; see :mod:`~.bpda`. Default: none.
    """

    def __init__(
        self,
        eps: float | str | dict,
        step_size: float | str | dict | None = None,
        steps: int = 5,
        norm: str = 'linf',
        random_start: bool = True,
        restarts: int = 1,
        keep: str = 'worst',
        momentum: float = 0.0,
        input_diversity: float = 0.0,
        smoothing: int = 0,
        restarts_at_once: int = 1,
        objective: dict | None = None,
        dtype: str = 'float32',
        eot_samples: int = 1,
        bpda: dict | None = None,
    ):
        super().__init__(objective)
        check_settings(norm, keep, input_diversity)
        if dtype not in DTYPES:
            raise ValueError(
                f"dtype of an attack must be 'float32' or 'bfloat16', not {dtype!r}: in half precision, gradients of "
                'single pixels underflow to 0'
            )
        if smoothing and smoothing % 2 == 0:
            raise ValueError(f'smoothing must be odd or 0, not {smoothing}')
        self.eps = _checked('eps', eps, norm)
        if step_size is None:
            own = self.eps
            step_size = {key: value / 4 for key, value in own.items()} if isinstance(own, dict) else own / 4
        self.step_size = _checked('step_size', step_size, norm)
        if not all(isinstance(number, int) for number in (steps, restarts, restarts_at_once)):
            raise ValueError(
                f'steps, restarts and restarts_at_once must be whole numbers, not {steps!r}, {restarts!r} and '
                f'{restarts_at_once!r}'
            )
        if min(steps, restarts, restarts_at_once) < 1:
            raise ValueError(
                'steps, restarts and restarts_at_once must be at least 1, '
                f'not {steps}, {restarts} and {restarts_at_once}'
            )
        self.steps = steps
        self.norm = norm
        self.random_start = random_start
        self.restarts = restarts
        self.keep = keep
        self.momentum = momentum
        self.input_diversity = input_diversity
        self.smoothing = smoothing
        self.restarts_at_once = restarts_at_once
        self.dtype = DTYPES[dtype]
        self.eot_samples = check_samples(eot_samples)
        self.bpda = read_bpda(bpda)

    def __call__(
        self,
        model,
        data_batch: dict,
        index: Sequence[int] | None = None,
        training: bool = False,
        rng: Generators = None,
    ) -> AttackResult:
        """See :meth:`Attack.__call__`."""
        model = unwrap(model)
        device = next(model.parameters()).device
        index = list(range(len(data_batch['inputs']))) if index is None else list(index)
        clean = [data_batch['inputs'][i].to(device).float() for i in index]
        samples = [data_batch['data_samples'][i] for i in index]
        budgets = self.budgets(clean[0].size(0))
        if not any(budget.eps for budget in budgets):
            return AttackResult(index, [image.clone() for image in clean], clean, None)
        samples = [sample.to(device) for sample in samples]
        questions = Questions(self.objective, model, samples, clean, training, self.eot_samples)
        partial = getattr(self.objective, 'partial', False)
        with frozen(model, dtype=self.dtype), substituted(model, self.bpda, partial):
            images, found = self.optimise(questions, clean, budgets, rng)
        exact = self.dtype == torch.float32 and not getattr(self.objective, 'scheduled', False)
        return AttackResult(index, images, clean, found.loss if found and exact else None, questions.blind)

    def optimise(self, loss_fn: LossFunction, images: list[Tensor], budgets: list[Budget], rng: Generators):
        """Attacked images, and their :class:`~.functional.Losses` where they are known."""
        return projected_gradient(
            loss_fn,
            images,
            budgets,
            self.steps,
            self.norm,
            self.random_start,
            self.restarts,
            self.keep,
            self.momentum,
            self.input_diversity,
            self.smoothing,
            self.restarts_at_once,
            rng,
        )

    def budgets(self, channels: int) -> list[Budget]:
        """The budgets in pixel units for images of so many channels.

        Raises:
            ValueError: budgets per modality for an image that is no pair (4 channels).
        """
        if not isinstance(self.eps, dict) and not isinstance(self.step_size, dict):
            return [Budget(slice(0, channels), self.eps * 255, self.step_size * 255)]
        if channels != 4:
            raise ValueError(
                f'eps per modality needs pairs (4, H, W), but the input has {channels} channels: '
                'give one number, e.g. eps=8/255'
            )
        return [
            Budget(part, _of(self.eps, name) * 255, _of(self.step_size, name) * 255)
            for name, part in MODALITIES.items()
        ]


@ATTACKS.register_module()
class APGD(PGD):
    """Auto-PGD (Croce and Hein, ICML 2020): chooses its own steps, and keeps the iterate of highest harm per image.

    Args:
        eps (float | str | dict), norm, dtype (str), restarts, restarts_at_once, eot_samples (int), objective,
            bpda (dict): see :class:`PGD`.
        steps (int): gradient steps per restart. Default: 100.
        large_radii (bool): search balls of 2 eps and 1.5 eps first, for .3 of the steps each (SEA, ECCV 2024); for
            long runs. Default: False.
    """

    def __init__(
        self,
        eps: float | str | dict,
        steps: int = 100,
        norm: str = 'linf',
        restarts: int = 1,
        restarts_at_once: int = 1,
        large_radii: bool = False,
        objective: dict | None = None,
        dtype: str = 'float32',
        eot_samples: int = 1,
        bpda: dict | None = None,
    ):
        super().__init__(
            eps,
            steps=steps,
            norm=norm,
            restarts=restarts,
            restarts_at_once=restarts_at_once,
            objective=objective,
            dtype=dtype,
            eot_samples=eot_samples,
            bpda=bpda,
        )
        self.stages = ((0.3, 2.0), (0.3, 1.5), (0.4, 1.0)) if large_radii else ((1.0, 1.0),)

    def optimise(self, loss_fn: LossFunction, images: list[Tensor], budgets: list[Budget], rng: Generators):
        return auto_pgd(
            loss_fn, images, budgets, self.steps, self.norm, self.restarts, self.stages, self.restarts_at_once, rng
        )


@ATTACKS.register_module()
class Square(PGD):
    """Square attack (Andriushchenko et al., ECCV 2020): L-inf, by queries alone.

    Where it does more harm than an attack with gradients, these mislead: gradient masking.

    Args:
        eps (float | str | dict), objective (dict): see :class:`PGD`; the objective need not be differentiable.
        queries (int): forward passes per image, or so many times ``eot_samples``. Default: 1000.
        eot_samples (int): see :class:`PGD`.
    """

    def __init__(
        self, eps: float | str | dict, queries: int = 1000, objective: dict | None = None, eot_samples: int = 1
    ):
        super().__init__(eps, steps=queries, objective=objective, eot_samples=eot_samples)

    def optimise(self, loss_fn: LossFunction, images: list[Tensor], budgets: list[Budget], rng: Generators):
        with torch.no_grad():
            return square_attack(loss_fn, images, budgets, self.steps, rng=rng)


def _of(value: float | dict, modality: str) -> float:
    return value.get(modality, 0.0) if isinstance(value, dict) else value


def _checked(name: str, value: float | str | dict, norm: str) -> float | dict:
    """A radius or one per modality as numbers, which PGD may be given as texts."""
    written = value if isinstance(value, dict) else {'vis': value}
    unknown = set(written) - set(MODALITIES)
    if unknown:
        raise ValueError(f'{name} knows the modalities ir and vis, not {", ".join(sorted(unknown))}')
    values = {key: named_fraction(name, number) for key, number in written.items()}
    if any(number < 0 for number in values.values()):
        raise ValueError(f'{name} must not be negative: {value}')
    if norm == 'linf' and any(number > 1 for number in values.values()):
        raise ValueError(f'{name} is in units of [0, 1], not of pixel values: write {value}/255 instead of {value}')
    return values if isinstance(value, dict) else values['vis']
