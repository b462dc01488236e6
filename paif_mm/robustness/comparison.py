"""Several models side by side, from their reports."""

from collections.abc import Mapping

from paif_mm.evaluation.score import AveragePrecision, MeanIoU

from .blocks import Blocks
from .report import leading
from .sections import Section, interval, title
from .statistics import Bootstrap


def compare(reports: Mapping[str, Mapping], records: Mapping[str, Mapping]) -> list[Section]:
    """Sections of what the reports have in common.

    Args:
        reports: name of the model -> report; the first one is what the others are held against.
        records: name of the model -> case -> image -> record, for the differences; empty where they are lost.

    Raises:
        ValueError: there are fewer than two, or they are of different scenes, scores or classes.
    """
    (first, reference), *others = reports.items()
    if not others:
        raise ValueError('a comparison needs at least two reports')
    for name, report in others:
        for what, same in (
            ('score', report['score'] == reference['score']),
            ('images', set(report['data']['scenes']) == set(reference['data']['scenes'])),
            ('classes', report['classes'] == reference['classes']),
        ):
            if not same:
                raise ValueError(f"{name} and {first} can't be compared: they were tested on other {what}")
    shared = [row['key'] for row in reference['rows'] if all(_find(r, row['key']) for r in reports.values())]
    rows = {key: {name: _find(report, key) for name, report in reports.items()} for key in shared}
    left_out = sorted({row['key'] for report in reports.values() for row in report['rows']} - set(shared))
    unequal = [key for key, found in rows.items() if not _same_attacks(reports, found)]
    sections = [_figures(reports, rows, left_out, unequal)]
    sections.append(_differences(reports, {key: found for key, found in rows.items() if key not in unequal}, records))
    return [*sections, _masking(reports)]


def _figures(reports: Mapping, rows: Mapping, left_out: list[str], unequal: list[str]) -> Section:
    score = next(iter(reports.values()))['score']
    table = [
        [title(next(iter(found.values()))), *(interval(leading(found[name], reports[name])) for name in reports)]
        for found in rows.values()
    ]
    text = f'{score} in percent on the same {len(next(iter(reports.values()))["images"])} scenes, with 95 % intervals.'
    if constant := next(iter(reports.values()))['constant']:
        value = interval({**constant['figures']['all'][score], 'low': None})
        text += f' Calling every pixel {constant["answer"]!r} has {value}.'
    if plain := [name for name, report in reports.items() if not report['model']['pairs']]:
        text += f' Of one sensor alone, so that all of it is attacked: {", ".join(plain)}.'
    if unequal:
        names = ', '.join(title(next(iter(rows[key].values()))) for key in unequal)
        text += f' Not the same attacks by these names, so that nothing can be compared: {names}.'
    if left_out:
        text += f' Left out, as not all reports have them: {", ".join(left_out)}.'
    return Section('Robustness', text, ['attack', *reports], table, 'comparison')


def _differences(reports: Mapping, rows: Mapping, records: Mapping) -> Section:
    """The leading figure of every model minus the first one's, on the same resamples of the same scenes."""
    first, *others = reports
    reference = reports[first]
    what = f'Difference to {first}'
    if lost := [name for name in reports if not records.get(name)]:
        return Section(what, f'Not known: the records*.jsonl beside the report are missing, of {", ".join(lost)}.')
    bootstrap = Bootstrap(_blocks(reports), reference['bootstrap']['resamples'], reference['bootstrap']['seed'])
    table = []
    for found in rows.values():
        scores = {name: _score(found[name], reports[name], records[name], reference) for name in reports}
        gaps = (interval(bootstrap.difference(scores[name], scores[first])) for name in others)
        table.append([title(found[first]), *gaps])
    text = (
        f'{reference["score"]} of each model minus that of {first}, in points, with 95 % intervals of '
        f'{reference["bootstrap"]["resamples"]} bootstrap resamples of {bootstrap.blocks}, the same for both. An '
        'interval without 0 says that the models differ on such images, whatever their own intervals say.'
    )
    return Section(what, text, ['attack', *others], table)


def _blocks(reports: Mapping) -> Blocks:
    """Those of the first report: named ones, or runs, as long as the longest of all reports."""
    reference = next(iter(reports.values()))
    if key := reference['bootstrap']['key']:
        return Blocks.named(reference['images'], key)
    return Blocks.runs(reference['images'], max(report['bootstrap']['length'] or 1 for report in reports.values()))


def _score(row: Mapping, report: Mapping, records: Mapping, reference: Mapping):
    """A row's score with its images in the order of the reference's scenes."""
    kinds = {kind.name: kind for kind in (MeanIoU, AveragePrecision)}
    chosen = [row['key']] * len(report['images'])
    if 'choice' in row:
        chosen = [row['members'][place] for place in row['choice']]
    by_scene = {
        scene: records[key][image]['score']
        for scene, key, image in zip(report['data']['scenes'], chosen, report['images'], strict=True)
    }
    return kinds[report['score']]([by_scene[scene] for scene in reference['data']['scenes']], report['classes'])


def _masking(reports: Mapping) -> Section:
    checks = list(dict.fromkeys(f['check'] for report in reports.values() for f in report['masking']['findings']))
    table = []
    for check in checks:
        verdicts = [
            next((f['verdict'] for f in report['masking']['findings'] if f['check'] == check), '-')
            for report in reports.values()
        ]
        table.append([check, *verdicts])
    text = 'A model that fails a check may only hide its gradients: its row above is an upper limit.'
    return Section('Gradient masking', text, ['check', *reports], table)


def _same_attacks(reports: Mapping, found: Mapping[str, Mapping]) -> bool:
    """Whether rows of one name are of the same attacks, steps and all; those of worst cases over the same ones."""
    known = []
    for name, row in found.items():
        members = {key: _find(reports[name], key)['attack'] for key in row.get('members', ())}
        known.append((row['attack'], members))
    return all(one == known[0] for one in known)


def _find(report: Mapping, key: str) -> Mapping | None:
    return next((row for row in report['rows'] if row['key'] == key), None)
