"""All that a GPU is to show, in minutes: ``bash tools/gpu_check.sh [--wheels DIR] [--rehearse]``.

Runs the tests that need a GPU, two processes on one GPU, the benchmarks at 480x640, and an adversarial training with
the time that is left. Every step has a time limit of its own, and what is known is written after each, so that a run
that is cut off keeps what it had: ``gpu_check.md``, a block for docs/results.md, and ``gpu_check.json``. Needs nothing
but the standard library to start; the steps run in the same Python, with the packages of ``--wheels`` before its own.
What an earlier check has left in the folder is removed first, so that nothing of it is taken for a result of this one.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent
GRACE = 15  # seconds for what is told to stop, as for a training to write its checkpoint
FOR_TEST = 60  # seconds that the training leaves for its test
SLOWER = 6  # times the limits of a rehearsal are those of a GPU
LEAST = 5  # seconds; with less left, a step is not begun
FOLDERS = {  # beside the logs -> the step that makes it
    'site': 'install',
    'scenes': 'scenes',
    'ranks_sat': 'ranks',
    'ranks_hds': 'ranks',
    'training': 'training',
    'attacked': 'attacked',
}
SAT = 'configs/quickstart/segformer_sat_synthetic.py'
STEPS = ('tests', 'ranks', 'fusion', 'sat', 'hds', 'aat', 'pgd', 'evaluation', 'training')
B3 = (
    'model.backbone.embed_dims=64',
    'model.backbone.num_layers=[3,4,18,3]',
    'model.decode_head.in_channels=[64,128,320,512]',
    'model.backbone.init_cfg=None',
)
REPORT, PAGE = 'gpu_check.json', 'gpu_check.md'
DEVICE = """
import importlib.metadata, json, platform, subprocess, torch
cuda = torch.cuda.is_available()
found = {'python': platform.python_version(), 'torch': torch.__version__}
for name in ('torchvision', 'numpy', 'mmcv', 'mmcv-lite', 'mmengine', 'mmsegmentation', 'mmdet', 'mmpretrain'):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
found['device'] = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
if cuda:
    found['memory'] = f'{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB'
    found['CUDA'], found['cuDNN'] = torch.version.cuda, torch.backends.cudnn.version()
    query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader', '--id=0']
    found['driver'] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
import paif_mm, mmseg.apis, mmdet.apis
print(json.dumps(found))
"""


class FailedError(Exception):
    """What a step did is not what it should have done; the message says why."""


class Step(NamedTuple):
    """Commands that run at once.

    Attributes:
        name: of its files.
        title: for people.
        commands: each a list of words.
        limit: seconds after which they are told to stop, for which they have :data:`GRACE` more.
        environments: further variables of each command. Default: none.
        figures: reads what the step has found from its output, also what one that failed had found until then. Default:
            the JSON object of its last line.
        leaves: seconds for what comes after it. Default: ``--reserve``.
        stoppable: whether being stopped at its limit is a way to end it.
    """

    name: str
    title: str
    commands: list[list]
    limit: float
    environments: list[dict] | None = None
    figures: Callable[[str], dict] | None = None
    leaves: float | None = None
    stoppable: bool = False


def duration(text: str) -> float:
    """A finite number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return number


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Check and measure paif_mm on a GPU')
    parser.add_argument('--out', default='work_dirs/gpu_check', help='folder of results (default: work_dirs/gpu_check)')
    parser.add_argument('--wheels', help='folder of wheels to install first, all of them, for this check alone')
    parser.add_argument('--minutes', type=duration, help='for everything (default: 9; of a rehearsal 60)')
    parser.add_argument(
        '--reserve', type=duration, default=100, help='seconds of these for the training (default: 100)'
    )
    parser.add_argument(
        '--train-config', default=SAT, help=f'what is trained at the end (default: {SAT}, on scenes made on the spot)'
    )
    parser.add_argument('--data-root', help='folder of its data sets, for configs that read $PAIF_MM_DATA')
    parser.add_argument('--train-options', nargs='+', default=[], help='other settings of it, key=value')
    parser.add_argument('--attack', default='pgd5_eps4', help='by which it is tested (default: pgd5_eps4)')
    parser.add_argument(
        '--steps',
        nargs='+',
        choices=STEPS,
        default=STEPS,
        metavar='STEP',
        help=f'only some of {" ".join(STEPS)} (default: all)',
    )
    parser.add_argument('--rehearse', action='store_true', help='the same with tiny sizes, on a CPU if need be')
    args = parser.parse_args(args)
    args.minutes = args.minutes or (60 if args.rehearse else 9)
    args.reserve = args.reserve if 'training' in args.steps else 0
    return args


def main(args: list[str] | None = None) -> int:
    begun, words = time.monotonic(), sys.argv[1:] if args is None else args
    args = parse_args(args)
    out = Path(args.out).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f'--out {out} can not be made ({error.strerror}): give another folder') from None
    if args.wheels and not list(Path(args.wheels).glob('*.whl')):
        raise SystemExit(f'--wheels {args.wheels} holds no wheels (*.whl)')
    clear(out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, too
    check = Check(out, begun + 60 * args.minutes, args.reserve, ['tools/gpu_check.sh', *words], args.rehearse)
    if args.wheels and not check.run(install(args.wheels, out)):
        raise SystemExit(f'the wheels do not install: {check.results["install"]["why"]}')
    if not check.run(Step('device', 'Device', [[sys.executable, '-c', DEVICE]], 120)):
        raise SystemExit(f'paif_mm can not be imported: {check.results["device"]["why"]}')
    if 'CUDA' not in check.results['device']['figures'] and not args.rehearse:
        raise SystemExit('torch finds no GPU here; --rehearse runs on a CPU')
    for step in chosen(args, out):
        check.run(step._replace(limit=SLOWER * step.limit) if args.rehearse else step)
    print(f'\n{check.page.read_text(encoding="utf-8")}\nwritten to {check.page}')
    return int(any(result['status'] != 'passed' for result in check.results.values()))


def clear(out: Path) -> None:
    """Remove what an earlier check has made in a folder: the folders of its steps, and the output of each.

    Raises:
        SystemExit: a folder of such a name is there, of a step that no check has begun as far as its report says.
    """
    begun = begun_steps(out / REPORT)
    there = [folder for folder in FOLDERS if (out / folder).exists()]
    foreign = [folder for folder in there if FOLDERS[folder] not in begun]
    if foreign:
        raise SystemExit(
            f'--out {out} holds {", ".join(foreign)}, and no {REPORT} says that a check made it: give another folder'
        )
    try:
        for folder in there:
            shutil.rmtree(out / folder)
        for path in out.iterdir():
            name = re.fullmatch(r'(\w+?)(_\d+)?\.(log|txt)', path.name)
            if name and name[1] in begun:
                path.unlink()
    except OSError as error:
        raise SystemExit(f'--out {out} can not be cleared of an earlier check: {error}') from None


def begun_steps(report: Path) -> set[str]:
    """Names of the steps whose commands an earlier check has begun; none where its report can't be read."""
    try:
        steps = json.loads(report.read_text(encoding='utf-8'))['steps']
        return {name for name, step in steps.items() if step['status'] != 'skipped'}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()


class Check:
    """Runs steps and keeps what they found on disk.

    Args:
        out: the folder.
        deadline: of everything, by ``time.monotonic``.
        reserve: seconds that steps leave for the training.
        command: of this run, for the page.
        rehearsed: whether figures mean nothing.
    """

    def __init__(self, out: Path, deadline: float, reserve: float, command: list[str], rehearsed: bool):
        self.out, self.deadline, self.reserve = out, deadline, reserve
        self.command, self.rehearsed = command, rehearsed
        self.page = out / PAGE
        self.results: dict[str, dict] = {}

    def run(self, step: Step) -> bool:
        """Whether the step passed. Whatever happens, the files hold what it said until then."""
        leaves = self.reserve if step.leaves is None else step.leaves
        limit = min(step.limit, self.deadline - time.monotonic() - leaves - GRACE)
        line = ' '.join(shlex.join(map(str, words)) for words in step.commands[:1])
        line = line.replace(f'{sys.executable} ', 'python ').replace(f'{REPO}/', '')
        result = {'title': step.title, 'command': line, 'limit': max(0, round(limit))}
        self.results[step.name] = {**result, 'status': 'cut off', 'why': 'the run ended', 'seconds': 0.0}
        self.save()
        if limit < LEAST:
            self.results[step.name].update(status='skipped', why='no time was left')
        else:
            print(f'{step.name}: at most {limit:.0f} s', flush=True)
            self.results[step.name] = {**result, **ran(step, limit, self.out)}
        self.save()
        found = self.results[step.name]
        print(f'{step.name}: {found["status"]}{": " + found["why"] if found["why"] else ""} ({found["seconds"]:.0f} s)')
        return found['status'] == 'passed'

    def save(self) -> None:
        """Write JSON and page; after a crash there are the former files or the new ones."""
        content = {'command': self.command, 'date': date.today().isoformat(), 'rehearsal': self.rehearsed}
        texts = {
            self.out / REPORT: json.dumps({**content, 'steps': self.results}, indent=2) + '\n',
            self.page: block(self.command, self.results, self.rehearsed),
        }
        for path, text in texts.items():
            partial = path.with_suffix('.partial')
            partial.write_text(text, encoding='utf-8')
            partial.replace(path)


def ran(step: Step, limit: float, out: Path) -> dict:
    """What came of a step: status, reason, seconds, output, figures."""
    begun = time.monotonic()
    logs = [out / f'{step.name}{f"_{i}" if i else ""}.log' for i in range(len(step.commands))]
    outputs = [log.with_suffix('.txt') for log in logs]
    environments = step.environments or [{}] * len(step.commands)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(words, {**environment(out), **more}, output, log))
            for words, more, output, log in zip(step.commands, environments, outputs, logs, strict=True)
        ]
        codes = ended(processes, begun + limit)
    said = outputs[0].read_text(encoding='utf-8', errors='replace')
    result = {'status': 'passed', 'why': '', 'seconds': round(time.monotonic() - begun, 1), 'figures': {}}
    if step.figures is None:  # a benchmark, whose every line is a result
        result['lines'] = [line for line in said.splitlines() if line[:1] != '{' and ' - INFO - ' not in line]
    unread = ''
    try:
        result['figures'] = figures_of(step, said)
    except FailedError as error:
        unread = str(error)
    if any(codes):
        i = next(i for i, code in enumerate(codes) if code)
        return result | {
            'status': 'failed',
            'why': last_line(logs[i]) or last_line(outputs[i]) or f'exit code {codes[i]}',
        }
    if None in codes and not step.stoppable:
        return result | {'status': 'stopped', 'why': f'it took more than {limit:.0f} s'}
    if unread:
        return result | {'status': 'failed', 'why': unread}
    if None in codes:
        result['figures']['stopped'] = f'after {limit:.0f} s'
    return result


def figures_of(step: Step, said: str) -> dict:
    """What a step has found.

    Raises:
        FailedError: it left nothing to read it from, or something cut off or of another form.
    """
    try:
        return (step.figures or json_of_last_line)(said)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise FailedError(f'what it found can not be read: {type(error).__name__}: {error}') from None


@contextmanager
def started(words: list, env: dict, output: Path, log: Path) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, of which nothing is left afterwards."""
    with open(output, 'wb') as out, open(log, 'wb') as err:
        process = subprocess.Popen(
            list(map(str, words)), stdout=out, stderr=err, cwd=REPO, env=env, start_new_session=True
        )
    try:
        yield process
    finally:
        signalled(process, signal.SIGKILL)
        process.wait()


def ended(processes: list[subprocess.Popen], deadline: float) -> list[int | None]:
    """Exit codes; None of those that the deadline found running, which were told to stop and given time to, at once."""
    codes = [waited(process, deadline) for process in processes]
    late = [process for process, code in zip(processes, codes, strict=True) if code is None]
    for process in late:
        signalled(process, signal.SIGTERM)
    for process in late:
        waited(process, deadline + GRACE)
    return codes


def waited(process: subprocess.Popen, deadline: float) -> int | None:
    """The exit code, or None if there is none by then."""
    try:
        return process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def signalled(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def environment(out: Path) -> dict[str, str]:
    """What the steps see: this checkout's package, then the wheels', then whatever was there."""
    paths = [str(REPO), str(out / 'site'), *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths), 'PYTHONUNBUFFERED': '1', 'PYTHONWARNINGS': 'ignore'}


def last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    return lines[-1][:300] if lines else ''


def json_of_last_line(said: str) -> dict:
    """What a benchmark ends with.

    Raises:
        FailedError: it does not.
    """
    try:
        return dict(json.loads(said.strip().splitlines()[-1], parse_constant=lambda _: None))  # NaN is no JSON
    except (IndexError, TypeError, ValueError):
        raise FailedError('its last line is no JSON') from None


# ---------------------------------------------------------------------------------------------------------- steps


def install(wheels: str, out: Path) -> Step:
    """All wheels of a folder into one beside the results, which need not be an environment."""
    files = sorted(Path(wheels).resolve().glob('*.whl'))
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps', '--no-compile', '--upgrade']
    return Step('install', 'Wheels', [[*pip, '--target', out / 'site', *files]], 240, figures=lambda _: {})


def chosen(args: argparse.Namespace, out: Path) -> Iterator[Step]:
    """The steps of ``--steps``, and those that they need or lead to."""
    needs = {'scenes': {'ranks', 'training'}, 'attacked': {'training'}}
    return (step for step in steps(args, out) if needs.get(step.name, {step.name}) & {*args.steps})


def steps(args: argparse.Namespace, out: Path) -> Iterator[Step]:
    """One after the other: what comes next may depend on what the one before has left."""
    tiny, scenes = args.rehearse, out / 'scenes'
    model = f'configs/_base_/models/segformer_mit-b{0 if tiny else 3}.py'
    size = ['--size', '48x64' if tiny else '480x640']
    network = ['--channels', '4' if tiny else '32']
    repeats = ['--repeats', '1' if tiny else '3']
    forms = ['bf16'] if tiny else ['compiled', 'bf16']
    threads = ['--threads', '1'] if tiny else []
    backbone = [] if tiny else ['--cfg-options', *B3]
    batches = ['--batch-sizes', *(['1', '2'] if tiny else ['1', '4', '16'])]
    few = ['--images', '2', '--steps', '1'] if tiny else ['--images', '4', '--steps', '2']
    search = ['--config', 'configs/paif/segformer_hds_mfnet.py', *backbone]
    yield made_scenes(scenes, tiny)
    yield gpu_tests(tiny)
    yield two_ranks(out, scenes)
    for name, title, limit, file, *words in (
        ('fusion', 'Fusion network', 110, 'fusion_forward', *threads, '--forms', *forms, '--backward', *forms),
        ('sat', 'Adversarial training, a step', 100, 'adversarial_step', '--config', model, '--batch', '2'),
        ('hds', 'Search, a step', 100, 'search_step', *search, *network),
        ('aat', 'Meta-initialisation, a step', 60, 'meta_step', *network, '--inner-steps', '2'),
        ('pgd', 'PGD-5 and its passes', 60, 'attack_overhead', '--config', model),
    ):
        yield benchmark(name, title, limit, file, *words, *size, *repeats)
    yield benchmark('evaluation', 'Evaluation in batches', 100, 'batch_sizes', '--model', model, *size, *batches, *few)
    yield from training(args, out, scenes)


def benchmark(name: str, title: str, limit: float, file: str, *words) -> Step:
    return Step(name, title, [[sys.executable, f'benchmarks/{file}.py', *words]], limit)


def made_scenes(folder: Path, few: bool) -> Step:
    counts = ['--train', '16', '--val', '8'] if few else ['--train', '400', '--val', '60']
    command = [sys.executable, 'tools/make_synthetic.py', folder, *counts, '--size', '96x128']
    return Step('scenes', 'Synthetic scenes', [command], 60, figures=lambda _: {})


def gpu_tests(collect: bool) -> Step:
    """``pytest -m gpu``; a rehearsal only collects them."""

    def counts(said: str) -> dict:
        found = {word: int(number) for number, word in re.findall(r'(\d+) (passed|failed|skipped|errors?)', said)}
        if not collect and not found.get('passed'):
            raise FailedError('no test passed')
        return found or {'collected': len(re.findall(r'^tests/\S+::\S+$', said, re.MULTILINE))}

    more = ['--collect-only'] if collect else ['-n', '4', '--dist', 'loadfile']
    command = [sys.executable, '-m', 'pytest', '-m', 'gpu', '-p', 'no:cacheprovider', *more]
    return Step('tests', 'Tests that need a GPU', [command], 150, figures=counts)


def two_ranks(out: Path, scenes: Path) -> Step:
    """SAT and HDS at once, each in two processes on one GPU: two iterations with synchronised batch norms, by gloo."""
    commands, environments = [], []
    short = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.logger.interval=1')
    search = ('train_cfg.warmup_iters=0', 'train_cfg.arch_interval=1', 'custom_hooks.1.begin=0')
    for recipe, more in (('sat', ()), ('hds', search)):
        config, port = f'configs/quickstart/segformer_{recipe}_synthetic.py', free_port()
        options = [*short, *more, 'sync_bn=torch', 'env_cfg.dist_cfg.backend=gloo', *data_options(scenes)]
        command = [sys.executable, 'tools/train.py', config, '--launcher', 'pytorch']
        command += ['--work-dir', out / f'ranks_{recipe}', '--cfg-options', *options]
        for rank in range(2):  # both on the first GPU, which torchrun would not do
            commands.append(command)
            place = {'RANK': rank, 'WORLD_SIZE': 2, 'LOCAL_RANK': 0, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
            environments.append({key: str(value) for key, value in place.items()})

    def losses(_: str) -> dict:
        return {f'{recipe}_loss': last_loss(out / f'ranks_{recipe}')['loss'] for recipe in ('sat', 'hds')}

    return Step('ranks', 'Two processes on one GPU', commands, 150, environments, losses)


def data_options(root: Path) -> list[str]:
    return [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(('127.0.0.1', 0))
        return place.getsockname()[1]


def last_loss(work_dir: Path) -> dict:
    """Loss and iteration of the last whole entry in the log of a training's latest run.

    Raises:
        FailedError: there is none, or it is not finite.
    """
    written = latest(work_dir, '*/vis_data/scalars.json').read_text(encoding='utf-8')
    whole = written[: written.rfind('\n') + 1]  # a training that was killed may have been at a line
    entries = [entry for entry in map(json.loads, whole.splitlines()) if 'loss' in entry]
    if not entries or not abs(entries[-1]['loss']) < float('inf'):
        raise FailedError(f'no finite loss in the log of {work_dir.name}')
    return {'loss': round(entries[-1]['loss'], 4), 'of iteration': entries[-1]['iter']}


def latest(folder: Path, pattern: str) -> Path:
    """Which of the files that match was written last.

    Raises:
        FailedError: there is none.
    """
    found = max(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns, default=None)
    if found is None:
        raise FailedError(f'there is no {folder.name}/{pattern}')
    return found


def training(args: argparse.Namespace, out: Path, scenes: Path) -> Iterator[Step]:
    """An adversarial training, stopped when its time is up, and the attacked test of what it has reached."""
    folder, tested = out / 'training', out / 'attacked'
    data = data_options(scenes) if args.train_config == SAT else []
    options = ['--cfg-options', 'default_hooks.logger.interval=10', *data, *args.train_options]
    where = [{'PAIF_MM_DATA': str(Path(args.data_root).resolve())}] if args.data_root else None
    train = [sys.executable, 'tools/train.py', args.train_config, '--work-dir', folder, *options]
    limit, noted = 10 if args.rehearse else 600, folder / 'last_checkpoint'

    def reached(_: str) -> dict:
        if not noted.is_file():
            raise FailedError('it wrote no checkpoint')
        return {'checkpoint': Path(noted.read_text(encoding='utf-8').strip()).name, **last_loss(folder)}

    yield Step('training', 'Adversarial training', [train], limit, where, reached, FOR_TEST, stoppable=True)

    def scores(_: str) -> dict:
        rows = json.loads(latest(tested, '*/results.json').read_text(encoding='utf-8'))['results']
        return {
            f'{metric}, {name}': value
            for name, row in rows.items()
            for metric, value in row['metrics'].items()
            if '/' not in metric  # of single classes
        }

    if noted.is_file():
        test = [sys.executable, 'tools/test.py', args.train_config, noted.read_text(encoding='utf-8').strip()]
        test += ['--work-dir', tested, '--attack', args.attack, *options]
        yield Step('attacked', 'Its attacked test', [test], 600, where, scores, leaves=0)


# ----------------------------------------------------------------------------------------------------------- page


def block(command: list[str], results: dict[str, dict], rehearsed: bool) -> str:
    """The results as a part of docs/results.md."""
    device = results.get('device', {}).get('figures', {})
    facts = ', '.join(f'{name} {value}' if name != 'device' else str(value) for name, value in device.items())
    lines = ['## On a GPU' if not rehearsed else '## A rehearsal, whose figures mean nothing', '']
    lines += [f'`{shlex.join(command)}` on {date.today().isoformat()}: {facts}.', '']
    lines += ['| step | outcome | seconds | limit |', '|---|---|---|---|']
    for result in results.values():
        outcome = result['status'] + (f': {result["why"]}' if result['why'] else '')
        lines.append(f'| {result["title"]} | {plain(outcome)} | {result["seconds"]:.0f} | {result["limit"]} |')
    for name, result in results.items():
        if name == 'device' or not (result.get('figures') or result.get('lines')):
            continue
        lines += ['', f'### {result["title"]}', '', f'`{result["command"]}`', '']
        if result.get('lines'):
            lines += ['```', *result['lines'], '```', '']
        if result.get('figures'):
            lines += ['| figure | value |', '|---|---|']
            for key, value in result['figures'].items():
                shown = f'{value:.4g}' if isinstance(value, float) else 'not known' if value is None else value
                lines.append(f'| {plain(key)} | {shown} |')
    return '\n'.join(lines) + '\n'


def plain(text: str) -> str:
    return str(text).replace('|', '\\|').replace('<', '&lt;')


if __name__ == '__main__':
    sys.exit(main())
