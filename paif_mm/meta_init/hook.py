"""Alg. 2 of the paper, up to the training itself."""

import os
import time
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    all_reduce_params,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn

from paif_mm.attacks import AttackBank
from paif_mm.attacks.bank import MANIFEST, PIXELS
from paif_mm.attacks.frozen import unwrap
from paif_mm.compat import load_checkpoint_file
from paif_mm.data.colour import bgr_to_luma, split_pair
from paif_mm.engine.preemption import asked_to_stop, leave
from paif_mm.files import config_hash, file_hash
from paif_mm.perception import require_fuser
from paif_mm.randomness import random_state, set_random_state
from paif_mm.registry import HOOKS, MODELS, build

from .aat import Scene, adapt, functional_loss, loss_and_gradient, meta_gradient
from .batches import MetaBatches, iterate

STATE, RESULT = 'meta_init.pth', 'theta_prime.pth'
#: What decides about the result; the rest is about reading and logging.
SETTINGS = (
    *('iters', 'inner_steps', 'inner_lr', 'optimizer', 'second_order', 'warm_start_iters', 'warm_start_optimizer'),
    *('clean_scene', 'batch_size', 'crop_size', 'val_share', 'loss_config', 'seed'),
)


@HOOKS.register_module()
class AATMetaInitHook(Hook):
    """Meta-initialises the fusion network N against the attacks of a bank, before training starts (PAIF, Alg. 2).

    First the pretext defence initialisation (lines 2-7): every iteration adapts N to each scene by ``inner_steps``
    gradient steps and moves N by the gradient of the losses there. Then the warm start (line 9): plain descent on all
    scenes together. The result theta' is saved as ``theta_prime.pth`` in the work dir, which
    ``FusionNet(init_cfg=dict(type='Pretrained', checkpoint=...))`` reads, and training goes on with it; together with
    an ``AdversarialAttackHook`` that is line 11. The target of the fusion loss is always the clean pair.

    It works for any registered fusion network. A run resumed from a training checkpoint skips it; one killed during it
    goes on with ``--resume``, and one killed after it takes theta' up again, unless settings, bank, N's first weights
    or the number of processes are others: then it begins anew. One that is told to stop (see
    :mod:`paif_mm.engine.preemption`) writes its state first. Several processes draw batches of their own and average
    their gradients.

    Args:
        bank (str): folder of the attack bank, as ``tools/craft_attacks.py`` writes it; decoded to one file there, see
            :meth:`~paif_mm.attacks.AttackBank.unpack`.
        iters (int): meta-iterations.
        inner_steps (int): gradient steps per scene. Default: 10, the paper's.
        inner_lr (float): their length. Default: 1e-4, the paper's.
        optimizer (dict): of the outer step. Default: SGD with lr 1e-3, the paper's.
        second_order (bool): exact meta-gradient instead of first order; see :func:`~.aat.meta_gradient`.
        warm_start_iters (int): iterations of the warm start, which also sets the batch-norm statistics.
        warm_start_optimizer (dict): of the warm start. Default: SGD with lr 1e-4.
        clean_scene (bool): count the unattacked pairs as a scene.
        batch_size (int): pairs per batch.
        crop_size (tuple[int, int], optional): height and width of random crops. Default: whole pairs.
        val_share (float): share of the bank's pairs for the outer step.
        loss (dict): the fusion loss. Default: ``dict(type='FusionLoss')``.
        seed (int): of the split and the batches.
        num_workers (int): processes that read the bank ahead.
        log_interval, save_interval (int): iterations between log lines, and between states for resuming.
    """

    priority = 'HIGH'

    def __init__(
        self,
        bank: str,
        iters: int = 200,
        inner_steps: int = 10,
        inner_lr: float = 1e-4,
        optimizer: dict | None = None,
        second_order: bool = False,
        warm_start_iters: int = 200,
        warm_start_optimizer: dict | None = None,
        clean_scene: bool = False,
        batch_size: int = 4,
        crop_size: tuple[int, int] | None = None,
        val_share: float = 0.5,
        loss: dict | None = None,
        seed: int = 0,
        num_workers: int = 2,
        log_interval: int = 10,
        save_interval: int = 50,
    ):
        self.bank = bank
        self.iters = iters
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.optimizer = optimizer or {'type': 'SGD', 'lr': 1e-3}
        self.second_order = second_order
        self.warm_start_iters = warm_start_iters
        self.warm_start_optimizer = warm_start_optimizer or {'type': 'SGD', 'lr': 1e-4}
        self.clean_scene = clean_scene
        self.batch_size = batch_size
        self.crop_size = tuple(crop_size) if crop_size else None
        self.val_share = val_share
        self.loss_config = loss or {'type': 'FusionLoss'}
        self.loss = build(MODELS, self.loss_config)
        self.seed = seed
        self.num_workers = num_workers
        self.log_interval = log_interval
        self.save_interval = save_interval

    def before_train(self, runner) -> None:
        if runner.iter > 0:
            runner.logger.info('meta-initialisation skipped: training goes on from a checkpoint')
            return
        self.network = require_fuser(unwrap(runner.model), 'AATMetaInitHook').fusion.train()
        if self.second_order and get_world_size() > 1 and any(map(_is_synchronised, self.network.modules())):
            raise TypeError(
                'second_order=True of AATMetaInitHook differentiates twice, which synchronised batch norms of several '
                "processes can't: leave out sync_bn, or set second_order=False"
            )
        self.runner = runner
        self.device = next(self.network.parameters()).device
        self.folder = Path(runner.work_dir)
        bank = AttackBank(self.bank)
        self.signature = self._signature(bank)
        if not self._take_up_result():
            self._unpack(bank)
            self._stages(bank)

    def _stages(self, bank: AttackBank) -> None:
        """Lines 2-7, then line 9."""
        state = self._load(STATE)
        if state is not None:
            self.runner.logger.info(f'meta-initialisation goes on: {state["stage"]}, iteration {state["iter"]}')
            self.network.load_state_dict(state['network'])
        meta, warm = self._batches(bank, self.inner_steps, self.iters), self._batches(bank, 0, self.warm_start_iters)
        if state is None or state['stage'] == 'meta':
            self._report(bank, 'before')
            self._descend('meta', self.optimizer, meta, self._meta_step, state)
            state = None
        self._descend('warm start', self.warm_start_optimizer, warm, self._warm_step, state)
        self._average_statistics()
        self._report(bank, 'after')
        meta = {'bank': str(self.bank), **self._facts()}
        if is_main_process():
            self._write(RESULT, {'state_dict': self.network.state_dict(), 'meta': meta})
            (self.folder / STATE).unlink(missing_ok=True)
            self.runner.logger.info(f"theta' written to {self.folder / RESULT}")

    def _unpack(self, bank: AttackBank) -> None:
        """Of all processes one decodes the bank, then one of each machine checks what it sees, and all of them map it.

        Where any of those could not map it, every process checks, and so does one without a ``LOCAL_RANK``.
        """
        turn = 0 if is_main_process() else 1 if os.environ.get('LOCAL_RANK', '0') == '0' else 2
        mapped = checked = True
        for now in range(3):
            if turn == now:
                mapped = self._unpacked(bank, check=turn < 2 or not checked)
            checked = all(all_gather_object(mapped))  # all wait here

    def _unpacked(self, bank: AttackBank, check: bool) -> bool:
        """Whether the bank is mapped."""
        begun = time.time()
        try:
            if bank.unpack(check):
                self.runner.logger.info(f'{bank.folder} decoded to {PIXELS} in {time.time() - begun:.0f} s')
        except OSError as error:
            self.runner.logger.warning(
                f'{bank.folder / PIXELS} can not be written or mapped ({error.strerror}): every crop decodes its image'
            )
            return False
        return True

    def _batches(self, bank: AttackBank, inner_steps: int, length: int) -> MetaBatches:
        return MetaBatches(
            bank,
            inner_steps,
            self.batch_size,
            self.crop_size,
            self.clean_scene,
            length,
            self.val_share,
            self.seed,
            get_rank(),
        )

    def _descend(self, stage: str, optimizer: dict, batches: MetaBatches, step, state: dict | None) -> None:
        """Run one stage, or the rest of it, with progress and states to resume from."""
        weights = self._weights()
        optimizer = OPTIMIZERS.build({**optimizer, 'params': list(weights.values())})
        start = 0
        if state is not None and state['stage'] == stage:
            start = state['iter']
            optimizer.load_state_dict(state['optimizer'])
        begun = time.time()
        for i, batch in enumerate(iterate(batches, start, self.num_workers), start + 1):
            gradient, losses = step(weights, batch)
            all_reduce_params(list(gradient.values()), op='mean')
            for name, weight in weights.items():
                weight.grad = gradient[name]
            optimizer.step()
            optimizer.zero_grad()
            if i % self.log_interval == 0 or i == len(batches):
                eta = timedelta(seconds=int((time.time() - begun) / (i - start) * (len(batches) - i)))
                each = '  '.join(f'{scene} {float(loss):.4f}' for scene, loss in zip(batch, losses, strict=True))
                self.runner.logger.info(f'AAT {stage} [{i}/{len(batches)}]  eta: {eta}  L_F: {each}')
            code = asked_to_stop()
            if code or i % self.save_interval == 0:
                self._save(stage, i, optimizer)
            if code:
                self.runner.logger.info(f'told to stop: {self.folder / STATE} written, --resume goes on from it')
                leave(code)

    def _meta_step(self, weights: dict, batch: dict) -> tuple[dict, list[Tensor]]:
        scenes = []
        for pairs in batch.values():
            *train, val = (self._loss(*pair) for pair in pairs)
            scenes.append(Scene(train, val))
        return meta_gradient(weights, scenes, self.inner_lr, self.second_order)

    def _warm_step(self, weights: dict, batch: dict) -> tuple[dict, list[Tensor]]:
        losses = [self._loss(*pairs[-1], track_statistics=True) for pairs in batch.values()]
        values = []

        def union(weights):
            values[:] = [loss(weights) for loss in losses]
            return sum(values)

        _, gradient = loss_and_gradient(union, weights)
        return gradient, [value.detach() for value in values]

    def _loss(self, attacked: Tensor, clean: Tensor, track_statistics: bool = False):
        """L_F of an attacked batch (B, 4, H, W) with the clean one as its target, as a function of N's weights."""
        attacked, clean = (x.to(self.device).float() / 255 for x in (attacked, clean))
        ir, visible = split_pair(attacked)
        target_ir, target_visible = split_pair(clean)
        target = target_ir, bgr_to_luma(target_visible)
        return functional_loss(
            self.network,
            (ir, bgr_to_luma(visible)),
            lambda fused: self.loss(fused.float(), *target),
            track_statistics,
        )

    def _weights(self) -> dict[str, torch.nn.Parameter]:
        return {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}

    def _report(self, bank: AttackBank, when: str) -> None:
        """Per scene: L_F on D_val before and after adaptation to D_tr, on batches that are always the same."""
        batch = self._batches(bank, self.inner_steps, 1)[0]
        parts = []
        for scene, pairs in batch.items():
            *train, val = (self._loss(*pair) for pair in pairs)
            path = adapt(self._weights(), train, self.inner_lr)
            with torch.no_grad():
                parts.append(f'{scene} {float(val(path[0])):.4f} -> {float(val(path[-1])):.4f}')
        self.runner.logger.info(f'L_F {when} meta-initialisation, unadapted -> adapted: {", ".join(parts)}')

    def _average_statistics(self) -> None:
        """Batch-norm statistics of all processes' warm starts."""
        for buffer in self.network.buffers():
            if buffer.is_floating_point():
                all_reduce(buffer, op='mean')

    def _save(self, stage: str, iteration: int, optimizer) -> None:
        content = {'stage': stage, 'iter': iteration, 'network': self.network.state_dict(), 'meta': self._facts()}
        if is_main_process():
            self._write(STATE, {**content, 'optimizer': optimizer.state_dict()})

    def _write(self, name: str, content: dict) -> None:
        partial = self.folder / f'{name}.partial'
        torch.save(content, partial)
        partial.replace(self.folder / name)

    def _take_up_result(self) -> bool:
        """Whether a killed run left theta'; then N and the random states are as they were after it."""
        result = self._load(RESULT)
        if result is None:
            return False
        self.network.load_state_dict(result['state_dict'])
        if is_main_process():
            (self.folder / STATE).unlink(missing_ok=True)
        self.runner.logger.info(f"meta-initialisation skipped: theta' of {self.folder / RESULT} is taken up")
        return True

    def _load(self, name: str) -> dict | None:
        """A file of a killed run that this one resumes, its random states restored; None where there is none."""
        path = self.folder / name
        if not self.runner._resume or not path.is_file():
            return None
        content = load_checkpoint_file(str(path), map_location='cpu')
        meta = content.get('meta', {})
        if meta.get('signature') != self.signature:
            self.runner.logger.info(f'{path} is not taken up: its settings, bank, start or processes are others')
            return None
        set_random_state(meta['random_states'][get_rank()])
        return content

    def _facts(self) -> dict:
        """What resuming needs besides weights, from all processes."""
        return {'signature': self.signature, 'random_states': all_gather_object(random_state())}

    def _signature(self, bank: AttackBank) -> str:
        """Hash of what the result depends on. Without a fixed seed, every start has other weights: they don't count."""
        seeded = self.runner._randomness_cfg.get('seed') is not None
        start = {key: value.cpu().numpy().tobytes().hex() for key, value in self.network.state_dict().items()}
        return config_hash(
            {
                'settings': {name: getattr(self, name) for name in SETTINGS},
                'bank': file_hash(Path(bank.folder) / MANIFEST),
                'start': start if seeded else list(start),
                'processes': get_world_size(),
            }
        )


def _is_synchronised(module: nn.Module) -> bool:
    return isinstance(module, nn.SyncBatchNorm)
