"""Predictions on pairs without labels: ``PairInferencer('paif_mm://NAME')(('visible', 'infrared'), out_dir='out')``."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from torch import nn

from paif_mm.data.listing import inform, warn
from paif_mm.engine.launch import model_files, needed, read_config
from paif_mm.perception import require_fuser
from paif_mm.weights import load_weights

from .machine import require_display, usable_device
from .pairs import Pair, Source
from .pictures import colour_image, picture_of
from .reading import PairReader, loader_of, naming, open_pairs
from .results import ResultFiles, plain_result, written_folders

LOADING = 'Load'  # how transforms are called whose work is done when a pair arrives


class Prediction(NamedTuple):
    """What became of one pair.

    Attributes:
        name: of its files.
        sample: mmseg's, mmdet's or mmpretrain's data sample, on the CPU.
        fused: what the model saw, in the size of the files, uint8 HxWx3 (B,G,R).
        picture: the prediction drawn on it, uint8 HxWx3 (B,G,R); None unless asked for.
    """

    name: str
    sample: object
    fused: np.ndarray
    picture: np.ndarray | None


class PairInferencer(BaseInferencer):
    """A fused model on pairs, in the manner of OpenMMLab's inferencers.

    Args:
        model (str | Config): ``paif_mm://NAME``, or a config (file or read) with ``weights``.
        weights (str | None): a checkpoint; all weights must fit. Default: those of ``paif_mm://NAME``.
        device (str | None): Default: the GPU if there is one.
        show_progress (bool): a bar with the time that is left. Default: True.

    Attributes:
        fuser (PairFuser): the part of ``model`` that fuses.
        failures (list[str]): of the last call: pairs that could not be read or passed through the model, files without
            a partner, and what else of the folders was left out.

    Raises:
        ConfigError, WeightsError: see :func:`~paif_mm.engine.launch.model_files` and
            :func:`~paif_mm.weights.load_weights`.
        TypeError: the model fuses no pairs.
        ValueError: there is no such device.
    """

    def __init__(
        self,
        model: str | Config,
        weights: str | None = None,
        device: str | None = None,
        show_progress: bool = True,
    ):
        if isinstance(model, str):
            model, weights = model_files(model, weights)
            model = read_config(model)
        elif weights is None:
            raise ValueError('a config needs weights, a checkpoint')
        scope = model.get('default_scope', 'mmseg')
        init_default_scope(scope)
        self.failures: list[str] = []
        super().__init__(model, weights, usable_device(device), scope, show_progress)

    def __call__(
        self,
        inputs,
        return_datasamples: bool = False,
        batch_size: int = 1,
        return_vis: bool = False,
        **kwargs,
    ) -> dict[str, list]:
        """Predict, and keep all results; :meth:`stream` keeps none.

        Args:
            inputs: see :func:`~.pairs.source_of`.
            return_datasamples (bool): data samples in place of arrays and dicts. Default: False.
            batch_size (int): pairs of one forward pass. Default: 1.
            return_vis (bool): keep the pictures. Default: False.
            kwargs: as :meth:`stream` takes.

        Returns:
            dict: ``predictions``: for each pair a data sample, or a class map HxW (segmentation), or a dict of
            ``labels``, ``scores`` and ``bboxes``, or of ``pred_label``, ``pred_score`` and ``pred_class``;
            ``fused`` and, with ``return_vis``, ``visualization``: images, uint8 HxWx3 (B,G,R); ``names``: of the pairs,
            in the same order. What was left out has no place in these lists: it is in ``failures``, and logged as a
            warning.
        """
        names, preds, fused, pictures = [], [], [], []
        for prediction in self.stream(inputs, batch_size, draw=return_vis, **kwargs):
            names.append(prediction.name)
            preds.append(prediction.sample)
            fused.append(prediction.fused)
            if return_vis:
                pictures.append(prediction.picture)
        for line in self.failures:
            warn(line)
        return {**self.postprocess(preds, pictures, return_datasamples), 'fused': fused, 'names': names}

    @torch.no_grad()
    def stream(
        self,
        inputs,
        batch_size: int = 1,
        *,
        ir_range: tuple[float, float] | str | None = None,
        align: str | np.ndarray | None = None,
        out_dir: str = '',
        draw: bool = False,
        show: bool = False,
        wait_time: float = 0,
        opacity: float = 0.5,
        pred_score_thr: float = 0.3,
    ) -> Iterator[Prediction]:
        """Predict one pair after the other, in bounded memory.

        While one is passed through the model, the next is read, and the one before is drawn and written.

        Args:
            inputs: see :func:`~.pairs.source_of`.
            batch_size (int): pairs of one forward pass. Default: 1.
            ir_range: infrared values that become 0 and 255, for files of more than 8 bits; ``'auto'`` estimates them,
                see :class:`~.reading.PairReader`. Default: those of the config's pipeline, if it has any.
            align: see :class:`~.registration.Registration`. Default: sizes that differ are refused.
            out_dir (str): where :class:`~.results.ResultFiles` writes. Default: nowhere.
            draw (bool): make the pictures. Default: False, unless they are shown or written.
            show (bool): show them in a window, ``wait_time`` seconds each (0: until a key is pressed).
            opacity (float): of the classes' colours over the fused image, in [0, 1]. Default: 0.5.
            pred_score_thr (float): boxes of a lower score are not drawn; all are written. Default: 0.3.

        Raises:
            ValueError, FileNotFoundError: the pair can not be read or passed through the model, where one alone was
                given; otherwise it is named in ``failures``, and the others go on.
            ValueError: a batch of no pairs, or no display to show pictures on.
            ValueError: results would be written into a folder that holds the pairs.
            OSError: nothing can be written.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, not {batch_size}')
        if show:
            require_display()
        source, reader = open_pairs(inputs, self._loader, ir_range, align, written_folders(out_dir))
        self.failures = list(source.left_out)
        draw = draw or show or bool(out_dir)
        with ResultFiles(out_dir, self.model.dataset_meta, source.fps) as files, ThreadPoolExecutor(1) as pool:

            def finished(name: str, sample, image: np.ndarray) -> Prediction:
                picture = self.visualize([image], [sample], opacity, pred_score_thr)[0] if draw else None
                files.add(prediction := Prediction(name, sample, image, picture))
                return prediction

            found = (
                pool.submit(finished, *one)
                for names, batch in self._batches(source, reader, batch_size)
                for one in self._predicted(names, batch, source.single)
            )
            bar = ProgressBar(source.total) if self.show_progress and (source.total or 0) > 1 else None
            for future in _ahead(found, 0 if show else batch_size):
                prediction = future.result()
                if show:
                    cv2.imshow('paif_mm', prediction.picture)
                    cv2.waitKey(round(wait_time * 1000))
                if bar:
                    bar.update()
                yield prediction

    def visualize(self, inputs, preds, opacity: float = 0.5, pred_score_thr: float = 0.3) -> list[np.ndarray]:
        """Data samples drawn on fused images, see :func:`~.pictures.picture_of`."""
        meta = self.model.dataset_meta
        return [picture_of(*both, meta, opacity, pred_score_thr) for both in zip(inputs, preds, strict=True)]

    def postprocess(self, preds, visualization, return_datasamples: bool = False) -> dict[str, list]:
        """What :meth:`__call__` returns of data samples and pictures."""
        classes = self.model.dataset_meta['classes']
        results = preds if return_datasamples else [plain_result(sample, classes) for sample in preds]
        return {'predictions': results, 'visualization': visualization}

    def _batches(self, source: Source, reader: PairReader, size: int) -> Iterator[tuple[list[str], list[dict]]]:
        """Batches of neighbours of one size, whose names come first."""
        names, batch = [], []
        for name, data in self._loaded(source, reader, size + 1):
            if batch and (len(batch) == size or data['inputs'].shape != batch[0]['inputs'].shape):
                yield names, batch
                names, batch = [], []
            names.append(name)
            batch.append(data)
        if batch:
            yield names, batch
        for line in reader.notes:
            inform(line)

    def _loaded(self, source: Source, reader: PairReader, ahead: int) -> Iterator[tuple[str, dict]]:
        """Pairs through the pipeline, read in another thread, at most so many in advance."""
        with ThreadPoolExecutor(1) as pool:
            reading = ((pair.name, pool.submit(self._ready, reader, pair)) for pair in source.pairs)
            for name, future in _ahead(reading, ahead):
                try:
                    yield name, future.result()
                except (ValueError, OSError) as error:
                    if source.single:
                        raise
                    self.failures.append(str(error))

    def _ready(self, reader: PairReader, pair: Pair) -> dict:
        """A pair behind the pipeline."""
        results = reader(pair)
        with naming(pair.name, results['img_shape']):
            return self.pipeline(results)

    def _predicted(
        self, names: list[str], batch: list[dict], single: bool = False
    ) -> Iterator[tuple[str, object, np.ndarray]]:
        """Names, data samples and fused images of a batch, on the CPU; pair by pair where it fails as one."""
        try:
            with naming(names[0], batch[0]['inputs'].shape[-2:]):
                samples = self.model.test_step(self.collate_fn(batch))
        except ValueError as error:
            if single:
                raise
            if len(batch) == 1:
                self.failures.append(str(error))
                return
            samples = None
        if samples is None:  # outside of the handler, whose error holds the memory of the pass
            for name, data in zip(names, batch, strict=True):
                yield from self._predicted([name], [data])
            return
        yield from zip(names, [sample.cpu() for sample in samples], self._fused(samples), strict=True)

    def _fused(self, samples: Sequence) -> list[np.ndarray]:
        """What the model saw, in the sizes of the files, which a pipeline may have changed."""
        images = [None] * len(samples)
        for group in self.fuser.groups:
            for place, image in zip(group.index, group.fused, strict=True):
                height, width = samples[place].ori_shape
                image = colour_image(image)
                images[place] = image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height))
        return images

    def _init_model(self, cfg, weights, device='cpu') -> nn.Module:
        model = super()._init_model(cfg, weights, device)
        self.fuser = require_fuser(model, 'PairInferencer')
        return revert_sync_batchnorm(model) if 'cuda' not in str(device) else model

    def _load_weights_to_model(self, model, checkpoint, cfg) -> None:
        load_weights(model, checkpoint, 'the checkpoint')
        meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
        if 'classes' not in meta:
            raise ValueError('the checkpoint does not say its classes (meta.dataset_meta): was it saved by a Runner?')
        model.dataset_meta = meta

    def _init_pipeline(self, cfg) -> Callable:
        """The test pipeline behind the loading; the loader that it had is kept for its settings."""
        self._loader = loader_of(cfg)
        transforms = needed(cfg, 'test_dataloader', 'an inferencer').dataset.pipeline
        return Compose([one for one in transforms if not one['type'].split('.')[-1].startswith(LOADING)])

    def _init_collate(self, cfg) -> Callable:
        return pseudo_collate

    def _init_visualizer(self, cfg) -> None:
        return None


def _ahead(items: Iterator, count: int) -> Iterator:
    """The same items, each asked for before the ``count``-th before it is given."""
    waiting = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
