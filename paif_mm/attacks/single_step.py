"""Attacks of a single gradient step that are made for training."""

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
        objective (dict), dtype (str): see :class:`PGD`.
    """

    for_training = True

    def __init__(
        self,
        eps: float | dict,
        noise: float = 2.0,
        step: float = 1.0,
        objective: dict | None = None,
        dtype: str = 'float32',
    ):
        super().__init__(eps, step_size=eps, steps=1, keep='last', objective=objective, dtype=dtype)
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
