"""An attack on own pairs, without labels: what a model says of the clean pair is what it is made to unsay."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData

from paif_mm.arguments import fraction
from paif_mm.attacks import Attack, Audit
from paif_mm.attacks.attack import MODALITIES
from paif_mm.attacks.bank import round_into_ball
from paif_mm.engine.strip_hook import LEGEND, prediction_panels
from paif_mm.engine.strips import draw_strip
from paif_mm.evaluation.outcomes import HALLUCINATED, OUTCOMES, object_outcomes
from paif_mm.registry import ATTACKS, build

from .inferencer import PairInferencer
from .reading import naming, open_pairs
from .results import write_image

STRIPS = 'strip'  # folder, so that no pair's name is that of another's strip
SHOWN = 0.3  # least score of a detection that counts


class Attacked(NamedTuple):
    """What an attack made of one pair.

    Attributes:
        name: of its files.
        pair: attacked, uint8 HxWx4 (B,G,R,IR), in the size that the model sees.
        before, after: data samples of the clean pair, and of the attacked one with 8 bits.
        audit: the largest change per modality, the share of pixels at the bound, the loss before and after.
        effect: what became of the prediction, in words.
        strip: infrared, visible, fused, prediction of the clean pair, then the same of the attacked one, uint8.
    """

    name: str
    pair: np.ndarray
    before: object
    after: object
    audit: Audit
    effect: str
    strip: np.ndarray


def attack_pairs(
    inferencer: PairInferencer,
    inputs,
    attack: Mapping | Attack,
    seed: int = 0,
    ir_range=None,
    align=None,
    out_dir: str = '',
) -> Iterator[Attacked]:
    """Attack one pair after the other, each until the model no longer says what it says of it untouched.

    Args:
        inferencer: of the model.
        inputs, ir_range, align: as :meth:`.inferencer.PairInferencer.stream` takes; ``inferencer.failures`` are of
            them.
        attack: as in ``configs/_base_/attacks``. Its images are rounded to 8 bits inside of its ball.
        seed: of its random start.
        out_dir: folder of ``NAME.png`` (the attacked pair, RGBA) and ``strip/NAME.png``. Default: nowhere.

    Raises:
        ValueError, FileNotFoundError: the pair can not be read or passed through the model, where one alone was given.
        ValueError: results would be written into a folder that holds the pairs.
    """
    attack = build(ATTACKS, dict(attack)) if isinstance(attack, Mapping) else attack
    attack.prepare(None)
    attack.check_model(inferencer.model)
    written = [Path(out_dir), Path(out_dir) / STRIPS] if out_dir else []
    source, reader = open_pairs(inputs, inferencer._loader, ir_range, align, written)
    inferencer.failures = list(source.left_out)
    for folder in written:
        folder.mkdir(parents=True, exist_ok=True)
    for pair in source.pairs:
        try:
            data = inferencer._ready(reader, pair)
            with naming(pair.name, data['inputs'].shape[-2:]):
                made = attack_pair(inferencer, attack, pair.name, data, seed)
        except (ValueError, OSError) as error:
            if source.single:
                raise
            inferencer.failures.append(str(error))
            continue
        for folder, image in zip(written, (made.pair, made.strip), strict=False):
            write_image(folder / f'{made.name}.png', image)
        yield made


def attack_pair(inferencer: PairInferencer, attack: Attack, name: str, data: dict, seed: int = 0) -> Attacked:
    """Attack one pair, ``data`` as it comes out of the inferencer's pipeline."""
    model, meta, rng = inferencer.model, inferencer.model.dataset_meta, torch.Generator().manual_seed(seed)
    clean = data['inputs'].round().clamp(0, 255).byte() if data['inputs'].is_floating_point() else data['inputs']
    before, fused_before = predict_pair(inferencer, clean, data['data_samples'])
    batch = {'inputs': [clean], 'data_samples': [_believed(before, data['data_samples'])]}
    result = attack(model, batch, rng=[rng])
    rounded = round_into_ball(result.images[0], clean, attack.budgets(4), attack.norm)
    after, fused_after = predict_pair(inferencer, rounded, data['data_samples'])

    result.images = [rounded.to(result.clean[0])]
    audit = Audit()
    losses = (attack.losses(model, images, result, batch) for images in (result.clean, result.images))
    audit.update(result, attack, *losses)
    arrays = [image.permute(1, 2, 0).float().numpy() for image in (clean, rounded)]
    panels = [one for one in prediction_panels(arrays[0], arrays[0], fused_before, before, meta) if one[0] != LEGEND]
    more = prediction_panels(*arrays, fused_after, after, meta)[2:]
    panels += [(title if ',' in title or title == LEGEND else f'{title}, attacked', image) for title, image in more]
    pair = rounded.permute(1, 2, 0).numpy()
    return Attacked(name, pair, before, after, audit, effect_of(before, after, meta['classes']), draw_strip(panels))


def with_radius(attack: Mapping, eps: float, modality: str = 'both') -> dict:
    """An attack's settings with another radius, in [0, 1], for ``'ir'``, ``'vis'`` or both; its steps grow with it.

    Raises:
        ValueError: the attack has no radius.
    """
    if 'eps' not in attack:
        raise ValueError(f'the attack {attack["type"]} has no radius eps')

    def of(value: float):
        return value if modality == 'both' else {name: value if name == modality else 0.0 for name in MODALITIES}

    was = _largest(attack['eps'])
    if 'step_size' not in attack or not was:
        return {**attack, 'eps': of(eps)}
    return {**attack, 'eps': of(eps), 'step_size': of(_largest(attack['step_size']) * eps / was)}


def _largest(setting) -> float:
    """Of a number or text, or of one per modality."""
    return max(map(fraction, setting.values() if isinstance(setting, Mapping) else [setting]))


def predict_pair(inferencer: PairInferencer, pair: torch.Tensor, sample) -> tuple[object, np.ndarray]:
    """The model's data sample of a pair (4, H, W), and the fused image HxWx3 in [0, 255]."""
    with torch.no_grad():
        (found,) = inferencer.model.test_step({'inputs': [pair], 'data_samples': [sample.clone()]})
    (image,) = inferencer.fuser.groups[0].fused
    return found.cpu(), (image * 255).permute(1, 2, 0).float().cpu().numpy()


def _believed(prediction, sample):
    """A data sample in which the prediction is the truth."""
    sample = sample.clone()
    if 'pred_sem_seg' in prediction:
        sample.gt_sem_seg = prediction.pred_sem_seg.clone()
    elif 'pred_instances' in prediction:
        found = prediction.pred_instances
        found = found[found.scores >= SHOWN]
        sample.gt_instances = InstanceData(bboxes=found.bboxes.clone(), labels=found.labels.clone())
    else:
        sample.set_gt_label(prediction.pred_label)
    return sample


def effect_of(before, after, classes: Sequence[str]) -> str:
    """What became of a prediction, in words."""
    if 'pred_sem_seg' in before:
        return _lost_pixels(*(one.pred_sem_seg.data[0].numpy() for one in (before, after)), classes)
    if 'pred_instances' in before:
        return _lost_objects(before.pred_instances, after.pred_instances)
    said = (f'{classes[int(one.pred_label)]} ({one.pred_score.max():.0%})' for one in (before, after))
    return ' -> '.join(said)


def _lost_pixels(before: np.ndarray, after: np.ndarray, classes: Sequence[str]) -> str:
    lines = [f'{(before != after).mean():.1%} of the pixels get another class']
    for label in np.unique(before).tolist():
        there = before == label
        moved, number = np.unique(after[there & (after != label)], return_counts=True)
        if len(moved):
            most, of = classes[moved[number.argmax()]], there.sum()
            lines.append(f'  {classes[label]}: {number.sum() / of:.1%} of {of} lost, mostly to {most}')
    return '\n'.join(lines)


def _lost_objects(before, after) -> str:
    before = before[before.scores >= SHOWN]
    found = [np.asarray(getattr(value, 'tensor', value)) for value in (before.bboxes, after.bboxes)]
    outcomes, alone = object_outcomes(
        found[0], before.labels.numpy(), found[1], after.labels.numpy(), after.scores.numpy(), score=SHOWN
    )
    counts = {**Counter(outcomes), HALLUCINATED: alone}
    told = ', '.join(f'{counts.get(name, 0)} {name}' for name in (*OUTCOMES, HALLUCINATED))
    return f'of {len(before)} objects: {told}'
