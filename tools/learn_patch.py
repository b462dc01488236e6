"""Learn a patch, or a universal perturbation: ``python tools/learn_patch.py CONFIG CHECKPOINT --out DIR``.

One patch for all images, wherever it is and in whatever size, visible, infrared or both; or, with ``--universal``, one
perturbation of the whole image. Writes it, and ``attack.py``, which ``tools/test.py --attack DIR/attack.py`` tests.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.utils import ProgressBar

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, linf_radius, output_folder, positive, seed, whole
from paif_mm.attacks.adaptive import read_adaptive
from paif_mm.attacks.bank import write_pair
from paif_mm.attacks.patches import (
    PARTS,
    SCALES,
    PatchRange,
    checked_scale,
    grey_level,
    learn_patch,
    learn_universal,
)
from paif_mm.checks import check_class_count
from paif_mm.engine.launch import load_model, model_files, plain_settings, read_config, unaugmented
from paif_mm.evaluation.score import MeanIoU, score_of
from paif_mm.files import write_bytes
from paif_mm.mistakes import reports_mistakes
from paif_mm.robustness.cases import strongest

PRINTED = (0.1, 0.9)  # darkest and lightest that paper keeps
SIZE = 64
AIMS = ('vanishing', 'fabrication', 'mislabelling')


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description='Learn one perturbation for all images')
    parser.add_model('config of a segmentor or detector of pairs', 'its checkpoint')
    parser.add_argument('--out', required=True, help='folder of the patch and its attack config')
    parser.add_argument('--modality', choices=PARTS, default='both', help='what it covers (default: both, registered)')
    parser.add_argument('--size', type=positive, help=f'side of the patch in its own pixels (default: {SIZE})')
    parser.add_argument(
        '--scale', nargs=2, type=float, help=f'sides in the image, shares of its shorter side (default: {SCALES})'
    )
    parser.add_argument('--printable', action='store_true', help=f'visible values between {PRINTED}, as print keeps')
    parser.add_argument('--blocks', type=whole(0), help='infrared: so many heating elements side by side')
    parser.add_argument(
        '--temperatures', nargs=2, type=float, metavar=('COLD', 'HOT'), help='degrees that infrared parts may have'
    )
    parser.add_argument(
        '--camera',
        nargs=2,
        type=float,
        metavar=('MIN', 'MAX'),
        help='degrees that the camera shows black, white',
    )
    parser.add_argument('--aim', choices=AIMS, help='of a patch against a detector (default: its loss)')
    parser.add_argument('--universal', type=linf_radius, metavar='EPS', help='no patch, but within an L-inf radius')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='images (default: train)')
    parser.add_argument('--steps', type=positive, default=500, help='batches (default: 500)')
    parser.add_argument('--batch-size', type=positive, default=4)
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_config_options()
    return parser.parse_args(args)


@reports_mistakes
def main() -> None:
    args = parse_args()
    check_flags(args)
    limits, scale = allowed(args), checked_scale(tuple(args.scale))
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    config = read_config(args.config, args.cfg_options)
    model, _ = load_model(config, args.checkpoint)
    dataset = unaugmented(config, args.split)
    check_class_count(model, dataset.metainfo)
    adaptive = read_adaptive(plain_settings(config, 'adaptive'), model)
    output_folder(args.out, '--out')
    objective = wanted(args, dataset)
    batches = shuffled(dataset, args.steps, args.batch_size, args.seed)
    out = Path(args.out)
    if args.universal is not None:
        delta = learn_universal(model, batches, args.universal, args.modality, objective, **adaptive)
        np.save(out / 'universal.npy', delta.numpy(), allow_pickle=False)
        attack = {'type': 'UniversalPerturbation', 'file': str(out / 'universal.npy'), 'eps': args.universal}
    else:
        size, modality = args.size, args.modality
        patch = learn_patch(model, batches, size, modality, scale, limits, objective, seed=args.seed, **adaptive)
        write_pair(out / 'patch.png', patch)
        attack = {'type': 'PatchAttack', 'file': str(out / 'patch.png'), 'modality': args.modality, 'scale': scale}
    write_bytes(out / 'attack.py', f'attack = {attack!r}\n'.encode())
    print(f'\nwritten to {out}; test it by python tools/test.py {args.config} CHECKPOINT --attack {out / "attack.py"}')


def check_flags(args) -> None:
    """Refuse flags of what is not learned, and fill in the others.

    Raises:
        ValueError: a flag would do nothing.
    """
    infrared, visible = ('blocks', 'temperatures', 'camera'), ('printable',)
    for without, reason, flags in (
        (args.universal is not None, 'a patch, not of --universal', ('size', 'scale', *visible, *infrared)),
        (args.modality == 'vis', 'infrared patches, not of --modality vis', infrared),
        (args.modality == 'ir', 'visible patches, not of --modality ir', visible),
    ):
        given = [f'--{flag}' for flag in flags if getattr(args, flag)]
        if without and given:
            raise ValueError(f'{", ".join(given)}: of {reason}')
    args.size, args.scale, args.blocks = args.size or SIZE, args.scale or SCALES, args.blocks or 0


def allowed(args) -> PatchRange:
    """What the patch may look like.

    Raises:
        ValueError: temperatures without the camera's range, or that it does not tell apart.
    """
    infrared = (0.0, 1.0)
    if args.temperatures or args.camera:
        if not (args.temperatures and args.camera):
            raise ValueError('--temperatures and --camera belong together: degrees, and what the camera makes of them')
        infrared = tuple(grey_level(degrees, *args.camera) for degrees in args.temperatures)
    if args.blocks > args.size:
        raise ValueError(f'--blocks {args.blocks} are more than the pixels of a side, {args.size}')
    return PatchRange(PRINTED if args.printable else (0.0, 1.0), infrared, args.blocks)


def wanted(args, dataset) -> dict:
    """The objective."""
    score = score_of(dataset[0]['data_samples'])
    if args.aim:
        if score is MeanIoU:
            raise ValueError(f'--aim {args.aim} is for detectors')
        return {'type': 'TOG', 'aim': args.aim}
    return {'type': 'PixelLoss', 'name': 'cross_entropy'} if score is MeanIoU else strongest(score.name)


def shuffled(dataset, steps: int, size: int, seed: int) -> Iterator[dict]:
    """Batches of a data set in random order, as often through it as there are steps for."""
    generator, order, bar = torch.Generator().manual_seed(seed), [], ProgressBar(steps)
    for _ in range(steps):
        while len(order) < size:
            order += torch.randperm(len(dataset), generator=generator).tolist()
        items = [dataset[i] for i in order[:size]]
        order = order[size:]
        yield {key: [item[key] for item in items] for key in ('inputs', 'data_samples')}
        bar.update()


if __name__ == '__main__':
    main()
