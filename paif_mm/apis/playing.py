"""What the page of ``paif demo`` does: uploaded pairs, models that predict and are attacked, pictures of both."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from paif_mm.data.synthetic import render_scene
from paif_mm.engine.launch import ATTACKS as ATTACK_CONFIGS
from paif_mm.engine.launch import read_attack
from paif_mm.registry import ATTACKS, build

from .attacking import Attacked, effect_of, predict_pair, with_radius
from .inferencer import PairInferencer
from .pairs import Pair, source_of
from .pictures import picture_of
from .reading import PairReader, naming
from .watching import watch_attack

PANELS = ('infrared', 'visible', 'fused', 'prediction')
MOST_PIXELS = 16e6  # of a file that is decoded
LEAST_HEIGHT = 288  # of a panel: smaller images are enlarged by whole factors
PAUSE = 0.3  # seconds between two looks at an attack


class Shown(NamedTuple):
    """What the page shows of a model.

    Attributes:
        panels: :data:`PANELS`, uint8 HxWx3 (R,G,B).
        told: in words.
        losses: of an attack, so far.
        strip: of an attack that has ended, uint8 HxWx3 (B,G,R).
    """

    panels: list[np.ndarray]
    told: str
    losses: list[float]
    strip: np.ndarray | None = None


def read_upload(
    inferencer: PairInferencer, visible: str, infrared: str | None, align: str | None, side: int
) -> tuple[dict, list[str]]:
    """A pair of files that somebody sent, as the model takes it, and what is to be said of it.

    Args:
        visible, infrared: as :class:`~.pairs.Pair` has them.
        align: see :class:`~.registration.Registration`.
        side: pixels of the longer side, at most; larger pairs are shrunk.

    Raises:
        ValueError: a file is no image, or too large, or the two don't go together.
    """
    for path in filter(None, (visible, infrared)):
        _check(Path(path))
    reader = PairReader(inferencer._loader, 'auto', align)
    results = reader(Pair(Path(visible).stem, visible, infrared))
    height, width = results['img'].shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        results['img'] = cv2.resize(results['img'], size, interpolation=cv2.INTER_AREA)
        results['img_shape'] = results['ori_shape'] = size[::-1]
        reader.notes.append(f'{height}x{width} pixels were shrunk to {size[1]}x{size[0]}')
    return inferencer.pipeline(results), reader.notes


def _check(path: Path) -> None:
    """Look at a file's head, before it is decoded."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except FileNotFoundError:
        raise ValueError(f'{path.name} is not here any more: drop it again') from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError):
        raise ValueError(f'{path.name} is no image that can be read') from None
    if width * height > MOST_PIXELS:
        raise ValueError(f'{path.name} has {height}x{width} pixels, more than {MOST_PIXELS / 1e6:.0f} million')


def show_prediction(inferencer: PairInferencer, data: dict) -> Shown:
    """What a model says of a pair."""
    pair = data['inputs'].round().byte()
    with naming('the pair', tuple(pair.shape[-2:])):
        sample, fused = predict_pair(inferencer, pair, data['data_samples'])
    return Shown(_panels(inferencer, pair.permute(1, 2, 0).numpy(), fused, sample), 'not attacked', [])


def show_attack(inferencer: PairInferencer, data: dict, settings: Mapping, seed: int = 0) -> Iterator[Shown]:
    """What becomes of it under attack, step by step; the last one has a strip.

    Raises:
        TypeError, ValueError: the attack does not suit the model.
    """
    attack = build(ATTACKS, dict(settings))
    attack.check_model(inferencer.model)
    attack.prepare(None)
    classes, pair = inferencer.model.dataset_meta['classes'], data['inputs'].round().byte()
    with naming('the pair', tuple(pair.shape[-2:])):
        before, _ = predict_pair(inferencer, pair, data['data_samples'])
    losses = []
    for look in watch_attack(inferencer, attack, 'pair', data, seed, PAUSE):
        if isinstance(look, Attacked):
            sample, fused = predict_pair(inferencer, pair.new_tensor(look.pair).permute(2, 0, 1), data['data_samples'])
            panels, audit = _panels(inferencer, look.pair, fused, sample), look.audit
            told = f'loss {audit.loss_before:.3f} → {audit.loss_after:.3f}\n{look.effect}'
            yield Shown(panels, told, losses, look.strip)
        else:
            losses = look.losses
            told = f'pass {len(losses)}: loss {losses[-1]:.3f}\n{effect_of(before, look.sample, classes)}'
            yield Shown(_panels(inferencer, look.pair, look.fused, look.sample), told, losses)


def _panels(inferencer: PairInferencer, pair: np.ndarray, fused: np.ndarray, sample) -> list[np.ndarray]:
    fused = fused.round().clip(0, 255).astype(np.uint8)
    picture = picture_of(fused, sample, inferencer.model.dataset_meta, legend=False)
    grey = np.repeat(pair[..., 3:], 3, axis=2)
    factor = max(1, round(LEAST_HEIGHT / len(pair)))
    return [
        image[..., ::-1].repeat(factor, axis=0).repeat(factor, axis=1)
        for image in (grey, pair[..., :3], fused, picture)
    ]


@cache
def attacks_with_radius() -> dict[str, dict]:
    """Settings of the package's attacks that take a radius for each modality, by their names without the radius."""
    names = sorted(path.stem for path in ATTACK_CONFIGS.glob('*.py'))
    found = {name: read_attack(name) for name in names if re.search(r'_eps\d+$', name)}
    return {
        re.sub(r'_eps\d+$', '', name): attack
        for name, attack in found.items()
        if not isinstance(attack['eps'], Mapping)
    }


def attack_of(name: str, radius: float, modality: str) -> dict:
    """Settings of one of :func:`attacks_with_radius` with a radius in pixel values of 0 to 255.

    Raises:
        ValueError: a radius or modality that is none.
    """
    if not 0 <= radius <= 255 or modality not in ('both', 'ir', 'vis'):
        raise ValueError(f'a radius is 0 to 255 for both, ir or vis, not {radius} for {modality}')
    return with_radius(attacks_with_radius()[name], radius / 255, modality)


def stacked(strips: list[np.ndarray]) -> np.ndarray:
    """Strips of several models as one picture, black where one is narrower."""
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate([np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips])


def synthetic_examples(folder: Path, count: int = 4, size: tuple[int, int] = (96, 128)) -> list[tuple[str, str]]:
    """Scenes as files ``folder/visible/scene_N.png`` and ``folder/infrared/scene_N.png``, every second one at night."""
    written = []
    for index in range(count):
        pair, _, _ = render_scene(np.random.default_rng([0, 1, index]), size, night=index % 2 == 1)
        paths = [folder / kind / f'scene_{index + 1}.png' for kind in ('visible', 'infrared')]
        for path, image in zip(paths, (pair[..., :3], pair[..., 3]), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
        written.append(tuple(map(str, paths)))
    return written


def own_examples(folder: Path, visible: str, infrared: str | None, count: int = 12) -> list[tuple[str, str | None]]:
    """Copies of the first pairs of files or folders, so that the page reads nothing outside of ``folder``.

    Raises:
        ValueError, FileNotFoundError, TypeError: see :func:`~.pairs.source_of`; or it is no image.
    """
    written = []
    for index, pair in zip(
        range(count), source_of(visible if infrared is None else (visible, infrared)).pairs, strict=False
    ):
        copies = []
        for path, kind in ((pair.visible, 'visible'), (pair.infrared, 'infrared')):
            if path is None:
                copies.append(None)
                continue
            if not isinstance(path, str):
                raise TypeError(f'examples are images or folders of them, not videos or cameras: {visible}')
            _check(Path(path))
            copy = folder / str(index) / kind / Path(path).name
            copy.parent.mkdir(parents=True)
            copies.append(str(copy))
            copy.write_bytes(Path(path).read_bytes())
        written.append(tuple(copies))
    return written
