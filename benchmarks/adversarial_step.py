"""What an iteration of adversarial training costs: ``python benchmarks/adversarial_step.py [--size 96x128]``.

Times a training iteration of each recipe, hooks and all, against a plain one and against the passes that it is made of:
gradients to the pixels of so many images, written down by hand, and training steps. Interleaved in one run; medians
over the repeats. Ends with one JSON line: the recipes' cost relative to a plain iteration, and ``worst_overhead``, the
largest ratio of an iteration to its own passes.
"""

import argparse
import json
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from attack_overhead import CONFIG, interleaved
from memory import peak_of, prepared_device
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import paif_mm  # noqa: F401
from paif_mm.attacks import AdversarialAttackHook, FreeAdversarialHook, frozen
from paif_mm.losses import FusionLossHook

EPS, REPLAYS = 8 / 255, 4


def attacked(ratio: float, gradients: int, **attack) -> tuple[AdversarialAttackHook, float, int, int]:
    """The hook of a recipe, and its passes: share of the batch, gradients to pixels, training steps."""
    return AdversarialAttackHook({'eps': EPS, 'keep': 'last', **attack}, ratio=ratio), ratio, gradients, 1


def recipes() -> dict[str, tuple]:
    nfgsm = AdversarialAttackHook({'type': 'NFGSM', 'eps': EPS}, ratio=1.0)
    return {
        'sat_pgd5_half': attacked(0.5, 5, type='PGD', steps=5),
        'pgd3_full': attacked(1.0, 3, type='PGD', steps=3),
        'nfgsm_full': (nfgsm, 1.0, 1, 1),
        'free_full': (FreeAdversarialHook(EPS, REPLAYS), 1.0, 0, REPLAYS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=CONFIG, help='a config with a fused segmentor')
    parser.add_argument('--size', default='96x128', help='height x width of the pairs')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    runner, batch = build(args)
    found = recipes()
    forms = {'plain': lambda: train(runner, batch, [])}
    for name, (hook, *_) in found.items():
        hook.before_run(runner)
        hook.before_train(runner)
        forms[name] = lambda hook=hook: train(runner, batch, [hook])
    images = {name: round(share * args.batch) for name, (_, share, *_) in found.items()}
    for count in sorted(set(images.values())):
        forms[f'gradient of {count}'] = lambda count=count: gradient_by_hand(runner.model, batch, count)
    forms['replay'] = lambda: train(runner, batch, [], pixels=True)
    seconds = interleaved(forms, args.repeats)

    plain = seconds['plain']
    print(f'{args.config}, {args.batch} pairs of {args.size}, {args.threads} threads, medians of {args.repeats}')
    print(f'plain iteration: {plain:.3f} s')
    overheads = {}
    for name, (_, _, gradients, steps) in found.items():
        step = seconds['replay'] if steps > 1 else plain
        passes = gradients * seconds[f'gradient of {images[name]}'] + steps * step
        overheads[name] = seconds[name] / passes
        cost = f'{seconds[name]:.3f} s = {seconds[name] / plain:.2f} x plain'
        print(f'{name:14} {cost} = {overheads[name]:.3f} x its passes')
    peaks = {name: peak_of(forms[name]) for name in ('plain', *found)}
    print('peak memory, MiB: ' + ', '.join(f'{name} {peak:.0f}' for name, peak in peaks.items()))
    ratios = {name: round(seconds[name] / plain, 3) for name in found}
    print(json.dumps({'worst_overhead': round(max(overheads.values()), 3), **ratios}))


def build(args) -> tuple[SimpleNamespace, dict]:
    """What the hooks need of a runner, and a batch of random pairs."""
    config = Config.fromfile(args.config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    device = prepared_device()
    if device.type == 'cpu':
        config.model.decode_head.norm_cfg.type = 'BN'  # the synchronised one needs a GPU
    height, width = map(int, args.size.split('x'))
    config.model.data_preprocessor.task.size = (height, width)
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(device).train()
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 9, (1, height, width)))) for _ in range(args.batch)
    ]
    for sample in samples:
        sample.set_metainfo({'img_shape': (height, width)})
    batch = {
        'inputs': [torch.randint(0, 256, (4, height, width)).float() for _ in range(args.batch)],
        'data_samples': samples,
    }
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-5))
    loops = dict.fromkeys(('_train_loop', '_val_loop', '_test_loop'))
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0, seed=0, **loops)
    FusionLossHook().before_train(runner)
    return runner, batch


def train(runner, batch: dict, hooks: list, pixels: bool = False) -> None:
    """One iteration as a training loop makes it; ``pixels``: with gradients to these, too."""
    data = dict(batch)
    if pixels:
        data['inputs'] = [image.to(device_of(runner.model), copy=True).requires_grad_() for image in batch['inputs']]
    for hook in hooks:
        hook.before_train_iter(runner, 0, data)
    runner.model.train_step(data, runner.optim_wrapper)
    for hook in hooks:
        if isinstance(hook, FreeAdversarialHook):
            hook.after_train_iter(runner, 0, data)


def gradient_by_hand(model, batch: dict, count: int) -> tuple[torch.Tensor, ...]:
    """d cross-entropy / d pixels of the first images, as anyone would write it."""
    device = device_of(model)
    pixels = [image.to(device, copy=True).requires_grad_() for image in batch['inputs'][:count]]
    labels = torch.cat([sample.gt_sem_seg.data for sample in batch['data_samples'][:count]]).to(device)
    with frozen(model):
        logits = model(**model.data_preprocessor({'inputs': pixels, 'data_samples': None}), mode='tensor')
        loss = F.cross_entropy(F.interpolate(logits, labels.shape[-2:], mode='bilinear'), labels)
        return torch.autograd.grad(loss, pixels)


def device_of(model) -> torch.device:
    return next(model.parameters()).device


if __name__ == '__main__':
    main()
