"""Train a model: ``python tools/train.py CONFIG [--resume] [--amp] ...`` (mmseg's flags)."""

import argparse

import torch
from mmengine.runner import Runner

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser
from paif_mm.engine.launch import add_common_arguments, load_config
from paif_mm.engine.runner import QuietRunner
from paif_mm.mistakes import reports_mistakes

MIXED = ('OptimWrapper', 'AmpOptimWrapper', 'paif_mm.BFloat16OptimWrapper')


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Train a model on infrared-visible pairs')
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', action='store_true', help='go on from the latest checkpoint in the work dir')
    parser.add_argument(
        '--amp', action='store_true', help='train with automatic mixed precision: float16 on a GPU, bfloat16 on a CPU'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale learning rates with the batch of all processes, relative to the config's auto_scale_lr",
    )
    add_common_arguments(parser)
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    config = load_config(args)
    config.resume = args.resume
    if args.amp:
        enable_amp(config)
    if args.auto_scale_lr:
        enable_auto_scale_lr(config)
    build_runner(config).train()


def enable_amp(config) -> None:
    wrapper = config.optim_wrapper.get('weights', config.optim_wrapper)  # of a search: the weights' own
    if wrapper.get('type', 'OptimWrapper') not in MIXED:
        raise SystemExit(f'--amp needs optim_wrapper.type OptimWrapper, not {wrapper.type}')
    if not torch.cuda.is_available():  # for which mmengine has no mixed precision
        for key in ('dtype', 'loss_scale', 'use_fsdp'):
            wrapper.pop(key, None)
        wrapper.type = 'paif_mm.BFloat16OptimWrapper'
    elif wrapper.get('type') != 'paif_mm.BFloat16OptimWrapper':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(config) -> None:
    if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
        raise SystemExit(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config: the batch, of all processes '
            'together, that its learning rates are made for'
        )
    config.auto_scale_lr.enable = True


def build_runner(config) -> Runner:
    if 'runner_type' in config:
        from mmengine.registry import RUNNERS

        return RUNNERS.build(config)
    return QuietRunner.from_cfg(config)


if __name__ == '__main__':
    main()
