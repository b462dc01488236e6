"""mmengine's EMAHook beside adversarial training: whole statistics, an unchanged audit, and the same after a resume."""

import torch
from helpers import build_model, tiny_segformer
from mmengine.hooks import EMAHook, Hook
from searching import loader

from paif_mm.compat import load_checkpoint_file
from paif_mm.engine.runner import QuietRunner

MOMENTUM = 0.25


class Statistics(Hook):
    """Remembers a running mean after every iteration."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(runner.model.decode_head.convs[0].bn.running_mean.clone())


def training(work_dir, iterations: int, resume: bool = False) -> QuietRunner:
    attack = {'type': 'NFGSM', 'eps': 8 / 255}
    measured = {'type': 'PGD', 'eps': 8 / 255, 'steps': 1}
    return QuietRunner(
        model=build_model(tiny_segformer()),
        work_dir=str(work_dir),
        train_dataloader=loader(),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': iterations, 'val_interval': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.05}},
        val_dataloader=loader(4),
        val_evaluator={'type': 'paif_mm.PairIoUMetric'},
        val_cfg={},
        custom_hooks=[
            {'type': 'EMAHook', 'momentum': MOMENTUM, 'update_buffers': True},
            {'type': 'paif_mm.FusionLossHook'},
            {'type': 'paif_mm.AdversarialAttackHook', 'attack': attack},
            {'type': 'paif_mm.AdversarialAttackHook', 'attack': measured, 'phases': ('val',)},
            Statistics(),
        ],
        default_hooks={
            'checkpoint': {'type': 'paif_mm.ResumableCheckpointHook', 'interval': 2, 'by_epoch': False},
            'logger': {'type': 'LoggerHook', 'log_metric_by_epoch': False},
        },
        log_processor={'by_epoch': False},
        randomness={'seed': 0},
        resume=resume,
        experiment_name=f'{work_dir}_{iterations}'.replace('/', '_'),
        default_scope='mmseg',
    )


def test_averages_go_on_after_a_resume_with_their_own_statistics(tmp_path):
    whole = training(tmp_path / 'whole', 6)
    whole.train()
    training(tmp_path / 'parts', 4).train()
    again = training(tmp_path / 'parts', 6, resume=True)
    again.train()
    ends = [load_checkpoint_file(tmp_path / name / 'iter_6.pth') for name in ('whole', 'parts')]
    for key in ('state_dict', 'ema_state_dict'):
        for name, value in ends[0][key].items():
            torch.testing.assert_close(ends[1][key][name], value, msg=lambda text, name=name: f'{name}: {text}')
    means = next(hook for hook in whole.hooks if isinstance(hook, Statistics)).seen
    expected = means[0]
    for mean in means[1:]:
        expected = (1 - MOMENTUM) * expected + MOMENTUM * mean
    averaged = next(hook for hook in whole.hooks if isinstance(hook, EMAHook)).ema_model.module
    torch.testing.assert_close(averaged.decode_head.convs[0].bn.running_mean, expected)
    torch.testing.assert_close(ends[0]['state_dict']['decode_head.convs.0.bn.running_mean'], expected)
    assert not torch.allclose(expected, means[-1])
    audits = [line for log in tmp_path.rglob('*.log') for line in log.read_text().splitlines() if 'audit:' in line]
    assert len(audits) == 7, 'a resumed training begins with the validation that was due'
    assert all(line.endswith('model unchanged') for line in audits)
