"""Models of pairs as files for other programs: ONNX, TorchScript, torch.export, and how far they are from PyTorch."""

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.evaluation import IoUMetric
from torch import Tensor

from .deployed import Deployed

ENDINGS = {'onnx': '.onnx', 'torchscript': '.pt', 'torch_export': '.pt2'}
META = 'paif_mm.json'  # what the two formats of torch call the file of facts inside
WORST = 1e-3  # of an output's largest value: the largest error of a file that is taken
Run = Callable[[Tensor], list[np.ndarray]]


def require_onnx() -> None:
    """Raises ImportError where the packages of ``requirements/export.txt`` are missing."""
    missing = [name for name in ('onnx', 'onnxruntime', 'onnxscript') if find_spec(name) is None]
    if missing:
        raise ImportError(f'{", ".join(missing)} not installed: pip install onnx onnxruntime onnxscript')


def export(module: Deployed, path: Path, form: str, shape: tuple[int, int], meta: Mapping) -> Run:
    """Write a model, for pairs of any size; returns what runs the written file.

    Args:
        module: in evaluation mode, on the CPU.
        path: of the file.
        form: ``'onnx'``, ``'torchscript'`` or ``'torch_export'``.
        shape: height and width of the pair that it is traced with.
        meta: facts that are kept in the file, e.g. ``classes``.

    Raises:
        ImportError: see :func:`require_onnx`.
    """
    pair, facts = example(shape), json.dumps({'outputs': module.outputs, **meta})
    any_size = ({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the tracers' own, on shapes, which the check of three sizes answers
        if form == 'torchscript':
            torch.jit.trace(module, (pair,), check_trace=False).save(str(path), _extra_files={META: facts})
            loaded = torch.jit.load(str(path))
            return lambda pairs: [one.numpy() for one in loaded(pairs)]
        if form == 'torch_export':
            program = torch.export.export(module, (pair,), dynamic_shapes=any_size)
            torch.export.save(program, str(path), extra_files={META: facts})
            return _guarded(torch.export.load(str(path)).module())
        _write_onnx(module, pair, path, any_size, {'paif_mm': facts})
    return session(path)


def _guarded(loaded: Callable) -> Run:
    """What runs a program of torch.export, which refuses sizes for which its trace says nothing: very small ones."""

    def run(pairs: Tensor) -> list[np.ndarray]:
        try:
            return [one.numpy() for one in loaded(pairs)]
        except AssertionError as error:
            size = 'x'.join(map(str, pairs.shape[-2:]))
            told = f'the file of torch.export takes no pair of {size}: trace it with another --shape'
            raise ValueError(told) from error

    return run


def _write_onnx(module: Deployed, pair: Tensor, path: Path, any_size, meta: dict[str, str]) -> None:
    require_onnx()
    import onnx

    names = {'input_names': ['pairs'], 'output_names': module.outputs}
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    program = torch.onnx.export(module, (pair,), dynamo=True, dynamic_shapes=any_size, verbose=False, **names)
    proto = program.model_proto
    onnx.helper.set_model_props(proto, meta)
    onnx.save(proto, str(path))


def session(path: Path) -> Run:
    """What runs an ONNX file on the CPU."""
    import onnxruntime

    running = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda pairs: running.run(None, {'pairs': pairs.numpy()})


def smaller(path: Path, kind: str) -> Path:
    """An ONNX file in half precision (``'fp16'``), or with matrix products in 8 bits (``'int8'``, scaled as they come).

    Inputs and outputs stay as they are.
    """
    import onnx

    target = path.with_name(f'{path.stem}_{kind}{path.suffix}')
    if kind == 'fp16':
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # on weights that half precision rounds: the cost is measured
            onnx.save(convert_float_to_float16(onnx.load(str(path)), keep_io_types=True), str(target))
        return target
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # advice on preprocessing, which the exporter has done
    try:
        quantize_dynamic(str(path), str(target), op_types_to_quantize=['MatMul'], weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    return target


def sizes_around(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Three sizes to check a file with: that of its trace, and two others, neither of which a stride divides."""
    height, width = shape
    return [shape, (height * 3 // 4 + 1, width + 7), (height + 13, width * 3 // 4 + 2)]


def example(shape: tuple[int, int], seed: int = 0) -> Tensor:
    """A random pair (1, 4, H, W), float in [0, 255]."""
    return torch.randint(0, 256, (1, 4, *shape), generator=torch.Generator().manual_seed(seed)).float()


@torch.no_grad()
def errors(module: Deployed, run: Run, shape: tuple[int, int]) -> dict[str, float]:
    """Largest differences of a file's outputs from PyTorch's for one pair, as shares of PyTorch's largest values.

    Infinite where there is another number of boxes.
    """
    pair, found = example(shape, seed=1), {}
    for name, one, other in zip(module.outputs, module(pair), run(pair), strict=True):
        expected = one.numpy()
        if expected.shape != other.shape:
            found[name] = float('inf')
        else:
            largest = max(np.abs(expected).max(initial=0), 1e-6)
            found[name] = float(np.abs(expected - other).max(initial=0) / largest)
    return found


def mean_iou(run: Run, samples: Iterable[dict], classes: int) -> float:
    """In percent, over the classes that occur, of a segmentor's file on samples of a test pipeline with labels."""
    areas = []
    for sample in samples:
        logits = torch.from_numpy(run(sample['inputs'][None].float())[-1])
        truth = sample['data_samples'].gt_sem_seg.data[0]
        if logits.shape[-2:] != truth.shape:  # the pipeline resized the pair
            logits = F.interpolate(logits, truth.shape, mode='bilinear')
        areas.append(torch.stack(IoUMetric.intersect_and_union(logits[0].argmax(0), truth, classes, 255)))
    intersect, union, _, _ = sum(areas)
    return float(100 * (intersect / union).nanmean())
