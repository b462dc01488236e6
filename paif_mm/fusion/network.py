"""Fusion networks: the contract every one obeys, PAIF's decomposition structure, and the fixed searched network."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from paif_mm.compat import load_checkpoint_file
from paif_mm.registry import MODELS
from paif_mm.weights import load_weights, state_of

from .activation import PReLU
from .genotype import CHAINS, load_genotype
from .guided_filter import GuidedDecomposition
from .inherit import derived_state
from .operations import build_operation, conv, skip
from .rules import AdaptiveAverage


class FusionNetwork(BaseModule):
    """What every fusion network is: ``network(ir, vis) -> fused``; subclasses implement :meth:`fuse`.

    ``ir`` and ``vis`` are luminances, (N, 1, H, W) in [0, 1], floating point; ``fused`` is a luminance of the same
    shape. H and W are arbitrary, and in eval mode no sample depends on the others of its batch. The output is meant
    to lie in [0, 1] but is not clamped, so that gradients do not vanish at the ends: who composes an image from it
    clamps.

    Args:
        compile (bool): run :meth:`fuse` through ``torch.compile``. Parameter names, checkpoints and copies are those
            of the plain network. Needs a C++ compiler on a CPU, Triton on CUDA. Training, eval and no-gradient mode
            each compile on their first call (20 to 40 s on two CPU cores). Without gradients, images of further sizes
            share one more variant for all sizes. With gradients each size compiles anew, up to torch's limit of 8,
            beyond which they run uncompiled with a warning: a training sees one size (see
            :meth:`~paif_mm.perception.PairFuser.fuse`), attacks on a test set of many sizes are better off without.
        init_cfg (dict, optional): initialisation as in mmengine, e.g. ``dict(type='Pretrained', checkpoint=...)``.
    """

    def __init__(self, compile: bool = False, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.compiled = compile

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says.

        Raises:
            WeightsError: a pretrained file does not fit, all of it.
        """
        super().init_weights()
        settings = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg]
        for setting in settings:
            if setting and setting['type'] == 'Pretrained':  # of which mmengine takes what fits
                where, prefix = setting['checkpoint'], setting.get('prefix') or ''
                prefix = f'{prefix.rstrip(".")}.' if prefix else ''
                state = state_of(CheckpointLoader.load_checkpoint(where, map_location='cpu', logger='silent'), where)
                state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
                load_weights(self, state, where)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Fuse two luminances.

        Raises:
            ValueError: the inputs are not two (N, 1, H, W) tensors of one shape.
            RuntimeError: ``compile=True`` but this machine cannot compile.
        """
        if ir.ndim != 4 or ir.shape[1] != 1 or ir.shape != vis.shape:
            raise ValueError(
                f'ir and vis must be (N, 1, H, W) luminances of one shape, got {tuple(ir.shape)} and {tuple(vis.shape)}'
            )
        return _run_compiled(self, ir, vis) if self.compiled else self.fuse(ir, vis)

    @abstractmethod
    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        """(N, 1, H, W), (N, 1, H, W) -> (N, 1, H, W)."""


class DecompositionFusion(FusionNetwork):
    """PAIF's structure with six searchable places (ACM MM 2023, Sec. 2.2, Fig. 3): stems, guided-filter decomposition
    and a chain of two operations per modality, adaptive-average fusion, a chain of two operations, head.

    Args:
        make_place (Callable[[str, int], nn.Module]): given a chain of :data:`~.genotype.CHAINS` ('ir', 'vis',
            'fused') and a position in it (0, 1), returns the module of that place, C -> C channels of the same size.
        channels (int): C, even.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.
    """

    def __init__(
        self,
        make_place: Callable[[str, int], nn.Module],
        channels: int = 32,
        compile: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(compile, init_cfg)
        chains = {name: Chain(make_place(name, i) for i in range(length)) for name, length in CHAINS.items()}
        self.channels = channels
        self.ir = ModalityBranch(channels, chains['ir'])
        self.vis = ModalityBranch(channels, chains['vis'])
        self.rule = AdaptiveAverage()
        self.chain = chains['fused']
        self.head = nn.Sequential(conv(channels, channels // 2, 3), conv(channels // 2, 1, 3), PReLU(), nn.Tanh())

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        """As :meth:`FusionNetwork.forward`; the head's tanh bounds the output to (-1, 1)."""
        fused = self.rule(self.ir(channels_last(ir)), self.vis(channels_last(vis)))
        return self.head(self.chain(fused)).contiguous()


class ModalityBranch(nn.Module):
    """One modality's features: (N, 1, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, chain: nn.Module):
        super().__init__()
        self.stem = nn.Sequential(conv(1, channels, 3), PReLU())
        self.decomposition = GuidedDecomposition(channels)
        self.chain = chain

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        return skip(features, self.chain(self.decomposition(features)))


class Chain(nn.Sequential):
    """Operations in a row with one skip over them all: ``x + op2(op1(x))``."""

    def __init__(self, operations):
        super().__init__(*operations)

    def forward(self, x: Tensor) -> Tensor:
        return skip(x, super().forward(x))


@MODELS.register_module()
class FusionNet(DecompositionFusion):
    """The searched fusion network of PAIF (ACM MM 2023), or one with another genotype; 0.26 M parameters.

    The output is the released network's, (-1, 1) by its tanh: a trained network's lies in [0, 1] up to overshoot.

    Args:
        genotype (str | Path | Mapping): the operations of the six places: 'paif' (the released model's), the path of a
            genotype's JSON file, or a dict; see :mod:`paif_mm.fusion.genotype`, also for the errors raised.
        channels (int): C, even.
        compile (bool): run through ``torch.compile``; see :class:`FusionNetwork`.
        init_from_supernet (str | Path, optional): checkpoint of a search; :meth:`init_weights` then starts from the
            weights that the search found for these operations.
        init_cfg (dict, optional): initialisation as in mmengine.
    """

    def __init__(
        self,
        genotype: str | Path | Mapping = 'paif',
        channels: int = 32,
        compile: bool = False,
        init_from_supernet: str | Path | None = None,
        init_cfg: dict | None = None,
    ):
        genotype = load_genotype(genotype)
        super().__init__(lambda chain, i: build_operation(genotype[chain][i], channels), channels, compile, init_cfg)
        self.genotype = genotype
        self.supernet_checkpoint = init_from_supernet

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` and ``init_from_supernet`` say."""
        super().init_weights()
        if self.supernet_checkpoint is not None:
            self.init_from_supernet(self.supernet_checkpoint)

    def init_from_supernet(self, source: nn.Module | Mapping[str, Tensor] | str | Path) -> None:
        """Take over the weights of a supernet with as many channels.

        Args:
            source: a :class:`FusionSupernet`, a model that holds one, the state dict of either, or the checkpoint of
                a search.

        Raises:
            ValueError: there is no supernet in ``source``, or it lacks one of the operations.
            RuntimeError: it has another number of channels.
        """
        where = f'checkpoint {source}' if isinstance(source, str | Path) else 'the source'
        if isinstance(source, str | Path):
            content = load_checkpoint_file(str(source), map_location='cpu')
            source = content.get('state_dict', content)
        state = source.state_dict() if isinstance(source, nn.Module) else source
        try:
            state = derived_state(state, self.genotype)
        except KeyError as error:
            raise ValueError(f'init_from_supernet: {where} {error.args[0]}') from None
        self.load_state_dict(state)


def channels_last(x: Tensor) -> Tensor:
    """View a one-channel image (N, 1, H, W) with channels-last strides, which all later features then inherit.

    Convolutions, box sums and pointwise operations with few channels run about twice as fast in this layout on a CPU.
    ``Tensor.contiguous`` would leave the strides alone, since one channel fits both layouts.
    """
    n, _, h, w = x.shape
    return x.reshape(n, h, w, 1).permute(0, 3, 1, 2)


def _run_compiled(network: FusionNetwork, ir: Tensor, vis: Tensor) -> Tensor:
    try:
        return _compiled_fuse(torch.is_grad_enabled())(network, ir, vis)
    except Exception as error:
        if not _is_missing_compiler(error):
            raise
        raise RuntimeError(
            'compile=True needs a C++ compiler (CPU) or Triton (CUDA), which torch.compile did not find: '
            'install one or set compile=False'
        ) from error


@cache
def _compiled_fuse(gradients: bool) -> Callable:
    # A function of the network, not an attribute of it: copies, pickles and state dicts stay those of a plain module.
    # With gradients, static shapes: torch 2.14 fails to compile the backward pass for symbolic ones in channels-last
    # layout. Without, torch's default: a second size compiles for all that follow.
    if gradients:
        return torch.compile(lambda network, ir, vis: network.fuse(ir, vis), dynamic=False)
    return torch.compile(lambda network, ir, vis: network.fuse(ir, vis))


def _is_missing_compiler(error: BaseException) -> bool:
    text = f'{type(error).__name__} {error}'
    return any(name in text for name in ('InvalidCxxCompiler', 'TritonMissing', 'Cannot find a working triton'))
