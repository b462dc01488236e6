"""Adversarial training at the price of plain training: gradients of the weights and of the pixels in one pass."""

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict

from paif_mm.files import hash_seed
from paif_mm.perception import find_fuser
from paif_mm.randomness import shared_seed
from paif_mm.registry import HOOKS

from .attack import PGD
from .frozen import unwrap
from .functional import make_ball


@HOOKS.register_module()
class FreeAdversarialHook(Hook):
    """'Free' adversarial training (Shafahi et al., NeurIPS 2019): every batch is trained on several times in a row.

    Each of the passes trains the weights on the perturbed pairs, and its gradient towards the pixels moves the
    perturbations for the next one: the forward and backward pass of an attack step is the training pass itself. Thus an
    iteration is ``replays`` optimizer steps; divide ``max_iters`` by it to train as long as before.

    Perturbations start at a random point of the ball for each batch. The paper hands them on from one batch to the
    next; here an image's random numbers belong to its place in the training, as everywhere, so that neither a resumed
    run nor the number of processes changes them.

    Args:
        eps (float | dict): radius in [0, 1] units; see :class:`~.attack.PGD`.
        replays (int): passes per batch, m of the paper. Default: 4.
        step_size (float | dict | None): in the units of ``eps``. Default: ``eps``, the paper's.
        norm (str): ``'linf'`` or ``'l2'``.
    """

    priority = 'ABOVE_NORMAL'  # the last replay comes before what looks at the weights, as moving averages do

    def __init__(self, eps: float | dict, replays: int = 4, step_size: float | dict | None = None, norm: str = 'linf'):
        if replays < 2:
            raise ValueError(f'replays must be at least 2, not {replays}: a single pass sees random noise alone')
        self.attack = PGD(eps, step_size=eps if step_size is None else step_size, steps=replays, norm=norm)

    def before_train(self, runner) -> None:
        self._seed = shared_seed(runner)
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict) or wrapper._accumulative_counts > 1:
            raise TypeError(
                f'FreeAdversarialHook takes an optimizer step with every pass, which {type(wrapper).__name__} with '
                'several optimizers or accumulative_counts does not: use AdversarialAttackHook'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        model = unwrap(runner.model)
        device, (rank, world) = next(model.parameters()).device, get_dist_info()
        clean = [image.to(device).float() for image in data_batch['inputs']]
        rng = [
            torch.Generator(device).manual_seed(hash_seed(self._seed, 'free', runner.iter, rank + i * world))
            for i in range(len(clean))
        ]
        if find_fuser(model) is not None:
            data_batch['clean_inputs'] = clean
        self._ball = make_ball(self.attack.norm, clean, self.attack.budgets(clean[0].size(0)), (0.0, 255.0))
        self._show(data_batch, self._ball.random_points(rng))

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs=None) -> None:
        for _ in range(1, self.attack.steps):
            self._show(data_batch, self._ball.ascend(self._points, self._gradients()))
            runner.model.train_step(data_batch, runner.optim_wrapper)
        self._points = self._ball = None

    def _show(self, data_batch: dict, points: list[torch.Tensor]) -> None:
        self._points = [point.detach().requires_grad_() for point in points]
        stacked = isinstance(data_batch['inputs'], torch.Tensor)
        data_batch['inputs'] = torch.stack(self._points) if stacked else list(self._points)

    def _gradients(self) -> list[torch.Tensor]:
        if any(point.grad is None for point in self._points):
            raise RuntimeError(
                'no gradient of the training loss reaches the pixels: is the data preprocessor detached?'
            )
        return [torch.nan_to_num(point.grad, nan=0.0, posinf=0.0, neginf=0.0) for point in self._points]
