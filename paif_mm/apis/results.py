"""Predictions as files: class maps, COCO's results, pictures, fused images, a video."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from .pairs import Pair, Source, files_of

FOLDERS = ('pred', 'vis', 'fused')
ALIGNED = 'aligned'  # folder of the checkerboards of pairs that were aligned


class ResultFiles:
    """Writes each prediction as it comes, so that memory does not grow with their number.

    * ``pred/NAME.png``: class numbers (segmentation); ``pred/results.json``: COCO's results with ``file_name`` beside
      the ``image_id``, masks as run lengths (detection); ``pred/NAME.json``: scores (classification);
    * ``vis/NAME.jpg``: the prediction drawn; of a video ``vis.mp4``;
    * ``fused/NAME.png``: what the model saw; of a video ``fused.mp4``.

    Args:
        folder (str): where; nowhere if empty.
        meta (dict): ``classes``.
        fps (float | None): of a video.

    Raises:
        OSError: a file can not be written.
    """

    def __init__(self, folder: str, meta: Mapping, fps: float | None = None):
        self.folder, self.classes, self.fps = Path(folder) if folder else None, meta['classes'], fps
        self._videos: dict[str, cv2.VideoWriter] = {}
        self._open, self._coco, self._count = ExitStack(), None, 0

    def __enter__(self):
        for name in FOLDERS if self.folder else ():
            if name == 'pred' or self.fps is None:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_) -> None:
        for video in self._videos.values():
            video.release()
        if self._coco:
            self._coco.write('\n]\n')
        self._open.close()

    def add(self, prediction) -> None:
        """Write one :class:`~.inferencer.Prediction`."""
        if self.folder is None:
            return
        self._picture('vis', prediction.name, prediction.picture, 'jpg')
        self._picture('fused', prediction.name, prediction.fused, 'png')
        sample = prediction.sample
        if 'pred_sem_seg' in sample:
            labels = sample.pred_sem_seg.data.squeeze(0).numpy()
            write_image(self.folder / 'pred' / f'{prediction.name}.png', labels.astype(np.uint8))
        elif 'pred_instances' in sample:
            self._boxes(prediction.name, sample.pred_instances)
        else:
            path = self.folder / 'pred' / f'{prediction.name}.json'
            path.write_text(json.dumps(plain_result(sample, self.classes)) + '\n', encoding='utf-8')
        self._count += 1

    def _picture(self, kind: str, name: str, image: np.ndarray, ending: str) -> None:
        if self.fps is None:
            return write_image(self.folder / kind / f'{name}.{ending}', image)
        if kind not in self._videos:
            size = image.shape[1::-1]
            path = str(self.folder / f'{kind}.mp4')
            self._videos[kind] = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'mp4v'), self.fps, size)
            if not self._videos[kind].isOpened():
                raise OSError(f'{path} can not be written as a video')
        self._videos[kind].write(image)

    def _boxes(self, name: str, found) -> None:
        if self._coco is None:
            path = self.folder / 'pred' / 'results.json'
            self._coco = self._open.enter_context(open(path, 'w', encoding='utf-8'))  # noqa: SIM115
            self._coco.write('[')
        boxes = getattr(found.bboxes, 'tensor', found.bboxes)
        masks = run_lengths(found.masks) if 'masks' in found else [None] * len(boxes)
        for (left, top, right, bottom), score, label, mask in zip(
            boxes.tolist(), found.scores.tolist(), found.labels.tolist(), masks, strict=True
        ):
            entry = {
                'image_id': self._count,
                'file_name': name,
                'category_id': label,
                'category': self.classes[label],
                'bbox': [round(value, 2) for value in (left, top, right - left, bottom - top)],
                'score': round(score, 4),
                **({'segmentation': mask} if mask else {}),
            }
            self._coco.write((',\n' if self._coco.tell() > 1 else '\n') + json.dumps(entry))


def written_folders(out_dir: str) -> list[Path]:
    """Where :class:`ResultFiles` writes, if it does."""
    return [Path(out_dir), *(Path(out_dir) / name for name in FOLDERS)] if out_dir else []


def spared(source: Source, *written: str | Path) -> Source:
    """The same pairs, none of whose files lies in a folder that is about to be written to.

    Raises:
        ValueError: one does, or is a link to a file that does. Of pairs that a generator makes, when it is their turn.
    """
    written = {os.path.realpath(folder) for folder in written}

    def refuse(files: Sequence[str]) -> None:
        homes = {os.path.dirname(file): file for file in files}
        homes |= {os.path.dirname(os.path.realpath(file)): file for file in files if os.path.islink(file)}
        for home, file in homes.items():
            if os.path.realpath(home) in written:
                raise ValueError(f'results would be written beside {file}, which is an input: give another folder')

    def checked() -> Iterator[Pair]:
        for pair in source.pairs:
            refuse(files_of(pair))
            yield pair

    if not written:
        return source
    refuse(source.files)
    return source if source.files else source._replace(pairs=checked())


def write_image(path: Path, image: np.ndarray) -> None:
    """Raises OSError where that fails, which OpenCV only returns."""
    if not cv2.imwrite(str(path), image):
        raise OSError(f'{path} can not be written')


def run_lengths(masks) -> list[dict]:
    """Instance masks (N, H, W) as COCO's compressed run lengths, ``size`` and ``counts``."""
    from pycocotools.mask import encode  # mmdet brings it

    packed = [encode(np.asfortranarray(mask, np.uint8)) for mask in masks.numpy()]
    return [{'size': one['size'], 'counts': one['counts'].decode()} for one in packed]


def plain_result(sample, classes: Sequence[str]):
    """A data sample without its library: a class map HxW, or a dict of plain lists."""
    if 'pred_sem_seg' in sample:
        return sample.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8)
    if 'pred_instances' in sample:
        found = sample.pred_instances.cpu()
        boxes = getattr(found.bboxes, 'tensor', found.bboxes)
        plain = {'labels': found.labels.tolist(), 'scores': found.scores.tolist(), 'bboxes': boxes.tolist()}
        return plain | ({'masks': run_lengths(found.masks)} if 'masks' in found else {})
    scores = sample.pred_score.cpu()
    best = int(scores.argmax())
    return {
        'pred_label': best,
        'pred_score': scores[best].item(),
        'pred_class': classes[best],
        'scores': scores.tolist(),
    }
