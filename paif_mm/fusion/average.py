"""The fusion network without a network, for comparison."""

from torch import Tensor

from paif_mm.registry import MODELS

from .network import FusionNetwork


@MODELS.register_module()
class AverageFusion(FusionNetwork):
    """Weighted mean of both luminances, without parameters: u = w x + (1 - w) y.

    ``ir_weight=0.5`` is the plain average; 0 shows T the visible image alone (unchanged), 1 the infrared image in the
    visible image's colours (or, with ``FusionDataPreprocessor(grey=True)``, by itself).

    Args:
        ir_weight (float): w in [0, 1]. Default: 0.5.

    Raises:
        ValueError: a weight outside [0, 1].
    """

    def __init__(self, ir_weight: float = 0.5):
        super().__init__()
        if not 0 <= ir_weight <= 1:
            raise ValueError(f'ir_weight must be in [0, 1], not {ir_weight}')
        self.ir_weight = ir_weight

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.ir_weight * ir + (1 - self.ir_weight) * vis
