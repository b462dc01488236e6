"""Making an attack bank (PAIF, ACM MM 2023, Sec. 2.3: transferred attacks of three strengths, made offline)."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmengine.utils import ProgressBar
from torch import Tensor

from paif_mm.attacks import PGD
from paif_mm.attacks.attack import MODALITIES
from paif_mm.attacks.bank import CLEAN, MANIFEST, VERSION, AttackBank, round_into_ball, write_pair
from paif_mm.checks import class_count
from paif_mm.data.splits import places
from paif_mm.evaluation.score import score_of, total
from paif_mm.files import append_json_lines, hash_seed, read_json_lines, write_json
from paif_mm.randomness import kept_draws

SETTINGS, PROGRESS = 'settings.json', 'progress.jsonl'


def craft(
    source,
    dataset,
    out: str | Path,
    levels: Mapping[str, float],
    num: int,
    seed: int = 0,
    steps: int = 10,
    notes: Mapping | None = None,
    progress: bool = True,
    adaptive: Mapping | None = None,
) -> AttackBank:
    """Attack randomly chosen pairs through a source model and store them; an interrupted call is continued.

    Every attacked pair is rounded to 8 bits inside its ball. Which pairs, and each attack's random start, depend on
    ``seed`` alone, so that an interrupted bank ends as an uninterrupted one.

    Args:
        source (nn.Module): the segmentor or detector whose loss is attacked (PGD, step eps / 4, worst iterate).
        dataset: pairs with labels, not augmented; items as mmseg packs them.
        out: folder, new or begun with the same settings.
        levels: name -> radius in [0, 1] units, each at least 1/255, or 0: the pairs as they are, for a comparison.
        num: pairs to choose, all different; all if the data set has fewer.
        seed: of the choice and of the random starts.
        steps: of PGD.
        notes: further facts for the manifest (source config, checkpoint hash); part of the settings.
        progress: draw a progress bar.
        adaptive: ``eot_samples`` and ``bpda`` of PGD; part of the settings.

    Returns:
        AttackBank: the finished bank.

    Raises:
        FileExistsError: the folder holds a bank, or the beginning of one, with other settings.
        ValueError: a level is too small for 8 bits, or is called ``clean``.
    """
    _check_levels(levels)
    out = Path(out)
    pairs = [indices[0] for indices in places(dataset).values()]  # each once, however often it is repeated
    order = [pairs[i] for i in torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:num]]
    settings = {
        'version': VERSION,
        'levels': dict(levels),
        'num': len(order),
        'seed': seed,
        'steps': steps,
        **({'adaptive': dict(adaptive)} if adaptive else {}),
        **(notes or {}),
    }
    if not _begin(out, settings):
        return AttackBank(out)

    attacks = {level: PGD(eps=eps, steps=steps, **(adaptive or {})) for level, eps in levels.items()}
    done = {(line['name'], line['level']): line for line in read_json_lines(out / PROGRESS)}
    bar = ProgressBar(len(order) * len(levels), start=False) if progress else None
    if bar:
        bar.start()
    with append_json_lines(out / PROGRESS) as file:
        for index in order:
            name = f'{index:06d}'
            missing = [level for level in levels if (name, level) not in done]
            if missing:  # what the levels share, once per pair
                pair = _clean_pair(dataset[index])
                files = {f'{CLEAN}/{name}.png': write_pair(out / CLEAN / f'{name}.png', pair['inputs'][0])}
                before = {'files': files, 'loss': _loss(source, pair), 'record': _record(source, pair)}
            for level in levels:
                if level in missing:
                    line = _attack(source, pair, before, name, level, attacks[level], seed, out)
                    done[name, level] = line
                    file.write(json.dumps(line) + '\n')
                    file.flush()
                if bar:
                    bar.update()
    _finish(out, settings, done, dataset, order)
    return AttackBank(out)


def transfer(model, dataset, bank: AttackBank) -> dict[str, dict[str, float]]:
    """How a model fares on a bank: level ('clean' too) -> mean loss per image and score (mIoU or AP50, percent).

    Args:
        model (nn.Module): a segmentor or detector, the source or any other.
        dataset: the data set that the bank was made from, for its labels.
    """
    rows = {}
    for level in (CLEAN, *bank.levels):
        losses, records = [], []
        for name in bank.names:
            batch = _batch(bank.read(level, name)[0], dataset[int(name)]['data_samples'])
            losses.append(_loss(model, batch))
            records.append(_record(model, batch))
        score = score_of(dataset[int(bank.names[0])]['data_samples'])
        rows[level] = {'loss': float(np.mean(losses)), score.name: total(score, records)}
    return rows


def _attack(source, pair: dict, before: dict, name: str, level: str, attack: PGD, seed: int, out: Path) -> dict:
    """Attack one pair at one level, write it, and tell what happened."""
    clean = pair['inputs'][0]
    rng = [torch.Generator().manual_seed(hash_seed(seed, name, level))]
    attacked = round_into_ball(attack(source, pair, rng=rng).images[0], clean, attack.budgets(clean.size(0)))
    after = _batch(attacked, pair['data_samples'][0])
    delta = attacked.int() - clean.int()
    return {
        'name': name,
        'level': level,
        'files': {**before['files'], f'{level}/{name}.png': write_pair(out / level / f'{name}.png', attacked)},
        'max_delta_255': {modality: int(delta[part].abs().max()) for modality, part in MODALITIES.items()},
        'loss': [before['loss'], _loss(source, after)],
        'records': [before['record'], _record(source, after)],
    }


def _batch(pair: Tensor, sample) -> dict:
    return {'inputs': [pair], 'data_samples': [sample.clone()]}


def _clean_pair(item: dict) -> dict:
    """The item as a batch of one, its pair rounded to 8 bits."""
    return _batch(item['inputs'].float().round().clamp(0, 255).to(torch.uint8), item['data_samples'])


def _loss(model, batch: dict) -> float:
    """The task loss of a batch of one, as the attack sees it."""
    attack = PGD(eps=0)
    result = attack(model, batch)
    return attack.losses(model, result.images, result, batch).item()


@torch.no_grad()
def _record(model, batch: dict):
    """What the score needs to know of the model's prediction on a batch of one."""
    model.eval()
    truth = batch['data_samples'][0]
    with kept_draws(next(model.parameters()).device):
        (sample,) = model.test_step({'inputs': list(batch['inputs']), 'data_samples': [truth.clone()]})
    return score_of(truth).record(sample, truth, class_count(model))


def _check_levels(levels: Mapping[str, float]) -> None:
    for name, eps in levels.items():
        if name == CLEAN:
            raise ValueError("a level can't be called 'clean': that is where the clean pairs go")
        if eps != 0 and not 1 / 255 <= eps + 1e-9 <= 1:
            raise ValueError(
                f'level {name}={eps} is neither 0 nor between 1/255, the least that 8 bits can hold, and 1'
            )


def _begin(out: Path, settings: dict) -> bool:
    """Whether there is work to do; notes the settings of a new bank."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / MANIFEST, out / SETTINGS):
        if path.is_file():
            found = json.loads(path.read_text(encoding='utf-8'))
            found = found.get('settings', found)
            different = sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key))
            if different:
                raise FileExistsError(f'{out} holds a bank with other {", ".join(different)}: give another folder')
            return path.name == SETTINGS
    write_json(out / SETTINGS, settings)
    return True


def _finish(out: Path, settings: dict, done: dict, dataset, order: list[int]) -> None:
    score = score_of(dataset[order[0]]['data_samples'])
    levels = {}
    for level, eps in settings['levels'].items():
        lines = [line for (_, name), line in done.items() if name == level]
        levels[level] = {
            'eps': eps,
            'max_delta_255': {m: max(line['max_delta_255'][m] for line in lines) for m in MODALITIES},
            **{
                f'{key}_{when}': value
                for i, when in enumerate(('before', 'after'))
                for key, value in (
                    ('loss', float(np.mean([line['loss'][i] for line in lines]))),
                    (score.name, total(score, [line['records'][i] for line in lines])),
                )
            },
        }
    files = {path: digest for line in done.values() for path, digest in line['files'].items()}
    pairs = {f'{index:06d}': Path(dataset.get_data_info(index)['img_path']).name for index in order}
    write_json(out / MANIFEST, {'settings': settings, 'levels': levels, 'pairs': pairs, 'files': files})
    (out / SETTINGS).unlink()
    (out / PROGRESS).unlink()
