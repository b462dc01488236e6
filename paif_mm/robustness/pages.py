"""Reports as files: JSON, CSV, Markdown, and a page of HTML that needs nothing beside it."""

import base64
import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from paif_mm.files import write_bytes, write_json

from .cases import CORRUPTION
from .curves import draw_corruptions, draw_curves, draw_masking, draw_smallest_radius, draw_splits
from .evaluate import STRIPS
from .report import VERSION, main_threat, radii
from .sections import Section, attacks, sections

REPORT = 'report.json'
NUMBER = re.compile(r'(≤ )?-?[\d,.]+( \[.*\]|%)?$|-?$|inf$')  # what a cell of figures holds
WIDEST = 1800  # pixels of a strip in a page
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #1d2433 }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #d8dde6 }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { padding: .25em .7em; border-bottom: 1px solid #e6e9ef; text-align: left; vertical-align: top }
th { background: #f4f6fa } .number { text-align: right; font-variant-numeric: tabular-nums }
td.number, td:first-child, th:first-child { white-space: nowrap } td.words { overflow-wrap: anywhere }
table.sortable th { cursor: pointer } th[aria-sort=descending]::after { content: " ▾" }
th[aria-sort=ascending]::after { content: " ▴" }
tr.worst td { font-weight: 600; background: #fbf3e4 }
.passed, .suspect, .failed { border-radius: 3px; padding: 0 .5em; color: white }
.passed { background: #2c7a4b } .suspect { background: #b7791f } .failed { background: #b3261e }
svg { max-width: 100%; height: auto } img { max-width: 100%; display: block } figure { margin: 1em 0 }
figcaption { font-size: 13px; color: #5a6478 } p { max-width: 75em; margin: .5em 0 }
"""

#: A click on a column's head sorts by it, numbers from the largest, words from A, the next click the other way; what is
#: no number in a column of numbers comes last.
SORTING = """<script>
document.querySelectorAll('table.sortable').forEach(table => {
  const heads = [...table.rows[0].cells]
  heads.forEach((head, column) => {
    const sort = () => {
      const rows = [...table.rows].slice(1)
      const text = row => row.cells[column].textContent
      const figure = row => parseFloat(text(row).replace(/^≤ /, ''))
      const words = rows.some(row => !/^((≤ )?-?[\\d.,]+( \\[.*\\])?|-?)$/.test(text(row)))
      const down = head.ariaSort ? head.ariaSort === 'ascending' : !words
      heads.forEach(other => other.removeAttribute('aria-sort'))
      head.ariaSort = down ? 'descending' : 'ascending'
      const sign = down ? -1 : 1
      rows.sort((a, b) => {
        if (words) return sign * text(a).localeCompare(text(b))
        const [x, y] = [figure(a), figure(b)]
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y)
      })
      rows.forEach(row => row.parentNode.appendChild(row))
    }
    head.tabIndex = 0
    head.addEventListener('click', sort)
    head.addEventListener('keydown', event => { if (event.key === 'Enter') sort() })
  })
})
</script>"""


def write_report(folder: str | Path, report: Mapping) -> None:
    """Write ``report.json``, ``report.csv``, ``report.md`` and ``report.html``."""
    folder = Path(folder)
    write_json(folder / REPORT, report)
    name = folder.resolve().name
    title = f'Robustness of {name}'
    write_bytes(folder / 'report.csv', csv_of({name: report}).encode())
    write_bytes(folder / 'report.md', markdown(title, sections(report)).encode())
    drawn = {
        'curves': draw_curves(report),
        'splits': draw_splits(report),
        'corruptions': draw_corruptions(report),
        'masking': draw_masking(report),
        'smallest_radius': draw_smallest_radius(report),
        'strips': ''.join(_strip(path) for path in example_strips(folder, report)),
    }
    write_bytes(folder / 'report.html', page(title, sections(report), drawn).encode())


def read_report(path: str | Path) -> dict:
    """A report by its folder or file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no report.
    """
    path = Path(path)
    path = path / REPORT if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f'no report at {path}: make it by tools/robustness.py CONFIG CHECKPOINT --out DIR')
    try:
        report = json.loads(path.read_text(encoding='utf-8'))
        version = report['version']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no report of tools/robustness.py: {error!r}') from error
    if version != VERSION:
        raise ValueError(f'{path} is of another version ({version}, not {VERSION}): run tools/robustness.py again')
    return report


def folder_of(path: str | Path) -> Path:
    """The folder of a report that is given by its folder or file."""
    return Path(path) if Path(path).is_dir() else Path(path).parent


def report_names(paths: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """What models are called: as given, or as their reports' folders.

    Raises:
        SystemExit: two have one name, or there are more or fewer names than reports.
    """
    names = list(names or [folder_of(path).resolve().name for path in paths])
    if len(names) != len(paths) or len(set(names)) != len(paths):
        raise SystemExit(f'{len(paths)} reports need as many different --names, not {", ".join(names)}')
    return names


def csv_of(reports: Mapping[str, Mapping]) -> str:
    """A line per model, attack, group of images and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    about = ['key', 'name', 'eps', 'norm', 'threat', 'kind']
    writer.writerow(['model', *about, 'group', 'figure', 'value', 'low', 'high'])
    for model, report in reports.items():
        for row in report['rows']:
            tables = {**row['figures'], 'fused': row.get('fused', {})}
            if 'loss' in row:
                tables['all'] = {**tables['all'], 'loss': row['loss']}
            if 'eight_bit' in row:
                tables['8 bits'] = {report['score']: row['eight_bit']}
            if 'left' in row:
                tables['all'] = {**tables['all'], f'{report["score"]} above the constant answer': row['left']}
            _write(writer, model, [row[key] for key in about], tables)
        if report['constant']:
            constant = {**dict.fromkeys(about, ''), 'key': 'constant answer', 'name': report['constant']['answer']}
            _write(writer, model, list(constant.values()), report['constant']['figures'])
        if trouble := report.get('trouble'):
            what = {**dict.fromkeys(about, ''), 'key': 'mean error', 'name': 'mean error', 'kind': CORRUPTION}
            every = {'all': trouble['mean'], 'share of the clean figure kept': trouble['kept']}
            tables = {'all': every, 'family': trouble['families'], 'corruption': trouble['corruptions']}
            _write(writer, model, list(what.values()), tables)
    return text.getvalue()


def _write(writer, model: str, what: Sequence, tables: Mapping[str, Mapping]) -> None:
    for group, figures in tables.items():
        for name, values in figures.items():
            writer.writerow([model, *what, group, name, *(values[key] for key in ('value', 'low', 'high'))])


def markdown(title: str, parts: Sequence[Section]) -> str:
    """Sections as GitHub's Markdown."""
    lines = [f'# {title}']
    for part in parts:
        if part.text or part.rows:
            lines += ['', f'## {part.title}']
        if part.text:
            lines += [line for text in part.text.split('\n') for line in ('', text)]
        if part.rows:
            lines += ['', _line(part.head), _line(['---'] * len(part.head)), *map(_line, part.rows)]
    return '\n'.join(lines) + '\n'


def page(title: str, parts: Sequence[Section], drawn: Mapping[str, str]) -> str:
    """Sections as one page of HTML, with the pictures that belong to them."""
    body = []
    for part in parts:
        body.append(f'<section><h2>{html.escape(part.title)}</h2>')
        if part.text:
            body += [f'<p>{html.escape(line)}</p>' for line in part.text.split('\n')]
        body.append(f'<figure>{drawn[part.key]}</figure>' if drawn.get(part.key) else '')
        if part.rows:
            body.append(_table(part))
        body.append('</section>')
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<style>{STYLE}</style><h1>{html.escape(title)}</h1>{"".join(body)}'
        f'{SORTING if any(part.sortable for part in parts) else ""}</html>\n'
    )


def example_strips(folder: Path, report: Mapping) -> list[Path]:
    """Strips of the clean images, and at each radius under PGD-5 and the attack of lowest figure."""
    keys = ['clean']
    for eps in radii(report):
        threat = main_threat(report, eps)
        rows = [row for row in attacks(report) if row['eps'] == eps and row['attack'] and row['threat'] == threat]
        rows.sort(key=lambda row: row['figures']['all'][report['score']]['value'] or 0.0)
        keys += [row['key'] for row in rows if row['name'] == 'pgd5' or row is rows[0]]
    names = [path.name for path in sorted((folder / STRIPS / 'clean').glob('*.png'))]
    paths = [folder / STRIPS / key / name for name in names for key in dict.fromkeys(keys)]
    return [path for path in paths if path.is_file()]


def _strip(path: Path) -> str:
    """A strip as an image inside the page, no wider than a screen."""
    image = cv2.imread(str(path))
    scale = min(WIDEST / image.shape[1], 1.0)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    code = base64.b64encode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]).decode()
    caption = html.escape(f'{path.parent.name}: {path.stem}')
    return f'<img alt="{caption}" src="data:image/jpeg;base64,{code}"><figcaption>{caption}</figcaption>'


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def _table(part: Section) -> str:
    """Columns of numbers stand to the right, the first one and words to the left."""
    columns = list(zip(*part.rows, strict=True))
    numbers = [place > 0 and all(map(NUMBER.match, column)) for place, column in enumerate(columns)]
    head = ''.join(
        f'<th{_class("number" if is_number else "")}>{html.escape(cell)}</th>'
        for cell, is_number in zip(part.head, numbers, strict=True)
    )
    rows = ''.join(_row(row, numbers) for row in part.rows)
    return f'<table{_class("sortable" if part.sortable else "")}><tr>{head}</tr>{rows}</table>'


def _row(cells: Sequence[str], numbers: Sequence[bool]) -> str:
    worst = 'worst' if cells[0].startswith('worst case') else ''
    return f'<tr{_class(worst)}>{"".join(map(_cell, cells, numbers))}</tr>'


def _cell(text: str, is_number: bool) -> str:
    if text in ('passed', 'suspect', 'failed'):
        return f'<td><span class="{text}">{text}</span></td>'
    return f'<td{_class("number" if is_number else "words" if len(text) > 40 else "")}>{html.escape(text)}</td>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ''
