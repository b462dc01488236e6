"""Measures fused images in the same evaluation that measures the task."""

from collections import Counter

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from paif_mm.engine.repeats import unrepeated
from paif_mm.engine.views import plain_view, tested_model
from paif_mm.losses.hook import fusion_loss_inputs
from paif_mm.perception import PairFuser
from paif_mm.registry import HOOKS

from .quality import ALONE, WITH_SOURCES, fused_image_quality

PREFIX = 'fused/'


@HOOKS.register_module()
class FusedImageQualityHook(Hook):
    """Adds the mean quality of a validation's or test's fused images to its metrics, as ``fused/EN``, ``fused/SSIM``.

    Measured on luminances of 8 bits, see :mod:`~.quality`; the sources are the clean pairs, also where the network saw
    attacked ones. Under test-time augmentation the plain view is measured. In an evaluation of a model without a
    fusion network it adds nothing.
    """

    def before_val_epoch(self, runner) -> None:
        self._begin()

    def before_test_epoch(self, runner) -> None:
        self._begin()

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._measure(runner, runner.val_dataloader, data_batch)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._measure(runner, runner.test_dataloader, data_batch)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self._report(metrics)

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        self._report(metrics)

    def _begin(self) -> None:
        self._sums, self._images, self._seen = Counter(), 0, 0

    def _measure(self, runner, dataloader, data_batch: dict) -> None:
        batch, fuser = plain_view(tested_model(runner), data_batch)
        count = len(batch['inputs'])
        quality = measured_quality(fuser) if fuser else {}
        for place in unrepeated(dataloader, self._seen, count):
            if place in quality:
                self._sums.update(quality[place])
                self._images += 1
        self._seen += count

    def _report(self, metrics: dict | None) -> None:
        names = [*ALONE, *WITH_SOURCES]
        sums = torch.tensor([*(self._sums[name] for name in names), self._images], dtype=torch.float64)
        all_reduce(sums)
        if metrics is not None and sums[-1]:
            means = (sums[:-1] / sums[-1]).tolist()
            metrics.update({f'{PREFIX}{name}': mean for name, mean in zip(names, means, strict=True)})


@torch.no_grad()
def measured_quality(fuser: PairFuser) -> dict[int, dict[str, float]]:
    """Place in the batch -> quality of each image that was fused last, see :mod:`~.quality`."""
    quality = {}
    for group in fuser.groups:
        eight_bit = [(image * 255).round().clamp(0, 255)[:, 0] for image in fusion_loss_inputs(group)]
        for place, *images in zip(group.index, *eight_bit, strict=True):
            quality[place] = fused_image_quality(*images)
    return quality
