"""The search as users type it: search, look, retrain; killed and resumed; in two processes."""

import json
import os
import signal
import sys

import pytest
import torch
from conftest import REPO
from test_tools.commands import config_file, environment, kill_after, launch, run, signal_after, weights

SEARCH = """
train_cfg = dict(max_iters=6, warmup_iters=1, arch_interval=2, val_interval=6)
custom_hooks = [
    dict(type='paif_mm.FusionLossHook'),
    dict(type='paif_mm.AdversarialAttackHook', attack=dict(type='PGD', eps=2 / 255, steps=3, keep='last'), ratio=0.5),
    dict(type='paif_mm.ArchitectureHook', interval=1),
]
"""


def search_config(folder, data, kind='hds'):
    path = config_file(folder, data, kind)
    text = path.read_text()
    path.write_text(text[: text.index('train_cfg =')] + text[text.index('default_hooks =') :] + SEARCH)
    return path


@pytest.mark.gpu
def test_a_search_runs_in_mixed_precision(synthetic_root, tmp_path):
    run('train.py', search_config(tmp_path, synthetic_root), '--work-dir', tmp_path / 'run', '--amp')
    state = weights(tmp_path / 'run', 6)
    assert all(torch.isfinite(value).all() for value in state.values())
    assert all(value.abs().max() > 0 for value in alphas(state).values())


@pytest.fixture(scope='module')
def searched(tmp_path_factory, synthetic_root):
    """A config and the work dir of an uninterrupted search of 6 iterations, two of them with an architecture step."""
    folder = tmp_path_factory.mktemp('searched')
    config = search_config(folder, synthetic_root)
    return config, folder / 'run', run('train.py', config, '--work-dir', folder / 'run')


def genotype(work_dir) -> dict:
    return json.loads((work_dir / 'genotype.json').read_text())


def alphas(state: dict) -> dict:
    return {key: value for key, value in state.items() if key.endswith('.alpha')}


def test_a_search_reports_and_writes_its_genotype(searched):
    _, work_dir, done = searched
    console = done.stdout + done.stderr
    assert 'architecture: ir.0 ' in console
    assert 'eta' in console
    assert 'alphas.lr: 3.0000e+00' in console
    assert 'loss_val' in console
    assert 'genotype written to' in console
    assert len(console.splitlines()) < 120
    content = genotype(work_dir)
    assert content['iteration'] == 6
    assert len(alphas(weights(work_dir, 6))) == 6
    lines = [json.loads(line) for line in (work_dir / 'architecture.jsonl').read_text().splitlines()]
    assert [line['iter'] for line in lines] == [0, 1, 2, 3, 4, 5, 6]
    changed = [a['probabilities'] != b['probabilities'] for a, b in zip(lines, lines[1:], strict=False)]
    assert changed == [False, False, True, False, True, False]


@pytest.mark.slow
def test_a_search_that_is_told_to_stop_resumes_as_if_nothing_had_happened(searched, tmp_path):
    config, uninterrupted, _ = searched
    assert signal_after(2, signal.SIGTERM, config, tmp_path) == 143
    run('train.py', config, '--work-dir', tmp_path, '--resume')
    expected, resumed = weights(uninterrupted, 6), weights(tmp_path, 6)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert genotype(tmp_path) == genotype(uninterrupted)
    history = [(folder / 'architecture.jsonl').read_text() for folder in (tmp_path, uninterrupted)]
    assert history[0] == history[1]


def test_a_killed_search_resumes_as_if_nothing_had_happened(searched, tmp_path):
    """Weights, alphas, both optimizers and the history, bit for bit; one architecture step before, one after."""
    config, uninterrupted, _ = searched
    kill_after(4, config, tmp_path)
    assert genotype(tmp_path)['iteration'] >= 4
    run('train.py', config, '--work-dir', tmp_path, '--resume')
    expected, resumed = weights(uninterrupted, 6), weights(tmp_path, 6)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    early = alphas(weights(tmp_path, 4))
    assert all(not torch.equal(early[key], resumed[key]) for key in early), 'alphas went on moving'
    assert genotype(tmp_path) == genotype(uninterrupted)
    history = [(folder / 'architecture.jsonl').read_text() for folder in (tmp_path, uninterrupted)]
    assert history[0] == history[1]
    optimizers = [torch.load(f / 'iter_6.pth', weights_only=False)['optimizer'] for f in (tmp_path, uninterrupted)]
    for a, b in zip(*(list(o['weights']['state'].values()) for o in optimizers), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert [o['alphas']['param_groups'][0]['lr'] for o in optimizers] == [3.0, 3.0]


def test_the_second_command_retrains_what_was_found(searched, synthetic_root, tmp_path):
    _, work_dir, _ = searched
    config = config_file(tmp_path, synthetic_root, 'hds_retrain_sat', iters=2)
    fusion = 'model.data_preprocessor.fusion'
    warm = f'{fusion}.init_from_supernet={work_dir / "iter_6.pth"}'
    options = ['--cfg-options', f'{fusion}.genotype={work_dir / "genotype.json"}', warm, 'optim_wrapper.optimizer.lr=0']
    run('train.py', config, '--work-dir', tmp_path / 'run', *options)
    retrained, supernet = weights(tmp_path / 'run', 2), weights(work_dir, 6)
    name = genotype(work_dir)['vis'][0]
    inherited = f'data_preprocessor.fusion.vis.chain.0.candidates.{name}.'
    keys = [key for key in supernet if key.startswith(inherited) and key.endswith('weight')]
    assert keys
    for key in keys:
        assert torch.equal(retrained[key.replace(f'candidates.{name}.', '')], supernet[key]), 'a warm start'


def test_a_missing_genotype_is_named(synthetic_root, tmp_path):
    config = config_file(tmp_path, synthetic_root, 'hds_retrain_sat')
    done = run('train.py', config, '--cfg-options', 'model.data_preprocessor.fusion.genotype=no.json', check=False)
    assert done.returncode != 0
    assert "genotype 'no.json' is neither a file nor a name" in done.stderr


@pytest.mark.slow
def test_two_processes_search_the_same_architecture(searched, tmp_path):
    """Each rank sees other pairs; their alphas stay one."""
    config, work_dir, _ = searched
    (tmp_path / 'same_on_all_ranks.py').write_text(SAME_ON_ALL_RANKS)
    compared = tmp_path / 'compared.py'
    text = config.read_text().replace('paif_mm.ArchitectureHook', 'SameOnAllRanks')
    compared.write_text(text + "custom_imports = dict(imports=['paif_mm', 'same_on_all_ranks'])\n")
    script = [str(REPO / 'tools' / 'dist_train.sh'), str(compared), '2', '--work-dir', str(tmp_path)]
    bin_path = f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'
    launch(script, {**environment(tmp_path), 'PORT': '29613', 'PATH': bin_path, 'REPORT': str(tmp_path)})
    single, double = alphas(weights(work_dir, 6)), alphas(weights(tmp_path, 6))
    assert all(not torch.equal(single[key], double[key]) for key in single), 'two ranks see other batches'
    assert (tmp_path / 'same').read_text() == '2 ranks, 7 times'
    assert genotype(tmp_path)['iteration'] == 6


SAME_ON_ALL_RANKS = """
import os
import torch
from mmengine.dist import all_gather, is_main_process
from mmengine.registry import HOOKS
from paif_mm.search import ArchitectureHook

@HOOKS.register_module()
class SameOnAllRanks(ArchitectureHook):
    times = 0

    def before_train(self, runner):
        super().before_train(runner)
        self.compare()

    def after_train_iter(self, runner, *args, **kwargs):
        super().after_train_iter(runner, *args, **kwargs)
        self.compare()

    def compare(self):
        gathered = all_gather(torch.cat(self.supernet.alphas()).detach())
        assert all(torch.equal(gathered[0], other) for other in gathered)
        self.times += 1
        if is_main_process():
            with open(os.environ['REPORT'] + '/same', 'w') as file:
                file.write(f'{len(gathered)} ranks, {self.times} times')
"""


def test_show_genotype_prints_the_choices_and_draws_the_network(searched, tmp_path):
    _, work_dir, _ = searched
    done = run('show_genotype.py', work_dir / 'genotype.json', '--out', tmp_path / 'drawn.png')
    assert 'GFLOPs at 480x640' in done.stdout
    assert 'searched for 6 iterations' in done.stdout
    assert (tmp_path / 'drawn.png').read_bytes().startswith(b'\x89PNG')
    done = run('show_genotype.py', 'paif', '--out', tmp_path / 'paif.png')
    assert '259,871 parameters' in done.stdout
    edited = {**genotype(work_dir), 'ir': ['7-DB', 'TB']}
    (tmp_path / 'edited.json').write_text(json.dumps(edited))
    done = run('show_genotype.py', tmp_path / 'edited.json')
    assert '7-DB' in done.stdout
    assert 'softmax weight' not in done.stdout
    (tmp_path / 'cut.json').write_text('{"ir": [')
    done = run('show_genotype.py', tmp_path / 'cut.json', check=False)
    assert done.returncode == 1
    assert 'cut.json' in done.stderr
    assert len(done.stderr.splitlines()) == 1
