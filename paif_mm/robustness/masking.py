"""Runs the masking diagnostics on a few images, with what the suite has found on them."""

from collections.abc import Sequence
from dataclasses import replace

from mmengine.utils import ProgressBar

from paif_mm.randomness import kept_draws

from .cases import QUERY, TRANSFER, Case
from .diagnostics import CHECKS, SKIPPED, Finding, Probe
from .evaluate import Bench
from .records import Records

MASKING = 'masking'
NOT_ASKED = 'not looked for: --diagnostics 0'


def diagnose(
    bench: Bench,
    cases: Sequence[Case],
    records: Records,
    images: Sequence[int],
    eps: float,
    steps: int,
    queries: int,
    seed: int = 0,
    progress: bool = True,
) -> list[dict]:
    """All checks of :mod:`~.diagnostics`, those that ``records`` know left out.

    Args:
        bench, cases, records: of a finished suite.
        images: indices of the images to look at; none: no check is run.
        eps: L-inf radius in [0, 1] units at which the suite's attacks are compared.
        steps: of Auto-PGD.
        queries: of Square, where the suite has none.
        seed: of all random numbers.
        progress: draw a progress bar.

    Returns:
        Findings as dicts, in the order of ``CHECKS``, with the number of ``images`` that have labels.
    """
    if not images:
        return [{**Finding(name, SKIPPED, NOT_ASKED).to_dict(), 'images': 0} for name in CHECKS]
    place = f'{MASKING}-{len(images)}'
    missing = [name for name in CHECKS if (place, name) not in records]
    if missing:
        try:
            probe = Probe(bench, list(images), eps, steps, queries, seed)
        except ValueError as error:  # none with labels
            return [{**Finding(name, SKIPPED, str(error)).to_dict(), 'images': 0} for name in CHECKS]
        probe = replace(probe, **_results(bench, cases, records, probe.names, eps))
        bar = ProgressBar(len(missing)) if progress else None
        for name in missing:
            with kept_draws(bench.device):  # models may draw when they predict
                finding = CHECKS[name](probe)
            records.add(place, name, {**finding.to_dict(), 'images': len(probe.images)})
            if bar:
                bar.update()
        if bar:
            print()
    return records.of(place, list(CHECKS))


def _results(bench: Bench, cases: Sequence[Case], records: Records, names: list[str], eps: float) -> dict:
    """What the suite's attacks on both modalities left of each image: the worst with gradients, and each without."""
    worst, black = {}, {}
    for case in cases:
        if case.group != ('linf', eps, 'both'):
            continue
        found = [record['score'] for record in records.of(case.key, names)]
        worths = dict(zip(names, bench.score(found, None).per_image(), strict=True))
        if case.kind in (QUERY, TRANSFER):
            black[case.key] = worths
        elif case.kind == 'gradient':
            worst = {name: min(worst.get(name, 1.0), worths[name]) for name in names}
    return {'worst': worst, 'black': black}
