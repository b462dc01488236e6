"""Fusion networks: ``(ir, vis luminance) -> fused luminance``."""

from .genotype import CHAINS, GENOTYPES, load_genotype, save_genotype
from .guided_filter import GuidedDecomposition
from .network import Chain, DecompositionFusion, FusionNet, FusionNetwork
from .operations import ChannelAttention, DenseBlock, DilatedConv, ResidualBlock, build_operation
from .rules import AdaptiveAverage

__all__ = [
    'CHAINS',
    'GENOTYPES',
    'AdaptiveAverage',
    'Chain',
    'ChannelAttention',
    'DecompositionFusion',
    'DenseBlock',
    'DilatedConv',
    'FusionNet',
    'FusionNetwork',
    'GuidedDecomposition',
    'ResidualBlock',
    'build_operation',
    'load_genotype',
    'save_genotype',
]
