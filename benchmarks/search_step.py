"""What the steps of a search cost beyond their parts: ``python benchmarks/search_step.py [--size 128x160]``.

Four ratios, interleaved in one run, medians over the repeats, as one JSON line at the end:

* ``supernet_ratio``: forward and backward of the supernet, over the sum of its candidate operations run alone (at each
  of the six places, on the input that the place gets) and the parts that are not searched;
* ``weight_step_ratio``: a training iteration with a quarter of the batch attacked by PGD-3, attack included, over one
  step on the mixed batch plus three gradients to the attacked pairs, written by hand and run in a row;
* ``arch_step_ratio``, ``one_step_ratio``: architecture steps by ``best_response`` and ``one_step``, over a plain
  training step of as many pairs.

Also prints each step's peak memory, with and without ``checkpoint_candidates`` (Linux).
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from attack_overhead import gradient_by_hand, interleaved
from measuring import peak_of, prepared_device
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

import paif_mm  # noqa: F401
from paif_mm.fusion import FusionSupernet
from paif_mm.fusion.network import channels_last
from paif_mm.search import bilevel

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'msrs_half' / 'segformer_hds_msrs.py'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=str(CONFIG), help='config of a search')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='other settings, key=value')
    parser.add_argument('--size', default='128x160', help='height x width of the pairs')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--channels', type=int, default=8, help='channels of the supernet')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.device = prepared_device()
    size = tuple(map(int, args.size.split('x')))
    print(
        f'{args.batch} pairs of {args.size}, {args.channels} channels, {args.threads} threads, {args.repeats} repeats'
    )

    ratios = {'supernet_ratio': supernet_ratio(args, size)}
    with tempfile.TemporaryDirectory() as folder:
        ratios.update(step_ratios(args, size, folder))
    print(json.dumps({name: round(value, 4) for name, value in ratios.items()}))


# ------------------------------------------------------------------------------------------------------- supernet


def supernet_ratio(args, size: tuple[int, int]) -> float:
    torch.manual_seed(0)
    supernet = FusionSupernet(channels=args.channels).train().to(args.device)
    pair = torch.rand(2, args.batch, 1, *size, device=args.device)
    inputs = inputs_of_places(supernet, pair)
    operations = [(op, inputs[name]) for name, place in supernet.places().items() for op in place.candidates.values()]

    def together() -> None:
        supernet(*pair).sum().backward()

    def parts() -> None:
        for operation, x in operations:
            operation(x.detach().requires_grad_()).sum().backward()
        fixed_parts(supernet, pair, inputs)

    seconds = interleaved({'supernet': together, 'parts': parts}, args.repeats)
    print(f'supernet forward and backward: {seconds["supernet"]:.3f} s, its parts alone: {seconds["parts"]:.3f} s')
    return seconds['supernet'] / seconds['parts']


def inputs_of_places(supernet: FusionSupernet, pair) -> dict:
    inputs = {}
    handles = [
        place.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0].detach()}))
        for name, place in supernet.places().items()
    ]
    with torch.no_grad():
        supernet(*pair)
    for handle in handles:
        handle.remove()
    return inputs


def fixed_parts(supernet: FusionSupernet, pair, inputs: dict) -> None:
    """Stems, decompositions, rule, skips and head, forward and backward."""
    features = []
    for branch, x in ((supernet.ir, pair[0]), (supernet.vis, pair[1])):
        stem = branch.stem(channels_last(x))
        mixed = branch.decomposition(stem)
        features.append(stem + (mixed + mixed))
    fused = supernet.rule(*features)
    supernet.head(fused + fused).sum().backward()


# ---------------------------------------------------------------------------------------------------------- steps


def step_ratios(args, size: tuple[int, int], folder: str) -> dict[str, float]:
    loop = search_loop(args, size, folder)
    batch = next(loop.dataloader_iterator)
    model, wrapper = loop.model, loop.runner.optim_wrapper['weights']
    (attack_hook,) = (hook for hook in loop.runner.hooks if type(hook).__name__ == 'AdversarialAttackHook')
    attacked = max(1, round(attack_hook.ratio * args.batch))
    single = {'inputs': batch['inputs'][:attacked], 'data_samples': batch['data_samples'][:attacked]}

    def plain_step() -> None:
        model.train_step(batch, optim_wrapper=wrapper)

    def weight_step() -> None:
        mixed = dict(batch)
        attack_hook.before_train_iter(loop.runner, 0, mixed)
        model.train_step(mixed, optim_wrapper=wrapper)

    def weight_step_parts() -> None:
        for _ in range(attack_hook.attack.steps):
            for i in range(attacked):
                gradient_by_hand(model, {key: value[i : i + 1] for key, value in single.items()})
        plain_step()

    def architecture_step(method: str) -> None:
        loop.bilevel = method
        loop.architecture_step(batch)

    seconds = interleaved(
        {
            'plain': plain_step,
            'weight': weight_step,
            'weight parts': weight_step_parts,
            **{method: lambda method=method: architecture_step(method) for method in bilevel.METHODS},
        },
        args.repeats,
    )
    for name, value in seconds.items():
        print(f'{name:14} step: {value:.3f} s = {value / seconds["plain"]:.2f} x a plain one')
    for checkpointed in (False, True):
        for place in loop.supernet.places().values():
            place.checkpoint_candidates = checkpointed
        steps = {'weight': weight_step, 'best_response': lambda: architecture_step('best_response')}
        for name, step in steps.items():
            note = 'with checkpoint_candidates' if checkpointed else 'plain'
            print(f'{name:14} step, {note}: peak memory {peak_of(step):.0f} MiB', flush=True)
    return {
        'weight_step_ratio': seconds['weight'] / seconds['weight parts'],
        'arch_step_ratio': seconds['best_response'] / seconds['plain'],
        'one_step_ratio': seconds['one_step'] / seconds['plain'],
    }


def search_loop(args, size: tuple[int, int], folder: str):
    """The loop of the config on random pairs, ready for its first iteration."""
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    config.model.data_preprocessor.fusion.channels = args.channels
    config.model.data_preprocessor.task.size = size
    if args.device.type == 'cpu':
        config.model.decode_head.norm_cfg.type = 'BN'  # the synchronised one needs a GPU
    config.custom_hooks[1].begin = 0
    config.default_hooks.checkpoint = None
    config.update(work_dir=folder, log_level='ERROR', train_dataloader=None, val_dataloader=None, test_dataloader=None)
    loader = random_loader(args.batch, size)
    runner = Runner(
        model=config.model,
        work_dir=folder,
        train_dataloader=loader,
        train_cfg={**config.train_cfg, 'arch_dataloader': loader},
        optim_wrapper=config.optim_wrapper,
        custom_hooks=config.custom_hooks,
        default_hooks=config.default_hooks,
        default_scope='mmseg',
        log_level='ERROR',
        cfg=config,
    )
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.call_hook('before_train')
    runner.model.train()
    return runner.train_loop


def random_loader(batch: int, size: tuple[int, int]) -> DataLoader:
    torch.manual_seed(0)
    items = [
        (
            torch.randint(0, 256, (4, *size), dtype=torch.uint8),
            SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 9, (1, *size))), metainfo={'img_shape': size}),
        )
        for _ in range(2 * batch)
    ]

    def collate(drawn):
        return {'inputs': [x for x, _ in drawn], 'data_samples': [sample for _, sample in drawn]}

    return DataLoader(items, batch_size=batch, collate_fn=collate)


if __name__ == '__main__':
    main()
