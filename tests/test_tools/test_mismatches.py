"""Checkpoints, classes and data that do not go together are refused in one line, before anything is computed."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from test_tools import commands, test_detection
from test_tools.test_robustness import call, untrained


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('segmentor')
    return untrained(commands.config_file(folder, synthetic_root, 'general', iters=1), folder)


@pytest.fixture(scope='module')
def detector(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('detector')
    return untrained(test_detection.config_file(folder, synthetic_root, 'general', iters=1), folder)


@pytest.fixture(scope='module')
def unfused(segmentor):
    state = torch.load(segmentor[1])['state_dict']
    path = segmentor[1].with_name('unfused.pth')
    torch.save({'state_dict': {key: value for key, value in state.items() if 'fusion' not in key}}, path)
    return path


count = 0


def type_it(tool, *args, options=()) -> None:
    """In an experiment of its own, where the tool makes one."""
    global count
    count += 1
    if tool in ('train', 'test'):
        options = [*options, f'experiment_name=mismatch{count}', f'visualizer.name=mismatch{count}']
    with pytest.MonkeyPatch.context() as patch:
        call(patch, tool, *args, *(['--cfg-options', *options] if options else []))


def refused(tool, *args, options=()) -> str:
    with pytest.raises(SystemExit) as caught:
        type_it(tool, *args, options=options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_weights_of_another_model_are_not_scored(segmentor, detector, unfused, tmp_path):
    run = ['--work-dir', tmp_path]
    assert 'does not fit FCOS: ' in refused('test', detector[0], segmentor[1], *run)
    said = refused('test', segmentor[0], unfused, *run)
    assert said.startswith(f'{unfused} does not fit EncoderDecoder: ')
    assert 'missing (data_preprocessor.fusion.ir.stem.0.weight, ' in said
    assert said.endswith('it holds no fusion network: its model was not fused')
    assert refused('robustness', segmentor[0], unfused, '--out', tmp_path / 'r') == said
    assert refused('craft_attacks', segmentor[0], unfused, tmp_path / 'bank') == said
    assert refused('craft_attacks', *segmentor, tmp_path / 'bank', '--victim', segmentor[0], unfused) == said
    assert refused('robustness', *segmentor, '--out', tmp_path / 's', '--transfer-from', segmentor[0], unfused) == said
    assert not list(tmp_path.rglob('results.json'))
    assert 'nothing fits' in refused('test', detector[0], segmentor_head_alone(tmp_path), *run), 'not even in part'


def segmentor_head_alone(folder):
    torch.save({'state_dict': {'decode_head.x': torch.zeros(1)}}, folder / 'head.pth')
    return folder / 'head.pth'


def test_a_training_may_start_from_weights_that_fit_in_part_and_says_so(segmentor, unfused, tmp_path):
    type_it('train', segmentor[0], '--work-dir', tmp_path / 'a', options=[f'load_from={unfused}'])
    (log,) = (tmp_path / 'a').glob('*/*.log')
    said = [line for line in log.read_text().splitlines() if 'fits in part' in line]
    assert len(said) == 1
    assert 'weights taken over; ' in said[0]
    assert 'missing (data_preprocessor.fusion' in said[0]


def test_a_training_does_not_start_from_weights_that_do_not_fit_at_all(segmentor, tmp_path):
    path = segmentor_head_alone(tmp_path)
    assert 'nothing fits' in refused('train', segmentor[0], '--work-dir', tmp_path, options=[f'load_from={path}'])
    assert not list(tmp_path.glob('iter_*.pth'))


def test_a_training_without_a_whole_checkpoint_is_not_begun_anew(segmentor, tmp_path):
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_1.pth')
    (tmp_path / 'iter_1.pth').write_bytes(b'half')
    said = refused('train', segmentor[0], '--work-dir', tmp_path, '--resume')
    assert 'put it back, or start without --resume' in said


def test_a_training_does_not_go_on_with_another_model(segmentor, tmp_path):
    type_it('train', segmentor[0], '--work-dir', tmp_path)
    wider = ['model.decode_head.channels=24', 'train_cfg.max_iters=2']
    said = refused('train', segmentor[0], '--work-dir', tmp_path, '--resume', options=wider)
    assert 'of other shapes (decode_head.' in said


@pytest.mark.parametrize('classes', [12, 5])
def test_other_class_counts_are_refused(segmentor, tmp_path, classes):
    wrong = [f'model.decode_head.num_classes={classes}', 'model.decode_head.loss_decode.class_weight=None']
    said = f'model.decode_head.num_classes is {classes}, but the data set has 9 classes (unlabeled, car, '
    assert refused('train', segmentor[0], '--work-dir', tmp_path, options=wrong).startswith(said)
    assert refused('test', *segmentor, '--work-dir', tmp_path, options=wrong).startswith(said)


def test_other_class_counts_of_a_detector_are_refused(detector, tmp_path):
    wrong = ['model.bbox_head.num_classes=4']
    said = 'model.bbox_head.num_classes is 4, but the data set has 3 classes'
    assert said in refused('train', detector[0], '--work-dir', tmp_path, options=wrong)


def test_validation_on_other_classes_is_refused(segmentor, tmp_path):
    classes = 'unlabeled,car,person,bike,curve,car_stop,guardrail,bump,color_cone'
    options = [f'val_dataloader.dataset.metainfo.classes="[{classes}]"']
    said = refused('train', segmentor[0], '--work-dir', tmp_path, options=options)
    assert said.startswith('the classes of val_dataloader.dataset (unlabeled, ')
    assert 'are not those of train_dataloader.dataset' in said


def test_averaged_weights_are_tested(segmentor, tmp_path):
    """EMAHook saves them as the model's, keeps the others beside them, and a test with the hook changes nothing."""
    config = tmp_path / 'ema.py'
    config.write_text(f"_base_ = '{segmentor[0]}'\ncustom_hooks = [dict(type='EMAHook')]\n")
    type_it('train', config, '--work-dir', tmp_path / 'a')
    checkpoint = tmp_path / 'a/iter_1.pth'
    assert 'ema_state_dict' in torch.load(checkpoint, weights_only=False)
    scores = []
    for name, tested in (('with', config), ('without', segmentor[0])):
        type_it('test', tested, checkpoint, '--work-dir', tmp_path / name)
        scores.append(commands.latest_results(tmp_path / name)['clean']['metrics'])
    assert scores[0] == scores[1]
    type_it('train', config, '--work-dir', tmp_path / 'a', '--resume', options=['train_cfg.max_iters=2'])
    assert (tmp_path / 'a/iter_2.pth').is_file()


def test_validation_on_training_pairs_is_said_with_the_count(segmentor, synthetic_root, tmp_path):
    (tmp_path / 'mixed.txt').write_text('\n'.join(['train00000D', 'train00003N', 'val00000D']))
    options = [f'val_dataloader.dataset.ann_file={tmp_path / "mixed.txt"}']
    type_it('train', segmentor[0], '--work-dir', tmp_path / 'run', options=options)
    (log,) = (tmp_path / 'run').rglob('*.log')
    said = [line for line in log.read_text().splitlines() if 'are training samples' in line]
    assert len(said) == 1
    assert '2 of the 3 samples of val_dataloader are training samples (the first: ' in said[0]
    assert 'train00000D.png): its figures say nothing about new ones' in said[0]


@pytest.mark.parametrize('hook', ['FusionLossHook', 'AdversarialAttackHook'])
def test_our_hooks_check_the_classes_in_projects_with_a_runner_of_their_own(segmentor, tmp_path, monkeypatch, hook):
    config = Config.fromfile(segmentor[0])
    config.model.decode_head.num_classes = 12
    config.model.decode_head.loss_decode.class_weight = None
    settings = {'attack': {'type': 'PGD', 'eps': 0.1, 'steps': 1}} if hook.startswith('Adv') else {}
    config.custom_hooks = [{'type': f'paif_mm.{hook}', **settings}]
    config.work_dir, config.experiment_name = str(tmp_path), f'own_runner_{hook}'
    with pytest.raises(ValueError, match='model.decode_head.num_classes is 12, but the data set has 9 classes'):
        Runner.from_cfg(config).train()
