"""What an iteration of adversarial training costs: ``python benchmarks/adversarial_step.py [--size 96x128]``.

Times a training iteration of each recipe, hooks and all, against a plain one and against the passes that it is made of,
written down by hand: gradients to the pixels of so many images, gradients of their angle to the weights, and training
steps. Interleaved in one run; medians over the repeats. Ends with one JSON line: the recipes' cost relative to a plain
iteration, and ``worst_overhead``, the largest ratio of an iteration to its own passes.
"""

import argparse
import json
import time
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from attack_overhead import CONFIG, interleaved
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import paif_mm  # noqa: F401
from paif_mm.attacks import AdversarialAttackHook, FreeAdversarialHook, frozen
from paif_mm.losses import FusionLossHook

EPS, REPLAYS = 8 / 255, 4


class Recipe(NamedTuple):
    """A hook, and the passes of its iteration.

    ``pixels``: gradients to the pixels, of ``share`` of the batch; ``steps``: training steps, on ``pairs`` batches of
    pairs each; ``angles``: gradients of the weights through the pixels' gradients at two points.
    """

    hook: Hook
    share: float
    pixels: int
    steps: int = 1
    pairs: int = 1
    angles: int = 0


def recipes() -> dict[str, Recipe]:
    def attack(ratio: float = 1.0, more: dict | None = None, **settings) -> AdversarialAttackHook:
        return AdversarialAttackHook({'eps': EPS, **settings}, ratio=ratio, **(more or {}))

    pgd = {'type': 'PGD', 'keep': 'last'}
    return {
        'sat_pgd5_half': Recipe(attack(0.5, **pgd, steps=5), 0.5, 5),
        'pgd3_full': Recipe(attack(**pgd, steps=3), 1.0, 3),
        'nfgsm_full': Recipe(attack(type='NFGSM'), 1.0, 1),
        'step_control_full': Recipe(attack(type='StepControlFGSM'), 1.0, 1),
        'gradalign_full': Recipe(attack(**pgd, steps=1, more={'align': 0.2}), 1.0, 1, angles=1),
        'trades_pgd3_full': Recipe(attack(**pgd, steps=3, more={'trades': 6.0}), 1.0, 3, pairs=2),
        'free_full': Recipe(FreeAdversarialHook(EPS, REPLAYS), 1.0, 0, steps=REPLAYS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=CONFIG, help='a config with a fused segmentor')
    parser.add_argument('--size', default='96x128', help='height x width of the pairs')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--cpu-time', action='store_true', help="the process's own, for busy machines; one thread")
    args = parser.parse_args()
    torch.set_num_threads(1 if args.cpu_time else args.threads)
    runner, batch = build(args)
    found = recipes()
    forms = {'plain': lambda: train(runner, batch, [])}
    for name, recipe in found.items():
        recipe.hook.before_run(runner)
        forms[name] = lambda hook=recipe.hook: train(runner, batch, [hook])
    images = {name: round(recipe.share * args.batch) for name, recipe in found.items()}
    for count in sorted(set(images.values())):
        forms[f'gradient of {count}'] = lambda count=count: gradient_by_hand(runner.model, batch, count)
    forms['angle'] = lambda: angle_by_hand(runner.model, batch)
    forms['replay'] = lambda: train(runner, batch, [], pixels=True)
    forms['double'] = lambda: train(runner, doubled(batch), [])
    seconds = interleaved(forms, args.repeats, time.process_time if args.cpu_time else time.perf_counter)

    plain = seconds['plain']
    threads = torch.get_num_threads()
    print(f'{args.config}, {args.batch} pairs of {args.size}, {threads} threads, medians of {args.repeats}')
    print(f'plain iteration: {plain:.3f} s')
    overheads = {}
    for name, recipe in found.items():
        step = seconds['replay' if recipe.steps > 1 else 'double' if recipe.pairs > 1 else 'plain']
        passes = recipe.pixels * seconds[f'gradient of {images[name]}'] + recipe.steps * step
        passes += recipe.angles * seconds['angle']
        overheads[name] = seconds[name] / passes
        cost = f'{seconds[name]:.3f} s = {seconds[name] / plain:.2f} x plain'
        print(f'{name:17} {cost} = {overheads[name]:.3f} x its passes')
    ratios = {name: round(seconds[name] / plain, 3) for name in found}
    print(json.dumps({'worst_overhead': round(max(overheads.values()), 3), **ratios}))


def build(args) -> tuple[SimpleNamespace, dict]:
    """What the hooks need of a runner, and a batch of random pairs."""
    config = Config.fromfile(args.config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cpu':
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
        hook.before_train(runner)  # takes the model's losses, and gives them back: the recipes take turns
        hook.before_train_iter(runner, 0, data)
    runner.model.train_step(data, runner.optim_wrapper)
    for hook in hooks:
        if isinstance(hook, FreeAdversarialHook):
            hook.after_train_iter(runner, 0, data)
        hook.after_train(runner)


def doubled(batch: dict) -> dict:
    return {key: [*values, *values] for key, values in batch.items()}


def gradient_by_hand(model, batch: dict, count: int) -> tuple[torch.Tensor, ...]:
    """d cross-entropy / d pixels of the first images, as anyone would write it."""
    pixels = [image.to(device_of(model), copy=True).requires_grad_() for image in batch['inputs'][:count]]
    with frozen(model):
        return torch.autograd.grad(cross_entropy(model, pixels, batch['data_samples'][:count]), pixels)


def angle_by_hand(model, batch: dict) -> tuple[torch.Tensor, ...]:
    """d (1 - cos) / d weights of the pixels' gradients at the images and at the images with noise."""
    clean = [image.to(device_of(model), copy=True) for image in batch['inputs']]
    pixels = [image.requires_grad_() for image in (*clean, *(image + torch.rand_like(image) for image in clean))]
    with frozen(model, parameters=True):
        loss = cross_entropy(model, pixels, batch['data_samples'] * 2)
        gradients = torch.stack(torch.autograd.grad(loss, pixels, create_graph=True)).flatten(1)
        angles = 1 - F.cosine_similarity(*gradients.split(len(clean)), eps=1e-30)
        return torch.autograd.grad(angles.mean(), list(model.parameters()), allow_unused=True)


def cross_entropy(model, pixels: list[torch.Tensor], samples: list) -> torch.Tensor:
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples]).to(pixels[0].device)
    logits = model(**model.data_preprocessor({'inputs': pixels, 'data_samples': None}), mode='tensor')
    return F.cross_entropy(F.interpolate(logits, labels.shape[-2:], mode='bilinear'), labels)


def device_of(model) -> torch.device:
    return next(model.parameters()).device


if __name__ == '__main__':
    main()
