"""Synthetic scenes: deterministic, complete, and solvable with both modalities only."""

import hashlib
import json
import subprocess
import sys

import cv2
import make_synthetic as make_synthetic_tool
import numpy as np
import pytest
import torch
from conftest import REPO, environment

from paif_mm.data import synthetic
from paif_mm.data.synthetic import CURVE, DRAWERS, PERSON, _Canvas, make_synthetic, render_scene

SIZE = (60, 80)


def digest(root) -> dict[str, str]:
    files = sorted(p for p in root.rglob('*.png'))
    return {str(p.relative_to(root)): hashlib.sha1(p.read_bytes()).hexdigest() for p in files}


def scenes(count, size=SIZE, seed=0):
    return [render_scene(np.random.default_rng([seed, i]), size, night=i % 2 == 1)[:2] for i in range(count)]


def test_a_seed_gives_the_same_bytes_whatever_the_number_of_pairs(tmp_path):
    make_synthetic(tmp_path / 'a', 3, 2, SIZE, seed=5, progress=False)
    make_synthetic(tmp_path / 'b', 4, 1, SIZE, seed=5, progress=False)
    make_synthetic(tmp_path / 'c', 3, 2, SIZE, seed=6, progress=False)
    a, b, c = (digest(tmp_path / name) for name in 'abc')
    assert len(a) == 10
    shared = a.keys() & b.keys()
    assert len(shared) == 8
    assert all(a[name] == b[name] for name in shared)
    assert all(a[name] != c[name] for name in a)


def test_layout_is_mfnets(tmp_path):
    make_synthetic(tmp_path, 3, 2, (33, 47), progress=False)
    ids = (tmp_path / 'train.txt').read_text().split()
    assert ids == ['train00000D', 'train00001N', 'train00002D']
    image = cv2.imread(str(tmp_path / 'images' / f'{ids[0]}.png'), cv2.IMREAD_UNCHANGED)
    label = cv2.imread(str(tmp_path / 'labels' / f'{ids[0]}.png'), cv2.IMREAD_UNCHANGED)
    assert image.shape == (33, 47, 4)
    assert label.shape == (33, 47)
    assert image.dtype == label.dtype == np.uint8


def test_an_interrupted_call_is_continued_and_a_finished_one_reused(tmp_path):
    make_synthetic(tmp_path, 3, 1, SIZE, progress=False)
    before = digest(tmp_path)
    (tmp_path / 'images' / 'train00001N.png').unlink()
    (tmp_path / 'labels' / 'train00002D.png').unlink()
    assert make_synthetic(tmp_path, 3, 1, SIZE, progress=False) == 2
    assert digest(tmp_path) == before
    assert make_synthetic(tmp_path, 3, 1, SIZE, progress=False) == 0


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='is not empty'):
        make_synthetic(tmp_path, 1, 1, SIZE, progress=False)
    make_synthetic(tmp_path / 'set', 1, 1, SIZE, progress=False)
    with pytest.raises(FileExistsError, match='another synthetic set'):
        make_synthetic(tmp_path / 'set', 1, 1, SIZE, seed=1, progress=False)
    manifest = tmp_path / 'set' / 'synthetic.json'
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), 'version': 0}))
    with pytest.raises(FileExistsError, match='another synthetic set'):
        make_synthetic(tmp_path / 'set', 1, 1, SIZE, progress=False)
    with pytest.raises(ValueError, match='32x32'):
        make_synthetic(tmp_path / 'tiny', 1, 1, (16, 80), progress=False)


def test_every_class_occurs_and_no_other():
    labels = np.stack([label for _, label in scenes(40)])
    assert set(np.unique(labels)) == set(range(9))
    frequent = [(labels == kind).any((1, 2)).mean() for kind in range(1, 9)]
    assert min(frequent) > 0.15, 'each class in at least one scene of seven'
    assert 0.1 < (labels > 0).mean() < 0.35


def test_near_objects_are_drawn_over_far_ones_and_kerbs_under_all(monkeypatch):
    feet, kinds = [], []

    def place(canvas, depth, original=_Canvas.place):
        feet[-1].append(original(canvas, depth)[1])
        return original(canvas, depth)

    def recorded(kind, draw):
        def record(canvas, depth):
            kinds[-1].append(kind)
            draw(canvas, depth)

        return record

    monkeypatch.setattr(_Canvas, 'place', place)
    for kind, draw in DRAWERS.items():
        monkeypatch.setitem(DRAWERS, kind, recorded(kind, draw))
    clutter = synthetic._draw_clutter
    monkeypatch.setattr(synthetic, '_draw_clutter', lambda canvas: (clutter(canvas), feet[-1].clear()))
    for i in range(20):
        feet.append([])
        kinds.append([])
        render_scene(np.random.default_rng(i), SIZE, night=False)
    assert all(order == sorted(order) for order in feet)
    assert sum(CURVE in order for order in kinds) > 3
    assert all(CURVE not in order[1:] for order in kinds)


def test_nights_are_dark_in_the_visible_image_alone():
    pairs = np.stack([pair for pair, _ in scenes(40)]).astype(float)
    day, night = pairs[::2], pairs[1::2]
    assert night[..., :3].mean() < 0.5 * day[..., :3].mean()
    assert night[..., 3].mean() == pytest.approx(day[..., 3].mean(), rel=0.15)


def contrast(night: bool, kind: int) -> tuple[float, float]:
    """Mean |object - surroundings| of a class in the visible and in the infrared image, in pixel values."""
    values = []
    for pair, label in scenes(120)[int(night) :: 2]:
        mask = (label == kind).astype(np.uint8)
        ring = (cv2.dilate(mask, np.ones((7, 7))) - mask).astype(bool)
        if mask.sum() > 20 and ring.any():
            difference = np.abs(pair[mask.astype(bool)].mean(0) - pair[ring].mean(0))
            values.append([difference[:3].mean(), difference[3]])
    return tuple(np.mean(values, axis=0))


def test_persons_at_night_are_seen_by_the_infrared_camera():
    visible, infrared = contrast(True, PERSON)
    assert infrared > 60
    assert infrared > 4 * visible


def test_cones_are_seen_by_the_visible_camera():
    visible, infrared = contrast(False, 7)
    assert visible > 25
    assert visible > 2 * infrared


@pytest.mark.slow
def test_neither_modality_suffices():
    """A per-pixel classifier on local means and deviations does better with both than with either."""

    def features(pair):
        image = pair.astype(np.float32) / 255
        stack = [image]
        for side in (3, 9):
            mean = cv2.blur(image, (side, side))
            stack += [mean, np.sqrt(np.maximum(cv2.blur(image * image, (side, side)) - mean * mean, 0))]
        return np.stack(stack, -1).reshape(-1, 4, 5)

    data = scenes(90)
    x = torch.from_numpy(np.concatenate([features(pair) for pair, _ in data]))
    y = torch.from_numpy(np.concatenate([label.ravel() for _, label in data])).long()
    split = len(y) * 2 // 3
    weight = 1 / torch.bincount(y, minlength=9).float().clamp_min(1)

    def accuracy(channels):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(5 * len(channels), 32), torch.nn.ReLU(), torch.nn.Linear(32, 9))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        inputs = x[:, channels].flatten(1)
        for _ in range(200):
            batch = torch.randint(split, (4096,))
            loss = torch.nn.functional.cross_entropy(model(inputs[batch]), y[batch], weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            predicted = model(inputs[split:]).argmax(1)
        hits = [(predicted[y[split:] == c] == c).float().mean() for c in range(9)]
        return torch.stack(hits).mean().item()

    visible, infrared, both = accuracy([0, 1, 2]), accuracy([3]), accuracy([0, 1, 2, 3])
    assert both > visible + 0.03
    assert both > infrared + 0.1


def test_the_command_makes_a_set(tmp_path):
    command = [sys.executable, 'tools/make_synthetic.py', str(tmp_path / 'set'), '--train', '2', '--val', '1']
    done = subprocess.run([*command, '--size', '40x48'], cwd=REPO, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b'2 + 1 pairs' in done.stdout
    assert len(digest(tmp_path / 'set')) == 6


def test_the_command_reuses_its_set_and_refuses_nonsense_in_one_line(tmp_path, monkeypatch, capsys):
    def run(size):
        command = ['make_synthetic.py', str(tmp_path / 'set'), '--train', '2', '--val', '1', '--size', size]
        monkeypatch.setattr(sys, 'argv', command)
        make_synthetic_tool.main()
        return capsys.readouterr().out

    assert '3 made now' in run('40x48')
    assert 'nothing to do' in run('40x48')
    for size, message in (('16x48', 'at least one pair per split and 32x32'), ('64x96', 'another synthetic set')):
        with pytest.raises(SystemExit, match=message) as refusal:
            run(size)
        assert '\n' not in str(refusal.value)
    with pytest.raises(SystemExit):
        run('40')
    assert 'HEIGHTxWIDTH' in capsys.readouterr().err
