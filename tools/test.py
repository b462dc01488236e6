"""Test a model, clean and attacked: ``python tools/test.py CONFIG CHECKPOINT [--attack ATTACK ...]``."""

import argparse
import os.path as osp

import mmengine
from mmengine.dist import is_main_process

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, output_folder, radius
from paif_mm.attacks import AdversarialAttackHook
from paif_mm.attacks.adaptive import adapted, read_adaptive
from paif_mm.attacks.frozen import unwrap
from paif_mm.engine import PairVisualizationHook, PredictionFilesHook, TestProgressHook
from paif_mm.engine.launch import (
    add_common_arguments,
    apply_tta,
    load_config,
    model_files,
    plain_settings,
    read_attacks,
)
from paif_mm.engine.runner import QuietRunner
from paif_mm.evaluation import FusedImageQualityHook, ObjectOutcomeMetric
from paif_mm.evaluation.outcomes import changes
from paif_mm.evaluation.table import attack_table, outcome_table
from paif_mm.mistakes import reports_mistakes


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Test a model on infrared-visible pairs, clean and attacked')
    parser.add_model()
    parser.add_argument(
        '--attack',
        nargs='+',
        default=[],
        help='attack configs, as paths or as names of configs/_base_/attacks, e.g. pgd5_eps4 pgd5_eps8; '
        'the clean test always runs too, and one table shows all; --cfg-options adaptive.eot_samples=N '
        'adaptive.bpda.MODULE=identity adapts them to a defence',
    )
    parser.add_argument(
        '--out',
        help="folder for the predictions, a folder inside per test ('clean', the attack's name): PNG class "
        'maps, or JSON files of boxes or classes',
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--wait-time', type=radius, default=2, help='seconds between shown pictures')
    parser.add_argument('--fused-quality', action='store_true', help='also measure the fused images (EN, SSIM, ...)')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--allow-partial', action='store_true', help='test even if weights are missing, left over or of other shapes'
    )
    parser.add_wide()
    add_common_arguments(parser)
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    if args.tta and args.attack:
        raise SystemExit('--tta and --attack exclude each other: attacks differentiate one plain forward pass')
    if args.out and args.show_dir and osp.realpath(args.out) == osp.realpath(args.show_dir):
        raise SystemExit('--out and --show-dir need two folders: their files have the same names')
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    attacks = read_attacks(args.attack)
    config = load_config(args)
    adaptive = read_adaptive(plain_settings(config, 'adaptive'))
    attacks = {name: adapted(attack, adaptive) for name, attack in attacks.items()}
    hooks = {name: AdversarialAttackHook(attack, phases=('test',)) for name, attack in attacks.items()}
    for flag, folder in (('--out', args.out), ('--show-dir', args.show_dir)):
        if folder:
            output_folder(folder, flag)
    config.load_from = args.checkpoint
    config.resume = False
    if args.show or args.show_dir:
        draw_predictions(config, args)
    if args.tta:
        apply_tta(config)

    runner = QuietRunner.from_cfg(config)
    runner.allow_partial = args.allow_partial
    for name, hook in hooks.items():  # before the clean test has taken its time
        try:
            hook.attack.check_model(unwrap(runner.model))
        except TypeError as error:
            raise SystemExit(f'{name}: {error}') from error
    runner.register_hook(TestProgressHook())
    if args.fused_quality:
        runner.register_hook(FusedImageQualityHook())
    if args.out:
        runner.register_hook(PredictionFilesHook(args.out))
    results = {'clean': (test_once(runner, 'clean'), None)}
    objects = {'clean': object_outcomes(runner)}
    for name, hook in hooks.items():
        runner.register_hook(hook)
        results[name] = (test_once(runner, name), hook.audit)
        objects[name] = object_outcomes(runner)
        runner.hooks.remove(hook)
    if is_main_process():
        report(runner, args, attacks, results, objects)


def draw_predictions(config, args) -> None:
    hook = config.default_hooks.get('visualization')
    if hook is None:
        raise SystemExit('--show and --show-dir need default_hooks.visualization in the config')
    hook.draw = True
    if hook.type.endswith('PairVisualizationHook'):
        if args.show:
            raise SystemExit('PairVisualizationHook writes files: use --show-dir instead of --show')
        hook.out_dir = args.show_dir
    else:  # the task library's own
        if args.show_dir and args.attack:
            raise SystemExit(
                f"{hook.type} would write every test's pictures to the same files: with --attack, --show-dir needs "
                "default_hooks.visualization=dict(type='paif_mm.PairVisualizationHook')"
            )
        hook.show, hook.wait_time = args.show, args.wait_time
        config.visualizer.save_dir = args.show_dir


def test_once(runner, name: str) -> dict:
    """Run the test loop; pictures and predictions go to folders called ``name``."""
    for hook in runner.hooks:
        if isinstance(hook, PairVisualizationHook | PredictionFilesHook | TestProgressHook):
            hook.run = name
    return runner.test()


def object_outcomes(runner) -> dict | None:
    """What became of each object in the last test, where the config measures it."""
    metrics = [metric for metric in runner.test_evaluator.metrics if isinstance(metric, ObjectOutcomeMetric)]
    return metrics[0].per_image if metrics else None


def report(runner, args: argparse.Namespace, attacks: dict, results: dict, objects: dict) -> None:
    runner.logger.info('\n' + attack_table(results, args.wide))
    measured = objects['clean'] is not None and attacks
    if measured:
        runner.logger.info('\n' + outcome_table(objects))
    path = osp.join(runner.log_dir, 'results.json')
    rows = {
        name: {'attack': attacks.get(name), 'metrics': metrics, 'audit': audit and audit.to_dict()}
        for name, (metrics, audit) in results.items()
    }
    if measured:
        for name in attacks:
            rows[name]['objects'] = changes(objects['clean'], objects[name])
    mmengine.dump({'checkpoint': args.checkpoint, 'results': rows}, path, indent=2)
    runner.logger.info(f'results written to {path}')


if __name__ == '__main__':
    main()
