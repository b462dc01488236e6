"""What a model costs: to use, and to train."""

from collections.abc import Mapping

from mmengine.config import Config

from paif_mm.attacks import APGD, NFGSM, PGD, AdversarialAttackHook, FreeAdversarialHook, StepControlFGSM
from paif_mm.evaluation.flops import count_flops
from paif_mm.meta_init import AATMetaInitHook
from paif_mm.randomness import kept_draws
from paif_mm.registry import ATTACKS, HOOKS, build

from .evaluate import Bench


def costs(bench: Bench, config: Config) -> dict:
    """``parameters``; ``flops`` of predicting the first image, fusion included; ``training_passes``."""
    batch = bench.batch([bench.dataset[bench.images[0]]])
    with kept_draws(bench.device), count_flops() as counter:
        bench.predict([image.to(bench.device) for image in batch['inputs']], batch)
    return {
        'parameters': sum(parameter.numel() for parameter in bench.model.parameters()),
        'flops': counter.get_total_flops(),
        'training_passes': training_passes(config),
    }


def training_passes(config: Config) -> float | None:
    """Forward and backward passes of single images that the config's training takes, on one process.

    What the training starts from (``load_from``, weights of a backbone) is not counted. None where a config does not
    tell: trainings by epochs, searches, meta-initialisation, attacks that grow, second derivatives, or attacks other
    than those of a fixed number of gradients.
    """
    loop, loader = config.get('train_cfg') or {}, config.get('train_dataloader') or {}
    images = loop.get('max_iters', 0) * loader.get('batch_size', 0)
    if not images or loop.get('type', 'IterBasedTrainLoop') != 'IterBasedTrainLoop' or loop.get('by_epoch'):
        return None
    passes = 1.0
    for cfg in config.get('custom_hooks') or ():
        kind = HOOKS.get(cfg['type']) if isinstance(cfg.get('type'), str) else cfg.get('type')
        if kind is AATMetaInitHook:
            return None
        if kind is FreeAdversarialHook:
            passes *= build(HOOKS, dict(cfg)).attack.steps
        if kind is AdversarialAttackHook:
            if 'train' not in cfg.get('phases', ('train',)):
                continue
            if not _is_counted(cfg.get('attack') or {}):
                return None
            hook = build(HOOKS, dict(cfg))
            if hook.align is not None or set(cfg.get('ramp') or ()) - {'eps'}:
                return None
            share = hook.ratio * max(1 - hook.begin / loop['max_iters'], 0)
            gradients = hook.attack.steps * hook.attack.restarts * hook.attack.eot_samples
            passes += share * (gradients + (hook.trades is not None))
    return images * passes


def _is_counted(attack: Mapping) -> bool:
    """Whether an attack's passes are its steps, restarts and samples; nothing is built, which may need files."""
    kind = attack.get('type')
    kind = ATTACKS.get(kind.rpartition('.')[2]) if isinstance(kind, str) else kind
    return kind in (PGD, APGD, NFGSM, StepControlFGSM)
