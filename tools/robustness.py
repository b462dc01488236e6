"""How robust a model is: ``python tools/robustness.py CONFIG CHECKPOINT --suite strong --out DIR``.

Attacks images of the test set by every attack of a suite, takes the worst case, looks for gradient masking, and writes
``report.html``, ``report.json``, ``report.csv`` and ``report.md``. The same command continues a killed evaluation.
"""

import argparse
import os
import platform
from datetime import timedelta
from pathlib import Path

import mmengine
import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_dist_info, init_dist
from mmengine.registry import DATASETS
from prettytable import PrettyTable

import paif_mm
from paif_mm.arguments import Parser, count, linf_radius, output_folder, positive, radius, seed
from paif_mm.attacks.adaptive import read_adaptive
from paif_mm.attacks.bank import MANIFEST
from paif_mm.attacks.frozen import fingerprint
from paif_mm.attacks.transfer import load_source
from paif_mm.checks import check_class_count
from paif_mm.compat import init_cpu_distributed
from paif_mm.corruptions.frames import Frames
from paif_mm.corruptions.imagenet_c import INSTALL, is_installed
from paif_mm.engine.launch import load_model, model_files, needed, plain_settings, read_attacks, read_config
from paif_mm.evaluation.score import AveragePrecision, MeanIoU
from paif_mm.files import config_hash, file_hash
from paif_mm.mistakes import reports_mistakes
from paif_mm.registry import ATTACKS, build
from paif_mm.robustness.blocks import Blocks
from paif_mm.robustness.cases import (
    DEFAULT_EPS,
    STEPS,
    SUITES,
    THREATS,
    Case,
    adapted_case,
    bank_cases,
    config_case,
    corruption_names,
    make_suite,
    transfer_cases,
)
from paif_mm.robustness.costs import costs
from paif_mm.robustness.evaluate import Bench, evaluate, evenly, finish_adversarial
from paif_mm.robustness.masking import diagnose
from paif_mm.robustness.pages import write_report
from paif_mm.robustness.records import Records, data_hash, scenes
from paif_mm.robustness.report import VERSION, make_report
from paif_mm.robustness.sections import sections
from paif_mm.robustness.smallest_radius import SEARCHES, check_against_suite, smallest_radii, smallest_radius_cases
from paif_mm.robustness.statistics import Bootstrap, chosen_blocks
from paif_mm.tables import fitted

PATIENCE = timedelta(days=7)  # for the process that has the most images
QUERIES = 300  # of Square, in the diagnostics
DIAGNOSTICS = {'paper': 4, 'strong': 8, 'full': 8, 'trouble': 0}  # images
# Sections on the console:
SHOWN = ('Summary', 'Worst case', 'Smallest radius', 'Every attack', 'Real trouble', 'Gradient masking')


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description='Attack a model with a suite, and report what is left')
    parser.add_model('config of a segmentor or detector, fused or not', 'its checkpoint')
    parser.add_argument('--suite', choices=SUITES, default='strong', help='which attacks (default: strong)')
    parser.add_argument('--out', required=True, help='folder of the report; an evaluation begun there is continued')
    parser.add_argument(
        '--eps',
        nargs='+',
        type=linf_radius,
        help="L-inf radii, as 4/255 (default: the paper's, 4/255 and 8/255; for detectors 1/255 and 4/255)",
    )
    parser.add_argument(
        '--modality',
        nargs='+',
        choices=THREATS,
        default=['both'],
        help='what may be attacked; split: five ways of splitting one radius between both (default: both)',
    )
    parser.add_argument('--limit', type=positive, help='so many images, evenly spaced over the test set (default: all)')
    parser.add_argument('--steps', type=positive, help=f'of Auto-PGD and of --smallest-radius (default: {STEPS})')
    parser.add_argument(
        '--queries',
        type=positive,
        default=1000,
        help=f'of Square (default: 1000; at most {QUERIES} in the diagnostics)',
    )
    parser.add_argument('--l2-eps', nargs='+', type=radius, default=[1.0], help='L2 radii of suite full, [0, 1] units')
    parser.add_argument('--attack', nargs='+', default=[], help='further attack configs, as for tools/test.py')
    parser.add_argument(
        '--transfer-from', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='also attacks found on another model'
    )
    parser.add_argument('--transfer-bank', help='also the attacked images of a bank of the tested images')
    parser.add_argument(
        '--smallest-radius',
        nargs='*',
        choices=('linf', 'l2'),
        help='norms in which to find where each image falls (segmentors; default: both in suite full, else none; '
        'without a value: none)',
    )
    parser.add_argument(
        '--smallest-radius-by',
        nargs='+',
        choices=SEARCHES,
        help='attacks that look for it: ALMA prox, and the baselines PDPGD and DAG (DAG: L-inf alone; default: alma)',
    )
    parser.add_argument(
        '--eot-samples',
        type=positive,
        help="draws of a random defence that each step's gradient is averaged over (default: the config's "
        'adaptive.eot_samples, or 1)',
    )
    parser.add_argument(
        '--bpda',
        nargs='+',
        metavar='MODULE=SURROGATE',
        help='modules of the model that hide their gradients, and what is differentiated in their place: identity, or '
        "package.module.function (default: the config's adaptive.bpda)",
    )
    parser.add_argument(
        '--batch-size', type=positive, help="images per batch (default: the config's test_dataloader's)"
    )
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument('--save-adv', action='store_true', help='write attacked images with 8 bits, and test these too')
    parser.add_argument('--bootstrap', type=positive, default=1000, help='resamples for the intervals (default: 1000)')
    parser.add_argument(
        '--blocks',
        help='what these draw whole: runs of so many images in the order of their ids, or images in whose ids a '
        'regular expression finds the same text (default: runs as long as neighbours are alike; 1: single images)',
    )
    parser.add_argument(
        '--diagnostics', type=count, help=f'images to look for gradient masking on (default: {DIAGNOSTICS}; 0: none)'
    )
    parser.add_argument('--strips', type=count, default=2, help='images to draw (default: 2)')
    parser.add_config_options()
    parser.add_launcher()
    parser.add_wide()
    return parser.parse_args(args)


@reports_mistakes
def main() -> None:
    args = parse_args()
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    if args.transfer_from:
        args.transfer_from = model_files(*args.transfer_from)
    config = read_config(args.config, args.cfg_options)
    rank, world = start(config, args)
    if args.transfer_from:  # known before other attacks have taken hours
        load_source(*args.transfer_from)
    model, _ = load_model(config, args.checkpoint)  # the last, whose library is then the default
    dataset = DATASETS.build(needed(config, 'test_dataloader', 'a report').dataset)
    check_class_count(model, dataset.metainfo)
    bench = Bench(model, dataset, evenly(len(dataset), args.limit))
    fill_in(args, bench)
    args.adaptive = adaptive_settings(args, config, model)
    blocks = given_blocks(args.blocks, list(bench.names.values()))
    cases = make_cases(args, bench)
    output_folder(args.out, '--out')
    facts = collect_facts(args, config, bench)
    records = open_records(args, cases, facts, rank)

    before = fingerprint(model)
    size = args.batch_size or config.test_dataloader.get('batch_size', 1)
    strips = [bench.images[i] for i in evenly(len(bench.images), args.strips)]
    evaluate(bench, cases, records, args.seed, size, True, args.save_adv, strips, (rank, world), rank == 0)
    barrier()
    if rank == 0:
        records.read()
        report(args, bench, cases, records, {**facts, 'model_unchanged': fingerprint(model) == before}, blocks)


def start(config: Config, args) -> tuple[int, int]:
    """(rank, number of processes) under a launcher."""
    config.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    init_cpu_distributed(config, PATIENCE)
    if args.launcher != 'none' and torch.cuda.is_available():
        init_dist(args.launcher, timeout=PATIENCE.total_seconds())
    return get_dist_info()


def fill_in(args, bench: Bench) -> None:
    """Defaults that depend on the suite and on what is tested."""
    args.steps = args.steps or STEPS[args.suite]
    args.eps = list(dict.fromkeys(args.eps or DEFAULT_EPS[bench.score.name]))
    if args.diagnostics is None:
        args.diagnostics = DIAGNOSTICS[args.suite]
    segments = bench.score is MeanIoU
    if args.smallest_radius and not segments:
        raise ValueError('--smallest-radius is for segmentors: a detector has no share of wrong pixels')
    if args.smallest_radius is None:
        args.smallest_radius = ['linf', 'l2'] if args.suite == 'full' and segments else []
    if args.smallest_radius_by and not args.smallest_radius:
        raise ValueError('--smallest-radius-by says how, but not that: give --smallest-radius linf, too')
    args.smallest_radius_by = list(dict.fromkeys(args.smallest_radius_by or ['alma']))
    if args.smallest_radius == ['l2'] and args.smallest_radius_by == ['dag']:
        raise ValueError('--smallest-radius-by dag knows L-inf alone: give --smallest-radius linf')


def adaptive_settings(args, config: Config, model) -> dict:
    """What is known of the defence, by the config and the command line.

    Raises:
        ValueError: it does not fit the model.
    """
    adaptive = read_adaptive(plain_settings(config, 'adaptive'))
    if args.eot_samples:
        adaptive['eot_samples'] = args.eot_samples
    for text in args.bpda or []:
        module, equals, surrogate = text.partition('=')
        if not equals:
            raise ValueError(f'--bpda {text}: write MODULE=SURROGATE, e.g. {text}=identity')
        adaptive['bpda'] = {**adaptive.get('bpda', {}), module: surrogate}
    return read_adaptive(adaptive, model)


def make_cases(args, bench: Bench) -> list[Case]:
    """The suite's cases, and those of --attack and --transfer-...

    Raises:
        ValueError: two cases have one name, can't be built, or are not for this kind of model.
    """
    pairs, fused = bench.channels == 4, bench.fuser is not None
    corruptions = corruptions_of(bench, pairs) if args.suite in ('full', 'trouble') else ()
    cases = make_suite(
        args.suite,
        bench.score.name,
        args.eps,
        args.modality,
        fused,
        pairs,
        args.steps,
        args.l2_eps,
        args.queries,
        bench.loss_names() if bench.score is AveragePrecision else (),
        None if args.suite in ('paper', 'trouble') else bench.class_weight(),
        corruptions,
    )
    for name, attack in read_attacks(args.attack).items():
        try:
            case = config_case(name, attack, bench.channels)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{name}: {error}') from error
        cases.append(case)
    if args.transfer_from:
        cases += transfer_cases(*args.transfer_from, args.eps, args.modality, bench.channels)
    if args.transfer_bank:
        cases += bank_cases(args.transfer_bank, bench.channels)
    cases += smallest_radius_cases(args.smallest_radius, args.steps, args.modality, args.smallest_radius_by)
    cases = [adapted_case(case, args.adaptive) for case in cases]
    keys = [case.key for case in cases]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f'two attacks are called {", ".join(twice)}: rename the config of --attack')
    for case in cases:
        try:
            if case.attack:  # what can't be built, or can't do with this model, is not begun
                build(ATTACKS, case.attack).check_model(bench.model)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{case.key}: {error}') from error
    return cases


def corruptions_of(bench: Bench, pairs: bool) -> list[str]:
    """Those that can be tested here; says which can't."""
    video, common = pairs and Frames(bench.dataset).is_video(), is_installed()
    if get_dist_info()[0] == 0:
        if pairs and not video:
            print('time_offset is left out: these images are no video, in which each is like the one before it')
        if not common:
            print(f"ImageNet-C's common corruptions are left out: {INSTALL}")
    return corruption_names(pairs, video, common)


def collect_facts(args, config: Config, bench: Bench) -> dict:
    """What the figures are about, for the report."""
    versions = {'python': platform.python_version(), 'torch': torch.__version__, 'mmengine': mmengine.__version__}
    versions |= {'paif_mm': paif_mm.__version__, 'device': bench.device.type}
    settings = {
        **{
            key: getattr(args, key)
            for key in ('suite', 'modality', 'steps', 'queries', 'seed', 'diagnostics', 'strips', 'smallest_radius')
        },
        'eps': [f'{eps * 255:.4g}/255' for eps in args.eps],
        'save_adv': args.save_adv,
        **({'smallest_radius_by': args.smallest_radius_by} if args.smallest_radius else {}),
        **({'adaptive': args.adaptive} if args.adaptive else {}),
    }
    return {
        'model': {
            'config': args.config,
            'config_hash': config_hash([config.model, config.test_dataloader.dataset]),
            'checkpoint': args.checkpoint,
            'checkpoint_hash': file_hash(args.checkpoint),
            'type': type(bench.model).__name__,
            'fused': bench.fuser is not None,
            'pairs': bench.channels == 4,
        },
        'data': {
            'type': type(bench.dataset).__name__,
            'of': len(bench.dataset),
            'hash': data_hash(bench.dataset, bench.images),
            'scenes': scenes(bench.dataset, bench.names),
        },
        'settings': settings,
        'costs': costs(bench, config),
        'versions': versions,
        'bootstrap': {'resamples': args.bootstrap, 'level': 0.95, 'seed': args.seed},
    }


def open_records(args, cases: list[Case], facts: dict, rank: int) -> Records:
    """The records of ``--out``, where the first process notes what they depend on before the others look."""
    depends = {
        'config': facts['model']['config_hash'],
        'checkpoint': facts['model']['checkpoint_hash'],
        'data': facts['data']['hash'],
        'attacks': {case.key: case.attack for case in cases},
        'adaptive': args.adaptive,
        'files of attacks': files_of([case.attack for case in cases if case.attack]),
        **{key: getattr(args, key) for key in ('seed', 'steps', 'queries', 'strips', 'save_adv')},
        'versions': facts['versions'],
        'format of records': VERSION,
    }
    records = Records(args.out, depends, rank) if rank == 0 else None
    barrier()
    return records or Records(args.out, None, rank)


def files_of(attacks: list[dict]) -> dict[str, str]:
    """Hashes of the checkpoints, configs, banks and learned patches that attacks use."""
    paths = {attack[key] for attack in attacks for key in ('config', 'checkpoint', 'file') if key in attack}
    paths |= {os.path.join(attack['bank'], MANIFEST) for attack in attacks if 'bank' in attack}
    return {path: file_hash(path) for path in sorted(paths)}


def report(args, bench: Bench, cases: list[Case], records: Records, facts: dict, blocks: Blocks | None) -> None:
    """Look for masking, put everything together and write it."""
    looked_at = [bench.images[i] for i in evenly(len(bench.images), args.diagnostics)]
    if looked_at:
        print(f'looking for gradient masking on {len(looked_at)} images')
    queries = min(args.queries, QUERIES)
    eps, steps = args.eps[0], args.steps
    findings = diagnose(bench, cases, records, looked_at, eps, steps, queries, args.seed, adaptive=args.adaptive)
    records.close()
    if args.save_adv:
        finish_adversarial(bench, cases, records.folder)
    images = list(bench.names.values())
    print('computing figures and intervals')
    blocks = blocks or fitting_blocks(images, cases, records, bench)
    facts['bootstrap'] |= {'blocks': str(blocks), 'length': blocks.length, 'key': blocks.key}
    bootstrap = Bootstrap(blocks, args.bootstrap, args.seed)
    channels = bench.channels
    smallest = smallest_radii(cases, records, images, bench.score)
    if smallest:
        against = check_against_suite(smallest, cases, records, images, bench.score, channels)
        findings = [*findings, {**against.to_dict(), 'images': len(images)}]
    made = make_report(cases, records, images, bench.score, bench.class_names, bootstrap, findings, facts, channels)
    made['smallest_radius'] = smallest
    write_report(args.out, made)
    for section in sections(made):
        if section.title in SHOWN:
            print(f'\n{section.title}: {section.text}')
            if section.rows:
                table = PrettyTable(section.head, align='l', max_width=60)
                table.add_rows(section.rows)
                print(fitted(table, args.wide))
    print(f'\nreport written to {Path(args.out) / "report.html"} (also .json, .csv, .md)')


def given_blocks(text: str | None, images: list[str]) -> Blocks | None:
    """What --blocks names.

    Raises:
        ValueError: it does not fit the images.
    """
    if text is None:
        return None
    return Blocks.runs(images, int(text)) if text.isdigit() else Blocks.named(images, text)


def fitting_blocks(images: list[str], cases: list[Case], records: Records, bench: Bench) -> Blocks:
    """Runs whose length suits the clean images and those under PGD-5."""
    keys = [case.key for case in cases if case.name in ('clean', 'pgd5')]
    found = ([record['score'] for record in records.of(key, images)] for key in keys)
    return chosen_blocks(images, [bench.score(one, bench.class_names) for one in found])


if __name__ == '__main__':
    main()
