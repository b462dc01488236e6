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
from .zoo import IFCNN, NETWORKS, SAGE, DenseFuse, DIDFuse, ReCoNet, SDNet, SeAFusion, TarDAL, U2Fusion, UMFusion

__all__ = [
    'AdaptiveAverage',
    'AverageFusion',
    'CANDIDATES',
    'CHAINS',
    'Chain',
    'ChannelAttention',
    'Convolution',
    'DIDFuse',
    'DecompositionFusion',
    'DenseBlock',
    'DenseFuse',
    'DilatedConv',
    'FusionBaseline',
    'FusionNet',
    'FusionNetwork',
    'FusionSupernet',
    'GENOTYPES',
    'GuidedDecomposition',
    'IFCNN',
    'MixedOperation',
    'NETWORKS',
    'RULES',
    'ReCoNet',
    'ResidualBlock',
    'SAGE',
    'SDNet',
    'SeAFusion',
    'SpatialAttention',
    'TarDAL',
    'TransformerBlock',
    'U2Fusion',
    'UMFusion',
    'build_operation',
    'find_supernet',
    'load_genotype',
    'read_notes',
    'save_genotype',
    'untracked_statistics',
]
