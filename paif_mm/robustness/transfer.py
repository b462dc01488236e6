"""What was learned on some models, shown to others: a table of who learned it against who is tested."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from paif_mm.attacks import Attack
from paif_mm.files import hash_seed
from paif_mm.randomness import fixed_draws

from .evaluate import Bench
from .sections import Section

CLEAN, UNLEARNED = 'nothing', 'random values'


def unique_names(paths: Sequence[str], stem: Callable[[str], str]) -> list[str]:
    """A short name for each path: its stem, numbered from the second on where several are alike."""
    names = [stem(path) for path in paths]
    return [name if names.index(name) == i else f'{name} ({names[:i].count(name) + 1})' for i, name in enumerate(names)]


def tested(bench: Bench, attack: Attack | None, seed: int = 0) -> float | None:
    """The leading figure of a model, in percent, with what was learned in all of its images; None where undefined.

    A place in an image belongs to the seed and the image, so that every model and every attack meets the same ones.
    """
    records = []
    for i in bench.images:
        batch = bench.batch([bench.dataset[i]])
        images = [image.to(bench.device).float() for image in batch['inputs']]
        draws = hash_seed(seed, bench.names[i])
        if attack is not None:
            images = attack(bench.model, batch, rng=[torch.Generator().manual_seed(draws)]).images
        with fixed_draws(bench.device, draws):
            records += bench.records(bench.predict(images, batch), batch)
    score = bench.score(records, bench.class_names)
    value = float(score.value(score.name, np.ones((1, score.count)))[0])
    return None if np.isnan(value) else value


def transfer_section(
    benches: Mapping[str, Bench], attacks: Mapping[str, Attack | None], bank: Mapping[str, Sequence[str]], seed: int
) -> tuple[Section, list[dict]]:
    """The table, and its cells as they are.

    Args:
        benches: the tested models, by name, with the same images.
        attacks: what is shown, by the name of its row; None: nothing.
        bank: names of the models that each of them was learned on.
        seed: of the places in the images.
    """
    cells = [
        {
            'learned_on': list(bank.get(row, ())),
            'row': row,
            'tested_on': name,
            'in_bank': name in bank.get(row, ()),
            'value': tested(bench, attack, seed),
        }
        for row, attack in attacks.items()
        for name, bench in benches.items()
    ]
    rows = [[row, *(_shown(cell) for cell in cells if cell['row'] == row)] for row in attacks]
    score = next(iter(benches.values())).score.name
    text = (
        f'{score} in percent of the models in the columns, with what was learned on the models at the left in each of '
        f'their images. In brackets: tested on a model that it was learned on. "{UNLEARNED}" is the same thing before '
        'anything was learned: what its size alone costs.'
    )
    return Section('Transfer', text, ['learned on', *benches], rows), cells


def _shown(cell: Mapping) -> str:
    value = '-' if cell['value'] is None else f'{cell["value"]:.1f}'
    return f'({value})' if cell['in_bank'] else value
