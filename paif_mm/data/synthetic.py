"""Synthetic street scenes as infrared-visible pairs with labels, in MFNet's own layout, and boxes in COCO's format.

A scene has a sky, houses with windows, a pavement and a road, by day or by night, and objects of MFNet's classes drawn
from far to near, so that near ones hide far ones. What each modality shows follows the physics in broad strokes:

* persons, engines and tyres are warm; bicycles, cones, car stops and guardrails have the temperature of the street;
* at night the visible image is dark and noisy, lit by lamps and headlights, while the infrared image hardly changes;
* posters of persons, painted car shapes, shadows and bright signs are seen in the visible image alone; warm vents,
  manholes and windows in the infrared image alone. Neither is an object: all are 'unlabeled'.

So neither modality suffices. Every scene is a function of (seed, split, index) alone.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import ProgressBar

CAR, PERSON, BIKE, CURVE, CAR_STOP, GUARDRAIL, CONE, BUMP = range(1, 9)
SPLITS = ('train', 'val')
MANIFEST = 'synthetic.json'
FOLDERS = ('images', 'labels', 'annotations')
#: Raised whenever the drawings change, so that no folder is continued with scenes of another kind.
VERSION = 1
#: What gets boxes, as COCO categories 0, 1, 2.
BOXED = {PERSON: 'person', BIKE: 'bicycle', CAR: 'car'}
#: Boxes of fewer visible pixels, or of sides below three, are left out: nobody could find them.
LEAST_VISIBLE = 12
#: How likely a scene holds each kind of object, how many at most, and their depths: 0 (horizon) to 1 (camera).
#: Kerbs lie flat from near to far: at depth 0 they are drawn first, under everything that stands on the street.
OBJECTS = {
    CAR: (0.85, 3, (0.05, 1)),
    PERSON: (0.85, 4, (0.05, 1)),
    BIKE: (0.5, 2, (0.05, 1)),
    CURVE: (0.5, 1, (0, 0)),
    CAR_STOP: (0.35, 2, (0.05, 1)),
    GUARDRAIL: (0.3, 1, (0.05, 0.6)),
    CONE: (0.45, 3, (0.05, 1)),
    BUMP: (0.3, 1, (0.3, 0.85)),
}


def make_synthetic(out, train: int, val: int, size: tuple[int, int], seed: int = 0, progress: bool = True) -> int:
    """Write a data set: ``images/ID.png`` (RGBA, infrared as fourth channel), ``labels/ID.png``, ``{train,val}.txt``,
    and the boxes of persons, bicycles and cars in ``annotations/instances_{train,val}.json`` (COCO's format).

    An interrupted call is continued by the same call: only missing files are made.

    Args:
        out (str | Path): folder, new or holding the same set.
        train, val (int): numbers of pairs; every second one is a night scene.
        size (tuple[int, int]): height and width in pixels, at least 32.
        seed (int): another seed, other scenes.
        progress (bool): draw a progress bar.

    Returns:
        int: how many pairs were made (the others were there).

    Raises:
        ValueError: a number or size is too small.
        FileExistsError: ``out`` holds something else.
    """
    if train < 1 or val < 1 or min(size) < 32:
        raise ValueError(f'need at least one pair per split and 32x32 pixels, not {train}, {val}, {size[0]}x{size[1]}')
    out = Path(out)
    _claim(out, {'train': train, 'val': val, 'size': list(size), 'seed': seed, 'version': VERSION})
    counts = dict(zip(SPLITS, (train, val), strict=True))
    for split, count in counts.items():
        (out / f'{split}.txt').write_text(''.join(f'{scene_id(split, i)}\n' for i in range(count)))
    missing = [
        job for job in _jobs(counts) if not all((out / folder / f'{job[2]}.png').is_file() for folder in FOLDERS[:2])
    ]
    bar = ProgressBar(len(missing)) if progress and missing else None
    boxes = {}
    for job in missing:
        pair, label, boxes[job] = _render(job, size, seed)
        for folder, image in zip(FOLDERS[:2], (pair, label), strict=True):
            _write(out / folder / f'{job[2]}.png', cv2.imencode('.png', image)[1].tobytes())
        if bar:
            bar.update()
    for split in SPLITS:
        path = out / 'annotations' / f'instances_{split}.json'
        if not path.is_file():
            jobs = [job for job in _jobs(counts) if job[0] == split]
            scenes = {job[2]: boxes[job] if job in boxes else _render(job, size, seed)[2] for job in jobs}
            _write(path, json.dumps(_coco(scenes, size)).encode())
    return len(missing)


def _render(job: tuple[str, int, str], size: tuple[int, int], seed: int):
    split, index, name = job
    return render_scene(np.random.default_rng([seed, SPLITS.index(split), index]), size, night=name.endswith('N'))


def _coco(scenes: dict[str, list], size: tuple[int, int]) -> dict:
    """The boxes of all scenes, by their ids, as COCO's annotation format has them."""
    images, annotations = [], []
    categories = {kind: i for i, kind in enumerate(BOXED)}
    for image_id, (name, boxes) in enumerate(scenes.items(), 1):
        images.append({'id': image_id, 'file_name': f'{name}.png', 'width': size[1], 'height': size[0]})
        for kind, (x, y, w, h), area in boxes:
            annotation = {'image_id': image_id, 'category_id': categories[kind], 'bbox': [x, y, w, h]}
            annotations.append({'id': len(annotations) + 1, **annotation, 'area': area, 'iscrowd': 0})
    named = [{'id': i, 'name': BOXED[kind]} for kind, i in categories.items()]
    return {'images': images, 'annotations': annotations, 'categories': named}


def scene_id(split: str, index: int) -> str:
    """The id of a scene; it ends in D (day) or N (night), as MFNet's do."""
    return f'{split}{index:05d}{"DN"[index % 2]}'


def _jobs(counts: dict) -> Iterator[tuple[str, int, str]]:
    for split, count in counts.items():
        for index in range(count):
            yield split, index, scene_id(split, index)


def _claim(out: Path, arguments: dict) -> None:
    """Take an empty folder, or one that an equal call began to fill."""
    manifest = out / MANIFEST
    if manifest.is_file():
        found = json.loads(manifest.read_text())
        if found != arguments:
            raise FileExistsError(f'{out} holds another synthetic set ({found}): delete it or choose another folder')
    elif out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f'{out} is not empty and holds no {MANIFEST}: choose another folder')
    out.mkdir(parents=True, exist_ok=True)
    _write(manifest, json.dumps(arguments).encode())  # before anything else: a killed run can then be continued
    for folder in FOLDERS:
        (out / folder).mkdir(exist_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Write a file in one step, so that a killed run leaves no half of it."""
    partial = path.with_suffix('.tmp')
    partial.write_bytes(data)
    os.replace(partial, path)


def render_scene(
    rng: np.random.Generator, size: tuple[int, int], night: bool
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, tuple[int, int, int, int], int]]]:
    """Draw one scene.

    Args:
        rng: source of all randomness.
        size: height and width in pixels.
        night: lighting.

    Returns:
        The pair, HxWx4 uint8 (B,G,R,IR); its label, HxW uint8 of classes 0 to 8; of each object in :data:`BOXED` the
        class, the box (x, y, width, height) around its visible pixels, and their number.
    """
    canvas = _Canvas(rng, size)
    _draw_background(canvas)
    _draw_clutter(canvas)
    jobs = [
        (rng.uniform(*depths), kind)
        for kind, (chance, most, depths) in OBJECTS.items()
        if rng.random() < chance
        for _ in range(rng.integers(1, most + 1))
    ]
    for depth, kind in sorted(jobs):  # far to near
        canvas.kinds.append(kind)
        DRAWERS[kind](canvas, depth)
    return canvas.develop(night), canvas.label, canvas.boxes()


class _Canvas:
    """Reflectance (B,G,R), temperature and label of a scene, all drawn to at once; coordinates are pixels."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]):
        self.rng = rng
        self.height, self.width = size
        self.visible = np.zeros((*size, 3), np.uint8)
        self.heat = np.zeros(size, np.uint8)
        self.label = np.zeros(size, np.uint8)
        self.owner = np.zeros(size, np.uint8)  # which object a pixel belongs to: its place in `kinds`
        self.kinds = [0]  # classes of the objects drawn so far; 0: the background
        self.light = np.zeros(size, np.uint8)  # of lamps, at night
        self.horizon = int(self.height * rng.uniform(0.3, 0.42))
        self.street = int(rng.integers(70, 95))  # the temperature of everything that has none of its own

    def place(self, depth: float) -> tuple[int, int, float]:
        """Foot point (x, y) of an object and its scale (pixels per metre), for depth 0 (horizon) to 1 (camera)."""
        y = self.horizon + int((0.12 + 0.8 * depth) * (self.height - self.horizon))
        scale = (y - self.horizon) / 2.2 + 0.02 * self.height
        return int(self.rng.uniform(0.03, 0.97) * self.width), y, scale

    def fill(self, points, colour=None, heat=None, label=None) -> None:
        """Fill a polygon in any of the three layers."""
        points = [np.round(points).astype(np.int32)]
        for layer, value in self._layers(colour, heat, label):
            if value is not None:
                cv2.fillPoly(layer, points, tuple(map(int, value)) if layer.ndim == 3 else int(value))

    def ellipse(self, x, y, rx, ry, colour=None, heat=None, label=None, thickness=-1) -> None:
        """Draw an ellipse in any of the three layers."""
        axes = (max(int(round(rx)), 1), max(int(round(ry)), 1))
        for layer, value in self._layers(colour, heat, label):
            if value is not None:
                value = tuple(map(int, value)) if layer.ndim == 3 else int(value)
                cv2.ellipse(layer, (int(x), int(y)), axes, 0, 0, 360, value, thickness)

    def _layers(self, colour, heat, label) -> tuple:
        owner = None if label is None else len(self.kinds) - 1
        return (self.visible, colour), (self.heat, heat), (self.label, label), (self.owner, owner)

    def boxes(self) -> list[tuple[int, tuple[int, int, int, int], int]]:
        """(class, (x, y, width, height), visible pixels) of the objects that are boxed and still seen."""
        found = []
        for place, kind in enumerate(self.kinds):
            seen = (self.owner == place).astype(np.uint8)
            x, y, w, h = cv2.boundingRect(seen)
            if kind in BOXED and min(w, h) >= 3 and seen.sum() >= LEAST_VISIBLE:
                found.append((kind, (x, y, w, h), int(seen.sum())))
        return found

    def box(self, x0, y0, x1, y1, **layers) -> None:
        """Fill a rectangle in any of the three layers."""
        self.fill([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], **layers)

    def colour(self, low: int = 40, high: int = 230) -> np.ndarray:
        return self.rng.integers(low, high, 3)

    def develop(self, night: bool) -> np.ndarray:
        """Light and noise turn reflectance and temperature into a pair, HxWx4 uint8."""
        rng = self.rng
        if night:
            lamps = cv2.GaussianBlur(self.light, (0, 0), self.height / 12).astype(np.float32) / 255
            light, noise = np.float32(rng.uniform(0.08, 0.2)) + lamps[..., None], 7
        else:
            light, noise = np.float32(rng.uniform(0.75, 1.1)), 3
        visible = cv2.GaussianBlur(self.visible, (0, 0), 0.5) * light
        heat = cv2.GaussianBlur(self.heat, (0, 0), 0.7) * np.float32(rng.uniform(0.85, 1.1)) + rng.integers(-10, 11)
        pair = np.empty((self.height, self.width, 4), np.float32)
        pair[..., :3], pair[..., 3] = visible, heat
        pair += rng.standard_normal(pair.shape, np.float32) * np.float32([noise, noise, noise, 4])
        return np.clip(np.rint(pair), 0, 255).astype(np.uint8)


def _draw_background(c: _Canvas) -> None:
    rng = c.rng
    street = c.street
    c.box(0, 0, c.width, c.horizon, colour=(225, 205, 180) + rng.integers(-20, 20, 3), heat=25)
    x = 0
    while x < c.width:  # houses
        width = int(c.width * rng.uniform(0.12, 0.3))
        top = int(c.horizon * rng.uniform(0.05, 0.6))
        wall = c.colour(70, 190)
        c.box(x, top, x + width, c.horizon, colour=wall, heat=street + rng.integers(-15, 15))
        pane = max(c.height // 28, 2)
        for wx in range(x + pane, x + width - pane, 3 * pane):
            for wy in range(top + pane, c.horizon - 2 * pane, 3 * pane):
                warm = {'heat': 150} if rng.random() < 0.15 else {}  # seen by the infrared camera alone
                c.box(wx, wy, wx + pane, wy + pane, colour=wall * 0.5, **warm)
        x += width
    c.box(0, c.horizon, c.width, c.height, colour=(150, 150, 155), heat=street)  # pavement
    middle, top, bottom = c.width * rng.uniform(0.35, 0.65), c.width * 0.06, c.width * rng.uniform(0.55, 0.8)
    road = [
        (middle - top, c.horizon),
        (middle + top, c.horizon),
        (middle + bottom, c.height),
        (middle - bottom, c.height),
    ]
    c.fill(road, colour=np.full(3, rng.integers(75, 110)), heat=street + 12)
    for step in np.linspace(0.1, 0.95, 6):  # lane marks
        y, reach = c.horizon + step * (c.height - c.horizon), 0.008 * c.width * (0.2 + step)
        c.box(middle - reach, y, middle + reach, y + 0.07 * c.height * step, colour=(220, 220, 220))
    for _ in range(rng.integers(2, 5)):  # lamps
        centre = (int(rng.uniform(0, c.width)), int(rng.uniform(c.horizon, c.height)))
        cv2.circle(c.light, centre, int(c.height * rng.uniform(0.1, 0.25)), int(rng.integers(90, 200)), -1)


def _draw_clutter(c: _Canvas) -> None:
    """What is seen in one modality alone and is no object."""
    rng = c.rng
    for _ in range(rng.integers(1, 4)):  # posters of persons, painted cars, shadows, signs
        x, y, s = c.place(rng.uniform(0, 0.7))
        kind = rng.integers(4)
        if kind == 0:
            _person_shape(c, x, y, s, {'colour': c.colour()}, {'colour': c.colour()}, {'colour': (150, 175, 215)})
        elif kind == 1:
            _car_shape(c, x, y, s, {'colour': c.colour()}, {'colour': (70, 60, 50)})
        elif kind == 2:
            c.ellipse(x, y, s, 0.25 * s, colour=(60, 60, 60))
        else:
            c.box(x - 0.4 * s, y - 2.2 * s, x + 0.4 * s, y - 1.5 * s, colour=c.colour(30, 255))
    for _ in range(rng.integers(1, 4)):  # vents, manholes, warm patches of the size of persons
        x, y, s = c.place(rng.uniform(0, 0.8))
        heat = rng.integers(170, 235)
        if rng.random() < 0.5:
            c.ellipse(x, y, 0.45 * s, 0.18 * s, heat=heat)
        else:
            c.box(x - 0.25 * s, y - 1.6 * s, x + 0.25 * s, y - 0.1 * s, heat=heat)


def _person_shape(c: _Canvas, x, y, s, legs: dict, body: dict, head: dict) -> None:
    c.box(x - 0.2 * s, y - 0.9 * s, x - 0.03 * s, y, **legs)
    c.box(x + 0.03 * s, y - 0.9 * s, x + 0.2 * s, y, **legs)
    c.ellipse(x, y - 1.15 * s, 0.28 * s, 0.42 * s, **body)
    c.ellipse(x, y - 1.7 * s, 0.15 * s, 0.19 * s, **head)


def _person(c: _Canvas, depth: float) -> None:
    x, y, s = c.place(depth)
    heat = c.rng.integers(185, 240)
    clothes = {'heat': heat - 20, 'label': PERSON}
    _person_shape(
        c,
        x,
        y,
        s,
        {'colour': c.colour(20, 120), **clothes},
        {'colour': c.colour(20, 200), **clothes},
        {'colour': (150, 175, 215), 'heat': heat + 10, 'label': PERSON},
    )


def _car_shape(c: _Canvas, x, y, s, body: dict, glass: dict) -> None:
    c.box(x - 1.6 * s, y - 0.95 * s, x + 1.6 * s, y - 0.2 * s, **body)
    roof = [
        (x - 1.1 * s, y - 0.95 * s),
        (x - 0.75 * s, y - 1.5 * s),
        (x + 0.75 * s, y - 1.5 * s),
        (x + 1.1 * s, y - 0.95 * s),
    ]
    c.fill(roof, **body)
    glass_area = [
        (x + dx * 0.8, y + (dy + 0.05 * s))
        for dx, dy in ((-s, -s), (-0.75 * s, -1.45 * s), (0.75 * s, -1.45 * s), (s, -s))
    ]
    c.fill(glass_area, **glass)


def _car(c: _Canvas, depth: float) -> None:
    x, y, s = c.place(depth)
    engine = c.rng.choice([-1, 1])
    running = c.rng.random() < 0.7
    _car_shape(
        c,
        x,
        y,
        s,
        {'colour': c.colour(), 'heat': 105, 'label': CAR},
        {'colour': (70, 60, 50), 'heat': 60, 'label': CAR},
    )
    if running:
        c.box(x + engine * 0.9 * s, y - 0.85 * s, x + engine * 1.55 * s, y - 0.35 * s, heat=205)
        cv2.circle(c.light, (int(x + engine * 1.8 * s), int(y - 0.4 * s)), max(int(s), 1), 230, -1)
        c.ellipse(x + engine * 1.5 * s, y - 0.6 * s, 0.12 * s, 0.12 * s, colour=(235, 250, 255))
    for side in (-1, 1):
        tyre = 165 if running else 80
        c.ellipse(x + side * 0.95 * s, y - 0.25 * s, 0.32 * s, 0.32 * s, colour=(30, 30, 30), heat=tyre, label=CAR)


def _bike(c: _Canvas, depth: float) -> None:
    x, y, s = c.place(depth)
    look = {'colour': c.colour(20, 255), 'heat': c.street, 'label': BIKE}
    width = max(int(0.12 * s), 1)
    for side in (-1, 1):
        c.ellipse(x + side * 0.55 * s, y - 0.38 * s, 0.36 * s, 0.36 * s, thickness=width, **look)
    frame = [(x - 0.55 * s, y - 0.38 * s), (x - 0.2 * s, y - 0.95 * s), (x + 0.4 * s, y - 0.9 * s), (x, y - 0.35 * s)]
    c.fill(frame, **look)
    c.box(x + 0.35 * s, y - 1.15 * s, x + 0.6 * s, y - 1.0 * s, **look)


def _curve(c: _Canvas, depth: float) -> None:
    """A kerb: a bright band from the horizon to the lower border, a little warmer than the street by day and night."""
    side = c.rng.choice([-1, 1])
    near, far = c.width * (0.5 + side * c.rng.uniform(0.3, 0.5)), c.width * (0.5 + side * 0.08)
    band = [
        (far, c.horizon + 2),
        (far + 2, c.horizon + 2),
        (near + 0.05 * c.width, c.height),
        (near - 0.02 * c.width, c.height),
    ]
    c.fill(band, colour=(205, 210, 210), heat=125, label=CURVE)


def _car_stop(c: _Canvas, depth: float) -> None:
    x, y, s = c.place(depth)
    c.box(x - 0.9 * s, y - 0.28 * s, x + 0.9 * s, y, colour=(60, 190, 225), heat=c.street, label=CAR_STOP)
    c.box(x - 0.3 * s, y - 0.28 * s, x + 0.3 * s, y, colour=(40, 40, 40), heat=c.street, label=CAR_STOP)


def _guardrail(c: _Canvas, depth: float) -> None:
    _, y, s = c.place(depth)
    x0 = c.width * c.rng.uniform(-0.1, 0.6)
    x1 = x0 + c.width * c.rng.uniform(0.3, 0.6)
    for level in (0.45, 0.85):
        c.box(x0, y - (level + 0.2) * s, x1, y - level * s, colour=(195, 190, 185), heat=55, label=GUARDRAIL)
    for x in np.linspace(x0, x1, 5):
        c.box(x, y - 1.05 * s, x + 0.12 * s, y, colour=(170, 165, 160), heat=55, label=GUARDRAIL)


def _cone(c: _Canvas, depth: float) -> None:
    x, y, s = c.place(depth)
    body = [(x - 0.35 * s, y), (x - 0.06 * s, y - 0.95 * s), (x + 0.06 * s, y - 0.95 * s), (x + 0.35 * s, y)]
    c.fill(body, colour=(20, 90, 245), heat=c.street, label=CONE)
    c.box(x - 0.18 * s, y - 0.6 * s, x + 0.18 * s, y - 0.4 * s, colour=(240, 240, 240), heat=c.street, label=CONE)


def _bump(c: _Canvas, depth: float) -> None:
    _, y, s = c.place(depth)
    x0, x1 = c.width * c.rng.uniform(0.05, 0.3), c.width * c.rng.uniform(0.7, 0.95)
    edges = np.linspace(x0, x1, 13)
    for i, (left, right) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        c.box(
            left,
            y - 0.25 * s,
            right,
            y,
            colour=(40, 200, 230) if i % 2 else (35, 35, 35),
            heat=c.street + 12,
            label=BUMP,
        )


DRAWERS = {
    CAR: _car,
    PERSON: _person,
    BIKE: _bike,
    CURVE: _curve,
    CAR_STOP: _car_stop,
    GUARDRAIL: _guardrail,
    CONE: _cone,
    BUMP: _bump,
}
