"""Predictions as files."""

import json

import cv2
import numpy as np
from mmengine.fileio import join_path, put
from mmengine.hooks import Hook

from paif_mm.registry import HOOKS

from .names import names_of


@HOOKS.register_module()
class PredictionFilesHook(Hook):
    """Writes what a model predicts of each test image, to ``<out_dir>/<run>/<image>``.

    * segmentations: ``.png``, a class index per pixel (plus one where the data set reduces zero labels, as mmseg does);
    * detections: ``.json`` with ``image`` (its path), ``labels`` (class names), ``scores`` and ``boxes``
      (x1, y1, x2, y2 in pixels of the file), the most confident first as the model gives them;
    * classifications: ``.json`` with ``image``, ``labels`` and ``scores`` (of every class, in the classes' order).

    Args:
        out_dir (str): folder.

    Attributes:
        run (str): folder inside, as the test tool names it ('clean', the attack's name).
    """

    priority = 'LOW'

    def __init__(self, out_dir: str):
        self.out_dir = out_dir
        self.run = 'clean'

    def before_test_epoch(self, runner) -> None:
        dataset = runner.test_loop.dataloader.dataset
        self.names = names_of(dataset)
        self.classes = dataset.metainfo.get('classes')

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        for sample in outputs:
            suffix, content = self._content(sample)
            put(content, join_path(self.out_dir, self.run, f'{self.names[sample.img_path]}.{suffix}'))

    def _content(self, sample) -> tuple[str, bytes]:
        """Suffix and bytes of one image's file.

        Raises:
            TypeError: predictions of another kind.
        """
        if 'pred_sem_seg' in sample:
            labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy() + bool(sample.get('reduce_zero_label'))
            labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
            return 'png', cv2.imencode('.png', labels)[1].tobytes()
        if 'pred_instances' in sample:
            found = sample.pred_instances.cpu()
            boxes = getattr(found.bboxes, 'tensor', found.bboxes)
            return self._json(sample, found.labels, scores=found.scores.tolist(), boxes=boxes.tolist())
        if 'pred_score' in sample:
            return self._json(sample, sample.pred_label.cpu(), scores=sample.pred_score.tolist())
        raise TypeError(
            f'--out writes segmentations, boxes and class scores; this model predicts {", ".join(sample.keys())}'
        )

    def _json(self, sample, labels, **rest) -> tuple[str, bytes]:
        names = [self.classes[label] if self.classes else label for label in labels.reshape(-1).tolist()]
        return 'json', (json.dumps({'image': sample.img_path, 'labels': names, **rest}) + '\n').encode()
