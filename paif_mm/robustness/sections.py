"""A report as sections of text and tables, for Markdown and HTML alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paif_mm.evaluation.score import SIZES

from .cases import CORRUPTION, MINIMUM, SEA, SPLITS, degree_of, split_name
from .report import WORST, leading, main_threat, radii, row_of, threats_of
from .smallest_radius import smallest_radius_table


@dataclass
class Section:
    """A part of a report.

    Attributes:
        title (str): heading.
        text (str): what it says and how it is counted; lines are paragraphs.
        head (list[str]), rows (list[list[str]]): a table, if there are rows.
        key (str): what pictures belong to it.
        sortable (bool): whether readers of a page may sort the table by its columns.
    """

    title: str
    text: str = ''
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    key: str = ''
    sortable: bool = False


def sections(report: Mapping) -> list[Section]:
    """All sections that the report has anything for."""
    makers = (
        _summary,
        _worst,
        _smallest_radius,
        _corruptions,
        _results,
        _splits,
        _classes,
        _lighting,
        _sizes,
        _masking,
        _audit,
        _quality,
        _eight_bit,
        _strips,
        _provenance,
    )
    return [section for make in makers for section in (make(report),) if section is not None]


def title(row: Mapping) -> str:
    """'pgd5 at 4/255, ir'."""
    text = row['name']
    if row['eps'] is not None:
        text += f' at {radius(row)}'
    return text if row['threat'] == 'both' else f'{text}, {row["threat"]}'


def radius(row: Mapping) -> str:
    return f'{row["eps"] * 255:.4g}/255' if row['norm'] == 'linf' else f'L2 {row["eps"]:.4g}'


def interval(values: Mapping | None, digits: int = 1) -> str:
    """'23.5 [21.0, 26.1]', or '-' where there is no value."""
    if not values or values['value'] is None:
        return '-'
    text = f'{values["value"]:.{digits}f}'
    return text if values['low'] is None else f'{text} [{values["low"]:.{digits}f}, {values["high"]:.{digits}f}]'


def number(values: Mapping | None, digits: int = 1) -> str:
    return interval(values and {**values, 'low': None}, digits)


def attacks(report: Mapping) -> list[Mapping]:
    """The clean row, those of attacks within a radius, and the worst cases; not corruptions and smallest radii."""
    return [row for row in report['rows'] if row['kind'] not in (CORRUPTION, MINIMUM)]


def main_rows(report: Mapping) -> list[Mapping]:
    """Clean, PGD-5 and the worst cases: what tables by class, lighting and size show."""
    return [row for row in report['rows'] if row['name'] in ('clean', 'pgd5', WORST)]


def _summary(report: Mapping) -> Section:
    """What a reader sees first: in words, whether anything is left; then the figures that say so."""
    name, clean = report['score'], report['rows'][0]
    lines = [f'{name} {interval(leading(clean, report))} % on clean images: {_is_left(clean, report)}.']
    for eps in radii(report):
        weak, worst = (row_of(report, attack, eps, main_threat(report, eps)) for attack in ('pgd5', WORST))
        parts = [
            f'{interval(leading(row, report))} % {what}'
            for what, row in (('under PGD-5', weak), ('in the worst case', worst))
            if row
        ]
        if parts:
            where = _where(worst or weak, report)
            lines.append(f'At {eps * 255:.4g}/255{where} {" and ".join(parts)}: {_is_left(worst or weak, report)}.')
    lines += [_trouble_line(report), _constant_answer(report)]
    masking = report['masking']
    bad = {
        verdict: ', '.join(f['check'] for f in masking['findings'] if f['verdict'] == verdict)
        for verdict in ('failed', 'suspect')
    }
    said = [f'{verdict} ({names})' for verdict, names in bad.items() if names] or [masking['verdict']]
    verdict = f'Gradient masking: {", ".join(said)}.'
    if masking['verdict'] == 'failed':
        verdict += ' What attacks with gradients leave is then an upper limit, and no defence is shown.'
    lines.append(verdict)
    lines.append(_not_finite(report))
    model, data, bootstrap = report['model'], report['data'], report['bootstrap']
    lines.append(
        f'{model["type"]} of {model["config"]}, {"behind a fusion network" if model["fused"] else "without fusion"}; '
        f'{len(report["images"])} of {data["of"]} images of {data["type"]}. In brackets: {bootstrap["level"]:.0%} '
        f'intervals of {bootstrap["resamples"]} bootstrap resamples of {bootstrap["blocks"]}.'
    )
    if name == 'mIoU' and any(row['name'] in SEA for row in report['rows']):
        lines.append(f'Auto-PGD took {report["settings"]["steps"]} steps; SEA, the published protocol, takes 300.')
    return Section('Summary', '\n'.join(line for line in lines if line), key='curves')


def _where(row: Mapping, report: Mapping) -> str:
    """On what a row's attacks were, in words; nothing to say of plain images."""
    if not report['model']['pairs']:
        return ''
    names = {'both': 'both modalities', 'ir': 'infrared alone', 'vis': 'the visible image alone'}
    text = f' on {names.get(row["threat"], "a radius split as " + row["threat"])}'
    threats = threats_of(report, row['eps'])
    return f'{text},' if 'both' in threats or len(threats) < 2 else f'{text}, the lowest of {", ".join(threats)},'


def _not_finite(report: Mapping) -> str:
    """How many attacks through the model's own loss met gradients that are not finite."""
    rows = [row for row in report['rows'] if row['kind'] == 'gradient' and 'audit' in row]
    blind = sum(row['audit'].get('blind', 0) for row in rows)
    if not blind:
        return ''
    return (
        f'In {blind} of {len(rows) * len(report["images"])} attacks with gradients on single images some values of '
        'these were not finite: the attacks took them for 0 and followed the others.'
    )


def _is_left(row: Mapping, report: Mapping) -> str:
    """In words: whether the leading figure is more than that of an answer that sees nothing."""
    left = row['left']
    answer = 'the constant answer' if report['constant'] else 'no answer at all'
    if left['value'] is None:
        return 'nothing to tell, as no label occurs'
    if left['value'] <= 0 or (left['high'] is not None and left['high'] <= 0):
        return f'nothing is left, {answer} scores as much'
    if left['low'] is None or left['low'] <= 0:
        return f'not told apart from {answer} ({interval(left)} points above it)'
    if row['kind'] == 'clean' or row['name'] == 'clean':
        return f'{interval(left)} points above {answer}'
    return f'something is left, {interval(left)} points above {answer}'


def _constant_answer(report: Mapping) -> str:
    """What a model that sees nothing scores; nothing to say of detectors, where it is 0."""
    constant = report['constant']
    if constant is None:
        return ''
    value = number(constant['figures']['all'][report['score']])
    return f'Constant answer: calling every pixel {constant["answer"]!r} has {report["score"]} {value}.'


def _constant_line(report: Mapping, names: Sequence[str], more: int = 0) -> list[list[str]]:
    """Its row in a table of figures."""
    constant = report['constant']
    if constant is None:
        return []
    cells = [interval(constant['figures']['all'].get(name)) for name in names]
    return [[f'constant answer: {constant["answer"]}', *cells, *[''] * more]]


def _worst(report: Mapping) -> Section | None:
    name, paper = report['score'], report['paper']
    columns = [name] if not paper or paper['figure'] == name else [name, paper['figure']]
    rows = [_worst_line(report, columns, report['rows'][0], None)]
    rows += [
        _worst_line(report, columns, weak, row_of(report, WORST, eps, threat))
        for eps in radii(report)
        for threat in threats_of(report)
        if (weak := row_of(report, 'pgd5', eps, threat))
    ]
    if len(rows) == 1:
        return None
    head = ['radius']
    head += [f'{column}, {what}' for column in columns for what in ('PGD-5', 'worst case', 'gap')]
    head += [f'paper: {row}' for row in paper['rows']] if paper else []
    if report['constant']:
        figures = report['constant']['figures']['all']
        cells = [cell for column in columns for cell in (number(figures[column]), number(figures[column]), '')]
        rows.append(['constant answer', *cells, *[''] * (len(head) - 1 - len(cells))])
    text = (
        'A line for each radius, and for each modality that may be attacked by itself: the figure under five steps of '
        'PGD, as the paper attacks, and under the worst of all attacks of this report that promise to stay inside of '
        f'the radius: those at smaller ones, on one modality, and none at all count, too. {_constant_answer(report)}'
    )
    if report.get('smallest_radius'):
        text += ' Smallest radii promise none: what they found is not in the worst case, but compared with it below.'
    if paper:
        text += (
            f' Beside them, for orientation, {paper["what"]}: compare its numbers with the column '
            f'"{paper["figure"]}, PGD-5".'
        )
    return Section('Worst case', text, head, rows)


def _worst_line(report: Mapping, columns: list[str], weak: Mapping, worst: Mapping | None) -> list[str]:
    eps, threat = weak['eps'], weak['threat']
    cells = ['clean' if eps is None else radius(weak) if threat == 'both' else f'{radius(weak)}, {threat}']
    for column in columns:
        there, found = weak['figures']['all'][column], worst and worst['figures']['all'][column]
        known = found and None not in (there['value'], found['value'])
        gap = f'{there["value"] - found["value"]:.1f}' if known else '-'
        cells += [interval(there), interval(found), gap]
    key, paper = 'clean' if eps is None else f'{eps * 255:.4g}', report['paper']
    values = paper['rows'].values() if paper else ()
    return cells + [f'{row[key]:.1f}' if key in row and threat == 'both' else '-' for row in values]


def _smallest_radius(report: Mapping) -> Section | None:
    found = report.get('smallest_radius')
    return Section(**smallest_radius_table(found)) if found else None


def _results(report: Mapping) -> Section:
    names = {'mIoU': ['mIoU', 'mIoU_paper', 'aAcc'], 'AP50': ['AP50', 'mAP']}[report['score']]
    rows = []
    for row in attacks(report):
        cells = [interval(row['figures']['all'][name]) for name in names]
        rows.append([title(row), *cells, number(row.get('loss'), 3), _chosen(row)])
    rows += _constant_line(report, names, 2)
    about = {
        'mIoU': 'mIoU: over the classes that occur, pixels of 255 ignored; mIoU_paper: over all classes, absent ones '
        'count 0; aAcc: accuracy of pixels.',
        'AP50': "COCO's average precision at an overlap of .5, and its mean over .5 to .95.",
    }
    text = (
        f'In percent. {about[report["score"]]} The worst case chooses an attack for each image, for each of these '
        "figures by itself, so that it is the lowest for all images together. loss: the model's own, mean over images."
    )
    return Section('Every attack', text, ['attack', *names, 'loss', 'chosen for so many images'], rows)


def _chosen(row: Mapping) -> str:
    if 'chosen' not in row:
        return ''
    return ', '.join(f'{key} {n}' for key, n in row['chosen'].items())


def _splits(report: Mapping) -> Section | None:
    """One budget, split between the modalities."""
    threats = [split_name(share) for share in SPLITS]
    by_name = {}
    for row in attacks(report):
        if row['threat'] in threats and row['norm'] == 'linf':
            by_name.setdefault((row['name'], row['eps']), {})[row['threat']] = row
    rows = []
    for (name, eps), found in by_name.items():
        both = row_of(report, name, eps, 'both')
        cells = [interval(leading(found[t], report)) if t in found else '-' for t in threats]
        rows.append([f'{name} at {eps * 255:.4g}/255', *cells, interval(leading(both, report)) if both else '-'])
    if not rows:
        return None
    shares = ', '.join(f'{share:.0%}' for share in SPLITS)
    text = (
        f'{report["score"]} where infrared gets a share of the radius ({shares}) and visible the rest, so that both '
        f'radii add up to it; "both" gives each modality the whole radius. {_constant_answer(report)}'
    )
    return Section('One budget, split between the modalities', text, ['attack', *threats, 'both'], rows, 'splits')


def _chosen_for(report: Mapping) -> str:
    return f'Worst cases are those of {report["score"]}: of a part, another attack may leave less.'


def _classes(report: Mapping) -> Section:
    kind = {'mIoU': 'IoU', 'AP50': 'AP50'}[report['score']]
    rows = [
        [title(row), *(number(row['figures']['all'][f'{kind}/{name}']) for name in report['classes'])]
        for row in main_rows(report)
    ]
    text = f'{kind} in percent; "-" where a class does not occur. {_chosen_for(report)}'
    return Section('Classes', text, ['attack', *report['classes']], rows)


def _lighting(report: Mapping) -> Section | None:
    groups = [name for name in report['groups'] if name != 'all']
    if not groups:
        return None
    rows = [[title(row), *(interval(leading(row, report, group)) for group in groups)] for row in main_rows(report)]
    if report['constant']:
        cells = (interval(report['constant']['figures'][group][report['score']]) for group in groups)
        rows.append([f'constant answer: {report["constant"]["answer"]}', *cells])
    counts = ', '.join(f'{report["groups"][name]} by {name}' for name in groups)
    text = (
        f'{report["score"]} in percent by the lighting that image ids tell: {counts}. The worst case of each is '
        'searched among its own images.'
    )
    return Section('Day and night', text, ['attack', *groups], rows)


def _sizes(report: Mapping) -> Section:
    kind = {'mIoU': 'recall', 'AP50': 'AP50'}[report['score']]
    rows = [
        [title(row), *(interval(row['figures']['all'][f'{kind}/{name}']) for name in SIZES)]
        for row in main_rows(report)
    ]
    text = {
        'mIoU': 'Share of right pixels in objects, which are connected parts of one class, the first class aside; '
        'in percent.',
        'AP50': 'AP50 in percent.',
    }[report['score']]
    sizes = "Sizes are COCO's, by pixels (of boxes: by their area): small below 32x32 of the file, large from 96x96."
    return Section('Sizes of objects', f'{text} {sizes} {_chosen_for(report)}', ['attack', *SIZES], rows)


def _corruptions(report: Mapping) -> Section | None:
    """Rows by family, the figure at each severity and the mean error; means of families and of all at the end."""
    found = {}
    for row in report['rows']:
        if row['kind'] == CORRUPTION:
            name, severity = degree_of(row['name'], row['attack']) or (f'{row["name"]} (--attack)', None)
            found.setdefault(name, {})[str(severity or '')] = row
    if not found:
        return None
    degrees = sorted({degree for rows in found.values() for degree in rows})
    trouble = report.get('trouble') or {'corruptions': {}, 'families': {}}
    rows = [
        [
            name,
            *(interval(leading(rows[d], report)) if d in rows else '' for d in degrees),
            interval(trouble['corruptions'].get(name)) if name in trouble['corruptions'] else '',
        ]
        for name, rows in found.items()
    ]
    blank = [''] * len(degrees)
    rows += [[f'mean: {family}', *blank, interval(error)] for family, error in trouble['families'].items()]
    if 'mean' in trouble:
        rows.append(['mean corruption error', *blank, interval(trouble['mean'])])
    head = ['corruption', *(f'severity {d}' if d else 'whole' for d in degrees), 'mean error']
    text = (
        f'{report["score"]} in percent at each severity. Not chosen against the model: what weather, sensors, their '
        'mounting and failures do. The mean error is that of all severities, 100 minus the figure; the mean corruption '
        f'error counts every corruption alike, a sensor that is off aside. {_constant_answer(report)}'
    )
    return Section('Real trouble', text, head, rows, 'corruptions')


def _trouble_line(report: Mapping) -> str:
    """In words: how much of the clean figure real trouble leaves, and which takes most."""
    trouble = report.get('trouble')
    if trouble is None:
        return ''
    name, worst = max(trouble['corruptions'].items(), key=lambda item: item[1]['value'] or 0.0)
    clean, count = leading(report['rows'][0], report)['value'] or 0.0, len(trouble['corruptions'])
    return (
        f'Real trouble: mean corruption error {interval(trouble["mean"])} over {count} '
        f'corruption{"" if count == 1 else "s"} (clean: {100 - clean:.1f}), so that {interval(trouble["kept"], 0)} % '
        f'of the clean {report["score"]} is kept; worst is {name}, {number(worst)}.'
    )


def _masking(report: Mapping) -> Section:
    masking = report['masking']
    text = (
        f'Verdict: {masking["verdict"]}. A failed check means that the figures of attacks with gradients flatter the '
        'model; a suspect one, that stronger attacks may find less than this report.'
    )
    if masking['findings']:
        text += f' Looked at on {masking["findings"][0]["images"]} images.'
    rows = [[finding['check'], finding['verdict'], finding['evidence']] for finding in masking['findings']]
    return Section('Gradient masking', text, ['check', 'verdict', 'evidence'], rows, 'masking')


def _audit(report: Mapping) -> Section | None:
    rows = []
    for row in report['rows']:
        if 'audit' in row:
            audit = row['audit']
            changes = ', '.join(f'{key} {value:.2f}' for key, value in sorted(audit['max_delta_255'].items()))
            if audit.get('blind'):
                changes += f'; gradients of {audit["blind"]} images NOT FINITE'
            bound = '-' if row['kind'] == CORRUPTION else f'{audit["at_bound"]:.0%}'
            rows.append([title(row), changes, f'{audit["max_l2"]:.2f}', bound, number(row['loss'], 3)])
    if not rows:
        return None
    unchanged = 'came out as it went in' if report['model_unchanged'] else 'WAS CHANGED by the evaluation'
    text = (
        'What was really done: the largest change of any value, of 255; the longest L2 change of an image, in units of '
        f'[0, 1]; and the share of values at the bound. The model {unchanged}.'
    )
    head = ['attack', 'largest change, /255', 'longest, L2', 'at the bound', 'loss']
    return Section('Audit', text, head, rows)


def _quality(report: Mapping) -> Section | None:
    rows = [row for row in report['rows'] if 'fused' in row]
    if not rows:
        return None
    names = list(report['fused_ranges'])
    ranges = '; '.join(f'{name} ({text})' for name, text in report['fused_ranges'].items())
    text = (
        'Fused images against the clean pairs, also where the network saw attacked ones; on luminances of 8 bits, '
        f'mean over images. Units and ranges: {ranges}.'
    )
    cells = [[title(row), *(number(row['fused'][name], 3) for name in names)] for row in rows]
    return Section('Quality of the fused images', text, ['attack', *names], cells)


def _eight_bit(report: Mapping) -> Section | None:
    rows = [
        [title(row), interval(leading(row, report)), interval(row['eight_bit'])]
        for row in report['rows']
        if 'eight_bit' in row
    ]
    text = (
        f'{report["score"]} in percent on attacked images as computed, and read back from files of 8 bits. '
        f'{_constant_answer(report)}'
    )
    return Section('As a sensor delivers it', text, ['attack', 'floating point', '8 bits'], rows) if rows else None


def _strips(report: Mapping) -> Section | None:
    if not report['settings'].get('strips'):
        return None
    return Section('Examples', 'Inputs, changes (amplified), fused image, prediction and truth.', key='strips')


def _provenance(report: Mapping) -> Section:
    model, data = report['model'], report['data']
    rows = [
        ['config', f'{model["config"]} (sha256 {model["config_hash"]})'],
        ['checkpoint', f'{model["checkpoint"]} (sha256 {model["checkpoint_hash"]})'],
        ['data', f'{data["type"]}, {len(report["images"])} of {data["of"]} images (sha256 {data["hash"]})'],
        *([key, str(value)] for key, value in report['settings'].items()),
        *([key.replace('_', ' '), '-' if n is None else f'{n:,.0f}'] for key, n in report.get('costs', {}).items()),
        *([key, str(value)] for key, value in report['versions'].items()),
    ]
    return Section('Where it comes from', '', ['what', 'value'], rows)
