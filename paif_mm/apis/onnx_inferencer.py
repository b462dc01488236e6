"""Predictions by an ONNX file in the place of a model: ``OnnxInferencer(config, 'model.onnx')(pairs)``."""

import json
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData

from .inferencer import PairInferencer


class OnnxInferencer(PairInferencer):
    """A :class:`PairInferencer` that passes pairs through a file of ``tools/export.py``, on the CPU.

    Args:
        model (str | Config): the config, whose test pipeline is taken.
        weights (str): the file.
        show_progress (bool): as there.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: the file is no ONNX file, or none of a whole model.
    """

    def __init__(self, model, weights: str, show_progress: bool = True):
        super().__init__(model, weights, 'cpu', show_progress)

    def _init_model(self, cfg, weights, device='cpu') -> 'OnnxModel':
        self.fuser = OnnxModel(weights)
        return self.fuser


class OnnxModel:
    """What an inferencer asks of a model and of its fuser.

    Attributes:
        dataset_meta (dict): ``classes`` and ``palette``.
        groups (list): of the last batch: ``index`` and ``fused`` as of :class:`paif_mm.perception.FusedGroup`.
    """

    def __init__(self, path: str):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError('--onnx needs onnxruntime: pip install onnxruntime') from error
        try:
            self.session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        except Exception as error:  # onnxruntime's errors have no other base
            raise ValueError(f'{path} can not be read as an ONNX file: {error}') from None
        facts = json.loads(self.session.get_modelmeta().custom_metadata_map.get('paif_mm', '{}'))
        if 'classes' not in facts:
            raise ValueError(f'{path} says no classes: is it a whole model of tools/export.py (--part model)?')
        if 'fused' not in facts['outputs']:
            raise ValueError(
                f'{path} gives no fused image to draw on: its model fuses features; read its logits instead'
            )
        self.dataset_meta, self.outputs = facts, facts['outputs']
        self.groups: list = []

    def test_step(self, data: dict) -> list:
        """As the model's: data samples with predictions, in the sizes of the files."""
        self.groups, samples = [], []
        for index, (pair, sample) in enumerate(zip(data['inputs'], data['data_samples'], strict=True)):
            try:
                given = self.session.run(None, {'pairs': pair[None].float().numpy()})
            except Exception as error:
                raise ValueError(f'the ONNX file refuses the pair: {error}') from None
            found = dict(zip(self.outputs, map(torch.from_numpy, given), strict=True))
            self.groups.append(SimpleNamespace(index=[index], fused=found['fused'] / 255))
            samples.append(_labelled(sample, found['logits']) if 'logits' in found else _boxed(sample, found))
        return samples


def _labelled(sample, logits: torch.Tensor):
    if logits.shape[-2:] != tuple(sample.ori_shape):
        logits = F.interpolate(logits, size=tuple(sample.ori_shape), mode='bilinear')
    sample.pred_sem_seg = PixelData(data=logits.argmax(1))
    return sample


def _boxed(sample, found: dict):
    scale = found['boxes'].new_tensor(sample.metainfo.get('scale_factor', (1.0, 1.0))).repeat(2)
    parts = {'bboxes': found['boxes'] / scale, 'scores': found['scores'], 'labels': found['labels']}
    sample.pred_instances = InstanceData(**parts)
    return sample
