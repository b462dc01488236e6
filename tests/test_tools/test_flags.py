"""Every flag of every tool, as users combine them, on a segmentor and on a detector of seconds."""

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO
from mmengine.config import Config
from mmengine.registry import DATASETS
from test_fusion.fusion_nets import network
from test_fusion.released_segformer import SegFormer
from test_fusion.test_paif_release import released_checkpoint
from test_fusion.test_zoo_converter import released
from test_tools import commands, test_detection
from test_tools.test_robustness import call, load_tool, plain_config

from paif_mm.data.synthetic import make_synthetic
from paif_mm.fusion import SAGE

KINDS = ('segmentor', 'detector')
TOOLS = sorted(path.relative_to(REPO / 'tools') for path in (REPO / 'tools').rglob('*.py'))
DEMOS = ('demo', 'demo_aat', 'demo_search')  # hours of the others' work; `make demo` runs them

TTA = {
    'segmentor': """
data_preprocessor = dict(type='SegDataPreProcessor', size=(48, 64))  # as stock configs have it beside the model's own
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale_factor=f, keep_ratio=True) for f in (1.0, 2.0)],
        [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (1.0, 0.0)],
        [dict(type='paif_mm.LoadPairAnnotations')],
        [dict(type='PackSegInputs')],
    ]),
]
""",
    'detector': """
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=20))
tta_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(128, 96), keep_ratio=True)],
        [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)],
        [dict(type='LoadAnnotations', with_bbox=True)],
        [dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                                               'flip_direction', 'instances'))],
    ]),
]
""",
}
SURE = """
test_evaluator = [
    dict(type='CocoMetric', metric='bbox'),
    dict(type='paif_mm.ObjectOutcomeMetric', score=0.0),
]
"""

#: Name -> what is typed. {folder}: of the kind's training, {out}: a new one.
RUNS = {
    'train': 'train {config} --work-dir {folder}/run --auto-scale-lr --launcher none --local_rank 0 --cfg-options '
    'train_cfg.max_iters=2',
    'resume': 'train {config} --work-dir {out} --resume --cfg-options train_cfg.max_iters=3',
    'amp': 'train {config} --work-dir {out} --amp',
    'test': 'test {config} {checkpoint} --work-dir {out} --attack fgsm_eps4 --wide --out {out}/predictions --show-dir '
    '{out}/strips --fused-quality --launcher none --local_rank 0 --cfg-options test_dataloader.batch_size=2',
    'tta': 'test {config} {checkpoint} --work-dir {out} --tta --out {out}/predictions --show-dir {out}/strips '
    '--fused-quality',
    'show': 'test {config} {checkpoint} --work-dir {out} --show --wait-time 0.5 --cfg-options '
    'default_hooks.visualization.type={stock} default_hooks.visualization.interval=1',
    'partial': 'test {config} {unfused} --work-dir {out} --allow-partial',
    'craft': 'craft_attacks {config} {checkpoint} {folder}/bank --split test --levels small=1/255 --num 3 --seed 1 '
    '--steps 1 --victim {config} {checkpoint}',
    'robustness': 'robustness {config} {checkpoint} --suite paper --out {folder}/report --eps 4/255 --modality both '
    'vis --limit 1 --steps 1 --queries 10 --l2-eps 0.5 --attack fgsm_eps4 --transfer-from {config} {checkpoint} '
    '--eot-samples 2 --bpda data_preprocessor.fusion=identity --smallest-radius '
    '--wide --batch-size 1 --seed 1 --save-adv --bootstrap 20 --blocks 1 --diagnostics 1 --strips 1 --launcher none '
    '--local_rank 0 --cfg-options test_dataloader.num_workers=0',
    'bank': 'robustness {config} {checkpoint} --out {out} --suite paper --limit 3 --eps 4/255 --transfer-bank '
    '{folder}/bank --diagnostics 0 --strips 0 --bootstrap 20',
    'compare': 'compare_reports {folder}/report {folder}/report --names one two --out {out} --wide',
    'leaderboard': 'leaderboard {folder}/report {folder}/report --names one two --out {out} --wide',
    'browse': 'browse_dataset {config} --output-dir {out} --phase val --mode original --show-number 2 --cfg-options '
    'val_dataloader.num_workers=0',
    'flops': 'get_flops {config} --shape 64 96 --runs 1 --device cpu --cfg-options model.train_cfg=None',
    'backbone form': 'model_converters/backbone_form {checkpoint} {out}/backbone.pth',
}
#: The same for tools that know neither kind.
OTHERS = {
    'synthetic': 'make_synthetic {out}/scenes --train 2 --val 1 --size 32x48 --seed 3',
    'genotype': 'show_genotype paif --channels 8 --size 32x48 --out {out}/paif.png',
    'dry study': 'study {plan} --work-dir {out} --scale {scale} --seeds 3 --rows A --jobs 2 --launcher slurm '
    '--processes 2 --partition gpu --dry-run',
    'study table': 'study {plan} --work-dir {out} --table',
    'print': 'print_config {config} --out {out}/whole.py --cfg-options train_cfg.max_iters=7',
    'compare configs': 'compare_configs {old} {new} --renamed {renamed}',
    'release': 'model_converters/paif_release {released} {out}/ours.pth',
    'published network': 'model_converters/fusion_zoo SAGE {released} {out}/ours.pth',
}
#: In tests of their own: an element of an array, and tools that know one kind, or need flags that exclude each other.
ELSEWHERE = {
    'study': {'--job'},
    'publish_model': {
        *('--name', '--title', '--data', '--licence', '--part', '--figures', '--out', '--cfg-options'),
    },
    'robustness': {'--smallest-radius-by'},
    'export': {'--format', '--part', '--shape', '--out', '--fp16', '--int8', '--limit', '--cfg-options'},
    'targeted': {'--out', '--pairs', '--eps', '--steps', '--limit', '--seed', '--cfg-options'},
    'learn_patch': {
        *('--out', '--modality', '--size', '--scale', '--printable', '--blocks', '--temperatures', '--camera'),
        *('--aim', '--universal', '--split', '--steps', '--batch-size', '--seed', '--cfg-options'),
        *('--also', '--tested-on', '--each', '--limit'),
    },
}
PLAN = """
title: Flags
rows: [{name: A, config: a}]
scale: {seeds: [0], configs: {a: %s}}
"""


def test_every_flag_is_in_a_run(monkeypatch):
    """A flag that is added to a tool needs a run above."""
    typed = {tool: set(flags) for tool, flags in ELSEWHERE.items()}
    for line in (*RUNS.values(), *OTHERS.values()):
        tool, *words = line.split()
        typed.setdefault(tool, set()).update(words)
    for path in TOOLS:
        tool = str(path.with_suffix(''))
        if tool in (*DEMOS, 'compatibility', 'check_versions', 'gpu_check'):  # hours, too, or a GPU
            continue
        missing = [flags for flags in flags_of(monkeypatch, tool) if not set(flags) & typed.get(tool, set())]
        assert tool in typed, f'tools/{path} is in no run'
        assert not missing, f'tools/{path}: {missing} are in no run'


def flags_of(monkeypatch, tool: str) -> list[list[str]]:
    """The spellings of each optional argument of a tool, from its own parser."""
    found = []

    def look(parser, *args, **kwargs):
        found.extend(action.option_strings for action in parser._actions if action.option_strings)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', look)
        with pytest.raises(SystemExit):
            load_tool(tool).main()
    return [flags for flags in found if not {'--help', '--debug'} & set(flags)]  # test_mistakes has --debug


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """Three pairs each of 64x96."""
    root = tmp_path_factory.mktemp('flags') / 'scenes'
    make_synthetic(root, train=3, val=3, size=(64, 96), progress=False)
    return root


class Kind:
    """One kind of model: its config, the folder of its runs, and how to type one."""

    def __init__(self, kind: str, folder: Path, data: Path):
        self.kind, self.folder, self.count = kind, folder, 0
        write = commands.config_file if kind == 'segmentor' else test_detection.config_file
        self.config = write(folder, data, 'general', iters=2)
        extra = TTA[kind] + (SURE if kind == 'detector' else '')
        self.config.write_text(self.config.read_text() + extra)
        self.checkpoint = folder / 'run' / 'iter_2.pth'
        self.stock = 'SegVisualizationHook' if kind == 'segmentor' else 'DetVisualizationHook'

    def type(self, name: str, out: Path | None = None) -> Path:
        """Do a run in this process, in an experiment of its own; returns its {out}."""
        out = out or self.folder / name
        words = (
            RUNS[name]
            .format(
                **{key: getattr(self, key) for key in ('config', 'folder', 'checkpoint', 'stock')},
                out=out,
                unfused=self.folder / 'unfused.pth',
            )
            .split()
        )
        if words[0] in ('train', 'test'):
            self.count += 1
            words += [] if '--cfg-options' in words else ['--cfg-options']
            words += [f'experiment_name={self.kind}{self.count}', f'visualizer.name={self.kind}{self.count}']
        with pytest.MonkeyPatch.context() as patch:
            call(patch, *words)
        return out


@pytest.fixture(scope='session', params=KINDS)
def kind(request, tmp_path_factory, scenes) -> Kind:
    """A trained model of either kind."""
    made = Kind(request.param, tmp_path_factory.mktemp(request.param), scenes)
    made.type('train')
    return made


@pytest.fixture(scope='session')
def bank(kind) -> Path:
    kind.type('craft')
    return kind.folder / 'bank'


@pytest.fixture(scope='session')
def report(kind) -> Path:
    kind.type('robustness')
    return kind.folder / 'report'


def results(out: Path) -> dict:
    return json.loads(next(out.glob('*/results.json')).read_text())['results']


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def ids(scenes) -> list[str]:
    return sorted((scenes / 'val.txt').read_text().split())


def test_a_training_is_taken_up_where_it_is(kind):
    out = kind.folder / 'resume'
    shutil.copytree(kind.folder / 'run', out)
    kind.type('resume', out)
    assert (out / 'iter_3.pth').is_file()
    log = max(out.glob('*/*.log')).read_text()
    assert f'Load checkpoint from {out}/iter_2.pth' in log


def test_mixed_precision_trains_weights_of_fp32(kind):
    out = kind.type('amp')
    wrapper = Config.fromfile(out / kind.config.name).optim_wrapper
    assert wrapper.type == ('AmpOptimWrapper' if torch.cuda.is_available() else 'paif_mm.BFloat16OptimWrapper')
    state = torch.load(out / 'iter_2.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in state.values())
    assert not any(value.dtype in (torch.float16, torch.bfloat16) for value in state.values())


def test_predictions_pictures_and_figures_of_each_test_are_apart(kind, scenes):
    out = kind.type('test')
    suffix = 'png' if kind.kind == 'segmentor' else 'json'
    runs = ('clean', 'fgsm_eps4')
    assert names(out / 'strips') == [f'{run}/{name}.png' for run in runs for name in ids(scenes)]
    assert names(out / 'predictions') == [f'{run}/{name}.{suffix}' for run in runs for name in ids(scenes)]
    clean, attacked = (
        [(out / 'predictions' / run / f'{name}.{suffix}').read_bytes() for name in ids(scenes)] for run in runs
    )
    assert clean != attacked
    found = results(out)
    assert set(found) == set(runs)
    assert found['clean']['metrics']['fused/EN'] > 0
    if kind.kind == 'segmentor':
        labels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (out / 'predictions/clean').glob('*.png')]
        assert all(label.shape == (64, 96) and label.max() < 9 for label in labels)
    else:
        predicted = json.loads(clean[0])
        assert len(predicted['boxes']) == len(predicted['scores']) == len(predicted['labels']) > 0
        assert np.all(np.array(predicted['boxes']) <= [96, 64, 96, 64])
        categories = json.loads((scenes / 'annotations/instances_val.json').read_text())['categories']
        assert set(predicted['labels']) <= {category['name'] for category in categories}
        assert Path(predicted['image']).stem == ids(scenes)[0]


def test_test_time_augmentation_shows_and_measures_the_plain_view(kind, scenes):
    out, plain = kind.type('tta'), kind.folder / 'test'
    if not plain.is_dir():
        kind.type('test')
    assert results(out)['clean']['metrics']['fused/SF'] == pytest.approx(results(plain)['clean']['metrics']['fused/SF'])
    assert len(names(out / 'predictions' / 'clean')) == 3
    for name in ids(scenes):
        strip, other = (cv2.imread(str(folder / 'strips' / 'clean' / f'{name}.png')) for folder in (out, plain))
        same = 3 * 96
        assert np.array_equal(strip[:, :same], other[:, :same]), 'infrared, visible, fused'
    if kind.kind == 'segmentor':
        assert cv2.imread(str(next((out / 'predictions/clean').glob('*.png'))), -1).shape == (64, 96)


def test_pictures_are_shown_by_the_task_librarys_own_hook(kind, monkeypatch):
    shown = []
    monkeypatch.setattr('mmengine.visualization.Visualizer.show', lambda self, *args, **kwargs: shown.append(kwargs))
    kind.type('show')
    assert shown
    assert {call['wait_time'] for call in shown} == {0.5}


def test_weights_that_fit_in_part_are_tested_on_request_alone(kind):
    state = torch.load(kind.checkpoint, weights_only=False)['state_dict']
    unfused = {key: value for key, value in state.items() if 'fusion' not in key}
    torch.save({'state_dict': unfused}, kind.folder / 'unfused.pth')
    out = kind.type('partial')
    log = next(out.glob('*/*.log')).read_text()
    said = re.search(r'unfused.pth fits in part: (\d+) weights taken over; (\d+) missing \(data_preprocessor', log)
    assert [int(number) for number in said.groups()][0] == len(unfused)


def test_a_bank_is_made_and_shown_to_models(kind, bank, capsys):
    assert len(list((bank / 'small').glob('*.png'))) == 3
    out = kind.type('bank')
    rows = json.loads((out / 'report.json').read_text())['rows']
    assert any('small' in row['key'] for row in rows)


def test_a_report_and_the_comparison_of_two(kind, report):
    rows = [row['key'] for row in json.loads((report / 'report.json').read_text())['rows']]
    assert 'clean' in rows
    assert {'pgd5-4', 'pgd5-4-vis', 'fgsm_eps4-4', 'transfer20-4'} <= set(rows)
    out = kind.type('compare')
    assert names(out) == ['comparison.csv', 'comparison.html', 'comparison.md']
    assert names(kind.type('leaderboard')) == ['leaderboard.html', 'leaderboard.md']


def test_labels_and_boxes_can_be_browsed(kind):
    out = kind.type('browse')
    strips = [cv2.imread(str(out / name)) for name in names(out)]
    assert len(strips) == 2
    meta = DATASETS.build(Config.fromfile(kind.config).train_dataloader.dataset).metainfo
    assert all(strip.shape[1] == 3 * 96 + commands.legend_width(82, meta) for strip in strips)
    changed = [(strip[18:, 96:192] != strip[18:, 192:288]).any(2).mean() for strip in strips]
    assert 0 < max(changed) < 1


def test_costs_and_the_backbone_form(kind, capsys):
    kind.type('flops')
    assert 'GFLOPs' in capsys.readouterr().out
    kind.type('backbone form', kind.folder)
    state = torch.load(kind.folder / 'backbone.pth')['state_dict']
    assert any(key.startswith('backbone.fusion.') for key in state)


def type_other(name: str, monkeypatch, out: Path, **places) -> Path:
    out.mkdir(exist_ok=True)
    call(monkeypatch, *OTHERS[name].format(out=out, **places).split())
    return out


def test_tools_that_need_no_model(monkeypatch, tmp_path, capsys, scenes):
    out = type_other('synthetic', monkeypatch, tmp_path / 'a')
    assert len(list((out / 'scenes/images').glob('*.png'))) == 3
    assert cv2.imread(str(next((out / 'scenes/images').glob('*.png')))).shape == (32, 48, 3)
    out = type_other('genotype', monkeypatch, tmp_path / 'b')
    assert (out / 'paif.png').is_file()
    config = commands.config_file(tmp_path, scenes, 'general')
    (tmp_path / 'plan.yaml').write_text(PLAN % config)
    (tmp_path / 'small.yaml').write_text(f'seeds: [1]\nconfigs: {{a: {config}}}\n')
    places = {'plan': tmp_path / 'plan.yaml', 'scale': tmp_path / 'small.yaml'}
    capsys.readouterr()
    type_other('dry study', monkeypatch, tmp_path / 'c', **places)
    assert 'A, seed 3: train' in capsys.readouterr().out
    out = type_other('study table', monkeypatch, tmp_path / 'd', **places)
    assert (out / 'plan.csv').is_file()


def test_a_release_is_converted(monkeypatch, tmp_path):
    segformer = SegFormer([8, 8, 8, 8], [1, 1, 1, 1], [1, 1, 1, 1], decoder_width=8, classes=9)
    torch.save(released_checkpoint(segformer, network(dtype=torch.float32)), tmp_path / 'released.pth')
    out = type_other('release', monkeypatch, tmp_path / 'out', released=tmp_path / 'released.pth')
    assert torch.load(out / 'ours.pth')['state_dict']


def test_a_published_network_is_converted(monkeypatch, tmp_path):
    torch.save(released('SAGE', SAGE()), tmp_path / 'checkpoints.pt')
    out = type_other('published network', monkeypatch, tmp_path / 'out', released=tmp_path / 'checkpoints.pt')
    assert SAGE().load_state_dict(torch.load(out / 'ours.pth')['state_dict'])


# ------------------------------------------------------------------------------------------- what does not go together


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ('--tta --attack fgsm_eps4', '--tta and --attack exclude each other'),
        ('--out {out}/x --show-dir {out}/../{name}/x', '--out and --show-dir need two folders'),
        ('--attack {out}/a/mine.py {out}/b/mine.py', 'there is a test called mine already: rename the file'),
        ('--attack {out}/a/clean.py', 'there is a test called clean already: rename the file'),
        ('--show', 'use --show-dir instead of --show'),
        ('--tta --cfg-options tta_model=None', '--tta needs tta_model in the config'),
        (
            '--show-dir {out} --attack fgsm_eps4 --cfg-options default_hooks.visualization.type=SegVisualizationHook',
            "SegVisualizationHook would write every test's pictures to the same files",
        ),
    ],
)
def test_flags_that_collide_are_refused_in_one_line(kind, monkeypatch, tmp_path, flags, message):
    for file in ('a/mine.py', 'b/mine.py', 'a/clean.py'):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("attack = dict(type='PGD', eps=0)\n")
    flags = flags.format(out=tmp_path, name=tmp_path.name).split()
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, 'test', kind.config, kind.checkpoint, '--work-dir', tmp_path / 'run', *flags)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_images_of_one_name_in_several_folders_have_files_of_their_own(kind, scenes, monkeypatch, tmp_path):
    """As day/0001.png and night/0001.png, in one data set of two."""
    if kind.kind == 'detector':
        pytest.skip('the same hook')
    for part in ('day', 'night'):
        shutil.copytree(scenes, tmp_path / part)
    config = tmp_path / 'two.py'
    config.write_text(
        kind.config.read_text()
        .replace("data_root = '", "old_root = '")
        .replace('data_root=data_root', 'data_root=None')
        + f"""
data_root = '{tmp_path}/day'
part = dict(type='paif_mm.MFNetDataset', ann_file='val.txt', test_mode=True, pipeline={{{{_base_.test_pipeline}}}})
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, type='ConcatDataset',
    datasets=[dict(**part, data_root='{tmp_path}/' + p) for p in ('day', 'night')]))
"""
    )
    made, kind.config = kind.config, config
    try:
        out = kind.type('test', tmp_path / 'out')
        kind.type('tta', tmp_path / 'tta')
        call(monkeypatch, 'browse_dataset', config, '--phase', 'test', '--output-dir', tmp_path / 'browsed')
    finally:
        kind.config = made
    expected = sorted(f'{part}__images__{name}.png' for part in ('day', 'night') for name in ids(scenes))
    for folder in ('strips', 'predictions'):
        assert [Path(name).name for name in names(out / folder / 'clean')] == expected
        assert names(tmp_path / 'tta' / folder / 'clean') == expected
    assert names(tmp_path / 'browsed') == expected


@pytest.mark.parametrize(
    ('script', 'args', 'expected'),
    [
        (
            'dist_train.sh',
            'c.py 2 --amp',
            '-m torch.distributed.run .*--nproc_per_node=2 .*/train.py c.py --launcher pytorch --amp',
        ),
        ('dist_test.sh', 'c.py w.pth 2 --tta', '.*--nproc_per_node=2 .*/test.py c.py w.pth --launcher pytorch --tta'),
        (
            'slurm_train.sh',
            'part job c.py --resume',
            '-p part --job-name=job .*/train.py c.py --launcher slurm --resume',
        ),
        ('slurm_test.sh', 'part job c.py w.pth --out x', '-p part .*/test.py c.py w.pth --launcher slurm --out x'),
    ],
)
def test_launchers_hand_on_what_is_typed(script, args, expected, tmp_path):
    for name in ('python', 'srun'):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [str(REPO / 'tools' / script), *args.split()],
        env={'PATH': f'{tmp_path}:/usr/bin:/bin'},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(expected, done.stdout)


def test_a_model_without_fusion_is_tested_with_every_flag_too(kind, monkeypatch, tmp_path, scenes):
    if kind.kind == 'detector':
        pytest.skip('the same hooks')
    config = plain_config(tmp_path, scenes)
    from test_tools.test_robustness import untrained

    _, weights = untrained(config, tmp_path)
    flags = ['--out', tmp_path / 'out', '--show-dir', tmp_path / 'strips', '--fused-quality', '--attack', 'fgsm_eps4']
    options = ['--cfg-options', 'experiment_name=plain', 'visualizer.name=plain']
    call(monkeypatch, 'test', config, weights, '--work-dir', tmp_path / 'run', *flags, *options)
    assert len(names(tmp_path / 'out')) == len(names(tmp_path / 'strips')) == 6
    assert not any(key.startswith('fused/') for key in results(tmp_path / 'run')['clean']['metrics'])
    assert Config.fromfile(config).model.type == 'EncoderDecoder'
