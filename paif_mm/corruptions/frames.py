"""The images before an image in a video, for sensors that are not triggered together."""

import os.path as osp
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from paif_mm.data.colour import INFRARED, VISIBLE, bgr_to_luma

LOOKED_AT = 60  # images that tell whether a data set is a video
LEAST = 16  # fewer do not
ALIKE = 0.75  # of these must be more like the one before than like one far away: by chance half of them are


class Frames:
    """The infrared images of earlier frames, loaded as the data set loads all.

    A frame's predecessor is the image of the next lower number in its folder whose name has the same letters, so that
    00012N follows 00009N and not 00011D. The first frames of a sequence stay as they are.

    Args:
        dataset: of pairs, in evaluation: items of one image each, with ``img_path``.
    """

    def __init__(self, dataset):
        self.dataset = dataset
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        sequences: dict[tuple, list] = {}
        for i, path in enumerate(paths):
            folder, name = osp.split(path)
            numbers = tuple(int(part) for part in re.findall(r'\d+', name))
            sequences.setdefault((folder, re.sub(r'\d+', '#', name)), []).append((numbers, i))
        self.sequences = [[i for _, i in sorted(frames)] for frames in sequences.values()]
        self.before: dict[str, list[int]] = {}  # path -> the images before it, the nearest first
        for order in self.sequences:
            for place, i in enumerate(order):
                self.before[paths[i]] = order[:place][::-1]

    def infrared(self, path: str, frames: int, now: Tensor) -> Tensor:
        """The infrared image (1, H, W) so many frames before an image, of which ``now`` is its own.

        Raises:
            ValueError: the image is not of this data set, or the earlier one has another size.
        """
        if path not in self.before:
            raise ValueError(f'time_offset knows no {path}: it is no image of the data set that is tested')
        earlier = self.before[path][:frames]
        if not earlier:
            return now
        found = self.dataset[earlier[-1]]['inputs'][INFRARED]
        if found.shape != now.shape:
            raise ValueError(
                f'time_offset: {path} and the frame before it differ in size, {tuple(now.shape[1:])} and '
                f'{tuple(found.shape[1:])}: resize both in the test pipeline'
            )
        return found.to(now)

    def is_video(self) -> bool:
        """Whether visible images (at 16x16) correlate more with the one before them than with one half of their
        sequence away."""
        trios = [
            (i, order[place], order[(place + 1 + len(order) // 2) % len(order)])
            for order in self.sequences
            for place, i in enumerate(order[1:])
        ]
        trios = trios[:: max(len(trios) // LOOKED_AT, 1)]
        if len(trios) < LEAST:
            return False
        alike = 0
        for trio in trios:
            here, near, far = map(self._small, trio)
            alike += _correlation(here, near) > _correlation(here, far)
        return alike >= ALIKE * len(trios)

    def _small(self, index: int) -> Tensor:
        image = self.dataset[index]['inputs'][VISIBLE].float()
        return F.adaptive_avg_pool2d(bgr_to_luma(image), 16).flatten()


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1].nan_to_num(0.0))
