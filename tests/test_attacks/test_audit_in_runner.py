"""The audit line in the validations of a training and in a test by the config alone, whatever other hooks do."""

import pytest
import torch
from helpers import build_model, tiny_segformer
from mmengine.hooks import Hook
from mmengine.runner import Runner
from searching import loader

import paif_mm  # noqa: F401
from paif_mm.attacks.frozen import unwrap


class Meddler(Hook):
    """Changes a weight in the middle of an evaluation."""

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 1:
            with torch.no_grad():
                next(unwrap(runner.model).parameters()).add_(1)


def runner_with(work_dir, hooks, phases=('val', 'test')) -> Runner:
    attack = {'type': 'PGD', 'eps': 8 / 255, 'steps': 1}
    evaluation = {'dataloader': loader(6), 'evaluator': {'type': 'paif_mm.PairIoUMetric'}, 'cfg': {}}
    return Runner(
        model=build_model(tiny_segformer()),
        work_dir=str(work_dir),
        train_dataloader=loader(),
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 4, 'val_interval': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        **{f'{phase}_{key}': value for phase in ('val', 'test') for key, value in evaluation.items()},
        custom_hooks=[*hooks, {'type': 'paif_mm.AdversarialAttackHook', 'attack': attack, 'phases': phases}],
        default_hooks={'checkpoint': None, 'logger': {'type': 'LoggerHook', 'log_metric_by_epoch': False}},
        log_processor={'by_epoch': False},
        randomness={'seed': 0},
        experiment_name=str(work_dir).replace('/', '_'),
        default_scope='mmseg',
    )


def audits(work_dir) -> list[str]:
    (log,) = work_dir.rglob('*.log')
    return [line for line in log.read_text().splitlines() if 'audit:' in line]


@pytest.mark.parametrize('hooks', [[], [{'type': 'EMAHook', 'momentum': 0.5}]], ids=['alone', 'beside EMA'])
def test_validations_of_a_training_report_an_unchanged_model(tmp_path, hooks):
    runner_with(tmp_path, hooks, ('train', 'val')).train()
    first, second = audits(tmp_path)
    for line in (first, second):
        assert 'audit: 6 images, max |delta| ir 8.000/255, vis 8.000/255' in line
        assert line.endswith('model unchanged')


def test_tests_by_the_config_alone_do_too(tmp_path):
    runner = runner_with(tmp_path, [])
    runner.test()
    runner.test()
    assert [line[-15:] for line in audits(tmp_path)] == ['model unchanged'] * 2
    assert audits(tmp_path)[0].split('audit')[1] == audits(tmp_path)[1].split('audit')[1], 'the same random starts'


def test_a_change_in_the_middle_is_reported(tmp_path):
    runner = runner_with(tmp_path, [Meddler()])
    runner.val()
    (line,) = audits(tmp_path)
    assert line.endswith('model CHANGED')
