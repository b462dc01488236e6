"""Segmentation metrics under both conventions in use for infrared-visible pairs."""

import torch
from mmseg.evaluation import IoUMetric

from paif_mm.registry import METRICS


@METRICS.register_module()
class PairIoUMetric(IoUMetric):
    """mmseg's IoUMetric, plus the mean as the PAIF paper counts it and the IoU of every class.

    In percent:

    * ``mIoU``: mmseg's: mean over the classes that occur in the labels or predictions; pixels of 255 ignored.
    * ``mIoU_paper``: mean over all classes, 'unlabeled' included, where a class that occurs nowhere counts 0.
    * ``IoU/<class>``: per class; NaN where it occurs nowhere.

    With ``format_only`` nothing is measured, and labels are not needed; ``output_dir`` is where predictions go, if
    anywhere.

    Raises:
        ValueError: without ``format_only``, an image that has no label.
    """

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        for sample in data_samples:
            if not self.format_only and 'gt_sem_seg' not in sample:
                raise ValueError(
                    f'{sample["img_path"]} has no label: set data_prefix.seg_map_path of the data set to their folder, '
                    'or format_only=True in test_evaluator to predict without measuring'
                )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if self.format_only and self.output_dir is None:
            return {}
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        intersect, union = (sum(parts) for parts in list(zip(*results, strict=True))[:2])
        iou = intersect / union * 100  # 0/0 is NaN
        metrics['mIoU_paper'] = round(float(torch.nan_to_num(iou).mean()), 2)
        for name, value in zip(self.dataset_meta['classes'], iou.tolist(), strict=True):
            metrics[f'IoU/{name}'] = round(value, 2)
        return metrics
