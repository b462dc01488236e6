"""A search small enough for tests: a tiny SegFormer behind a supernet of 4 channels, fed with given batches."""

import torch
from helpers import build_model, pair_batch, tiny_segformer
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from paif_mm.registry import LOOPS
from paif_mm.search import HDSTrainLoop

OPTIM = {
    'constructor': 'paif_mm.HDSOptimWrapperConstructor',
    'weights': {'optimizer': {'type': 'SGD', 'lr': 0.01}},
    'alphas': {'optimizer': {'type': 'SGD', 'lr': 1.0}},
}
SIZES = ((32, 32), (32, 32))


class Pairs:
    """Pairs that a data loader can draw, with the meta information of a data set."""

    def __init__(self, count=8, seed=0):
        batch = pair_batch([(32, 32)] * count, seed=seed, ignored=False)
        self.items = [{key: value[i] for key, value in batch.items()} for i in range(count)]
        self.metainfo = {'classes': tuple('abcdefghi')}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(items):
    return {key: [item[key] for item in items] for key in items[0]}


def loader(count=8, batch_size=2, seed=0, **kwargs):
    return DataLoader(Pairs(count, seed), batch_size=batch_size, collate_fn=collate, **kwargs)


@LOOPS.register_module(force=True)
class RecordingLoop(HDSTrainLoop):
    """Remembers the alphas after every iteration."""

    def run(self):
        self.record = [torch.stack(self.supernet.alphas()).clone()]
        return super().run()

    def run_iter(self, data_batch):
        super().run_iter(data_batch)
        self.record.append(torch.stack(self.supernet.alphas()).clone())


def make_runner(work_dir, model=None, optim=None, hooks=(), cfg=None, launcher='none', train=None, **train_cfg):
    """A Runner whose ``train()`` searches; pass ``max_iters`` and other settings of the loop."""
    init_default_scope('mmseg')
    settings = {'type': 'paif_mm.RecordingLoop', 'arch_dataloader': loader(seed=1), **train_cfg}
    runner = Runner(
        model=model or build_model(tiny_segformer({'type': 'FusionSupernet', 'channels': 4})),
        work_dir=str(work_dir),
        train_dataloader=train or loader(),
        train_cfg=settings,
        optim_wrapper=optim or OPTIM,
        custom_hooks=[{'type': 'paif_mm.FusionLossHook'}, *hooks],
        default_hooks={'checkpoint': None, 'logger': {'type': 'LoggerHook', 'log_metric_by_epoch': False}},
        log_processor={'by_epoch': False},
        randomness={'seed': 0},
        launcher=launcher,
        cfg=cfg or Config({'work_dir': str(work_dir)}),
        experiment_name=str(work_dir).replace('/', '_'),
        default_scope='mmseg',
        log_level='WARNING',
    )
    return runner
