"""Trained models on pairs of images, folders, videos and cameras."""

from .attacking import Attacked, attack_pairs
from .fusing import FusionInferencer
from .inferencer import PairInferencer, Prediction
from .onnx_inferencer import OnnxInferencer

__all__ = ['Attacked', 'FusionInferencer', 'OnnxInferencer', 'PairInferencer', 'Prediction', 'attack_pairs']
