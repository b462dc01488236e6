"""Trainings of milliseconds: a line on two batches."""

from types import SimpleNamespace

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS
from torch import nn

from paif_mm.engine.runner import QuietRunner


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        loss = self.layer(torch.stack(inputs).float() + torch.rand(())).square().mean()
        return {'loss': loss} if mode == 'loss' else [SimpleNamespace()]


@DATASETS.register_module()
class Numbers(BaseDataset):
    METAINFO = {'classes': ('a', 'b')}

    def load_data_list(self):
        return [{'inputs': torch.ones(1)} for _ in range(4)]

    def prepare_data(self, index):
        return {'inputs': self.get_data_info(index)['inputs']}


@METRICS.register_module()
class Rising(BaseMetric):
    """Better each time, so that each validation replaces the best checkpoint."""

    count = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Rising.count += 1
        return {'score': float(Rising.count)}


def train(work_dir, iters, name, hook='paif_mm.ResumableCheckpointHook', resume=False, more=None, **checkpoint):
    """A Runner that has trained a line on two batches of two, its checkpoints written each iteration.

    Args:
        work_dir, iters, resume: of the training.
        name: no two trainings of a process have one.
        hook: type of the checkpoint hook; ``checkpoint`` are further settings of it.
        more: further settings of the runner, in place of those here.
    """
    loader = {'dataset': {'type': 'Numbers'}, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}, 'batch_size': 2}
    loader |= {'num_workers': 0, 'persistent_workers': True, 'collate_fn': {'type': 'pseudo_collate'}}
    endless = {**loader, 'sampler': {'type': 'InfiniteSampler', 'shuffle': False}}
    settings = {
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': iters, 'val_interval': 1},
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.1}},
        'default_hooks': {'checkpoint': {'type': hook, 'by_epoch': False, 'interval': 1, **checkpoint}},
        **(more or {}),
    }
    torch.manual_seed(0)
    runner = QuietRunner(
        Line(),
        str(work_dir),
        train_dataloader=endless if settings['train_cfg']['type'] == 'IterBasedTrainLoop' else loader,
        val_dataloader=loader,
        val_cfg={},
        val_evaluator={'type': 'Rising'},
        resume=resume,
        experiment_name=name,
        randomness={'seed': 0},
        **settings,
    )
    runner.train()
    return runner


def files(folder) -> set[str]:
    return {path.name for path in folder.glob('*.pth*')}
