"""What a segmentor scores that sees nothing: ``python benchmarks/constant_prediction.py CONFIG [--limit 32]``.

Calls every pixel of the test set (or of the images that ``tools/robustness.py --limit`` takes) the class that scores
best, which reports of that tool show, too.
A defence that leaves no more than that under attack leaves nothing of the other classes.
"""

import argparse

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.evaluation.score import MeanIoU
from paif_mm.robustness.evaluate import evenly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='of an mmseg segmentor')
    parser.add_argument('--limit', type=int, help='images of the test set, evenly spaced (default: all)')
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    classes = dataset.metainfo['classes']
    samples = [dataset[place]['data_samples'] for place in evenly(len(dataset), args.limit)]
    records = [MeanIoU.record(perfect(sample), sample, len(classes)) for sample in samples]
    score, answer = MeanIoU.constant(records, classes)
    figures = score.figures(np.ones((1, len(samples))))
    counts = np.sum([record['area'] for record in records], 0)
    shares = (100 * counts / counts.sum()).tolist()
    named = ', '.join(f'{name} {share:.2f}' for name, share in zip(classes, shares, strict=True))
    print(f'{len(samples)} images; pixels in percent: {named}')
    print(f'all {answer}: mIoU {figures["mIoU"][0]:.2f}, accuracy {figures["aAcc"][0]:.2f}')


def perfect(sample: SegDataSample) -> SegDataSample:
    return SegDataSample(pred_sem_seg=PixelData(data=sample.gt_sem_seg.data))


if __name__ == '__main__':
    main()
