"""The plain fusion network of the paper's robustness analysis."""

import torch
from torch import Tensor, nn

from paif_mm.registry import MODELS, OPERATIONS
from paif_mm.spelling import choices

from .activation import PReLU
from .network import FusionNetwork, channels_last
from .operations import build_operation, conv
from .rules import RULES

DIRECT = 'DC'


@MODELS.register_module()
class FusionBaseline(FusionNetwork):
    """Encoder, rule, decoder: what PAIF (ACM MM 2023, Sec. 2.1, Fig. 3a) compares operations and rules with.

    Each modality passes a stem and ``depth`` operations; the rule merges them; ``depth`` operations and a head make the
    fused luminance. With the rule DC (direct combination) one encoder sees both images as two channels. The paper's
    source of transferred attacks is ``operation='3-DB', rule='CC'``.

    Args:
        operation (str): a registered operation, the same everywhere.
        rule (str): MAX, WA (equal weights), AA, SUM, CC or DC; see :mod:`paif_mm.fusion.rules`.
        depth (int): operations in each encoder, and in the decoder. Default: 3.
        channels (int): C, even.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: an unknown operation or rule, or a depth below 1.
    """

    def __init__(
        self,
        operation: str = '3-DB',
        rule: str = 'CC',
        depth: int = 3,
        channels: int = 32,
        compile: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(compile, init_cfg)
        if OPERATIONS.get(operation) is None:
            raise ValueError(f'there is no operation {operation!r}: {choices(operation, OPERATIONS.module_dict)}')
        if rule != DIRECT and rule not in RULES:
            raise ValueError(f'there is no rule {rule!r}: {choices(rule, [*RULES, DIRECT])}')
        if depth < 1:
            raise ValueError(f'depth must be at least 1, not {depth}')

        def chain() -> list[nn.Module]:
            return [build_operation(operation, channels) for _ in range(depth)]

        def encoder(inputs: int) -> nn.Module:
            return nn.Sequential(conv(inputs, channels, 3), PReLU(), *chain())

        if rule == DIRECT:
            self.encoder = encoder(2)
        else:
            self.ir, self.vis = encoder(1), encoder(1)
            self.rule = RULES[rule](channels)
        self.decoder = nn.Sequential(*chain())
        self.head = nn.Sequential(conv(channels, channels // 2, 3), conv(channels // 2, 1, 3), PReLU(), nn.Tanh())
        self.direct = rule == DIRECT

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        """As :meth:`FusionNetwork.forward`; the head's tanh bounds the output to (-1, 1)."""
        ir, vis = channels_last(ir), channels_last(vis)
        features = self.encoder(torch.cat([ir, vis], 1)) if self.direct else self.rule(self.ir(ir), self.vis(vis))
        return self.head(self.decoder(features)).contiguous()
