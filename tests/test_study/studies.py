"""Made-up studies: plans of small configs, and jobs with results that were never measured."""

import json
import time
from pathlib import Path

import yaml

from paif_mm.files import write_json
from paif_mm.study.plan import Job, Plan, Row
from paif_mm.study.schedule import note

CONFIG = """
model = dict(fusion=dict(type='FusionNet', channels=8), head=dict(type='Head', channels=[4, 8]))
load_from = None
train_cfg = dict(max_iters=2)
custom_hooks = [dict(type='Bank', bank='nowhere', iters=3), dict(type='Attack', ratio=0.5)]
"""


def write_plan(folder: Path, *rows: dict, name: str = 'plan', scale: dict | None = None, **keys) -> Path:
    """A plan with its scale inside, whose config ``a`` is a.py beside it; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / 'a.py').exists():
        (folder / 'a.py').write_text(CONFIG)
    scale = {'seeds': [0], 'configs': {'a': 'a.py'}, **(scale or {})}
    content = {'title': 'A study', 'rows': list(rows) or [{'name': 'A', 'config': 'a'}], 'scale': scale, **keys}
    path = folder / f'{name}.yaml'
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def make_job(work_dir: Path, name: str, *needs: Job, seed: int = 0, tested: bool = False) -> Job:
    """A job without a config; where it is tested, a row of a table."""
    robustness = {'suite': 'paper'} if tested else None
    return Job(name, seed, work_dir / name / f'seed{seed}', None, {need.name: need for need in needs}, None, robustness)


def make_row(work_dir: Path, name: str, seeds=(0,), group: str = '', paper: dict | None = None) -> Row:
    return Row(name, group, paper or {}, tuple(make_job(work_dir, name, seed=seed, tested=True) for seed in seeds))


def make_plan(*rows: Row, classes=(), text: str = '') -> Plan:
    return Plan('plan', 'A study', text, tuple(classes), rows)


def trained(job: Job, checkpoint: str = 'iter_2.pth') -> Job:
    """The job, with what a training of it leaves."""
    job.output('train').mkdir(parents=True)
    (job.output('train') / 'last_checkpoint').write_text(f'/some/other/machine/{checkpoint}')
    return job


def measured(job: Job, tested: dict, report: dict, score: str = 'mIoU') -> None:
    """Note that all stages of a job are done.

    Args:
        job: to be done.
        tested: metrics of the clean test.
        report: test -> figures, or the leading figure alone; in percent.
        score: the leading figure.
    """
    folder = job.output('test') / time.strftime('%Y%m%d_%H%M%S')
    write_json(folder / 'results.json', {'checkpoint': 'x.pth', 'results': {'clean': {'metrics': tested}}})
    rows = []
    for key, figures in report.items():
        figures = figures if isinstance(figures, dict) else {score: figures}
        figures = {name: {'value': value, 'low': None, 'high': None} for name, value in figures.items()}
        fused = {'fused': {'SSIM': {'value': 0.25, 'low': 0.2, 'high': 0.3}}} if key == 'clean' else {}
        rows.append({'key': key, 'figures': {'all': figures}, **fused})
    content = {'score': score, 'classes': ['car', 'person'], 'images': ['1.png', '2.png'], 'rows': rows}
    write_json(job.output('robustness') / 'report.json', content)
    for stage in job.stages:
        note(job, stage, 1.0)


def state(job: Job) -> dict:
    return json.loads((job.folder / 'state.json').read_text())
