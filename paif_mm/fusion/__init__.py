"""Fusion networks: ``(ir, vis luminance) -> fused luminance``."""

from .average import AverageFusion
from .baseline import FusionBaseline
from .batch_norm import untracked_statistics
from .genotype import CANDIDATES, CHAINS, GENOTYPES, load_genotype, read_notes, save_genotype
from .guided_filter import GuidedDecomposition
from .network import Chain, DecompositionFusion, FusionNet, FusionNetwork
from .operations import (
    ChannelAttention,
    Convolution,
    DenseBlock,
    DilatedConv,
    ResidualBlock,
    SpatialAttention,
    TransformerBlock,
    build_operation,
)
from .rules import RULES, AdaptiveAverage
from .supernet import FusionSupernet, MixedOperation, find_supernet

__all__ = [
    'CANDIDATES',
    'CHAINS',
    'GENOTYPES',
    'RULES',
    'AdaptiveAverage',
    'AverageFusion',
    'Chain',
    'ChannelAttention',
    'Convolution',
    'DecompositionFusion',
    'DenseBlock',
    'DilatedConv',
    'FusionBaseline',
    'FusionNet',
    'FusionNetwork',
    'FusionSupernet',
    'GuidedDecomposition',
    'MixedOperation',
    'ResidualBlock',
    'SpatialAttention',
    'TransformerBlock',
    'build_operation',
    'find_supernet',
    'load_genotype',
    'read_notes',
    'save_genotype',
    'untracked_statistics',
]
