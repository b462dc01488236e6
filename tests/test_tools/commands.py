"""The tools as users type them, and a config that they run in seconds."""

import json
import signal
import subprocess
import sys
import time

import torch
from conftest import REPO, environment

from paif_mm.data.datasets import MFNetDataset
from paif_mm.engine.strips import draw_legend

CONFIG = """
_base_ = '{repo}/configs/quickstart/segformer_{kind}_synthetic.py'
data_root = '{data}'
model = dict(
    data_preprocessor=dict(fusion=dict(channels=4), task=dict(size=(48, 64))),
    backbone=dict(embed_dims=8, drop_path_rate=0.1),
    decode_head=dict(in_channels=[8, 16, 40, 64], channels=16, dropout_ratio=0.1),
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(96, 64), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(48, 64)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters={iters}, val_interval=3)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=2))
"""


def run(tool: str, *args, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', str(REPO / 'tools' / tool), *map(str, args)]
    done = subprocess.run(command, cwd=REPO, env=environment(), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def launch(script: list[str], env: dict) -> None:
    done = subprocess.run(script, cwd=REPO, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def config_file(folder, data, kind='sat', iters=6):
    path = folder / f'{kind}.py'
    path.write_text(CONFIG.format(repo=REPO, kind=kind, data=data, iters=iters))
    return path


def weights(work_dir, iteration: int) -> dict:
    return torch.load(work_dir / f'iter_{iteration}.pth', weights_only=False)['state_dict']


def latest_results(work_dir) -> dict:
    return json.loads(max(work_dir.glob('*/results.json')).read_text())['results']


def kill_after(iteration: int, config, work_dir, *flags) -> None:
    """Start a training and kill it (SIGKILL) once the checkpoint of an iteration is written, its latest then."""
    signal_after(iteration, signal.SIGKILL, config, work_dir, *flags)
    for path in work_dir.glob('iter_*.pth'):  # in case the next iterations were faster than the signal
        if int(path.stem.split('_')[1]) > iteration:
            path.unlink()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / f'iter_{iteration}.pth'))


def signal_after(iteration: int, number: int, config, work_dir, *flags) -> int:
    """Start a training and signal it once the checkpoint of an iteration is its latest; returns its exit code."""
    command = [sys.executable, '-W', 'ignore', str(REPO / 'tools' / 'train.py'), str(config), *flags]
    process = subprocess.Popen(
        [*command, '--work-dir', str(work_dir)],
        cwd=REPO,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline, latest, wanted = time.time() + 120, work_dir / 'last_checkpoint', work_dir / f'iter_{iteration}.pth'
    while not latest.exists() or wanted.name not in latest.read_text():
        assert process.poll() is None or wanted.exists()
        assert time.time() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait()


def legend_width(height: int, meta: dict = MFNetDataset.METAINFO) -> int:
    """Of the classes' legend beside strips so high."""
    return draw_legend(meta['classes'], meta['palette'], height).shape[1]
