"""Two streams through the tools as users type them: trained under attack, tested, reported, written as a file."""

import json
import re
import runpy
import sys

import cv2
import pytest
import torch
from conftest import REPO
from test_dual_stream.models import RESNET
from test_tools.commands import latest_results, legend_width

from paif_mm.apis.exporting import META, example

CONFIG = """
_base_ = '{repo}/configs/dual_stream/{name}_sat_mfnet.py'
model = dict(data_preprocessor=dict(size=(48, 64)), {model})
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='RandomResize', scale=(96, 64), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(48, 64)),
    *_base_.train_pipeline[4:],
]
loader = dict(num_workers=0, persistent_workers=False)
data = dict(data_root='{data}')
train_dataloader = dict(batch_size=2, **loader, dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=data)
test_dataloader = dict(**loader, dataset=dict(**data, ann_file='val.txt'))
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
"""
SMALL = {
    'lasnet': f'backbone=dict(init_cfg=None, **{RESNET}), channels=[8, 8, 8, 8, 8]',
    'egfnet': f'backbone=dict(init_cfg=None, **{RESNET}), channels=8',
    'gmnet': f'backbone=dict(init_cfg=None, **{RESNET}), channels=16',
    'cmx_mit-b0': 'backbone=dict(stream=dict(init_cfg=None, embed_dims=8, num_layers=[1, 1, 1, 1])),'
    'decode_head=dict(in_channels=[8, 16, 40, 64], channels=16)',
}
LOSSES = {
    'lasnet': ['decode.loss_ce', 'decode.loss_lovasz', 'aux_0.loss_semantic', 'aux_1.loss_saliency'],
    'egfnet': ['decode.loss_ce', 'aux_0.loss_semantic', 'aux_1.loss_boundary3', 'aux_3.loss_boundary1'],
    'gmnet': ['decode.loss_ce', 'aux_0.loss_foreground', 'aux_1.loss_boundary'],
    'cmx_mit-b0': ['decode.loss_ce'],
}

#: Of strips: both modalities, labels and predictions; and, attacked, the clean ones and changes beside them.
PANELS = {'clean': 4, 'pgd5_eps8': 8}


def tool(name: str, *args) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, args)])
        runpy.run_path(str(REPO / 'tools' / f'{name}.py'), run_name='__main__')


@pytest.fixture(
    scope='module', params=['lasnet', *(pytest.param(name, marks=pytest.mark.slow) for name in [*SMALL][1:])]
)
def trained(request, tmp_path_factory, synthetic_root):
    """Name, config and checkpoint of three iterations, half of each batch attacked; the folder that holds them."""
    folder = tmp_path_factory.mktemp(request.param)
    config = folder / 'config.py'
    config.write_text(CONFIG.format(repo=REPO, name=request.param, model=SMALL[request.param], data=synthetic_root))
    tool('train', config, '--work-dir', folder / 'run')
    return request.param, config, folder / 'run' / 'iter_3.pth', folder


def test_adversarial_training_logs_every_loss(trained):
    name, _, checkpoint, _ = trained
    (log,) = checkpoint.parent.glob('*/*.log')
    text = log.read_text()
    for loss in LOSSES[name]:
        values = [float(value) for value in re.findall(rf'\b{loss}: (\S+)', text)]
        assert len(values) == 3 and all(value > 0 for value in values), loss


def test_an_attacked_test_draws_strips_without_a_fused_image(trained):
    _, config, checkpoint, folder = trained
    words = ['--attack', 'pgd5_eps8', '--show-dir', folder / 'strips', '--work-dir', folder / 'test']
    tool('test', config, checkpoint, *words)
    results = latest_results(folder / 'test')
    assert all(0 <= results[name]['metrics']['mIoU'] <= 100 for name in ('clean', 'pgd5_eps8'))
    audit = results['pgd5_eps8']['audit']
    assert audit['loss_after'] > audit['loss_before']
    assert audit['max_delta_255'] == pytest.approx({'ir': 8, 'vis': 8}, abs=1e-3)
    for name, panels in PANELS.items():
        strips = [cv2.imread(str(path)) for path in (folder / 'strips' / name).iterdir()]
        assert len(strips) == 4
        assert strips[0].shape == (64 + 18, panels * 96 + legend_width(64), 3)


def test_views_are_averaged(trained, capsys):
    _, config, checkpoint, folder = trained
    tool('test', config, checkpoint, '--tta', '--work-dir', folder / 'tta')
    told = capsys.readouterr()
    assert 'mIoU' in told.out + told.err


def test_reports_are_written(trained):
    _, config, checkpoint, folder = trained
    words = ['--suite', 'paper', '--limit', '1', '--diagnostics', '0', '--bootstrap', '50', '--out', folder / 'report']
    tool('robustness', config, checkpoint, *words)
    report = json.loads((folder / 'report' / 'report.json').read_text())
    rows = {row['key']: row for row in report['rows']}
    assert {row['audit']['max_delta_255']['ir'] for key, row in rows.items() if 'pgd5' in key} == {4, 8}
    assert all(0 <= row['figures']['all']['mIoU']['value'] <= 100 for row in rows.values())
    assert (folder / 'report' / 'report.html').stat().st_size > 10_000


def test_costs_are_those_of_the_whole(trained, capsys):
    _, config, checkpoint, _ = trained
    tool('get_flops', config, '--shape', 64, 96, '--runs', 1, '--device', 'cpu')
    rows = [line.split('|')[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    expected = sum(value.numel() for key, value in state.items() if not key.endswith(buffers))
    assert [row[0].strip() for row in rows] == ['part', 'model']
    assert float(rows[1][1]) == pytest.approx(expected / 1e6, abs=1e-3)


def test_the_exported_file_says_what_the_model_says(trained):
    from paif_mm.engine.launch import load_model, read_config

    _, config, checkpoint, folder = trained
    path = folder / 'model.pt'
    tool('export', config, checkpoint, '--format', 'torchscript', '--shape', 64, 96, '--out', path)
    facts = {META: ''}
    loaded = torch.jit.load(str(path), _extra_files=facts)
    facts = json.loads(facts[META])
    assert facts['outputs'] == ['logits'] and len(facts['classes']) == 9
    model, _ = load_model(read_config(str(config)), str(checkpoint))
    pair = example((53, 71))
    with torch.no_grad():
        (sample,) = model.cpu().test_step({'inputs': [pair[0]]})
        torch.testing.assert_close(loaded(pair)[0][0], sample.seg_logits.data, rtol=1e-4, atol=1e-4)
