"""A training goes on from its own checkpoint, wherever its folder is."""

import shutil

import pytest
import torch
from mmengine.logging import MessageHub
from trainings import files, train

from paif_mm.engine.resuming import NoCheckpointError, adopt_paths, checkpoint_folder, latest_checkpoint


def saved(folder, *names, last=None):
    for name in names:
        torch.save({'state_dict': {}}, folder / name)
    if last:
        (folder / 'last_checkpoint').write_text(f'/elsewhere/{last}')


def cut_off(path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def latest(folder) -> str | None:
    found = latest_checkpoint(folder)
    return found and found.removeprefix(f'{folder}/')


def test_the_named_checkpoint_of_the_own_folder_is_taken(tmp_path):
    saved(tmp_path, 'iter_2.pth', 'iter_10.pth', 'best_mIoU_iter_12.pth', last='iter_2.pth')
    assert latest(tmp_path) == 'iter_2.pth'


def test_without_a_name_the_latest_is_taken(tmp_path):
    saved(tmp_path, 'iter_2.pth', 'iter_10.pth', 'best_mIoU_iter_12.pth', 'theta_prime.pth', last='iter_8.pth')
    assert latest(tmp_path) == 'iter_10.pth'
    (tmp_path / 'last_checkpoint').write_text('')  # cut off
    assert latest(tmp_path) == 'iter_10.pth'


def test_a_checkpoint_that_is_cut_off_is_passed_over(tmp_path, caplog):
    saved(tmp_path, 'epoch_1.pth', 'epoch_2.pth', last='epoch_2.pth')
    cut_off(tmp_path / 'epoch_2.pth')
    assert latest(tmp_path) == 'epoch_1.pth'
    cut_off(tmp_path / 'epoch_1.pth')
    with pytest.raises(
        FileNotFoundError, match='holds no whole checkpoint, though .*last_checkpoint names epoch_2.pth'
    ):
        latest(tmp_path)


def test_nothing_yet_is_nothing(tmp_path):
    assert latest(tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_2.pth')
    with pytest.raises(NoCheckpointError, match='put it back, or start without --resume'):
        latest(tmp_path)


def test_a_name_of_ones_own_is_found(tmp_path):
    saved(tmp_path, 'step5.pth', 'iter_2.pth', last='step5.pth')
    assert latest(tmp_path) == 'step5.pth'


def test_remembered_paths_become_those_of_the_folder():
    hub = MessageHub('adopt')
    for key, value in {'last_ckpt': '/a/iter_2.pth', 'best_ckpt_mIoU': '/a/best.pth', 'best_score': 3.0}.items():
        hub.update_info(key, value)
    adopt_paths(hub, '/b')
    assert hub.runtime_info['last_ckpt'] == '/b/iter_2.pth'
    assert hub.runtime_info['best_ckpt_mIoU'] == '/b/best.pth'
    assert hub.runtime_info['best_score'] == 3.0


# ------------------------------------------------------------------------------------------------ whole trainings


@pytest.mark.parametrize('hook', ['paif_mm.ResumableCheckpointHook', 'CheckpointHook'])
def test_a_copy_goes_on_alone_and_deletes_only_its_own(tmp_path, hook):
    """With ``save_best`` and ``max_keep_ckpts``: mmengine would remove the other folder's best checkpoint."""
    settings = {'hook': hook, 'save_best': 'score', 'rule': 'greater', 'max_keep_ckpts': 1}
    train(tmp_path / 'a', 2, f'{hook}1', **settings)
    assert files(tmp_path / 'a') == {'iter_2.pth', 'best_score_iter_2.pth'}
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    runner = train(tmp_path / 'b', 4, f'{hook}2', resume=True, **settings)
    assert runner.iter == 4
    assert files(tmp_path / 'a') == {'iter_2.pth', 'best_score_iter_2.pth'}, 'the other folder is as it was'
    assert files(tmp_path / 'b') == {'iter_4.pth', 'best_score_iter_4.pth'}, 'and this one holds no leftovers'
    assert (tmp_path / 'b/last_checkpoint').read_text() == str(tmp_path / 'b/iter_4.pth')


def test_a_training_whose_checkpoints_are_elsewhere_finds_them(tmp_path):
    for iters, resume in ((1, False), (2, True)):
        runner = train(tmp_path / 'run', iters, f'elsewhere{iters}', resume=resume, out_dir=str(tmp_path / 'out'))
    assert runner.iter == 2
    assert 'iter_2.pth' in files(tmp_path / 'out/run')


def test_a_kill_while_writing_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    train(tmp_path, 1, 'whole')
    before = (tmp_path / 'iter_1.pth').read_bytes()
    monkeypatch.setattr('os.replace', killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 1, 'killed')
    monkeypatch.undo()
    assert (tmp_path / 'iter_1.pth').read_bytes() == before
    assert train(tmp_path, 2, 'resumed', resume=True).iter == 2


def test_no_workers_need_no_second_setting(tmp_path):
    assert train(tmp_path, 1, 'workers').train_dataloader.persistent_workers is False


@pytest.mark.parametrize(
    ('out_dir', 'folder'),
    [(None, 'runs/a'), ('runs/a', 'runs/a'), ('other', 'other/a'), ('far://bucket', 'far://bucket/a')],
)
def test_checkpoints_are_looked_for_where_mmengine_writes_them(out_dir, folder):
    assert checkpoint_folder('runs/a', out_dir) == folder


def test_the_named_checkpoint_of_a_remote_folder_is_taken(tmp_path):
    assert latest_checkpoint('far://bucket/a', tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text('far://elsewhere/a/iter_2.pth')
    assert latest_checkpoint('far://bucket/a', tmp_path) == 'far://bucket/a/iter_2.pth'
