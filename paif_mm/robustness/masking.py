"""Runs the masking diagnostics on a few images, with what the suite has found on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mmengine.utils import ProgressBar

from paif_mm.files import hash_seed
from paif_mm.randomness import fixed_draws

from .cases import QUERY, TRANSFER, Case, has_auto_pgd, suite_groups
from .diagnostics import CHECKS, SKIPPED, THREAT_CHECKS, Finding, Probe
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
    adaptive: Mapping | None = None,
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
        adaptive: what the suite's attacks know of the defence.

    Returns:
        Findings as dicts: of the checks of ``CHECKS``, and of those of ``THREAT_CHECKS`` for every threat that the
        suite itself attacks at this radius, each with the number of ``images`` that have labels.
    """
    attacked = suite_groups(cases)
    threats = list(dict.fromkeys(case.threat for case in cases if ('linf', eps, case.threat) in attacked)) or ['both']
    asked = named_checks(threats)
    if not images:
        return [{**Finding(name, SKIPPED, NOT_ASKED).to_dict(), 'images': 0} for name in asked]
    place = f'{MASKING}-{len(images)}-{255 * eps:.4g}'
    missing = [name for name in asked if (place, name) not in records]
    if missing:
        try:
            blind = suite_blind(cases, records, bench)
            probe = Probe(bench, list(images), eps, steps, queries, seed, blind=blind, adaptive=adaptive or {})
        except ValueError as error:  # none with labels
            return [{**Finding(name, SKIPPED, str(error)).to_dict(), 'images': 0} for name in asked]
        bar = ProgressBar(len(missing)) if progress else None
        for name in missing:
            with fixed_draws(bench.device, hash_seed(seed, MASKING, name)):  # models may draw when they predict
                finding = asked[name](probe, bench=bench, cases=cases, records=records)
            records.add(place, name, {**finding.to_dict(), 'check': name, 'images': len(probe.images)})
            if bar:
                bar.update()
        if bar:
            print()
    return records.of(place, list(asked))


def named_checks(threats: Sequence[str]) -> dict[str, Callable]:
    """Name -> check. What is attacked is part of the name, unless it is both modalities."""
    whole = 'both' if 'both' in threats or len(threats) > 1 else threats[0]  # what the gradients are looked at for
    asked = {name: partial(_of_model, check, whole) for name, check in CHECKS.items()}
    for threat in threats:
        for name, check in THREAT_CHECKS.items():
            asked[name if threat == 'both' else f'{name}, {threat}'] = partial(_of_threat, check, threat)
    return asked


def _of_model(check: Callable, threat: str, probe: Probe, **_) -> Finding:
    return check(replace(probe, threat='both' if check is CHECKS['very large radius'] else threat))


def _of_threat(check: Callable, threat: str, probe: Probe, bench: Bench, cases, records) -> Finding:
    probe = replace(probe, threat=threat)
    if not probe.reacts():
        return Finding('', SKIPPED, 'no prediction depends on what may be changed here')
    return check(replace(probe, **_results(bench, cases, records, probe)))


def _results(bench: Bench, cases: Sequence[Case], records: Records, probe: Probe) -> dict:
    """What the attacks under a threat left of each image: the worst with gradients, where Auto-PGD was among them, and
    each without."""
    worst, black = {}, {}
    for case in cases:
        if case.group != ('linf', probe.eps, probe.threat):
            continue
        found = [record['score'] for record in records.of(case.key, probe.names)]
        worths = dict(zip(probe.names, bench.score(found, None).per_image(), strict=True))
        if case.kind in (QUERY, TRANSFER):
            black[case.key] = worths
        elif case.kind == 'gradient':
            worst = {name: min(worst.get(name, 1.0), worths[name]) for name in probe.names}
    strong = any(has_auto_pgd(case) for case in cases if case.group == ('linf', probe.eps, probe.threat))
    return {'worst': worst if strong else {}, 'black': black}


def suite_blind(cases: Sequence[Case], records: Records, bench: Bench) -> tuple[int, int]:
    """How many attacks on single images through the model's own loss met gradients that are not finite, and of how
    many. Transferred attacks follow another model's gradients, and those on the fusion know no label."""
    names = list(bench.names.values())
    audits = [
        record.get('audit', {}) for case in cases if case.kind == 'gradient' for record in records.of(case.key, names)
    ]
    audits = [audit for audit in audits if audit]
    return sum(audit.get('blind', False) for audit in audits), len(audits)
