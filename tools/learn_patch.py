"""Learn a patch, or a universal perturbation: ``python tools/learn_patch.py CONFIG CHECKPOINT --out DIR``.

One patch for all images, wherever it is and in whatever size, visible, infrared or both; or, with ``--universal``, one
perturbation of the whole image. Writes it, and ``attack.py``, which ``tools/test.py --attack DIR/attack.py`` tests.

``--also CONFIG CHECKPOINT`` adds a model to those that it is learned on at once, and ``--tested-on CONFIG CHECKPOINT``
one that it is shown to when it is learned: a table says how far it transfers.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS
from mmengine.utils import ProgressBar
from prettytable import PrettyTable

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, linf_radius, output_folder, positive, seed, whole
from paif_mm.attacks import Attack
from paif_mm.attacks.adaptive import read_adaptive
from paif_mm.attacks.bank import write_pair
from paif_mm.attacks.objectives import check_model
from paif_mm.attacks.patches import (
    PARTS,
    SCALES,
    PatchRange,
    checked_scale,
    grey_level,
    learn_patch,
    learn_universal,
    part_of,
)
from paif_mm.checks import check_class_count
from paif_mm.engine.launch import load_model, model_files, needed, plain_settings, read_config, unaugmented
from paif_mm.evaluation.score import MeanIoU, score_of
from paif_mm.files import write_bytes, write_json
from paif_mm.mistakes import reports_mistakes
from paif_mm.registry import ATTACKS, OBJECTIVES, build
from paif_mm.robustness.cases import strongest
from paif_mm.robustness.evaluate import Bench, evenly
from paif_mm.robustness.pages import markdown
from paif_mm.robustness.transfer import CLEAN, UNLEARNED, transfer_section, unique_names
from paif_mm.tables import fitted

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
    parser.add_argument(
        '--also',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a further model that it is learned on at the same time; may be repeated',
    )
    parser.add_argument(
        '--tested-on',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a model that it is shown to when it is learned, beside those that it was learned on; may be repeated',
    )
    parser.add_argument(
        '--each', action='store_true', help='with --also: learn it on each model alone, too, to compare'
    )
    parser.add_argument(
        '--limit', type=positive, help='of --tested-on: so many images, evenly spaced over the test set (default: all)'
    )
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='images (default: train)')
    parser.add_argument('--steps', type=positive, default=500, help='batches (default: 500)')
    parser.add_argument('--batch-size', type=positive, default=4)
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_config_options()
    return parser.parse_args(args)


@dataclass
class Learner:
    """A loaded model, and what is known of its defence."""

    name: str
    model: torch.nn.Module
    adaptive: dict


@reports_mistakes
def main() -> None:
    args = parse_args()
    check_flags(args)
    args.limits, args.scale = allowed(args), checked_scale(tuple(args.scale))
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    config = read_config(args.config, args.cfg_options)
    bank, others = load_all(args, config)
    dataset = unaugmented(config, args.split)
    args.objective = wanted(args, dataset)
    for one in (*bank, *others):
        check_model(build(OBJECTIVES, args.objective), one.model)
        check_class_count(one.model, dataset.metainfo)
    benches = shown_to(args, config, [*bank, *others]) if args.tested_on else {}
    groups = {' + '.join(one.name for one in bank): bank}
    if args.each:
        groups |= {one.name: [one] for one in bank}
    out = Path(args.out)
    attacks = {}
    for name, models in groups.items():
        folder = out if models is bank else out / name
        output_folder(folder, '--out')
        if len(groups) > 1:
            print(f'learned on {name}:')
        attacks[name] = write(args, learned(args, models, dataset), folder)
    print(f'\nwritten to {out}; test it by python tools/test.py {args.config} CHECKPOINT --attack {out / "attack.py"}')
    if benches:
        controls = {CLEAN: None, UNLEARNED: write(args, unlearned(args, bank, dataset), out / 'unlearned')}
        members = {name: [one.name for one in models] for name, models in groups.items()}
        tell(args, benches, {**controls, **attacks}, members)


def load_all(args, config) -> tuple[list[Learner], list[Learner]]:
    """The models to learn on, the first one's config read already, and those of --tested-on alone."""
    files = [model_files(*pair) for pair in (*args.also, *args.tested_on)]
    names = unique_names([args.config, *(path for path, _ in files)], lambda path: Path(path).stem)
    loaded = [
        load(name, read_config(path), checkpoint) for name, (path, checkpoint) in zip(names[1:], files, strict=True)
    ]
    first = load(names[0], config, args.checkpoint)  # the last, whose library is then the default
    count = len(args.also)
    return [first, *loaded[:count]], loaded[count:]


def load(name: str, config, checkpoint: str) -> Learner:
    model, _ = load_model(config, checkpoint)
    return Learner(name, model, read_adaptive(plain_settings(config, 'adaptive'), model))


def shown_to(args, config, models: list[Learner]) -> dict[str, Bench]:
    """Benches of the images of the first config's test set, which all models are shown."""
    dataset = DATASETS.build(needed(config, 'test_dataloader', '--tested-on').dataset)
    images = evenly(len(dataset), args.limit)
    return {one.name: Bench(one.model, dataset, images) for one in models}


def learned(args, models: list[Learner], dataset) -> np.ndarray:
    """A patch (4, size, size) or a universal perturbation (C, H, W), learned on some models at once."""
    first, *rest = models
    others = [{'model': one.model, **one.adaptive} for one in rest]
    batches = shuffled(dataset, args.steps, args.batch_size, args.seed)
    settings = {'objective': args.objective, 'others': others, **first.adaptive}
    if args.universal is not None:
        return learn_universal(first.model, batches, args.universal, args.modality, **settings).numpy()
    shape = (args.size, args.modality, args.scale, args.limits)
    return learn_patch(first.model, batches, *shape, seed=args.seed, **settings).numpy()


def unlearned(args, models: list[Learner], dataset) -> np.ndarray:
    """Random values of the same kind: where a patch starts from, or corners of the ball."""
    generator = torch.Generator().manual_seed(args.seed)
    if args.universal is None:
        shape = (args.size, args.modality, args.scale, args.limits)
        return learn_patch(models[0].model, (), *shape, seed=args.seed).numpy()
    signs = 2.0 * torch.randint(0, 2, dataset[0]['inputs'].shape, generator=generator) - 1
    delta = torch.zeros_like(signs)
    delta[part_of(args.modality)] = 255 * args.universal * signs[part_of(args.modality)]
    return delta.numpy()


def write(args, values: np.ndarray, folder: Path) -> Attack:
    """What was learned, beside the config of the attack that shows it, which is returned built."""
    folder.mkdir(parents=True, exist_ok=True)
    if args.universal is not None:
        np.save(folder / 'universal.npy', values, allow_pickle=False)
        attack = {'type': 'UniversalPerturbation', 'file': str(folder / 'universal.npy'), 'eps': args.universal}
    else:
        write_pair(folder / 'patch.png', torch.from_numpy(values))
        attack = {'type': 'PatchAttack', 'file': str(folder / 'patch.png'), 'modality': args.modality}
        attack |= {'scale': args.scale}
    write_bytes(folder / 'attack.py', f'attack = {attack!r}\n'.encode())
    return build(ATTACKS, attack)


def tell(args, benches: dict[str, Bench], attacks: dict[str, Attack | None], members: dict[str, list[str]]) -> None:
    """The table of who learned it against who is tested, printed and written."""
    section, cells = transfer_section(benches, attacks, members, args.seed)
    bench = next(iter(benches.values()))
    settings = {key: getattr(args, key) for key in ('modality', 'steps', 'batch_size', 'seed', 'split', 'universal')}
    found = {'score': bench.score.name, 'images': list(bench.names.values()), 'settings': settings, 'cells': cells}
    out = Path(args.out)
    write_json(out / 'transfer.json', found)
    write_bytes(out / 'transfer.md', markdown(f'Learned on {", ".join(members)}', [section]).encode())
    print(f'\n{section.title}: {section.text}')
    table = PrettyTable(section.head, align='l', max_width=40)
    table.add_rows(section.rows)
    print(fitted(table))
    print(f'written to {out / "transfer.md"} (also .json)')


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
    if args.each and not args.also:
        raise ValueError('--each compares models of --also: give --also CONFIG CHECKPOINT, too')
    if args.limit and not args.tested_on:
        raise ValueError('--limit is of --tested-on: give --tested-on CONFIG CHECKPOINT, too')
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
