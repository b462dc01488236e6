"""Drawing of pictures in a row, shared by the visualization hook and the data set browser."""

import cv2
import numpy as np

CAPTION_HEIGHT = 18
IGNORED = 128  # grey
BACKGROUND = ('unlabeled', 'unlabelled', 'background')
LINE = 12  # pixels of a line of a legend, at least
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.35)  # of a legend, with its size


def draw_strip(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Draw captioned pictures of one height side by side.

    Args:
        panels (list[tuple[str, ndarray]]): captions and pictures, HxW or HxWx3 (B,G,R) in [0, 255], of any dtype.

    Returns:
        ndarray: uint8 BGR.
    """
    return np.concatenate([_captioned(name, image) for name, image in panels], axis=1)


def modality_panels(image: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The pictures in a pair HxWx4 (B,G,R,IR), or the one in an image HxWx3."""
    if image.shape[2] == 3:
        return [('image', image)]
    return [('infrared', image[..., 3]), ('visible', image[..., :3])]


def paint_labels(labels: np.ndarray, palette, size: tuple[int, int] | None = None) -> np.ndarray:
    """Class map HxW -> BGR picture, of ``size`` (width, height) if given; values without a colour are grey."""
    colours = np.full((256, 3), IGNORED, np.uint8)
    colours[: len(palette)] = np.asarray(palette, np.uint8)[:, ::-1]
    picture = colours[labels.astype(np.uint8)]
    return picture if size is None else cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)


def overlay_labels(image: np.ndarray, labels: np.ndarray, palette, classes=None, opacity: float = 0.5) -> np.ndarray:
    """A class map over an image HxWx3 (B,G,R) of any size, uint8; the first class is not painted where it is none."""
    height, width = image.shape[:2]
    labels = cv2.resize(labels.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    painted = cv2.addWeighted(image, 1 - opacity, paint_labels(labels, palette), opacity, 0)
    if classes and classes[0] in BACKGROUND:
        painted = np.where((labels == 0)[..., None], image, painted)
    return painted


def paint_boxes(image: np.ndarray, boxes, labels, palette, classes=None, scores=None) -> np.ndarray:
    """Draw boxes (N, 4), corners in pixels of the image HxWx3 (B,G,R), with class names and scores in percent."""
    picture = np.ascontiguousarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    for i, (box, label) in enumerate(zip(np.rint(boxes).astype(int), labels, strict=True)):
        colour = tuple(int(c) for c in palette[label][::-1])
        cv2.rectangle(picture, tuple(box[:2].tolist()), tuple(box[2:].tolist()), colour, 1)
        text = f'{classes[label] if classes else ""} {"" if scores is None else round(100 * float(scores[i]))}'.strip()
        place = (int(box[0]), max(int(box[1]) - 2, 8))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.3, colour, 1, cv2.LINE_AA)
    return picture


def draw_legend(classes, palette, height: int) -> np.ndarray:
    """Class names beside their colours, uint8 BGR, ``height`` pixels high, in as many columns as are legible."""
    rows = max(1, min(len(classes), height // LINE))
    step = min(height / rows, 2 * LINE)
    columns = [list(zip(classes, palette, strict=True))[i : i + rows] for i in range(0, len(classes), rows)]
    return np.concatenate([_legend_column(column, height, step) for column in columns], axis=1)


def _legend_column(entries: list, height: int, step: float) -> np.ndarray:
    widest = max(cv2.getTextSize(name, *FONT, 1)[0][0] for name, _ in entries)
    column = np.zeros((height, 18 + widest + 6, 3), np.uint8)
    for i, (name, colour) in enumerate(entries):
        top, bottom = int(i * step), int((i + 1) * step)
        column[top + 1 : bottom - 1, 2:14] = colour[::-1]
        cv2.putText(column, name, (18, (top + bottom) // 2 + 4), *FONT, (255,) * 3, 1, cv2.LINE_AA)
    return column


def _captioned(name: str, image: np.ndarray) -> np.ndarray:
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    bar = np.zeros((CAPTION_HEIGHT, image.shape[1], 3), np.uint8)
    cv2.putText(bar, name, (4, CAPTION_HEIGHT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 1, cv2.LINE_AA)
    return np.concatenate([bar, image])
