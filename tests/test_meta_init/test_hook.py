"""Meta-initialisation before training: what it changes, saves, resumes and shares."""

import os
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import REPO, environment
from helpers import build_model, tiny_segformer
from test_meta_init.banks import noise_bank

from paif_mm.attacks import AttackBank
from paif_mm.compat import load_checkpoint_file
from paif_mm.engine.preemption import CODES, listening
from paif_mm.fusion import FusionNet
from paif_mm.meta_init import AATMetaInitHook, MetaBatches
from paif_mm.perception import FusionDataPreprocessor

FAST = {
    'iters': 3,
    'inner_steps': 2,
    'inner_lr': 0.01,
    'optimizer': {'type': 'SGD', 'lr': 0.02, 'momentum': 0.9},
    'warm_start_iters': 3,
    'warm_start_optimizer': {'type': 'Adam', 'lr': 1e-3},
    'batch_size': 2,
    'crop_size': (24, 32),
    'num_workers': 0,
    'save_interval': 1,
    'log_interval': 1,
}


@pytest.fixture(scope='module')
def bank(tmp_path_factory):
    return noise_bank(tmp_path_factory.mktemp('bank'))


def fake_runner(work_dir, fusion=None, resume=False, iteration=0, lines=None):
    lines = [] if lines is None else lines
    logger = SimpleNamespace(info=lines.append, warning=lines.append)
    return SimpleNamespace(
        model=build_model(tiny_segformer(fusion)),
        work_dir=str(work_dir),
        iter=iteration,
        _resume=resume,
        _randomness_cfg={'seed': 0},
        logger=logger,
    )


def run(work_dir, bank, fusion=None, resume=False, lines=None, **settings) -> dict:
    work_dir.mkdir(exist_ok=True)
    runner = fake_runner(work_dir, fusion, resume, lines=lines)
    AATMetaInitHook(str(bank.folder), **{**FAST, **settings}).before_train(runner)
    return {key: value.clone() for key, value in runner.model.data_preprocessor.fusion.state_dict().items()}


def test_it_moves_the_fusion_network_alone_and_saves_it_for_use_on_its_own(bank, tmp_path):
    runner = fake_runner(tmp_path)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    AATMetaInitHook(str(bank.folder), **FAST).before_train(runner)
    after = runner.model.state_dict()
    prefix = 'data_preprocessor.fusion.'
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith(prefix))
    weights = [key for key in before if key.startswith(prefix) and key.endswith('weight')]
    assert all(not torch.equal(before[key], after[key]) for key in weights)
    statistics = [key for key in before if key.endswith('fusion.chain.1.norm.running_mean')]
    assert statistics
    assert not torch.equal(before[statistics[0]], after[statistics[0]]), 'set by the warm start'
    alone = FusionNet(channels=4, init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'theta_prime.pth')})
    alone.init_weights()
    assert all(torch.equal(value, after[prefix + key]) for key, value in alone.state_dict().items())
    assert not (tmp_path / 'meta_init.pth').exists()


def losses(line: str) -> dict:
    """'L_F before ...: small .1 -> .2, ...' -> {'small': (.1, .2), ...}."""
    scenes = (part.split() for part in line.split(': ')[1].split(', '))
    return {name: (float(before), float(after)) for name, before, _, after in scenes}


def test_the_fusion_loss_of_every_scene_falls(bank, tmp_path):
    lines = []
    run(tmp_path, bank, lines=lines, iters=15, warm_start_iters=5, optimizer={'type': 'Adam', 'lr': 5e-3})
    before, after = (losses(next(line for line in lines if f'L_F {when}' in line)) for when in ('before', 'after'))
    assert list(before) == ['small', 'moderate', 'heavy']
    assert all(after[scene][0] < before[scene][0] for scene in before)
    assert all(adapted < unadapted for unadapted, adapted in before.values()), 'inner steps adapt'
    progress = [line for line in lines if line.startswith('AAT meta [')]
    assert len(progress) == 15
    assert 'eta: ' in progress[0]
    assert 'heavy' in progress[0]


@pytest.mark.parametrize(
    ('stop', 'second_order'), [(2, True), (4, False)], ids=['in the meta stage', 'in the warm start']
)
def test_killed_and_resumed_equals_uninterrupted(bank, tmp_path, monkeypatch, stop, second_order):
    expected = run(tmp_path / 'a', bank, second_order=second_order)
    state = torch.get_rng_state()
    saved, calls = AATMetaInitHook._save, []

    def killed(self, *args):
        saved(self, *args)
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(AATMetaInitHook, '_save', killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'b', bank, second_order=second_order)
    monkeypatch.setattr(AATMetaInitHook, '_save', saved)
    resumed = run(tmp_path / 'b', bank, resume=True, second_order=second_order)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert torch.equal(state, torch.get_rng_state()), 'training draws the same numbers after it'


def test_told_to_stop_and_resumed_equals_uninterrupted(bank, tmp_path, monkeypatch):
    settings, reduced, iteration = {'save_interval': 100}, [], 2
    expected = run(tmp_path / 'a', bank, **settings)

    def told(*args, **kwargs):
        reduced.append(1)
        if len(reduced) == iteration:
            os.kill(os.getpid(), signal.SIGUSR1)

    handlers = {number: signal.getsignal(number) for number in CODES}
    monkeypatch.setattr('paif_mm.meta_init.hook.all_reduce_params', told)
    with pytest.raises(SystemExit) as caught, listening():
        run(tmp_path / 'b', bank, **settings)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert caught.value.code == 75
    assert len(reduced) == iteration, 'not one more'
    monkeypatch.undo()
    resumed = run(tmp_path / 'b', bank, resume=True, **settings)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def run_again(work_dir, bank, resume=True, seed=0, **settings) -> tuple[dict, list]:
    """Another start in a work dir with a finished theta', as after a kill; N's weights then, and what was said."""
    runner = fake_runner(work_dir, resume=resume, lines=(lines := []))
    runner._randomness_cfg['seed'] = seed
    AATMetaInitHook(str(bank.folder), **{**FAST, **settings}).before_train(runner)
    return runner.model.data_preprocessor.fusion.state_dict(), lines


def begun(lines) -> bool:
    return any('L_F before' in line for line in lines)


def test_a_finished_theta_prime_is_taken_up_with_its_random_states(bank, tmp_path, monkeypatch):
    expected = run(tmp_path, bank)
    after = torch.get_rng_state()
    monkeypatch.setattr(AATMetaInitHook, '_descend', None)  # nothing is computed
    torch.rand(3)
    resumed, lines = run_again(tmp_path, bank)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected), 'weights and statistics'
    assert torch.equal(after, torch.get_rng_state())
    assert len(lines) == 1


def test_theta_prime_is_not_taken_up_without_resuming_or_under_other_settings(bank, tmp_path):
    run(tmp_path, bank)
    assert begun(run_again(tmp_path, bank, resume=False)[1])
    for settings in (
        {'iters': 2},
        {'inner_lr': 0.1},
        {'loss': {'type': 'FusionLoss', 'ssim_weight': 3.0}},
        {'clean_scene': True},
    ):
        _, lines = run_again(tmp_path, bank, **settings)
        assert 'theta_prime.pth is not taken up' in lines[0]
        assert begun(lines)
    other = noise_bank(tmp_path / 'other bank', count=5)
    assert begun(run_again(tmp_path, other, clean_scene=True)[1])
    assert not begun(run_again(tmp_path, other, clean_scene=True, log_interval=2)[1]), (
        'what is only said does not count'
    )


def test_theta_prime_of_other_first_weights_is_not_taken_up(bank, tmp_path, monkeypatch):
    """As of another seed or another load_from; without a seed all starts differ, and none is meant."""
    run(tmp_path, bank)
    monkeypatch.setitem(globals(), 'build_model', partial(build_model, seed=1))
    assert begun(run_again(tmp_path, bank)[1])
    run_again(tmp_path, bank, resume=False, seed=None)
    monkeypatch.setitem(globals(), 'build_model', partial(build_model, seed=2))
    assert not begun(run_again(tmp_path, bank, seed=None)[1])


def test_the_beginning_of_other_settings_is_not_taken_up(bank, tmp_path, monkeypatch):
    def killed(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    save = AATMetaInitHook._save
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AATMetaInitHook, '_save', killed)
        run(tmp_path, bank)
    expected = run(tmp_path.parent / f'{tmp_path.name}-whole', bank, inner_lr=0.1)
    resumed, lines = run_again(tmp_path, bank, inner_lr=0.1)
    assert 'meta_init.pth is not taken up' in lines[0]
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_orders_differ(bank, tmp_path):
    first, second = (run(tmp_path / str(order), bank, second_order=order) for order in (False, True))
    assert any(not torch.allclose(first[key], second[key], rtol=1e-4, atol=1e-6) for key in first)


def test_a_bank_is_decoded_once_or_read_as_it_is(tmp_path, monkeypatch):
    bank, lines = noise_bank(tmp_path / 'bank'), []
    with monkeypatch.context() as patch:
        patch.setattr(AttackBank, 'unpack', refused)
        slow = run(tmp_path / 'images', bank, lines=lines)
    reason = 'can not be written or mapped (Read-only file system)'
    assert lines[0] == f'{bank.folder}/pixels.bin {reason}: every crop decodes its image'
    fast = run(tmp_path / 'pixels', bank, lines=lines)
    assert sum('decoded to pixels.bin' in line for line in lines) == 1
    run(tmp_path / 'again', bank, lines=lines)
    assert sum('decoded to pixels.bin' in line for line in lines) == 1
    assert all(torch.equal(slow[key], fast[key]) for key in slow)


@pytest.mark.parametrize(
    ('main', 'local_rank', 'mapped', 'expected'),
    [
        (True, '0', [True, True], True),
        (False, '0', [True, True], True),
        (False, None, [True, True], True),
        (False, '1', [True, True], False),
        (False, '1', [False, True], True),
    ],
    ids=['first of all', 'first of its machine', 'unknown', 'another', 'another, whose first could not'],
)
def test_one_process_of_a_machine_checks_the_pixels(bank, tmp_path, monkeypatch, main, local_rank, mapped, expected):
    told = []
    monkeypatch.setattr('paif_mm.meta_init.hook.is_main_process', lambda: main)
    monkeypatch.setattr('paif_mm.meta_init.hook.all_gather_object', lambda own: [own, *mapped])
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if local_rank is not None:
        monkeypatch.setenv('LOCAL_RANK', local_rank)
    monkeypatch.setattr(AttackBank, 'unpack', lambda self, check: told.append(check))
    hook = AATMetaInitHook(str(bank.folder), **FAST)
    hook.runner = fake_runner(tmp_path)
    hook._unpack(bank)
    assert told == [expected]


def refused(bank, check):
    raise OSError(30, 'Read-only file system')


def test_exact_gradients_through_synchronised_norms_are_refused(bank, tmp_path, monkeypatch):
    runner = fake_runner(tmp_path)
    runner.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(runner.model)
    monkeypatch.setattr('paif_mm.meta_init.hook.get_world_size', lambda: 2)
    with pytest.raises(TypeError, match='second_order=True of AATMetaInitHook .* leave out sync_bn'):
        AATMetaInitHook(str(bank.folder), **FAST, second_order=True).before_train(runner)


def test_a_clean_scene_can_be_added(bank, tmp_path):
    lines = []
    run(tmp_path, bank, lines=lines, clean_scene=True, iters=1, warm_start_iters=1)
    assert list(losses(next(line for line in lines if 'L_F before' in line))) == ['clean', 'small', 'moderate', 'heavy']


def test_any_registered_fusion_network_can_be_initialised(bank, tmp_path):
    fusion = {'type': 'FusionBaseline', 'operation': '3-RB', 'rule': 'MAX', 'channels': 4, 'depth': 1}
    state = run(tmp_path, bank, fusion=fusion)
    start = build_model(tiny_segformer(fusion)).data_preprocessor.fusion.state_dict()
    assert any(not torch.equal(start[key], state[key]) for key in start)


def test_a_run_resumed_past_it_skips_it(bank, tmp_path):
    runner = fake_runner(tmp_path, iteration=5, lines=(lines := []))
    AATMetaInitHook('nowhere').before_train(runner)
    assert 'skipped' in lines[0]


def test_a_missing_bank_is_answered_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match='python tools/craft_attacks.py SOURCE_CONFIG SOURCE_CHECKPOINT'):
        AATMetaInitHook(str(tmp_path / 'no_bank')).before_train(fake_runner(tmp_path))


def test_a_model_without_a_fusion_network_is_refused(tmp_path):
    runner = fake_runner(tmp_path)
    runner.model.data_preprocessor = runner.model.data_preprocessor.task
    assert not isinstance(runner.model.data_preprocessor, FusionDataPreprocessor)
    with pytest.raises(TypeError, match='FusionDataPreprocessor'):
        AATMetaInitHook('nowhere').before_train(runner)


def test_batches_are_drawn_from_their_parts_and_depend_on_the_iteration_alone(bank):
    batches = MetaBatches(bank, 2, 3, (24, 32), False, length=10)
    assert not set(batches.parts['train']) & set(batches.parts['val'])
    assert set(batches.parts['train']) | set(batches.parts['val']) == set(bank.names)
    first, again, other = batches[4], batches[4], batches[5]
    assert [len(pairs) for pairs in first.values()] == [3, 3, 3]
    attacked, clean = first['heavy'][0]
    assert attacked.shape == clean.shape == (3, 4, 24, 32)
    assert 0 < (attacked.int() - clean.int()).abs().max() <= 4
    assert torch.equal(attacked, again['heavy'][0][0])
    assert not torch.equal(attacked, other['heavy'][0][0])
    another_rank = MetaBatches(bank, 2, 3, (24, 32), False, length=10, rank=1)
    assert another_rank.parts == batches.parts
    assert not torch.equal(attacked, another_rank[4]['heavy'][0][0])
    whole = MetaBatches(bank, 0, 1, None, False, length=1)[0]['small'][0][0]
    assert whole.shape == (1, 4, 40, 48)


def test_too_small_a_bank_is_refused(tmp_path):
    with pytest.raises(ValueError, match='1 pairs of the bank .* leave one part empty'):
        MetaBatches(noise_bank(tmp_path, count=1), 1, 1, None, False, length=1)


WORKER = """
import sys, torch
from pathlib import Path
from mmengine.config import ConfigDict
from mmengine.dist import all_gather
from paif_mm.attacks import bank
from paif_mm.compat import init_cpu_distributed
from paif_mm.files import file_hash
from paif_mm.meta_init import AATMetaInitHook
from test_meta_init.test_hook import FAST, fake_runner

init_cpu_distributed(ConfigDict(launcher='pytorch', model={}))
lines, hashed = [], []
bank.file_hash = lambda path: hashed.append(Path(path).name) or file_hash(path)
runner = fake_runner(Path(sys.argv[2]), lines=lines)
AATMetaInitHook(sys.argv[1], **FAST).before_train(runner)
for key, value in runner.model.data_preprocessor.fusion.state_dict().items():
    gathered = all_gather(value)
    assert all(torch.equal(gathered[0], other) for other in gathered), key
first = next(line for line in lines if line.startswith('AAT meta'))
seen = all_gather(torch.tensor([float(first.split('heavy ')[1])]))
assert seen[0] != seen[1], 'ranks see batches of their own'
if torch.distributed.get_rank() == 1:
    assert 'manifest.json' in hashed
    assert bank.PIXELS not in hashed, 'another process of this machine has checked them'
if torch.distributed.get_rank() == 0:
    print('identical on', torch.distributed.get_world_size())
torch.distributed.destroy_process_group()
"""


def test_theta_prime_is_identical_on_two_ranks_and_made_of_both(bank, tmp_path):
    worker = tmp_path / 'worker.py'
    worker.write_text(WORKER)
    launch = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29615']
    done = subprocess.run(
        [*launch, str(worker), str(bank.folder), str(tmp_path)],
        env=environment(REPO / 'tests'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'identical on 2' in done.stdout
    shared = load_checkpoint_file(str(tmp_path / 'theta_prime.pth'))['state_dict']
    alone = run(tmp_path / 'alone', bank)
    assert any(not torch.equal(shared[key], alone[key]) for key in alone), 'two ranks see more batches than one'
