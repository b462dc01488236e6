"""What ``paif predict`` costs beyond the model: ``python benchmarks/inference.py [--images 12] [--rounds 5]``.

Predicts a folder of pairs as the command does (files read, drawn and written: class maps, pictures, fused images), and
passes the same pairs, read beforehand, through the model alone, in turns. Ends with one JSON line. By default the model
is the paper's SegFormer-B3 behind its fusion network, untrained, on synthetic scenes of 480x640.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import torch
from measuring import clock
from mmengine.registry import MODELS, init_default_scope

from paif_mm.apis import PairInferencer
from paif_mm.apis.pairs import source_of
from paif_mm.apis.reading import PairReader
from paif_mm.arguments import positive, size
from paif_mm.data.synthetic import make_synthetic
from paif_mm.engine.launch import read_config

CONFIG = 'configs/paif/segformer_general_mfnet.py'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=CONFIG, help=f'of a segmentor of pairs (default: {CONFIG})')
    parser.add_argument('--size', type=size, default=(480, 640), help='height x width (default: 480x640)')
    parser.add_argument('--images', type=positive, default=12)
    parser.add_argument('--rounds', type=positive, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_synthetic(folder / 'scenes', train=1, val=args.images, size=args.size, seed=0, progress=False)
        scenes = folder / 'scenes' / 'images'
        for image in scenes.glob('train*'):
            image.unlink()
        inferencer = PairInferencer(args.config, untrained(args.config, folder / 'w.pth'), show_progress=False)
        ratios = [compared(inferencer, str(scenes), folder / 'out') for _ in range(args.rounds + 1)]
    ratios = ratios[1:]  # the first warms up
    print(f'{args.images} pairs of {args.size[0]}x{args.size[1]}, {torch.get_num_threads()} threads')
    print(f'rounds: {", ".join(f"{ratio:.3f}" for ratio in ratios)}')
    print(json.dumps({'predict_ratio': round(statistics.median(ratios), 4)}))


def untrained(path: str, weights: Path) -> str:
    """A checkpoint of a config's model with random weights."""
    config = read_config(path)
    init_default_scope(config.get('default_scope', 'mmseg'))
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    classes = tuple(map(str, range(model.decode_head.num_classes)))
    palette = [[index * 20] * 3 for index in range(len(classes))]
    meta = {'dataset_meta': {'classes': classes, 'palette': palette}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, weights)
    return str(weights)


def compared(inferencer: PairInferencer, pairs: str, out: Path) -> float:
    """Time of the command's work on a folder / time of the model's passes, half of which come before and half after."""
    reader = PairReader(inferencer._loader)
    batches = [inferencer.collate_fn([inferencer.pipeline(reader(pair))]) for pair in source_of(pairs).pairs]
    half = len(batches) // 2
    alone = passes(inferencer, batches[:half])
    start = clock(of_process=False)
    for _ in inferencer.stream(pairs, out_dir=str(out)):
        pass
    seconds = clock(of_process=False) - start
    alone += passes(inferencer, batches[half:])
    shutil.rmtree(out)
    return seconds / alone


@torch.no_grad()
def passes(inferencer: PairInferencer, batches: list[dict]) -> float:
    """Seconds of the model's own passes."""
    start = clock(of_process=False)
    for batch in batches:
        inferencer.model.test_step(dict(batch))
    return clock(of_process=False) - start


if __name__ == '__main__':
    main()
