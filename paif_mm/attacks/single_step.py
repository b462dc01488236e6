"""Attacks of a single gradient step that are made for training."""

import torch
from torch import Tensor

from paif_mm.registry import ATTACKS

from .attack import PGD
from .functional import Budget, Generators, LossFunction, ascent, make_ball


@ATTACKS.register_module()
class NFGSM(PGD):
    """N-FGSM (de Jorge et al., NeurIPS 2022): one signed step from a noisy point, without a projection.

    x' = x + u + step * eps * sign(d loss(x + u) / dx), u uniform in [-noise * eps, noise * eps]: stronger noise than in
    FGSM with a random start, ``dict(type='PGD', eps=eps, step_size=1.25 * eps, steps=1, keep='last')`` (Wong et al.
    2020), and no return to the ball of radius eps keep models from learning to defeat single steps alone. It costs one
    gradient. For training: what it returns lies up to ``(noise + step) * eps`` away.

    Args:
        eps (float | dict): radius to defend, in [0, 1] units; see :class:`PGD`.
        noise (float): of the uniform noise, in radii. Default: 2.
        step (float): in radii. Default: 1.
        objective, bpda (dict), dtype (str), eot_samples (int): see :class:`PGD`.
    """

    for_training = True

    def __init__(
        self,
        eps: float | dict,
        noise: float = 2.0,
        step: float = 1.0,
        objective: dict | None = None,
        dtype: str = 'float32',
        eot_samples: int = 1,
        bpda: dict | None = None,
    ):
        super().__init__(
            eps,
            step_size=eps,
            steps=1,
            keep='last',
            objective=objective,
            dtype=dtype,
            eot_samples=eot_samples,
            bpda=bpda,
        )
        if noise < 0 or step <= 0:
            raise ValueError(f'noise must not be negative and step must be positive, not {noise} and {step}')
        self.noise, self.step = noise, step

    def optimise(self, loss_fn: LossFunction, images: list[Tensor], budgets: list[Budget], rng: Generators):
        ball = make_ball(self.norm, images, budgets, (0.0, 255.0))
        points = ball.random_points(rng, self.noise / (self.noise + self.step))
        return ball.ascend(points, ascent(loss_fn, points, 0.0)[1]), None

    def budgets(self, channels: int) -> list[Budget]:
        """What noise and step may add up to."""
        return [
            Budget(budget.channels, (self.noise + self.step) * budget.eps, self.step * budget.eps)
            for budget in super().budgets(channels)
        ]


@ATTACKS.register_module()
class StepControlFGSM(PGD):
    """One signed step of a segmentation, no longer than it takes to flip the image's pixels.

    A step of full length often leaps over the perturbations that a single gradient tells of, and training by it
    collapses. Here M(x), the margins z_y - max_{j != y} z_j of the pixels that are still right, averaged over the
    image, sets the length: along d = -eps * sign(dM / dx), M falls to 0, to first order, at

        x' = x + min(1, M(x) / sum_i eps_i |dM / dx_i|) d,

    DeepFool's L-inf step (Moosavi-Dezfooli et al., CVPR 2016) for the image as a whole. So weak models learn from weak
    perturbations, and these grow with the margins, up to ``eps``. It costs one gradient and has no setting.

    Wiens and Hammer (VISAPP 2022) are the first to control the step size of single-step training for segmentation, free
    of parameters, too. This rule has their aim, and was derived from it without their algorithm at hand: expect other
    lengths.

    Args:
        eps (float | dict): radius in [0, 1] units; see :class:`PGD`.
        eot_samples (int), bpda (dict): see :class:`PGD`.
    """

    def __init__(self, eps: float | dict, eot_samples: int = 1, bpda: dict | None = None):
        super().__init__(
            eps,
            step_size=eps,
            steps=1,
            random_start=False,
            keep='last',
            objective={'type': 'PixelLoss', 'name': 'margin'},
            eot_samples=eot_samples,
            bpda=bpda,
        )

    def optimise(self, loss_fn: LossFunction, images: list[Tensor], budgets: list[Budget], rng: Generators):
        losses, gradients = ascent(loss_fn, images, 0.0)  # of -M, at most 0
        slopes = torch.stack([sum(b.eps * g[b.channels].abs().sum() for b in budgets) for g in gradients])
        lengths = (-losses.loss / slopes).nan_to_num(nan=0.0).clamp(0, 1)  # 0 / 0: no pixel is right
        return make_ball(self.norm, images, budgets, (0.0, 255.0)).ascend(images, gradients, lengths), None
