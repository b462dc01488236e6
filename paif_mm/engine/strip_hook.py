"""Pictures of what a fused model sees and says."""

import os.path as osp
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import join_path, put
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend

from paif_mm.registry import HOOKS

from .names import names_of
from .strips import draw_legend, draw_strip, modality_panels, overlay_labels, paint_boxes
from .views import plain_view, tested_model

SHOWN = 0.3  # least score of a drawn detection
LEGEND = 'classes'  # the panel of the colours


@HOOKS.register_module()
class PairVisualizationHook(Hook):
    """Writes a strip per image: infrared | visible | fused | prediction | truth | legend.

    Classes are painted over the fused image, detections of a score of at least .3 and the true boxes drawn on it (over
    the visible one, where nothing is fused). An attacked image gets the attacked infrared and visible images and their
    amplified perturbations as well (grey is no change). Under test-time augmentation the pair is that of the plain
    view. The strips go to ``<out_dir>/<run>/<image>.png``, with ``run`` as the test tool names it ('clean', the
    attack's name), or 'test', or 'val' and the iteration.

    The first strips of every validation and test also go to what shows pictures of trainings (``vis_backends`` beside
    the local one: ``TensorboardVisBackend``, ``WandbVisBackend``, ...), where each image has one tag over all steps.

    Args:
        draw (bool): whether to write at all; mmseg's ``--show-dir`` switches it on. Default: False.
        interval (int): every how many batches. Default: 1.
        out_dir (str | None): folder. Default: ``<work_dir>/<timestamp>/strips``.
        amplify (float | None): factor on the perturbation. Default: as much as the visible range allows.
        logged (int): how many images of a validation or test go to such backends, drawn or not. Default: 4.
    """

    priority = 'LOW'

    def __init__(
        self,
        draw: bool = False,
        interval: int = 1,
        out_dir: str | None = None,
        amplify: float | None = None,
        logged: int = 4,
    ):
        self.logged = logged
        self.draw = draw
        self.interval = interval
        self.out_dir = out_dir
        self.amplify = amplify
        self.run: str | None = None

    def before_val_epoch(self, runner) -> None:
        self._begin(runner, runner.val_loop)

    def before_test_epoch(self, runner) -> None:
        self._begin(runner, runner.test_loop)

    def _begin(self, runner, loop) -> None:
        backends = runner.visualizer._vis_backends.values() if is_main_process() else ()
        self.screens = [one for one in backends if not isinstance(one, LocalVisBackend)]
        self.left = self.logged if self.screens else 0
        if self.draw or self.left:
            self.names = names_of(loop.dataloader.dataset)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._show(runner, batch_idx, data_batch, outputs, 'val', f'val_{runner.iter}')

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._show(runner, batch_idx, data_batch, outputs, 'test', 'test')

    def _show(self, runner, batch_idx: int, data_batch: dict, outputs, phase: str, folder: str) -> None:
        written = self.draw and self.every_n_inner_iters(batch_idx, self.interval)
        if not written and not self.left:
            return
        out_dir = self.out_dir or osp.join(runner.log_dir, 'strips')
        for name, strip in self._strips(runner, data_batch, outputs):
            if written:
                content = cv2.imencode('.png', strip)[1].tobytes()
                put(content, join_path(out_dir, self.run or folder, f'{name}.png'))
            if self.left:
                self.left -= 1
                for screen in self.screens:
                    screen.add_image(f'{self.run or phase}/{name}', strip[..., ::-1], step=runner.iter)

    def _strips(self, runner, data_batch: dict, outputs) -> Iterator[tuple[str, np.ndarray]]:
        """Names and strips (B,G,R) of the images of a batch."""
        batch, fuser = plain_view(tested_model(runner), data_batch)
        fused = {}
        for group in fuser.groups if fuser else ():
            fused.update(zip(group.index, group.fused, strict=True))
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
            yield self.names[sample.img_path], draw_strip(panels)


def prediction_panels(clean, attacked, fused, sample, dataset_meta, amplify: float | None = None, scale=None) -> list:
    """The panels of one image's strip.

    Args:
        clean, attacked (ndarray): pairs HxWx4 (B,G,R,IR) or images HxWx3, float in [0, 255]; equal without attack.
        fused (ndarray | None): HxWx3.
        sample: a data sample; what it has of ``pred_sem_seg``, ``gt_sem_seg``, ``pred_instances`` and ``gt_instances``
            is drawn on the fused image, or on the visible one.
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
    below, classes = attacked[..., :3] if fused is None else fused, dataset_meta.get('classes')
    painted = [one for one in (('prediction', 'pred_sem_seg'), ('truth', 'gt_sem_seg')) if one[1] in sample]
    for name, key in painted:
        labels = getattr(sample, key).data.squeeze(0).cpu().numpy()
        panels.append((name, overlay_labels(below, labels, palette, classes)))
    for name, key in (('prediction', 'pred_instances'), ('truth', 'gt_instances')):
        if key in sample and 'bboxes' in getattr(sample, key):  # mmdet packs them where nothing was loaded
            panels.append((name, _boxes_on(below, getattr(sample, key), scale, palette, classes)))
    if painted and classes:
        panels.append((LEGEND, draw_legend(classes, palette, len(clean))))
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
