"""What a relaxed network is expected to cost."""

import torch
from torch import Tensor, nn

from paif_mm.evaluation.flops import count_flops
from paif_mm.fusion import FusionSupernet

MEASURES = ('flops', 'params')


class ExpectedCost:
    """Expected cost of a supernet's choices, relative to undecided ones: sum_places sum_i p_i c_i, 1 at alpha = 0.

    Differentiable in the alphas. The costs c_i of the operations are counted once, when it is built.

    Args:
        supernet (FusionSupernet): the network.
        measure (str): ``'flops'`` (per pixel) or ``'params'``.

    Raises:
        ValueError: an unknown measure.
    """

    def __init__(self, supernet: FusionSupernet, measure: str = 'flops'):
        if measure not in MEASURES:
            raise ValueError(f'efficiency_measure must be one of {", ".join(MEASURES)}, not {measure!r}')

        def count(operation: nn.Module) -> float:
            return flops_per_pixel(operation, supernet.channels) if measure == 'flops' else parameter_count(operation)

        self.supernet = supernet
        costs = [[count(op) for op in place.candidates.values()] for place in supernet.places().values()]
        self.costs = torch.tensor(costs, dtype=torch.float64)
        self.costs /= self.costs.mean(1).sum()

    def __call__(self) -> Tensor:
        """Scalar, on the device of the alphas."""
        alphas = torch.stack(self.supernet.alphas())  # (places, candidates)
        return (alphas.softmax(1) * self.costs.to(alphas)).sum()


def parameter_count(operation: nn.Module) -> int:
    """Number of trained values of an operation."""
    return sum(parameter.numel() for parameter in operation.parameters())


def flops_per_pixel(operation: nn.Module, channels: int, size: int = 32) -> float:
    """Floating-point operations per pixel (two per multiply-add; see :func:`~paif_mm.evaluation.flops.count_flops`).

    Leaves the operation as it was.
    """
    parameter = next(operation.parameters())
    image = torch.zeros(1, channels, size, size, device=parameter.device, dtype=parameter.dtype)
    mode = operation.training
    operation.eval()
    try:
        with torch.no_grad(), count_flops() as counter:
            operation(image)
    finally:
        operation.train(mode)
    return counter.get_total_flops() / size**2
