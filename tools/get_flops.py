"""What a model of pairs costs: ``python tools/get_flops.py CONFIG [--shape 480 640]``.

Prints parameters, floating-point operations and latency of the fusion network N, of the model behind it T, and of both;
of a model that fuses features, of the whole.
"""

import argparse
import statistics
import time

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from prettytable import PrettyTable

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, positive
from paif_mm.engine.launch import read_config
from paif_mm.evaluation.flops import count_flops
from paif_mm.mistakes import reports_mistakes
from paif_mm.perception import find_fuser


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Parameters, FLOPs and latency of a model of pairs')
    parser.add_argument('config', help='config file')
    parser.add_argument('--shape', type=positive, nargs=2, default=[480, 640], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument(
        '--runs', type=positive, default=10, help='timed runs, of which the median counts (default: 10)'
    )
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_config_options()
    return parser.parse_args()


def device(text: str) -> torch.device:
    """A device that this machine has."""
    try:
        wanted = torch.device(text)
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise argparse.ArgumentTypeError(f'this machine has no device {text!r}') from None
    return wanted


@reports_mistakes
def main() -> None:
    args = parse_args()
    config = read_config(args.config, args.cfg_options)
    init_default_scope(config.get('default_scope', 'mmseg'))
    model = revert_sync_batchnorm(MODELS.build(config.model)).to(args.device).eval()
    batch = pair_of(args.shape, config.get('default_scope', 'mmseg'))
    try:
        found = costs(model, batch, args.runs)
    except RuntimeError as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        shape = 'x'.join(map(str, args.shape))
        raise SystemExit(f'--shape: {type(model).__name__} takes no pair of {shape}: {error}') from error
    print(cost_table(found))
    print(
        f'one pair of {args.shape[0]}x{args.shape[1]} on {args.device}; GFLOPs: convolutions and matrix products, two '
        f'per multiply-add; latency: median of {args.runs} runs, preprocessing and post-processing counted'
        f'{" to T" if "T" in found else ""}'
    )


def pair_of(shape: list[int], scope: str) -> dict:
    """A random pair, as a test data loader of the model's library gives it."""
    if scope == 'mmdet':
        from mmdet.structures import DetDataSample as Sample
    elif scope == 'mmpretrain':
        from mmpretrain.structures import DataSample as Sample
    else:
        from mmseg.structures import SegDataSample as Sample
    size = tuple(shape)
    meta = {'img_shape': size, 'ori_shape': size, 'pad_shape': size, 'scale_factor': (1.0, 1.0), 'img_id': 0}
    generator = torch.Generator().manual_seed(0)
    pair = torch.randint(0, 256, (4, *size), generator=generator, dtype=torch.uint8)
    return {'inputs': [pair], 'data_samples': [Sample(metainfo=meta)]}


@torch.no_grad()
def costs(model: torch.nn.Module, batch: dict, runs: int) -> dict[str, dict[str, float]]:
    """``params``, ``flops`` and ``seconds`` of ``N``, ``T`` and ``both``, or of the ``model`` that has no N."""
    device, fuser = next(model.parameters()).device, find_fuser(model)
    watched = [] if fuser is None else [fuser.fusion]

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def run() -> None:
        model.test_step({'inputs': batch['inputs'], 'data_samples': [batch['data_samples'][0].clone()]})

    started, flops = [], {}
    with count_flops() as counter:
        handles = [
            handle
            for part in watched
            for handle in (
                part.register_forward_pre_hook(lambda *_: started.append(counter.get_total_flops())),
                part.register_forward_hook(lambda *_: flops.update(N=counter.get_total_flops() - started.pop())),
            )
        ]
        run()
    flops['both'] = counter.get_total_flops()
    for handle in handles:
        handle.remove()

    spent, whole = [], []
    handles = [
        handle
        for part in watched
        for handle in (
            part.register_forward_pre_hook(lambda *_: started.append(now())),
            part.register_forward_hook(lambda *_: spent.append(now() - started.pop())),
        )
    ]
    for _ in range(runs):
        begin = now()
        run()
        whole.append(now() - begin)
    for handle in handles:
        handle.remove()

    both = _costs_of(model, flops['both'], whole)
    if fuser is None:
        return {'model': both}
    network = _costs_of(fuser.fusion, flops['N'], spent)
    return {'N': network, 'T': {key: value - network[key] for key, value in both.items()}, 'both': both}


def _costs_of(part: torch.nn.Module, flops: float, seconds: list[float]) -> dict[str, float]:
    params = sum(p.numel() for p in part.parameters())
    return {'params': params, 'flops': flops, 'seconds': statistics.median(seconds)}


def cost_table(found: dict) -> str:
    table = PrettyTable(['part', 'parameters, M', 'GFLOPs', 'latency, ms'])
    for part, row in found.items():
        table.add_row([part, f'{row["params"] / 1e6:.3f}', f'{row["flops"] / 1e9:.2f}', f'{row["seconds"] * 1e3:.1f}'])
    table.align = 'r'
    return table.get_string()


if __name__ == '__main__':
    main()
