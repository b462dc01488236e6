"""One pass of the fusion network per training batch against one per size: ``python benchmarks/training_batch.py``.

Batches come from the training pipeline of ``configs/paif/segformer_general_mfnet.py`` on synthetic street scenes, whose
resizing leaves pairs of several sizes below the crop. Both ways take turns on the same batches, forward and backward.
The last line is JSON: passes a batch by size (in training each would update the batch statistics), the time of one pass
relative to them, and the largest difference in evaluation between a pair in a batch of other sizes and alone (bar: 0).
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.data.synthetic import make_synthetic
from paif_mm.perception import FusionDataPreprocessor

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'paif' / 'segformer_general_mfnet.py'


def main() -> None:
    parser = argparse.ArgumentParser(description='One pass per training batch against one per size')
    parser.add_argument('--batches', type=int, default=12)
    parser.add_argument('--channels', type=int, default=8, help='of the fusion network (default: 8)')
    args = parser.parse_args()
    config = Config.fromfile(CONFIG)
    init_default_scope('mmseg')
    fusion = {'type': 'FusionNet', 'channels': args.channels}
    torch.manual_seed(0)
    preprocessor = FusionDataPreprocessor(fusion, config.model.data_preprocessor.task)
    with tempfile.TemporaryDirectory() as folder:
        make_synthetic(folder, 4 * args.batches, 1, config.crop_size, progress=False)
        dataset = DATASETS.build({**config.train_dataloader.dataset, 'data_root': folder})
        pairs = [dataset[i]['inputs'] for i in range(len(dataset))]
    batch_size = config.train_dataloader.batch_size
    batches = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
    passes, ratios = [], []
    for batch in batches:
        by_size = seconds(preprocessor.train(), batch, None)
        passes.append(len(preprocessor.groups))
        ratios.append(seconds(preprocessor, batch, config.crop_size) / by_size)
    result = {
        'passes_by_size': round(statistics.mean(passes), 2),
        'one_pass_ratio': round(statistics.median(ratios), 3),
        'batch_difference': max(difference(preprocessor.eval(), batch) for batch in batches),
    }
    print(json.dumps(result))


def seconds(preprocessor: FusionDataPreprocessor, batch: list, canvas) -> float:
    """Of a forward and backward pass of N over a batch."""
    begin = time.perf_counter()
    sum(image.mean() for image in preprocessor.fuse(batch, canvas=canvas)).backward()
    return time.perf_counter() - begin


@torch.no_grad()
def difference(preprocessor: FusionDataPreprocessor, batch: list) -> float:
    """How far pairs whose size occurs once in the batch are from themselves alone, in [0, 255]."""
    together = preprocessor.fuse(batch)
    single = [group.index[0] for group in preprocessor.groups if len(group.index) == 1]
    return max((float((together[i] - preprocessor.fuse([batch[i]])[0]).abs().max()) for i in single), default=0.0)


if __name__ == '__main__':
    main()
