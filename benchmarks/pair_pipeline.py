"""Loading pairs against loading visible images alone: ``python benchmarks/pair_pipeline.py``.

Both pipelines are a detector's for training (load, annotations, resize with kept ratio, flip, pack); ours reads pairs
of two files and lays them out for packing as configs/_base_/datasets/m3fd.py does, mmdet's own reads the visible file
alone. They take turns on the same synthetic street scenes. The last line is JSON: ``{"pipeline_ratio": ...,
"cpu_ratio": ...}``, the medians over rounds of ours / mmdet's time, and of the time of all threads together, which
counts where every core is busy.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.data import PairCocoDataset
from paif_mm.data.synthetic import make_synthetic


def main() -> None:
    parser = argparse.ArgumentParser(description='Time of the pair pipeline / time of the visible one')
    parser.add_argument('--pairs', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--size', type=int, nargs=2, default=[480, 640], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--scale', type=int, nargs=2, default=[1333, 800], metavar=('WIDTH', 'HEIGHT'))
    parser.add_argument('--suffix', default='.jpg', choices=['.jpg', '.png'])
    parser.add_argument('--data', type=Path, help='a folder with vi/, ir/ and boxes.json instead of synthetic pairs')
    args = parser.parse_args()
    cv2.setNumThreads(0)  # as in the workers of a data loader
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    with tempfile.TemporaryDirectory() as folder:
        root = args.data or Path(folder)
        if args.data is None:
            write_pairs(root, args.pairs, tuple(args.size), args.suffix)
        visible = dataset(root, tuple(args.scale), 'LoadImageFromFile')
        pair = dataset(root, tuple(args.scale), 'paif_mm.LoadPairFromFile', 'paif_mm.PlanarLayout')
        rounds = np.array([[seconds(data) for data in (visible, pair)] for _ in range(args.rounds + 1)])
    rounds = rounds[1:]  # the first round warms the caches; (rounds, pipelines, clocks)
    for name, (wall, cpu) in zip(('visible', 'pair'), 1000 * np.median(rounds, 0) / len(pair), strict=True):
        print(f'{name}: {wall:.2f} ms an item, {cpu:.2f} ms of all threads')
    ratios = rounds[:, 1] / rounds[:, 0]
    for name, values in zip(('time', 'time of all threads'), ratios.T, strict=True):
        print(f'ratio of {name}: {values.min():.3f} / {np.median(values):.3f} / {values.max():.3f} (min, median, max)')
    wall, cpu = np.median(ratios, 0).round(3).tolist()
    print(json.dumps({'pipeline_ratio': wall, 'cpu_ratio': cpu}))


def write_pairs(root: Path, count: int, size: tuple[int, int], suffix: str) -> None:
    """Synthetic scenes as pairs of files with boxes."""
    make_synthetic(root / 'scenes', count, 1, size, progress=False)
    (root / 'vi').mkdir()
    (root / 'ir').mkdir()
    for path in (root / 'scenes' / 'images').glob('train*.png'):
        pair = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(root / 'vi' / f'{path.stem}{suffix}'), pair[..., :3])
        cv2.imwrite(str(root / 'ir' / f'{path.stem}{suffix}'), pair[..., 3])
    content = json.loads((root / 'scenes' / 'annotations' / 'instances_train.json').read_text())
    for image in content['images']:
        image['file_name'] = Path(image['file_name']).stem + suffix
    (root / 'boxes.json').write_text(json.dumps(content))


def dataset(root: Path, scale: tuple[int, int], load: str, *layout: str) -> PairCocoDataset:
    pipeline = [
        {'type': load},
        {'type': 'LoadAnnotations', 'with_bbox': True},
        {'type': 'Resize', 'scale': scale, 'keep_ratio': True},
        {'type': 'RandomFlip', 'prob': 0.5},
        *({'type': name} for name in layout),
        {'type': 'PackDetInputs'},
    ]
    prefix = {'img': 'vi', 'ir': 'ir'}
    return PairCocoDataset(data_root=str(root), ann_file='boxes.json', data_prefix=prefix, pipeline=pipeline)


def seconds(data: PairCocoDataset) -> tuple[float, float]:
    """Of the clock on the wall, and of all threads of this process."""
    np.random.seed(0)  # both pipelines flip alike
    begin = time.perf_counter(), time.process_time()
    for i in range(len(data)):
        data[i]
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


if __name__ == '__main__':
    main()
