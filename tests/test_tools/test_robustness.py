"""The robustness tools as users call them, on untrained models of a small synthetic set."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import REPO
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from test_tools import commands, test_detection

from paif_mm.corruptions import imagenet_c
from paif_mm.robustness import cases
from paif_mm.robustness import records as records_module

FAST = ['--bootstrap', '50', '--diagnostics', '0', '--strips', '1']
STRONG = ['--steps', '3', '--eps', '4/255', '--save-adv', '--bootstrap', '50', '--diagnostics', '1', '--queries', '20']


def load_tool(tool: str):
    """A tool of the repository as a module, by its path in ``tools`` without suffix."""
    spec = importlib.util.spec_from_file_location(f'tool_{tool}', REPO / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(monkeypatch, tool: str, *args) -> None:
    """Run a tool of the repository in this process."""
    module = load_tool(tool)
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    module.main()


def untrained(config_path, folder):
    """A checkpoint of the config's model as it is initialised."""
    config = Config.fromfile(config_path)
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    torch.save({'state_dict': model.state_dict()}, folder / f'{config_path.stem}.pth')
    return config_path, folder / f'{config_path.stem}.pth'


def plain_config(folder, data):
    """A stock mmseg model of visible images."""
    path = folder / 'plain.py'
    path.write_text(
        commands.CONFIG.format(repo=REPO, kind='general', data=data, iters=1)
        + """
model = dict(data_preprocessor=dict(_delete_=True, type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3,
                                    bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(48, 64)))
custom_hooks = []
test_pipeline = [
    dict(type='LoadImageFromFile'),  # three channels of the four
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='PackSegInputs'),
]
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
"""
    )
    return path


@pytest.fixture(scope='module')
def fused(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('fused')
    return untrained(commands.config_file(folder, synthetic_root, 'general'), folder)


@pytest.fixture(scope='module')
def detector(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('detector')
    return untrained(test_detection.config_file(folder, synthetic_root, 'general'), folder)


@pytest.fixture(scope='module')
def report(tmp_path_factory, fused):
    """The folder of a strong evaluation with diagnostics, and its report."""
    out = tmp_path_factory.mktemp('strong') / 'report'
    with pytest.MonkeyPatch.context() as patch:
        call(patch, 'robustness', *fused, '--out', out, *STRONG)
    return out, json.loads((out / 'report.json').read_text())


def lines_of(out) -> list[dict]:
    """Everything that was noted about single images, in one order."""
    lines = [json.loads(line) for path in out.glob('records*.jsonl') for line in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: (line['case'], line['image']))


def test_the_report_says_what_it_is_about(report, fused):
    out, found = report
    assert [row['key'] for row in found['rows']] == [
        'clean',
        'pgd5-4',
        'apgd_js-4',
        'apgd_mce-4',
        'apgd_bmce-4',
        'worst case-4',
    ]
    assert found['model']['fused']
    assert found['model']['checkpoint_hash'] == records_module.file_hash(fused[1])
    assert len(found['images']) == found['data']['of'] == 4
    assert found['model_unchanged'] is True
    assert found['settings']['seed'] == 0
    assert found['versions']['torch'] == torch.__version__
    assert {f['check'] for f in found['masking']['findings']} >= {'input gradients', 'black box against white box'}
    assert found['fused_ranges']['EN'] == 'bits, 0..8'
    assert len(lines_of(out)) == 5 * 4 + len(found['masking']['findings'])


def test_the_worst_case_is_no_better_than_any_attack(report):
    rows = report[1]['rows']
    worst, attacks = rows[-1], rows[:-1]
    assert worst['members'] == [row['key'] for row in attacks], 'the clean image lies in every ball'
    assert worst['figures']['all']['mIoU']['value'] <= min(row['figures']['all']['mIoU']['value'] for row in attacks)
    for image, value in enumerate(worst['per_image']):
        assert value == min(row['per_image'][image] for row in attacks)
    accuracy = worst['figures']['all']['aAcc']['value']
    assert accuracy == pytest.approx(100 * sum(worst['per_image']) / 4, abs=2e-3)  # all images have as many pixels
    assert sum(worst['chosen'].values()) == len(worst['choice']) == 4


def test_attacks_keep_to_their_radius_in_the_audit_and_on_disk(report):
    out, found = report
    from paif_mm.attacks.bank import AttackBank

    for row in found['rows'][1:-1]:
        assert 3.9 < max(row['audit']['max_delta_255'].values()) <= 4 + 1e-3
    bank = AttackBank(out / 'adv')  # reads every file and its hash
    assert set(bank.levels) == {'pgd5-4', 'apgd_js-4', 'apgd_mce-4', 'apgd_bmce-4'}
    attacked, clean = bank.read('apgd_js-4', bank.names[0])
    assert 0 < (attacked.int() - clean.int()).abs().max() <= 4


def test_csv_markdown_and_page_tell_the_same(report):
    out, found = report
    clean = found['rows'][0]['figures']['all']['mIoU']
    with open(out / 'report.csv', encoding='utf-8') as file:
        lines = list(csv.DictReader(file))
    (line,) = [x for x in lines if (x['key'], x['group'], x['figure']) == ('clean', 'all', 'mIoU')]
    assert float(line['value']) == clean['value']
    (line,) = [x for x in lines if (x['key'], x['group'], x['figure']) == ('constant answer', 'all', 'mIoU')]
    assert float(line['value']) == found['constant']['figures']['all']['mIoU']['value']
    written = f'{clean["value"]:.1f} [{clean["low"]:.1f}, {clean["high"]:.1f}]'
    text, page = ((out / f'report.{kind}').read_text() for kind in ('md', 'html'))
    for title in ('Worst case', 'Classes', 'Sizes of objects', 'Audit', 'Quality of the fused images', 'Examples'):
        assert f'## {title}' in text
        assert f'<h2>{title}</h2>' in page
    assert written in text
    assert written in page
    assert page.count('<svg') == 2  # the curves, and the loss against steps
    strongest = min(found['rows'][1:-1], key=lambda row: row['figures']['all']['mIoU']['value'])
    shown = {'clean', 'pgd5-4', strongest['key']}
    assert page.count('data:image/jpeg;base64,') == 2 * len(shown)
    assert not re.search(r'(src|href)="(?!data:|#)', page), 'the page needs nothing beside it'


def test_the_same_command_again_repeats_no_work(report, fused, monkeypatch):
    out, found = report
    before = lines_of(out)
    monkeypatch.setattr(records_module.Records, 'add', None)  # would fail if called
    call(monkeypatch, 'robustness', *fused, '--out', out, *STRONG)
    assert lines_of(out) == before
    assert json.loads((out / 'report.json').read_text()) == found


@pytest.mark.parametrize(
    ('args', 'named'),
    [(['--seed', '1'], 'seed'), (['--steps', '4'], 'attacks, steps'), (['--limit', '2'], 'attacks, data')],
    ids=['seed', 'steps', 'images'],
)
def test_other_settings_are_refused(report, fused, monkeypatch, args, named):
    with pytest.raises(SystemExit, match=f'holds an evaluation with other {named}: give another --out'):
        call(monkeypatch, 'robustness', *fused, '--out', report[0], *STRONG, *args)


def test_another_checkpoint_is_refused(report, fused, monkeypatch, tmp_path):
    weights = torch.load(fused[1], weights_only=True)
    weights['state_dict']['decode_head.conv_seg.bias'] += 1
    torch.save(weights, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match='with other checkpoint'):
        call(monkeypatch, 'robustness', fused[0], tmp_path / 'other.pth', '--out', report[0], *STRONG)


def test_a_crashed_evaluation_ends_as_an_uninterrupted_one(report, fused, monkeypatch, tmp_path):
    args = ['--steps', '3', '--eps', '4/255', '--save-adv', *FAST]
    add, count = records_module.Records.add, iter(range(100))

    def crash(self, *record):
        if next(count) == 9:
            raise RuntimeError('out of power')
        add(self, *record)

    with monkeypatch.context() as patch:
        patch.setattr(records_module.Records, 'add', crash)
        with pytest.raises(RuntimeError, match='out of power'):
            call(patch, 'robustness', *fused, '--out', tmp_path, *args)
    assert len(lines_of(tmp_path)) == 9
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path, *args)
    assert lines_of(tmp_path) == [line for line in lines_of(report[0]) if not line['case'].startswith('masking')]


@pytest.mark.slow
def test_a_killed_evaluation_continues(report, fused, tmp_path):
    command = [sys.executable, '-W', 'ignore', REPO / 'tools/robustness.py', *fused, '--out', tmp_path, *STRONG]
    process = subprocess.Popen(list(map(str, command)), cwd=REPO, env=commands.environment())
    deadline = time.time() + 120
    while not (tmp_path / 'records0.jsonl').exists() or len(lines_of(tmp_path)) < 4:
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    commands.run('robustness.py', *fused, '--out', tmp_path, *STRONG)
    assert lines_of(tmp_path) == lines_of(report[0])


@pytest.mark.slow
def test_two_processes_find_what_one_finds(report, fused, tmp_path):
    env = {**commands.environment(), 'TOOL': 'robustness.py', 'PORT': str(20000 + os.getpid() % 20000)}
    env['PATH'] = f'{os.path.dirname(sys.executable)}{os.pathsep}{env["PATH"]}'
    commands.launch([str(x) for x in ('tools/dist_test.sh', *fused, 2, '--out', tmp_path, *STRONG)], env)
    assert {path.name for path in tmp_path.glob('records*')} == {'records0.jsonl', 'records1.jsonl'}
    assert lines_of(tmp_path) == lines_of(report[0])


def test_saved_images_are_a_bank_for_other_models(report, fused, monkeypatch, tmp_path):
    """Shown to the same model, they give what it made of its own files of 8 bits."""
    bank = report[0] / 'adv'
    call(monkeypatch, 'robustness', *fused, '--suite', 'paper', '--transfer-bank', bank, '--out', tmp_path, *FAST)
    rows = {row['key']: row for row in json.loads((tmp_path / 'report.json').read_text())['rows']}
    for row in report[1]['rows'][1:-1]:
        found = rows[f'bank_{row["key"]}-4']
        assert found['kind'] == 'transfer'
        assert found['figures']['all']['mIoU']['value'] == row['eight_bit']['value']


def test_attacks_found_on_another_model(fused, monkeypatch, tmp_path, synthetic_root):
    plain = untrained(plain_config(tmp_path, synthetic_root), tmp_path)
    args = ['--suite', 'paper', '--eps', '8/255', '--limit', '2', '--transfer-from', *plain, *FAST]
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'out', *args)
    rows = {row['key']: row for row in json.loads((tmp_path / 'out' / 'report.json').read_text())['rows']}
    changes = rows['transfer20-8-vis']['audit']['max_delta_255']
    assert changes['ir'] == 0, 'its source sees the visible image alone'
    assert 7.9 < changes['vis'] <= 8 + 1e-3
    assert rows['worst case-8']['members'] == ['clean', 'pgd5-8', 'transfer20-8-vis']


def test_a_stock_model_without_fusion(monkeypatch, tmp_path, synthetic_root):
    plain = untrained(plain_config(tmp_path, synthetic_root), tmp_path)
    call(monkeypatch, 'robustness', *plain, '--suite', 'paper', '--eps', '4/255', '--out', tmp_path / 'out', *FAST)
    found = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert not found['model']['fused']
    assert not any('fused' in row for row in found['rows'])
    assert list(found['rows'][1]['audit']['max_delta_255']) == ['all']
    with pytest.raises(SystemExit, match="modality 'ir' needs pairs"):
        call(monkeypatch, 'robustness', *plain, '--modality', 'ir', '--out', tmp_path / 'other', *FAST)


def test_a_detector(detector, monkeypatch, tmp_path):
    low = ['--cfg-options', 'model.test_cfg.nms_pre=20']
    args = ['--steps', '2', '--eps', '4/255', '--limit', '2', *FAST, *low]
    call(monkeypatch, 'robustness', *detector, '--out', tmp_path, *args)
    found = json.loads((tmp_path / 'report.json').read_text())
    assert found['score'] == 'AP50'
    names = [row['name'] for row in found['rows']]
    assert names == ['clean', 'pgd5', 'apgd_total', 'apgd_cls', 'apgd_box', 'worst case']
    before, after = (found['rows'][i]['loss']['value'] for i in (0, 2))
    assert after > before
    assert {'AP50', 'mAP', 'AP50/small'} <= found['rows'][0]['figures']['all'].keys()
    assert found['constant'] is None
    assert found['paper'] is None, 'of other data'
    assert 'SEA' not in (tmp_path / 'report.md').read_text(), 'a protocol for segmentors'


def test_one_modality_alone_leads_the_report(fused, monkeypatch, tmp_path):
    args = ['--steps', '1', '--eps', '8/255', '--limit', '1', '--modality', 'ir', *FAST]
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path, *args)
    text = (tmp_path / 'report.md').read_text()
    assert 'At 8/255 on infrared alone, ' in text
    assert '## Worst case' in text
    rows = json.loads((tmp_path / 'report.json').read_text())['rows']
    assert [row['audit']['max_delta_255']['vis'] for row in rows[1:-1]] == [0.0] * 4


def test_a_bank_made_anew_is_another_attack(report, fused, monkeypatch, tmp_path):
    from paif_mm.files import write_json

    shutil.copytree(report[0] / 'adv', tmp_path / 'bank')
    args = ['--suite', 'paper', '--transfer-bank', tmp_path / 'bank', '--out', tmp_path / 'out', *FAST]
    call(monkeypatch, 'robustness', *fused, *args)
    manifest = json.loads((tmp_path / 'bank' / 'manifest.json').read_text())
    write_json(tmp_path / 'bank' / 'manifest.json', {**manifest, 'settings': {'version': 1, 'seed': 1}})
    with pytest.raises(SystemExit, match='with other files of attacks'):
        call(monkeypatch, 'robustness', *fused, *args)


def test_a_perturbation_learned_anew_is_another_attack(fused, monkeypatch, tmp_path):
    file, attack = tmp_path / 'u.npy', tmp_path / 'universal.py'
    attack.write_text(f"attack = dict(type='UniversalPerturbation', file='{file}', eps=4 / 255)\n")
    args = ['--suite', 'paper', '--eps', '4/255', '--limit', '1', '--attack', attack, '--out', tmp_path / 'out']
    args += [*FAST, '--strips', '0']
    np.save(file, np.full((4, 64, 96), 3, np.float32))
    call(monkeypatch, 'robustness', *fused, *args)
    rows = {row['name']: row for row in json.loads((tmp_path / 'out' / 'report.json').read_text())['rows']}
    assert rows['universal']['kind'] == 'transfer', 'it asks the model nothing'
    np.save(file, np.full((4, 64, 96), -3, np.float32))
    with pytest.raises(SystemExit, match='with other files of attacks'):
        call(monkeypatch, 'robustness', *fused, *args)


#: Every kind of attack on every kind of model, without the tools: test_attacks/test_other_models.py.
FOR_SEGMENTORS = {'DAG': '', 'PGD': "eps=4 / 255, objective=dict(type='Targeted', goals=[dict(target=0)])"}


@pytest.mark.parametrize('kind', FOR_SEGMENTORS)
def test_what_is_for_segmentors_is_refused_on_detectors_before_anything_is_run(detector, monkeypatch, tmp_path, kind):
    attack = tmp_path / 'mine.py'
    attack.write_text(f"attack = dict(type='{kind}', {FOR_SEGMENTORS[kind]})\n")
    for tool, flags in (('robustness', ['--suite', 'paper', '--out']), ('test', ['--work-dir'])):
        with pytest.raises(SystemExit, match=r'^mine(-4)?: \w+ attacks segmentors, not FCOS') as refused:
            call(monkeypatch, tool, *detector, '--attack', attack, *flags, tmp_path / tool)
        assert '\n' not in str(refused.value)
        assert not list((tmp_path / tool).glob('**/*.json*')), 'nothing was measured'
    with pytest.raises(SystemExit, match='^--smallest-radius is for segmentors'):
        call(monkeypatch, 'robustness', *detector, '--smallest-radius', 'linf', '--out', tmp_path / 'out')


def test_what_is_for_detectors_is_refused_on_segmentors(fused, monkeypatch, tmp_path):
    attack = tmp_path / 'mine.py'
    attack.write_text("attack = dict(type='PGD', eps=4 / 255, objective=dict(type='TOG', aim='vanishing'))\n")
    for tool, flags in (('robustness', ['--suite', 'paper', '--out']), ('test', ['--work-dir'])):
        with pytest.raises(SystemExit, match=r'^mine(-4)?: TOG attacks detectors of boxes, not EncoderDecoder'):
            call(monkeypatch, tool, *fused, '--attack', attack, *flags, tmp_path / tool)


def test_trainings_refuse_attacks_that_their_model_has_none_of(detector, monkeypatch, tmp_path):
    config = tmp_path / 'sat.py'
    hook = "dict(type='paif_mm.AdversarialAttackHook', attack=dict(type='StepControlFGSM', eps=4 / 255))"
    config.write_text(f"_base_ = '{detector[0]}'\ncustom_hooks = [{hook}]\n")
    with pytest.raises(SystemExit, match='PixelLoss attacks segmentors, not FCOS'):
        call(monkeypatch, 'train', config, '--work-dir', tmp_path / 'w')


def test_a_bank_outside_of_its_radius_is_refused(report, fused, monkeypatch, tmp_path):
    from paif_mm.files import write_json

    shutil.copytree(report[0] / 'adv', tmp_path / 'bank')
    manifest = json.loads((tmp_path / 'bank' / 'manifest.json').read_text())
    manifest['levels'] = {'pgd5-4': {'eps': 2 / 255}}
    write_json(tmp_path / 'bank' / 'manifest.json', manifest)
    args = [
        '--suite',
        'paper',
        '--eps',
        '4/255',
        '--transfer-bank',
        tmp_path / 'bank',
        '--out',
        tmp_path / 'out',
        *FAST,
    ]
    with pytest.raises(SystemExit, match=r'up to 4/255 from its clean pair, outside of the radius of 2/255'):
        call(monkeypatch, 'robustness', *fused, *args)


@pytest.mark.parametrize('whole', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_full_suite_has_every_kind_of_row(fused, monkeypatch, tmp_path, whole):
    """By default with few attacks and corruptions, or with all of them."""
    monkeypatch.setattr(cases, 'SPLITS', (0.25,) if not whole else (0.0, 0.25, 1.0))
    if not whole:
        monkeypatch.setattr(cases, 'corruption_names', lambda *args: ['fog', 'missing_infrared'])
        monkeypatch.setattr(cases, '_cited', lambda *args: [])
        name, attack, *rest = cases._on_fusion('mIoU', 1)[0]
        monkeypatch.setattr(cases, '_on_fusion', lambda *args: [(name, {**attack, 'steps': 1}, *rest)])
    args = [
        '--suite',
        'full',
        '--steps',
        '1',
        '--queries',
        '2',
        '--eps',
        '4/255',
        '--limit',
        '1',
        *FAST,
        '--strips',
        '0',
    ]
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path, *args)
    found = json.loads((tmp_path / 'report.json').read_text())
    assert {row['kind'] for row in found['rows']} == {
        *('gradient', 'query', 'fusion', 'corruption', 'minimum', 'worst')
    }
    text = (tmp_path / 'report.md').read_text()
    assert '## One budget, split between the modalities' in text
    assert '## Real trouble' in text
    assert '| missing_infrared |' in text
    splits = [row for row in found['rows'] if row['threat'] == 'ir25+vis75' and row['kind'] != 'worst']
    names = {*('pgd5', 'apgd_js', 'apgd_mce', 'apgd_bmce', 'square')}
    names |= {'segpgd20', 'cospgd20', 'apgd_dlr'} if whole else set()
    assert {row['name'] for row in splits} == names, 'every threat meets the whole ensemble'
    for row in splits:
        assert row['audit']['max_delta_255']['ir'] <= 1 + 1e-3
        assert row['audit']['max_delta_255']['vis'] <= 3 + 1e-3


def test_real_trouble_at_five_severities(fused, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cases, 'SEVERITIES', (1, 5))
    monkeypatch.setattr(imagenet_c, 'find_spec', lambda name: None)
    args = ['--suite', 'trouble', '--limit', '1', *FAST, '--strips', '0']
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path, *args)
    shown = capsys.readouterr().out
    assert 'time_offset is left out: these images are no video' in shown
    assert "ImageNet-C's common corruptions are left out: pip install -r requirements/corruptions.txt" in shown
    found = json.loads((tmp_path / 'report.json').read_text())
    assert {row['kind'] for row in found['rows'][1:]} == {'corruption'}
    rows = {row['key']: row['figures']['all']['mIoU']['value'] for row in found['rows']}
    trouble = found['trouble']
    for name, error in trouble['corruptions'].items():
        assert error['value'] == pytest.approx(100 - (rows[f'{name}1'] + rows[f'{name}5']) / 2, abs=2e-3)
    errors = [error['value'] for error in trouble['corruptions'].values()]
    assert trouble['mean']['value'] == pytest.approx(sum(errors) / len(errors), abs=2e-3)
    assert trouble['kept']['value'] == pytest.approx(100 * (100 - trouble['mean']['value']) / rows['clean'], abs=0.02)
    assert {'fog', 'rain', 'glare', 'crossover', 'shift', 'rotation', 'parallax', 'rainy_night'} < set(
        trouble['corruptions']
    )
    text, page = ((tmp_path / f'report.{kind}').read_text() for kind in ('md', 'html'))
    assert f'Real trouble: mean corruption error {trouble["mean"]["value"]:.1f} [' in text.split('## ')[1]
    assert '## Real trouble' in text
    assert '| mean: between the sensors |' in text
    with open(tmp_path / 'report.csv', encoding='utf-8') as file:
        lines = {(x['group'], x['figure']): x['value'] for x in csv.DictReader(file) if x['key'] == 'mean error'}
    assert float(lines['all', 'all']) == trouble['mean']['value']
    assert float(lines['corruption', 'fog']) == trouble['corruptions']['fog']['value']
    assert float(lines['family', 'both at once']) == trouble['families']['both at once']['value']
    assert page.count('<svg') == 1
    assert all(f'>{family}<' in page for family in trouble['families'])


def test_reports_side_by_side(report, fused, monkeypatch, tmp_path, capsys):
    args = ['--suite', 'paper', '--eps', '4/255', '--seed', '1', *FAST]
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'again', *args)
    capsys.readouterr()
    names = ['--names', 'strong', 'paper', '--out', tmp_path / 'both']
    call(monkeypatch, 'compare_reports', report[0], tmp_path / 'again', *names)
    shown = capsys.readouterr().out
    assert 'Left out, as not all reports have them: apgd_bmce-4, apgd_js-4, apgd_mce-4, worst case-4' in shown
    text = (tmp_path / 'both' / 'comparison.md').read_text()
    assert '| clean | 0.0 [0.0, 0.0] |' in text, 'one model, clean, against itself'
    assert (tmp_path / 'both' / 'comparison.html').read_text().count('<svg') == 1
    with open(tmp_path / 'both' / 'comparison.csv', encoding='utf-8') as file:
        assert {line['model'] for line in csv.DictReader(file)} == {'strong', 'paper'}


def test_a_model_of_visible_images_is_compared_on_the_same_scenes(fused, monkeypatch, tmp_path, synthetic_root, capsys):
    plain = untrained(plain_config(tmp_path, synthetic_root), tmp_path)
    for name, model in (('pairs', fused), ('visible', plain)):
        call(monkeypatch, 'robustness', *model, '--suite', 'paper', '--eps', '4/255', '--out', tmp_path / name, *FAST)
    call(monkeypatch, 'compare_reports', tmp_path / 'pairs', tmp_path / 'visible', '--out', tmp_path / 'both')
    assert 'Of one sensor alone, so that all of it is attacked: visible.' in capsys.readouterr().out
    reports = [json.loads((tmp_path / name / 'report.json').read_text()) for name in ('pairs', 'visible')]
    gap = (
        reports[1]['rows'][0]['figures']['all']['mIoU']['value']
        - reports[0]['rows'][0]['figures']['all']['mIoU']['value']
    )
    text = (tmp_path / 'both' / 'comparison.md').read_text().split('## Difference')[1]
    assert f'| clean | {gap:.1f} [' in text
    call(monkeypatch, 'leaderboard', tmp_path / 'pairs', tmp_path / 'visible', '--out', tmp_path / 'board')
    lines = (tmp_path / 'board' / 'leaderboard.md').read_text().splitlines()
    ranked = [line.split(' | ')[1] for line in lines if re.match(r'\| \d', line)]
    values = {
        name: next(row for row in found['rows'] if row['key'] == 'pgd5-4')['figures']['all']['mIoU']['value']
        for name, found in zip(('pairs', 'visible'), reports, strict=True)
    }
    assert ranked == sorted(values, key=values.get, reverse=True), 'a single attack is its own worst case'
    for found, (_, checkpoint), passes in zip(reports, (fused, plain), (12, 2), strict=True):
        weights = torch.load(checkpoint, weights_only=True)['state_dict']
        kinds = ('running_mean', 'running_var', 'num_batches_tracked')
        count = sum(value.numel() for name, value in weights.items() if name.rpartition('.')[2] not in kinds)
        assert found['costs']['parameters'] == count
        assert found['costs']['flops'] > 1e6
        assert found['costs']['training_passes'] == passes, 'iterations of two images'
    call(monkeypatch, 'robustness', *fused, '--suite', 'paper', '--seed', '1', '--out', tmp_path / 'other', *FAST)
    with pytest.raises(SystemExit, match=r'other and pairs differ in --eps \(4/255 8/255 and 4/255\)'):
        call(monkeypatch, 'leaderboard', tmp_path / 'pairs', tmp_path / 'other', '--out', tmp_path / 'no')
    (path,) = (tmp_path / 'visible').glob('records*.jsonl')
    text = path.read_text()
    for left in (text[: len(text) // 2], ''):
        path.write_text(left)
        call(monkeypatch, 'compare_reports', tmp_path / 'pairs', tmp_path / 'visible', '--out', tmp_path / 'both')
        assert 'Not known are those of visible: the records*.jsonl' in capsys.readouterr().out


def test_reports_of_other_images_are_not_compared(report, fused, monkeypatch, tmp_path):
    call(monkeypatch, 'robustness', *fused, '--suite', 'paper', '--limit', '2', '--out', tmp_path / 'two', *FAST)
    with pytest.raises(SystemExit, match="two and report can't be compared: they were tested on other images"):
        call(monkeypatch, 'compare_reports', report[0], tmp_path / 'two')
    old = tmp_path / 'old.json'
    old.write_text('{"version": 0}')
    with pytest.raises(SystemExit, match='is of another version'):
        call(monkeypatch, 'compare_reports', report[0], old, '--names', 'a', 'b')
    with pytest.raises(SystemExit, match='no report at'):
        call(monkeypatch, 'compare_reports', report[0], tmp_path)
    with pytest.raises(SystemExit, match='need as many different --names'):
        call(monkeypatch, 'compare_reports', report[0], report[0])


def test_bad_arguments_are_named(fused, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=r'nowhere\.pth does not exist'):
        call(monkeypatch, 'robustness', fused[0], 'nowhere.pth', '--out', tmp_path)
    with pytest.raises(SystemExit, match='no attack bank at'):
        call(monkeypatch, 'robustness', *fused, '--transfer-bank', tmp_path, '--out', tmp_path / 'out')
    with pytest.raises(SystemExit, match='two attacks are called pgd5-4'):
        attack = tmp_path / 'pgd5.py'
        attack.write_text("attack = dict(type='PGD', eps=4 / 255)\n")
        call(monkeypatch, 'robustness', *fused, '--attack', attack, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists(), 'what was refused claims no folder'


def test_the_first_screen_says_in_words_whether_anything_is_left(report):
    out, found = report
    constant = found['constant']['figures']['all']['mIoU']['value']
    text = (out / 'report.md').read_text()
    first = text.split('## ')[1]
    assert f"Constant answer: calling every pixel '{found['constant']['answer']}' has mIoU {constant:.1f}." in first
    assert 'mIoU_paper' not in text.split('## Every attack')[0], 'no row of the paper beside other data'
    assert 'PAIF (ACM MM' not in text
    worst = found['rows'][-1]
    words = {True: 'something is left', False: 'nothing is left, the constant answer scores as much'}
    assert worst['left']['value'] == pytest.approx(worst['figures']['all']['mIoU']['value'] - constant, abs=2e-3)
    if worst['left']['high'] <= 0 or worst['left']['low'] > 0:
        assert words[worst['left']['low'] > 0] in first
    for title in ('Worst case', 'Every attack'):
        assert '| constant answer' in text.split(f'## {title}')[1].split('## ')[0]
    assert 'Auto-PGD took 3 steps; SEA, the published protocol, takes 300.' in first
    assert 'bootstrap resamples of single images' in first, 'four images are too few for runs'


def test_blocks_are_chosen_or_given_and_stated(report, fused, monkeypatch, tmp_path):
    args = ['--suite', 'paper', '--eps', '4/255', *FAST]
    for name, blocks in (('runs', '2'), ('named', r'([DN])\.')):
        call(monkeypatch, 'robustness', *fused, '--out', tmp_path / name, *args, '--blocks', blocks)
        found = json.loads((tmp_path / name / 'report.json').read_text())['bootstrap']
        assert found['length'] == (2 if name == 'runs' else None)
        assert found['blocks'] in (tmp_path / name / 'report.md').read_text()
    with pytest.raises(SystemExit, match='must have 1 to 4 images'):
        call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'no', *args, '--blocks', '9')
    assert not (tmp_path / 'no').exists()


def test_a_transferred_attack_given_by_config_counts_in_the_worst_case(fused, monkeypatch, tmp_path):
    attack = tmp_path / 'elsewhere.py'
    inner = "dict(type='PGD', eps=4 / 255, steps=3)"
    attack.write_text(
        f"attack = dict(type='TransferAttack', config='{fused[0]}', checkpoint='{fused[1]}', attack={inner})\n"
    )
    args = ['--suite', 'paper', '--eps', '4/255', '--attack', attack, '--limit', '2', *FAST]
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'out', *args)
    rows = {row['key']: row for row in json.loads((tmp_path / 'out' / 'report.json').read_text())['rows']}
    assert rows['elsewhere-4']['kind'] == 'transfer'
    assert rows['elsewhere-4']['passes'] == 3
    assert rows['worst case-4']['members'] == ['clean', 'pgd5-4', 'elsewhere-4']
