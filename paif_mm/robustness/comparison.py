"""Several models side by side, from their reports."""

from collections.abc import Mapping

from paif_mm.attacks.adaptive import without_bpda
from paif_mm.evaluation.score import AveragePrecision, MeanIoU

from .blocks import Blocks
from .cases import MINIMUM
from .report import leading
from .sections import Section, interval, title
from .smallest_radius import quantile, search_title
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
            ('images', same_images(report, reference)),
            ('classes', report['classes'] == reference['classes']),
        ):
            if not same:
                raise ValueError(f"{name} and {first} can't be compared: they were tested on other {what}")
    kept = [{row['key'] for row in report['rows'] if row['kind'] != MINIMUM} for report in reports.values()]
    shared = [row['key'] for row in reference['rows'] if all(row['key'] in keys for keys in kept)]
    rows = {key: {name: _find(report, key) for name, report in reports.items()} for key in shared}
    left_out = sorted(set().union(*kept) - set(shared))
    unequal = [key for key, found in rows.items() if not _same_attacks(reports, found)]
    sections = [_figures(reports, rows, left_out, unequal)]
    sections.append(_differences(reports, {key: found for key, found in rows.items() if key not in unequal}, records))
    return [*sections, *_smallest(reports), *_trouble(reports), _masking(reports)]


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
    if note := bpda_note(reports):
        text += f' {note}'
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
    lost = [name for name in reports if not _complete(reports[name], rows, records.get(name, {}), name)]
    missing = f'Not known are those of {", ".join(lost)}: the records*.jsonl beside the report lack what they need.'
    others = [name for name in others if name not in lost]
    if first in lost or not others:
        return Section(what, missing)
    blocks = _blocks(reports)
    bootstrap = Bootstrap(blocks, reference['bootstrap']['resamples'], reference['bootstrap']['seed'])
    table = []
    for found in rows.values():
        scores = {name: _score(found[name], reports[name], records[name], reference) for name in (first, *others)}
        gaps = (interval(bootstrap.difference(scores[name], scores[first])) for name in others)
        table.append([title(found[first]), *gaps])
    text = (
        f'{reference["score"]} of each model minus that of {first}, in points, with 95 % intervals of '
        f'{reference["bootstrap"]["resamples"]} bootstrap resamples of {blocks}, the same for both. An '
        'interval without 0 says that the models differ on such images, whatever their own intervals say.'
    )
    if lost:
        text += f' {missing}'
    return Section(what, text, ['attack', *others], table)


def _complete(report: Mapping, rows: Mapping, records: Mapping, name: str) -> bool:
    """Whether a model's records hold every image under every attack that its rows need."""
    needed = {(key, image) for found in rows.values() for key, image in _places(found[name], report)}
    return all(image in records.get(key, {}) for key, image in needed)


def _places(row: Mapping, report: Mapping) -> list[tuple[str, str]]:
    """The attack that each image of a row is taken under, and the image."""
    keys = (
        [row['members'][place] for place in row['choice']] if 'choice' in row else [row['key']] * len(report['images'])
    )
    return list(zip(keys, report['images'], strict=True))


def _blocks(reports: Mapping) -> Blocks:
    """Of all reports' blocks the fewest, and so the largest: what any report takes for neighbours is drawn together."""
    reference = next(iter(reports.values()))
    found = []
    for report in reports.values():
        if key := report['bootstrap']['key']:
            names = dict(zip(report['data']['scenes'], Blocks.named(report['images'], key).names, strict=True))
            in_order = [names[scene] for scene in reference['data']['scenes']]
            found.append(Blocks(list(range(len(in_order))), None, in_order, key))
        else:
            found.append(Blocks.runs(reference['images'], report['bootstrap']['length'] or 1))
    return min(found, key=lambda blocks: blocks.count)


def _score(row: Mapping, report: Mapping, records: Mapping, reference: Mapping):
    """A row's score with its images in the order of the reference's scenes."""
    kinds = {kind.name: kind for kind in (MeanIoU, AveragePrecision)}
    by_scene = {
        scene: records[key][image]['score']
        for scene, (key, image) in zip(report['data']['scenes'], _places(row, report), strict=True)
    }
    return kinds[report['score']]([by_scene[scene] for scene in reference['data']['scenes']], report['classes'])


def _smallest(reports: Mapping) -> list[Section]:
    """Where half of each model's images have fallen, by the searches that all reports have with the same settings."""
    tables = {
        name: {one['key']: one for one in report.get('smallest_radius') or ()} for name, report in reports.items()
    }
    shared = [
        key
        for key in next(iter(tables.values()))
        if all(key in table for table in tables.values())
        and _same_attacks(reports, {name: _find(report, key) for name, report in reports.items()})
    ]
    if not shared:
        return []
    rows = [
        [search_title(next(iter(tables.values()))[key]), *(quantile(table[key], 0.5) for table in tables.values())]
        for key in shared
    ]
    text = "The least change found that makes a share of an image's labelled pixels wrong: the radius at which half of "
    text += 'the images have fallen, so that more is better; "inf": fewer than half have.'
    return [Section('Smallest radius', text, ['pixels', *tables], rows)]


def _trouble(reports: Mapping) -> list[Section]:
    """Mean errors under the corruptions that all reports have, and mCE (Hendrycks and Dietterich, ICLR 2019): each
    error divided by the first model's, averaged over corruptions."""
    tables = {name: (report.get('trouble') or {}).get('corruptions', {}) for name, report in reports.items()}
    first, *others = tables
    shared = [c for c in tables[first] if all(table.get(c, {}).get('value') is not None for table in tables.values())]
    if not shared:
        return []

    def relative(name: str) -> float:
        return 100 * sum(tables[name][c]['value'] / max(tables[first][c]['value'], 1e-9) for c in shared) / len(shared)

    rows = [[c, *(interval(table[c]) for table in tables.values())] for c in shared]
    rows.append([f'mCE, {first} = 100', *(f'{relative(name):.1f}' for name in tables)])
    text = (
        f'100 minus {next(iter(reports.values()))["score"]}, mean over severities, under the {len(shared)} corruptions '
        f'that all reports have. mCE: the mean of the errors as shares of those of {first}, in percent.'
    )
    return [Section('Mean corruption error', text, ['corruption', *tables], rows)]


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


def same_images(one: Mapping, other: Mapping) -> bool:
    """Whether two reports are of the same scenes and, where both models take pairs, of the same files."""
    scenes = set(one['data']['scenes']) == set(other['data']['scenes'])
    pairs = one['model']['pairs'] and other['model']['pairs']
    return scenes and (not pairs or one['data']['hash'] == other['data']['hash'])


def substituted_modules(report: Mapping) -> list[str]:
    """Names of modules that attacks of the report differentiated as others (BPDA)."""
    attacks = (row['attack'] or {} for row in report['rows'])
    return list(dict.fromkeys(name for attack in attacks for name in attack.get('bpda') or ()))


def bpda_note(reports: Mapping[str, Mapping]) -> str:
    """A sentence on models whose attacks knew modules of theirs; empty where there are none."""
    known = {name: substituted_modules(report) for name, report in reports.items()}
    told = '; '.join(f'{name}: {", ".join(modules)}' for name, modules in known.items() if modules)
    return f'Modules that the attacks differentiated as others (BPDA), of {told}.' if told else ''


def _same_attacks(reports: Mapping, found: Mapping[str, Mapping]) -> bool:
    """Whether rows of one name are of the same attacks, steps and all; those of worst cases over the same ones."""
    known = []
    for name, row in found.items():
        members = {key: without_bpda(_find(reports[name], key)['attack']) for key in row.get('members', ())}
        known.append((without_bpda(row['attack']), members))
    return all(one == known[0] for one in known)


def _find(report: Mapping, key: str) -> Mapping | None:
    return next((row for row in report['rows'] if row['key'] == key), None)
