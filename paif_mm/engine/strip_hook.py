"""Pictures of what a fused model sees and says."""

import os.path as osp

import cv2
import numpy as np
import torch
from mmengine.fileio import join_path, put
from mmengine.hooks import Hook

from paif_mm.registry import HOOKS

from .names import names_of
from .strips import draw_strip, modality_panels, paint_boxes, paint_labels
from .views import plain_view, tested_model

SHOWN = 0.3  # least score of a drawn detection


@HOOKS.register_module()
class PairVisualizationHook(Hook):
    """Writes a strip per image: infrared | visible | fused | prediction | truth.

    Segmentations are painted; detections of a score of at least .3 and the true boxes are drawn on the fused image (on
    the visible one, where nothing is fused). An attacked image gets the attacked infrared and visible images and their
    amplified perturbations as well (grey is no change). Under test-time augmentation the pair is that of the plain
    view. The strips go to ``<out_dir>/<run>/<image>.png``, with ``run`` as the test tool names it ('clean', the
    attack's name), or 'test', or 'val' and the iteration.

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

    def before_val_epoch(self, runner) -> None:
        self._name(runner.val_loop)

    def before_test_epoch(self, runner) -> None:
        self._name(runner.test_loop)

    def _name(self, loop) -> None:
        if self.draw:
            self.names = names_of(loop.dataloader.dataset)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._write(runner, batch_idx, data_batch, outputs, f'val_{runner.iter}')

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._write(runner, batch_idx, data_batch, outputs, 'test')

    def _write(self, runner, batch_idx: int, data_batch: dict, outputs, phase: str) -> None:
        if not self.draw or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        batch, fuser = plain_view(tested_model(runner), data_batch)
        fused = {}
        for group in fuser.groups if fuser else ():
            fused.update(zip(group.index, group.fused, strict=True))
        out_dir = self.out_dir or osp.join(runner.log_dir, 'strips')
        clean = batch.get('clean_inputs', batch['inputs'])
        for i, sample in enumerate(outputs):
            panels = prediction_panels(
                _pixels(clean[i]),
                _pixels(batch['inputs'][i]),
                _pixels(fused[i] * 255) if i in fused else None,
                sample,
                runner.visualizer.dataset_meta or {},
                self.amplify,
                batch['data_samples'][i].metainfo.get('scale_factor'),
            )
            strip = cv2.imencode('.png', draw_strip(panels))[1].tobytes()
            put(strip, join_path(out_dir, self.run or phase, f'{self.names[sample.img_path]}.png'))


def prediction_panels(clean, attacked, fused, sample, dataset_meta, amplify: float | None = None, scale=None) -> list:
    """The panels of one image's strip.

    Args:
        clean, attacked (ndarray): pairs HxWx4 (B,G,R,IR) or images HxWx3, float in [0, 255]; equal without attack.
        fused (ndarray | None): HxWx3.
        sample: a data sample; what it has of ``pred_sem_seg``, ``gt_sem_seg``, ``pred_instances`` and ``gt_instances``
            is drawn.
        dataset_meta (dict): ``palette`` (RGB), without which nothing is drawn, and ``classes``.
        amplify (float | None): factor on the perturbation; by default its largest value becomes full contrast.
        scale (tuple[float, float], optional): width and height of ``clean`` in those of the file, whose pixels boxes
            are in. Default: the sample's ``scale_factor``.
    """
    if scale is None:
        scale = sample.metainfo.get('scale_factor', (1.0, 1.0))
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
        if key in sample and 'bboxes' in getattr(sample, key):  # mmdet packs them where nothing was loaded
            panels.append((name, _boxes_on(below, getattr(sample, key), scale, palette, dataset_meta.get('classes'))))
    return panels


def _boxes_on(image: np.ndarray, instances, scale, palette, classes) -> np.ndarray:
    """The image with boxes, which are in pixels of a file ``1 / scale`` times as large."""
    instances = instances.cpu()
    scores = instances.scores.numpy() if 'scores' in instances else None
    shown = np.ones(len(instances), bool) if scores is None else scores >= SHOWN
    boxes = np.asarray(getattr(instances.bboxes, 'tensor', instances.bboxes))[shown]
    return paint_boxes(
        image,
        boxes * np.tile(scale[:2], 2),
        instances.labels.numpy()[shown],
        palette,
        classes,
        None if scores is None else scores[shown],
    )


def _pixels(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) tensor -> HxWxC float32 array."""
    return image.detach().float().cpu().numpy().transpose(1, 2, 0)
