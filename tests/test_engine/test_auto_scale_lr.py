"""Learning rates for other batches than those that they are made for."""

import json
import logging
from types import SimpleNamespace

import pytest
from helpers import build_model, tiny_segformer
from searching import OPTIM
from test_tools.commands import config_file, run
from trainings import train

from paif_mm.engine.runner import QuietRunner
from paif_mm.search.optim import HDSOptimWrapperConstructor

SCALE = {'enable': True, 'base_batch_size': 4}  # the trainings have batches of 2 and a rate of .1


@pytest.mark.parametrize(
    ('scale', 'accumulated', 'rate'),
    [(SCALE, 1, 0.05), (SCALE, 4, 0.2), ({**SCALE, 'enable': False}, 4, 0.1), (None, 1, 0.1)],
)
def test_rates_follow_the_batch_that_a_step_is_made_of(tmp_path, scale, accumulated, rate):
    optim = {'optimizer': {'type': 'SGD', 'lr': 0.1}, 'accumulative_counts': accumulated}
    schedule = {'type': 'LinearLR', 'start_factor': 0.5, 'by_epoch': False, 'begin': 0, 'end': 3}
    more = {'auto_scale_lr': scale, 'optim_wrapper': optim, 'param_scheduler': schedule}
    runner = train(tmp_path, 1, f'scaled_{rate}_{accumulated}', more=more)
    group = runner.optim_wrapper.optimizer.param_groups[0]
    assert group['initial_lr'] == pytest.approx(rate)
    assert group['lr'] == pytest.approx(rate * 0.75), 'schedules start from the scaled rate'


def test_both_rates_of_a_search_follow_it():
    model = build_model(tiny_segformer({'type': 'FusionSupernet', 'channels': 4}))
    wrapper = HDSOptimWrapperConstructor({**{key: OPTIM[key] for key in ('weights', 'alphas')}})(model)
    runner = SimpleNamespace(_train_dataloader={'batch_size': 4}, world_size=3, logger=logging.getLogger('scaled'))
    QuietRunner.scale_lr(runner, wrapper, SCALE)
    assert {key: value[0] for key, value in wrapper.get_lr().items() if key.endswith('.lr')} == pytest.approx(
        {'weights.lr': 0.03, 'alphas.lr': 3.0}
    )


@pytest.mark.slow
def test_the_flag_of_the_tool(synthetic_root, tmp_path):
    config = config_file(tmp_path, synthetic_root, 'general', iters=3)
    options = ('--cfg-options', 'train_dataloader.batch_size=6', 'default_hooks.logger.interval=1')
    rates = []
    for name, flag in (('plain', ()), ('scaled', ('--auto-scale-lr',))):
        done = run('train.py', config, '--work-dir', tmp_path / name, *flag, *options)
        (log,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        rates.append([json.loads(line)['lr'] for line in log.read_text().splitlines() if 'lr' in line])
    assert rates[1] == pytest.approx([1.5 * rate for rate in rates[0]])
    assert len(rates[0]) == 3
    assert 'learning rate scaled by 1.5: batches of 6, made for 4' in done.stdout + done.stderr
    config.write_text(config.read_text() + '\nauto_scale_lr = dict(_delete_=True, enable=False)\n')
    done = run('train.py', config, '--work-dir', tmp_path / 'none', '--auto-scale-lr', check=False)
    assert done.returncode == 1
    assert done.stderr.startswith('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config')
