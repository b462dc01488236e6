"""Detection as users type it: training, attacked test, bank, meta-initialisation, search, cost."""

import re

import pytest
import torch
from conftest import REPO
from test_tools.commands import latest_results, run, weights

CONFIG = """
_base_ = '{repo}/configs/quickstart/fcos_{kind}_synthetic.py'
data_root = '{data}'
size = (96, 64)
model = dict(
    data_preprocessor=dict(fusion=dict(channels=4)),
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32], out_channels=16),
    test_cfg=dict(score_thr=0.0),
    bbox_head=dict(in_channels=16, feat_channels=16, norm_cfg=dict(type='GN', num_groups=4), stacked_convs=1),
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=2, **loader, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters={iters}, val_interval={iters})
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=2))
"""


def config_file(folder, data, kind, iters=4, extra=''):
    path = folder / f'{kind}.py'
    path.write_text(CONFIG.format(repo=REPO, kind=kind, data=data, iters=iters) + extra)
    return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('fcos')
    config = config_file(folder, synthetic_root, 'sat')
    return config, folder / 'run', run('train.py', config, '--work-dir', folder / 'run')


def test_training_moves_both_networks(trained):
    _, work_dir, done = trained
    assert 'loss_fusion' in done.stdout + done.stderr
    early, late = weights(work_dir, 2), weights(work_dir, 4)
    for prefix in ('data_preprocessor.fusion.ir.', 'backbone.', 'bbox_head.'):
        keys = [key for key in early if key.startswith(prefix) and key.endswith('.weight')]
        assert sum(not torch.equal(early[key], late[key]) for key in keys) > 0.9 * len(keys)


def test_clean_and_attacked_detections_share_a_table(trained, tmp_path):
    config, work_dir, _ = trained
    # an untrained detector is sure of nothing
    low = 'test_evaluator.2.score=0.0'
    args = ['--attack', 'pgd5_eps4', '--show-dir', tmp_path / 'strips', '--work-dir', tmp_path / 'run']
    done = run('test.py', config, work_dir / 'iter_4.pth', *args, '--cfg-options', low)
    console = done.stdout + done.stderr
    results = latest_results(tmp_path / 'run')
    for run_name in ('clean', 'pgd5_eps4'):
        metrics = results[run_name]['metrics']
        assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/person_precision', 'pascal_voc/AP50'} <= metrics.keys()
        strips = list((tmp_path / 'strips' / run_name).glob('*.png'))
        assert len(strips) == 4
    attacked = results['pgd5_eps4']
    assert attacked['audit']['loss_after'] > attacked['audit']['loss_before']
    assert attacked['audit']['max_delta_255'] == pytest.approx({'ir': 4, 'vis': 4}, abs=1e-3)
    fates = attacked['objects']
    assert fates['objects'] == results['clean']['metrics']['objects/found']
    hallucinated = [results[name]['metrics']['objects/hallucinated'] for name in ('clean', 'pgd5_eps4')]
    assert hallucinated[0] > 0
    assert fates['hallucinated'] == hallucinated[1] - hallucinated[0]
    assert fates['objects'] == sum(fates[key] for key in ('found', 'misclassified', 'mislocated', 'vanished'))
    assert re.search(r'AP50 \(VOC\).*AP person', console)
    assert 'more hallucinated' in console


BANK = """
custom_hooks = [
    dict(type='paif_mm.AATMetaInitHook', bank='{bank}', iters=2, inner_steps=1, inner_lr=1e-2, warm_start_iters=1,
         batch_size=2, num_workers=0),
    dict(type='paif_mm.FusionLossHook'),
]
"""


@pytest.mark.slow
def test_meta_initialisation_on_a_bank_crafted_on_the_detector(trained, synthetic_root, tmp_path):
    config, work_dir, _ = trained
    checkpoint = work_dir / 'iter_4.pth'
    done = run(
        'craft_attacks.py',
        config,
        checkpoint,
        tmp_path / 'bank',
        '--num',
        4,
        '--steps',
        1,
        '--victim',
        config,
        checkpoint,
    )
    assert 'AP50 before, %' in done.stdout
    assert 'victim' in done.stdout
    aat = config_file(tmp_path, synthetic_root, 'aat', iters=2, extra=BANK.format(bank=tmp_path / 'bank'))
    done = run('train.py', aat, '--work-dir', tmp_path / 'aat')
    assert 'L_F after meta-initialisation' in done.stdout + done.stderr
    assert (tmp_path / 'aat' / 'theta_prime.pth').is_file()


@pytest.mark.slow
def test_search_and_retraining_with_a_detector(synthetic_root, tmp_path):
    extra = 'train_cfg = dict(max_iters=6, warmup_iters=1, arch_interval=2, val_interval=6)\n'
    search = config_file(tmp_path, synthetic_root, 'hds', extra=extra)
    run('train.py', search, '--work-dir', tmp_path / 'search')
    genotype = tmp_path / 'search' / 'genotype.json'
    assert genotype.is_file()
    retrain = config_file(tmp_path, synthetic_root, 'hds_retrain_sat', iters=2)
    option = f'model.data_preprocessor.fusion.genotype={genotype}'
    run('train.py', retrain, '--work-dir', tmp_path / 'retrain', '--cfg-options', option)
    assert (tmp_path / 'retrain' / 'iter_2.pth').is_file()


def test_costs_add_up(trained):
    done = run('get_flops.py', trained[0], '--shape', 64, 96, '--runs', 2)
    rows = {part: cells for part, *cells in re.findall(r'\| +(N|T|both) \| +([\d.]+) \| +([\d.]+) ', done.stdout)}
    assert set(rows) == {'N', 'T', 'both'}, done.stdout  # mmengine may speak before the table, as of $PAIF_MM_DATA
    for column in (0, 1):
        n, t, both = (float(rows[part][column]) for part in ('N', 'T', 'both'))
        assert n > 0
        assert t > 0
        assert both == pytest.approx(n + t, abs=0.011)
    assert 'two per multiply-add' in done.stdout


def test_a_trained_model_is_renamed_for_its_backbone_form(trained, tmp_path):
    run('model_converters/backbone_form.py', trained[1] / 'iter_4.pth', tmp_path / 'x.pth')
    renamed = torch.load(tmp_path / 'x.pth', weights_only=True)['state_dict']
    assert len(renamed) == len(weights(trained[1], 4))
    assert any(key.startswith('backbone.fusion.') for key in renamed)


@pytest.mark.realdata
@pytest.mark.slow
def test_m3fd_in_its_own_layout(real_data, tmp_path):
    options = [
        'model.backbone.init_cfg=None',
        'model.data_preprocessor.fusion.channels=4',
        f'train_dataloader.dataset.data_root={real_data / "m3fd_sample"}',
        f'val_dataloader.dataset.data_root={real_data / "m3fd_sample"}',
        'train_dataloader.dataset.pipeline.2.scale=(256,192)',
        'val_dataloader.dataset.pipeline.1.scale=(256,192)',
        'train_dataloader.batch_size=2',
        'train_cfg.max_epochs=1',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
    ]
    done = run('train.py', 'configs/paif/fcos_general_m3fd.py', '--work-dir', tmp_path, '--cfg-options', *options)
    assert 'coco/Car_precision' in done.stdout + done.stderr
    assert (tmp_path / 'epoch_1.pth').is_file()
