"""Segmentors of pairs that fuse features instead of images: nothing here knows a fusion network."""

from .cmx import CMX
from .egfnet import EGFNet
from .gmnet import GMNet
from .heads import EdgeGuidedHead, PixelHead, SideHead
from .lasnet import LASNet
from .segmentor import DualStreamSegmentor
from .streams import TwoStreamResNet

__all__ = [
    'CMX',
    'DualStreamSegmentor',
    'EGFNet',
    'EdgeGuidedHead',
    'GMNet',
    'LASNet',
    'PixelHead',
    'SideHead',
    'TwoStreamResNet',
]
