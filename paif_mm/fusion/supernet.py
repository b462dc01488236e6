"""The search space: the fusion network with a weighted mixture of all candidate operations at each place."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paif_mm.registry import MODELS, OPERATIONS
from paif_mm.spelling import choices

from .batch_norm import untracked_statistics
from .genotype import CANDIDATES, CHAINS, Genotype
from .network import DecompositionFusion
from .operations import build_operation


@MODELS.register_module()
class FusionSupernet(DecompositionFusion):
    """The network of :class:`FusionNet` with a softmax-relaxed choice at its six places (PAIF, ACM MM 2023, Sec. 2.2).

    A place computes sum_i p_i o_i(x) over its candidate operations o_i, with p = softmax(alpha) (DARTS, Liu et al.
    2019). It is a fusion network like any other, ``(ir, vis) -> fused``. The alphas start at 0, all choices alike, and
    ask for no gradient: training moves the weights alone, and a search switches them on for its architecture steps.

    Args:
        candidates (Sequence[str]): registered operations. Default: the paper's four.
        channels (int): C, even.
        checkpoint_candidates (bool): keep no activation inside the candidates and compute them again in the backward
            pass: less memory for more time. Values and batch-norm statistics stay the same.
        init_cfg (dict, optional): initialisation as in mmengine.

    Raises:
        ValueError: no candidates, one named twice, or an unknown one.
    """

    def __init__(
        self,
        candidates: Sequence[str] = CANDIDATES,
        channels: int = 32,
        checkpoint_candidates: bool = False,
        init_cfg: dict | None = None,
    ):
        unknown = [name for name in candidates if OPERATIONS.get(name) is None]
        if not candidates or unknown or len(set(candidates)) < len(candidates):
            known = choices(str(unknown[0]) if unknown else '', OPERATIONS.module_dict)
            raise ValueError(f'candidates must be different registered operations, not {list(candidates)}: {known}')

        def make_place(chain: str, position: int) -> nn.Module:
            return MixedOperation(candidates, channels, checkpoint_candidates)

        super().__init__(make_place, channels, init_cfg=init_cfg)
        self.candidates = tuple(candidates)

    def places(self) -> dict[str, 'MixedOperation']:
        """Place name ('ir.0', 'ir.1', 'vis.0', ..., 'fused.1') -> its mixture, in the order of the data."""
        chains = {'ir': self.ir.chain, 'vis': self.vis.chain, 'fused': self.chain}
        return {f'{name}.{i}': chains[name][i] for name, length in CHAINS.items() for i in range(length)}

    def alphas(self) -> list[nn.Parameter]:
        """The architecture parameters, one (candidates,) vector per place."""
        return [place.alpha for place in self.places().values()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        alphas = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]

    def probabilities(self) -> dict[str, dict[str, float]]:
        """Place -> candidate -> softmax weight."""
        return {
            name: dict(zip(self.candidates, place.probabilities().tolist(), strict=True))
            for name, place in self.places().items()
        }

    def entropies(self) -> dict[str, float]:
        """Place -> entropy of its choice in nats: log(candidates) while undecided, 0 when decided."""
        return {
            name: torch.distributions.Categorical(logits=place.alpha.detach().double()).entropy().item()
            for name, place in self.places().items()
        }

    def genotype(self) -> Genotype:
        """The most probable operation of every place; of equals the first."""
        best = {name: max(weights, key=weights.get) for name, weights in self.probabilities().items()}
        return {chain: [best[f'{chain}.{i}'] for i in range(length)] for chain, length in CHAINS.items()}


class MixedOperation(nn.Module):
    """sum_i softmax(alpha)_i o_i(x), (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, names: Sequence[str], channels: int, checkpoint_candidates: bool = False):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(len(names)), requires_grad=False)
        self.candidates = nn.ModuleDict({name: build_operation(name, channels) for name in names})
        self.checkpoint_candidates = checkpoint_candidates

    def forward(self, x: Tensor) -> Tensor:
        out = None
        for weight, operation in zip(self.probabilities(), self.candidates.values(), strict=True):
            y = self._run(operation, x)
            weight = weight.to(y.dtype)
            out = y * weight if out is None else torch.addcmul(out, y, weight)
        return out

    def probabilities(self) -> Tensor:
        return self.alpha.softmax(0)

    def _run(self, operation: nn.Module, x: Tensor) -> Tensor:
        if not self.checkpoint_candidates or not torch.is_grad_enabled():
            return operation(x)

        def contexts():  # of the forward pass and of its repetition, which must not count for the statistics again
            return nullcontext(), untracked_statistics(operation)

        return checkpoint(operation, x, use_reentrant=False, context_fn=contexts)


def find_supernet(model: nn.Module) -> FusionSupernet:
    """The one supernet in a model, wrapped or not.

    Raises:
        TypeError: the model has none, or several.
    """
    found = [module for module in model.modules() if isinstance(module, FusionSupernet)]
    if len(found) != 1:
        raise TypeError(
            f'a search needs one FusionSupernet in the model, which has {len(found)}: '
            "set model.data_preprocessor.fusion=dict(type='FusionSupernet')"
        )
    return found[0]
