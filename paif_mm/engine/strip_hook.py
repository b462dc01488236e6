"""Pictures of what a fused model sees and says."""

import os.path as osp

import cv2
import numpy as np
import torch
from mmengine.fileio import join_path, put
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from paif_mm.perception import find_fuser
from paif_mm.registry import HOOKS

from .strips import draw_strip, modality_panels, paint_boxes, paint_labels

SHOWN = 0.3  # least score of a drawn detection


@HOOKS.register_module()
class PairVisualizationHook(Hook):
    """Writes a strip per image: infrared | visible | fused | prediction | truth.

    Segmentations are painted; detections of a score of at least .3 and the true boxes are drawn on the fused image (on
    the visible one, where nothing is fused). An attacked image gets the attacked infrared and visible images and their
    amplified perturbations as well (grey is no change). The strips go to ``<out_dir>/<run>/<image id>.png``, with
    ``run`` as the test tool names it ('clean', the attack's name) or the phase.

    Args:
        draw (bool): whether to write at all; mmseg's ``--show-dir`` switches it on. Default: False.
        interval (int): every how many batches. Default: 1.
        out_dir (str | None): folder. Default: ``<work_dir>/<timestamp>/strips``.
        amplify (float | None): factor on the perturbation. Default: as much as the visible range allows.
    """

    priority = 'LOW'

    def __init__(self, draw: bool = False, interval: int = 1, out_dir: str | None = None, amplify: float | None = None):
        self.draw = draw
        self.interval = interval
        self.out_dir = out_dir
        self.amplify = amplify
        self.run: str | None = None

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._write(runner, batch_idx, data_batch, outputs, 'val')

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._write(runner, batch_idx, data_batch, outputs, 'test')

    def _write(self, runner, batch_idx: int, data_batch: dict, outputs, phase: str) -> None:
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        fused = {}
        fuser = find_fuser(model)
        for group in fuser.groups if fuser else ():
            fused.update(zip(group.index, group.fused, strict=True))
        out_dir = self.out_dir or osp.join(runner.log_dir, 'strips')
        clean = data_batch.get('clean_inputs', data_batch['inputs'])
        for i, sample in enumerate(outputs):
            panels = prediction_panels(
                _pixels(clean[i]),
                _pixels(data_batch['inputs'][i]),
                _pixels(fused[i] * 255) if i in fused else None,
                sample,
                runner.visualizer.dataset_meta or {},
                self.amplify,
            )
            name = osp.splitext(osp.basename(sample.img_path))[0] + '.png'
            put(cv2.imencode('.png', draw_strip(panels))[1].tobytes(), join_path(out_dir, self.run or phase, name))


def prediction_panels(clean, attacked, fused, sample, dataset_meta, amplify: float | None = None) -> list:
    """The panels of one image's strip.

    Args:
        clean, attacked (ndarray): pairs HxWx4 (B,G,R,IR) or images HxWx3, float in [0, 255]; equal without attack.
        fused (ndarray | None): HxWx3.
        sample: a data sample; what it has of ``pred_sem_seg``, ``gt_sem_seg``, ``pred_instances`` and ``gt_instances``
            is drawn.
        dataset_meta (dict): ``palette`` (RGB), without which nothing is drawn, and ``classes``.
        amplify (float | None): factor on the perturbation; by default its largest value becomes full contrast.
    """
    panels = modality_panels(clean)
    delta = attacked - clean
    if np.any(delta):
        factor = amplify or 127 / np.abs(delta).max()
        panels += [(f'{name}, attacked', image) for name, image in modality_panels(attacked)]
        panels += [(f'{name}, change x{factor:.0f}', image) for name, image in modality_panels(128 + factor * delta)]
    if fused is not None:
        panels.append(('fused', fused))
    palette = dataset_meta.get('palette')
    if palette is None:
        return panels
    for name, key in (('prediction', 'pred_sem_seg'), ('truth', 'gt_sem_seg')):
        if key in sample:
            labels = getattr(sample, key).data.squeeze(0).cpu().numpy()
            panels.append((name, paint_labels(labels, palette, size=clean.shape[1::-1])))
    below = attacked[..., :3] if fused is None else fused
    for name, key in (('prediction', 'pred_instances'), ('truth', 'gt_instances')):
        if key in sample:
            panels.append((name, _boxes_on(below, sample, key, palette, dataset_meta.get('classes'))))
    return panels


def _boxes_on(image: np.ndarray, sample, key: str, palette, classes) -> np.ndarray:
    """The image with one kind of a sample's boxes, which are in pixels of the file."""
    instances = getattr(sample, key).cpu()
    scores = instances.scores.numpy() if 'scores' in instances else None
    shown = np.ones(len(instances), bool) if scores is None else scores >= SHOWN
    boxes = np.asarray(getattr(instances.bboxes, 'tensor', instances.bboxes))[shown]
    factor = sample.metainfo.get('scale_factor', (1.0, 1.0))
    return paint_boxes(
        image,
        boxes * np.tile(factor[:2], 2),
        instances.labels.numpy()[shown],
        palette,
        classes,
        None if scores is None else scores[shown],
    )


def _pixels(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) tensor -> HxWxC float32 array."""
    return image.detach().float().cpu().numpy().transpose(1, 2, 0)
