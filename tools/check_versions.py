"""Which versions work: ``bash tools/check_versions.sh --out docs/versions.md``.

Makes an environment for each combination in turn, with pip as a user would, runs a fast part of the tests in it, and
removes it. Each result is written when it is there, as a table and as JSON; a stopped call is continued by the same
command. An environment takes about 6 GB. Needs nothing but the standard library.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from datetime import date
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent
LIMIT = 3600  # seconds for the tests of one combination
TESTS = (
    'tests/test_compat.py',  # imports, registries, operators, safe loading
    'tests/test_compat_loading.py',
    'tests/test_perception/test_backbone.py',  # export
    'tests/test_detection/test_detection.py',
    # a detector is trained, and attacked
    'tests/test_tools/test_detection.py::test_training_moves_both_networks',
    'tests/test_tools/test_detection.py::test_clean_and_attacked_detections_share_a_table',
    'tests/test_tools/test_dropin.py',  # mmseg's own tools
    # a segmentor is trained, attacked, and resumed
    'tests/test_tools/test_end_to_end.py::test_training_moves_both_networks',
    'tests/test_tools/test_end_to_end.py::test_clean_and_attacked_tests_share_a_table',
    'tests/test_tools/test_end_to_end.py::test_a_killed_run_resumes_as_if_nothing_had_happened',
)


class Combination(NamedTuple):
    """What is asked for; ``stack`` is an extra of setup.py."""

    python: str
    torch: str
    torchvision: str
    numpy: str
    mmcv: str
    stack: str = 'openmmlab'

    @property
    def requirements(self) -> list[str]:
        pinned = [f'torch=={self.torch}', f'torchvision=={self.torchvision}', f'numpy=={self.numpy}.*', self.mmcv]
        return [*pinned, '--editable', f'{REPO}[{self.stack},tests]']


COMBINATIONS = {
    'current': Combination('3.11', '2.14.1', '0.29.1', '2', 'mmcv-lite==2.1.0'),
    'oldest': Combination('3.10', '2.4.1', '0.19.1', '1.26', 'mmcv-lite==2.1.0'),
    'onedl': Combination('3.11', '2.14.1', '0.29.1', '2', 'onedl-mmcv==2.3.6', 'onedl'),
    'torch-2.6': Combination('3.11', '2.6.0', '0.21.0', '1.26', 'mmcv-lite==2.2.0'),
    'torch-2.9': Combination('3.12', '2.9.1', '0.24.1', '2', 'mmcv-lite==2.2.0'),
    'onedl-oldest': Combination('3.10', '2.4.1', '0.19.1', '2', 'onedl-mmcv==2.3.6', 'onedl'),
    'python-3.13': Combination('3.13', '2.14.1', '0.29.1', '2', 'mmcv-lite==2.1.0'),
}
#: Column of the table to the distributions that may stand in it.
COLUMNS = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'numpy': ('numpy',),
    'mmcv': ('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmseg': ('mmsegmentation', 'onedl-mmsegmentation'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'mmpretrain': ('mmpretrain', 'onedl-mmpretrain'),
}
ABOUT = """\
# Which versions work

Made by `bash tools/check_versions.sh` on {}. Each row is an environment of its own, made with pip, and a
fast part of the tests in it: imports, registries, operators, safe loading, export, a segmentor and a detector trained
and attacked, a killed training resumed to the same weights, mmseg's own tools. A successor's package is named in full.

With torch 2.4, `torch.export.export` of a `FusionBackbone` wants `strict=False`, the default of later versions.
mmseg's and mmdet's own tools refuse mmcv 2.2, and with the successors they find no `mmseg::` base, which their mmengine
looks up by the name of the former package (name it by path). paif_mm's tools do both."""
NOT_RUN = """\
- A compiled mmcv, of which there are no wheels for these versions: a stand-in tests that `import paif_mm` leaves its
  operators where they are.
- GPUs, and systems other than the one above."""


class FailedError(Exception):
    """A step before the tests failed; the message says which and why."""


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test paif_mm with several versions of Python, torch and OpenMMLab')
    parser.add_argument(
        '--rows', nargs='+', choices=COMBINATIONS, default=list(COMBINATIONS), help='which combinations (default: all)'
    )
    parser.add_argument('--out', default='docs/versions.md', help='the page; the JSON goes beside it')
    parser.add_argument(
        '--folder', default='work_dirs/versions', help='for the environments and logs (default: work_dirs/versions)'
    )
    parser.add_argument('--again', action='store_true', help='try combinations anew that the JSON knows already')
    parser.add_argument('--keep', action='store_true', help='leave the environments there')
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> None:
    args = parse_args(args)
    out, folder = Path(args.out), Path(args.folder).resolve()
    data = out.with_suffix('.json')
    try:
        for needed in (out.parent, folder):
            needed.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f'{error.filename} can not be made ({error.strerror}): give another folder') from None
    known = json.loads(data.read_text(encoding='utf-8'))['rows'] if data.is_file() else {}
    for name in args.rows:
        if 'passed' not in known.get(name, {}) or args.again:
            print(f'{name}: {" ".join(COMBINATIONS[name])}', flush=True)
            known[name] = tried(COMBINATIONS[name], folder / name, keep=args.keep)
            print(f'{name}: {summary(known[name])}', flush=True)
        save(known, out)
    print(f'{out} and {out.with_suffix(".json")} hold {len(known)} of {len(COMBINATIONS)} combinations')


def save(rows: dict[str, dict], out: Path) -> None:
    """Write page and JSON; after a crash there is the former file or the new one."""
    rows = {name: rows[name] for name in COMBINATIONS if name in rows}
    content = {'machine': f'{platform.system()} {platform.machine()}, CPU', 'rows': rows}
    for path, text in ((out.with_suffix('.json'), json.dumps(content, indent=2) + '\n'), (out, page(**content))):
        partial = path.with_suffix('.partial')
        partial.write_text(text, encoding='utf-8')
        partial.replace(path)


# ------------------------------------------------------------------------------------------------- environments


def tried(combination: Combination, folder: Path, keep: bool = False) -> dict:
    """The result of one combination; ``folder``.log is what pip and pytest said.

    Without the key 'passed', the tests could not be started, for the reason in 'error'.
    """
    start, result = time.monotonic(), {'asked': combination._asdict(), 'date': date.today().isoformat()}
    try:
        with open(f'{folder}.log', 'w', encoding='utf-8') as log:
            python = made(combination, folder, log)
            listed = subprocess.run(
                [python, '-m', 'pip', 'list', '--format', 'json'], capture_output=True, text=True, check=True
            )
            result['versions'] = versions(json.loads(listed.stdout))
            result['versions']['python'] = said(python, 'import platform; print(platform.python_version())')
            result.update(tested(python, Path(f'{folder}.xml'), log))
    except FailedError as error:
        result['error'] = str(error)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return {**result, 'minutes': round((time.monotonic() - start) / 60, 1)}


def made(combination: Combination, folder: Path, log) -> str:
    """The interpreter of a new environment.

    Raises:
        FailedError: this machine has no such Python, or pip failed.
    """
    python = shutil.which(f'python{combination.python}')
    if not python or not said(python, 'print("here")'):
        raise FailedError(f'this machine has no python{combination.python}')
    own = str(folder / 'bin' / 'python')
    for command in (
        [python, '-m', 'venv', folder],
        [own, '-m', 'pip', 'install', '--quiet', '--no-compile', *combination.requirements],
        [own, '-m', 'pip', 'check'],
    ):
        print('$', *command, file=log, flush=True)
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False, cwd=REPO).returncode:
            raise FailedError(f'{" ".join(map(str, command[1:4]))} failed: {last_line(log.name)}')
    return own


def said(python: str, code: str) -> str:
    return subprocess.run([python, '-c', code], capture_output=True, text=True, check=False).stdout.strip()


def tested(python: str, report: Path, log) -> dict:
    """Counts and failures of the tests.

    Raises:
        FailedError: they did not come to their end.
    """
    report.unlink(missing_ok=True)
    command = [python, '-W', 'ignore', '-m', 'pytest', '-p', 'no:cacheprovider', f'--junitxml={report}', *TESTS]
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    print('$', *command, file=log, flush=True)
    try:
        subprocess.run(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=REPO,
            env={**environment, 'OMP_NUM_THREADS': '1'},
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f'the tests took more than {LIMIT} s') from None
    if not report.is_file():
        raise FailedError(f'pytest failed: {last_line(log.name)}')
    return outcome(report.read_text(encoding='utf-8'))


def last_line(path: str) -> str:
    lines = [line.strip() for line in Path(path).read_text(encoding='utf-8').splitlines() if line.strip()]
    return lines[-1] if lines else ''


# ------------------------------------------------------------------------------------------------------ results


def versions(listed: list[dict]) -> dict[str, str]:
    """What ``pip list --format json`` says, by column; with the distribution's name where it is a successor's."""
    found = {item['name'].lower().replace('_', '-'): item['version'] for item in listed}
    columns = {}
    for column, names in COLUMNS.items():
        here = [name for name in names if name in found]
        columns[column] = ', '.join(
            found[name] if name == names[0] else f'{name} {found[name]}' for name in here
        )  # two of them would be a fault that is to be seen
    return columns


def outcome(report: str) -> dict:
    """Counts and the reasons of failures, from pytest's JUnit report."""
    failures, skipped, cases = {}, 0, list(ElementTree.fromstring(report).iter('testcase'))
    for case in cases:
        skipped += case.find('skipped') is not None
        for kind in ('failure', 'error'):
            if (problem := case.find(kind)) is not None:
                name = f'{case.get("classname", "").replace(".", "/")}.py::{case.get("name")}'
                failures[name] = re.sub(r'\s+', ' ', problem.get('message', '')).strip()[:300]
    passed = len({(case.get('classname'), case.get('name')) for case in cases}) - len(failures) - skipped
    return {'passed': passed, 'failed': len(failures), 'skipped': skipped, 'failures': failures}


def summary(result: dict) -> str:
    if 'error' in result:
        return f'{result["error"]} ({result["minutes"]} min)'
    counts = ', '.join(f'{result[key]} {key}' for key in ('passed', 'failed', 'skipped'))
    return f'{counts} ({result["minutes"]} min)'


def page(machine: str, rows: dict[str, dict]) -> str:
    """The results in Markdown."""
    lines = [
        *ABOUT.format(machine).splitlines(),
        '',
        row('', 'python', *COLUMNS, 'passed', 'failed', 'skipped', 'date'),
        '|---' * (len(COLUMNS) + 6) + '|',
    ]
    for name, result in rows.items():
        if 'passed' in result:
            found = result['versions']
            counts = (result[key] for key in ('passed', 'failed', 'skipped', 'date'))
            lines.append(row(name, found['python'], *(found[column] for column in COLUMNS), *counts))
    failed = {name: result['failures'] for name, result in rows.items() if result.get('failures')}
    if failed:
        lines += ['', '## What failed', '']
        lines += [f'- {name}, `{test}`: {plain(why)}' for name, tests in failed.items() for test, why in tests.items()]
    unknown = {
        name: rows.get(name, {}).get('error', 'not tried yet')
        for name in COMBINATIONS
        if 'passed' not in rows.get(name, {})
    }
    lines += ['', '## What was not run', '']
    lines += [f'- {name} ({", ".join(COMBINATIONS[name])}): {plain(why)}' for name, why in unknown.items()]
    lines += NOT_RUN.splitlines()
    return '\n'.join(lines) + '\n'


def row(*cells) -> str:
    return f'| {" | ".join(map(str, cells))} |'


def plain(text: str) -> str:
    return text.replace('|', '\\|').replace('<', '&lt;')


if __name__ == '__main__':
    main()
