"""Predictions drawn on fused images."""

from collections.abc import Mapping

import cv2
import numpy as np
from torch import Tensor

from paif_mm.engine.strips import draw_legend, overlay_labels, paint_boxes

LINE = 14  # pixels of a line of the legend


def colour_image(image: Tensor) -> np.ndarray:
    """(3, H, W), B,G,R in [0, 1] -> uint8 HxWx3."""
    return (image.detach().float() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def picture_of(
    fused: np.ndarray, sample, meta: Mapping, opacity: float = 0.5, least_score: float = 0.3, legend: bool = True
) -> np.ndarray:
    """A prediction on the fused image: classes' colours, boxes (and masks), or the most likely classes.

    Args:
        fused: uint8 HxWx3 (B,G,R).
        sample: a data sample with predictions.
        meta: ``classes`` and ``palette``.
        opacity: of classes' and masks' colours, in [0, 1]; the first class, where it is the background, is not painted.
        least_score: of a box that is drawn.
        legend: of the colours, on the right of a segmentation.
    """
    classes, palette = meta['classes'], meta.get('palette') or [(255, 255, 255)] * len(meta['classes'])
    if 'pred_sem_seg' in sample:
        labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
        picture = overlay_labels(fused, labels, palette, classes, opacity)
        return np.concatenate([picture, draw_legend(classes, palette, len(fused))], axis=1) if legend else picture
    if 'pred_instances' in sample:
        found = sample.pred_instances.cpu()
        found = found[found.scores >= least_score]
        boxes = getattr(found.bboxes, 'tensor', found.bboxes).numpy()
        if 'masks' in found:
            fused = fused.copy()
            for mask, label in zip(found.masks.numpy(), found.labels.tolist(), strict=True):
                fused[mask] = (1 - opacity) * fused[mask] + opacity * np.array(palette[label][::-1])
        return paint_boxes(fused, boxes, found.labels.tolist(), palette, classes, found.scores.tolist())
    scores, picture = sample.pred_score.cpu(), fused.copy()
    for line, index in enumerate(scores.argsort(descending=True)[:3].tolist()):
        text = f'{classes[index]} {100 * scores[index]:.0f}'
        cv2.putText(picture, text, (4, LINE * (line + 1)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 1, cv2.LINE_AA)
    return picture
