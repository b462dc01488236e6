"""The schedule, with stages that are small scripts."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config
from test_study.studies import make_job, state, trained

from paif_mm.study import schedule
from paif_mm.study.plan import Job
from paif_mm.study.schedule import Schedule, claimed, error_of, finished, interruptible, last_words, note, progress

#: Every script notes in the work dir's journal when it begins and ends.
BEGIN = """
import os, pathlib, signal, sys, time
name, stage, journal = sys.argv[1:]
journal = pathlib.Path(journal)
def say(word):
    with open(journal, 'a') as file:
        file.write(f'{word} {name} {stage}\\n')
def wait_for(condition):
    end = time.time() + 20
    while not condition():
        if time.time() > end:
            sys.exit('nothing came')
        time.sleep(0.01)
say('begin')
"""
END = "\nsay('end')\n"


class Scripts:
    """Starts a script for each stage; by name of the job, where there is one for it."""

    def __init__(self, journal, jobs=1, **scripts):
        self.journal, self.jobs, self.scripts, self.processes = journal, jobs, scripts, 1

    def command(self, job, stage):
        script = BEGIN + self.scripts.get(job.name, '') + END
        return [sys.executable, '-S', '-c', script, job.name, stage, str(self.journal)]

    def environment(self, stage, slot):
        return {**os.environ, 'SLOT': str(slot)}

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines()

    def begun(self) -> list[str]:
        return [line.split()[1] for line in self.lines() if line.startswith('begin')]


def run(jobs, launcher, **keys):
    """What failed, by names, and what was said without the time."""
    said = []
    failed = Schedule(jobs, launcher, say=said.append, **keys).run()
    assert all(re.match(r'\d\d:\d\d:\d\d ', line) for line in said)
    return {job.name: failed[job.folder] for job in jobs if job.folder in failed}, [line[9:] for line in said]


def test_a_job_runs_its_stages_after_what_it_needs(tmp_path):
    need = make_job(tmp_path, 'need')
    row = make_job(tmp_path, 'row', need, tested=True)
    launcher, tables = Scripts(tmp_path / 'journal', jobs=3), []
    failed, said = run([need, row], launcher, after_job=lambda: tables.append(len(launcher.lines())))
    assert failed == {}
    stages = ['need train', 'row train', 'row test', 'row robustness']
    assert launcher.lines() == [f'{word} {stage}' for stage in stages for word in ('begin', 'end')]
    assert tables == [2, 8], 'after every job'
    assert set(finished(row)) == {'train', 'test', 'robustness'}
    assert said[0] == '[0/2 jobs] need, seed 0: train'
    assert re.fullmatch(r'\[2/2 jobs, about 0:00 left\] row, seed 0: robustness done in 0:0\d', said[-1])


def test_what_is_done_is_not_run_again(tmp_path):
    row, launcher = make_job(tmp_path, 'row', tested=True), Scripts(tmp_path / 'journal')
    note(row, 'train', 3.0)
    run([row], launcher)
    assert launcher.lines() == ['begin row test', 'end row test', 'begin row robustness', 'end row robustness']
    assert finished(row)['train'] == 3.0
    assert run([row], launcher, after_job=lambda: pytest.fail('nothing ended')) == ({}, [])
    assert len(launcher.lines()) == 4


def test_reports_of_other_settings_are_made_anew(tmp_path):
    row, launcher = make_job(tmp_path, 'row', tested=True), Scripts(tmp_path / 'journal')
    run([row], launcher)
    other = Job('row', 0, row.folder, None, robustness={'suite': 'strong'})
    assert set(finished(other)) == {'train', 'test'}
    run([other], launcher)
    assert launcher.lines()[6:] == ['begin row robustness', 'end row robustness']
    assert set(finished(row)) == {'train', 'test', 'robustness'}, 'both are kept'


def test_two_jobs_run_at_once_and_never_three(tmp_path):
    both = "wait_for(lambda: journal.read_text().count('begin') >= 2)\n"
    slots = 'journal.with_name(f"slot {name}").write_text(os.environ["SLOT"])\n'
    jobs = [make_job(tmp_path, name) for name in 'abcde']
    launcher = Scripts(tmp_path / 'journal', jobs=2, **{job.name: both + slots for job in jobs})
    assert run(jobs, launcher)[0] == {}, 'the first would have waited in vain for the second'
    running = most = 0
    for line in launcher.lines():
        running += 1 if line.startswith('begin') else -1
        most = max(most, running)
    assert (most, running) == (2, 0)
    assert {(tmp_path / f'slot {name}').read_text() for name in 'ab'} == {'0', '1'}
    assert {(tmp_path / f'slot {name}').read_text() for name in 'cde'} <= {'0', '1'}


def test_a_failure_leaves_out_what_needs_it_and_nothing_else(tmp_path):
    bad, good = make_job(tmp_path, 'bad'), make_job(tmp_path, 'good')
    child, grandchild = make_job(tmp_path, 'child', bad, good), None
    grandchild = make_job(tmp_path, 'grandchild', child)
    jobs = [bad, good, child, grandchild]
    scripts = {'bad': "print('one')\nprint('the last words', file=sys.stderr)\nsys.exit(3)"}
    launcher = Scripts(tmp_path / 'journal', **scripts)
    failed, said = run(jobs, launcher)
    log = bad.folder / 'train.log'
    why = f'train ended with 3: the last words (see {log})'
    assert failed == {
        'bad': why,
        'child': f'needs bad, seed 0, which failed: {why}',
        'grandchild': f'needs child, seed 0, which failed: needs bad, seed 0, which failed: {why}',
    }
    assert {job.name: error_of(job) for job in jobs} == {**failed, 'good': None}
    assert launcher.begun() == ['bad', 'good']
    assert log.read_text().splitlines()[-2:] == ['one', 'the last words']
    assert any(line.endswith('child, seed 0: left out, it needs bad, seed 0, which failed') for line in said)
    assert any(line.endswith(f'bad, seed 0: failed: {failed["bad"]}') for line in said)

    failed, _ = run(jobs, Scripts(tmp_path / 'journal'))
    assert failed == {}
    assert launcher.begun() == ['bad', 'good', 'bad', 'child', 'grandchild'], 'only what was not done'
    assert {error_of(job) for job in jobs} == {None}


def test_a_stage_that_failed_keeps_those_before_it(tmp_path):
    row = make_job(tmp_path, 'row', tested=True)
    launcher = Scripts(tmp_path / 'journal', row="if stage == 'test': sys.exit(1)")
    assert list(run([row], launcher)[0]) == ['row']
    assert set(finished(row)) == {'train'}
    run([row], Scripts(tmp_path / 'journal'))
    assert launcher.lines() == [
        *['begin row train', 'end row train', 'begin row test'],
        *['begin row test', 'end row test', 'begin row robustness', 'end row robustness'],
    ]


def test_a_command_that_cant_be_made_is_a_failure_of_its_row(tmp_path):
    class Broken(Scripts):
        def command(self, job, stage):
            return [str(tmp_path / 'nowhere')] if job.name == 'bad' else super().command(job, stage)

    jobs = [make_job(tmp_path, 'bad'), make_job(tmp_path, 'good')]
    failed, _ = run(jobs, Broken(tmp_path / 'journal'))
    assert list(failed) == ['bad']
    assert failed['bad'].startswith('FileNotFoundError: ')
    assert finished(jobs[1])


def test_configs_are_written_before_the_training(tmp_path):
    need = trained(make_job(tmp_path, 'need'))
    job = Job('row', 4, tmp_path / 'row' / 'seed4', Config({'load_from': '{T.checkpoint}'}), {'T': need})
    script = "journal.with_name('seen.py').write_text((journal.parent / 'row/seed4/config.py').read_text())"
    run([need, job], Scripts(tmp_path / 'journal', row=script))
    seen = Config.fromfile(tmp_path / 'seen.py')
    assert seen.load_from == str(need.checkpoint())
    assert seen.randomness.seed == 4


SLEEP = "\njournal.with_name('pid').write_text(str(os.getpid()))\nsay('asleep')\ntime.sleep(60)\n"
TELL = '\nos.kill(os.getppid(), signal.SIGTERM)\n'
TELL_GRANDPARENT = f'\nos.kill({os.getpid()}, signal.SIGTERM)\n'


@pytest.fixture
def polite():
    """What a polite kill does is put back after the test."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    interruptible()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_stop_ends_what_runs_and_the_next_run_goes_on(tmp_path):
    jobs = [make_job(tmp_path, name) for name in ('quick', 'slow', 'later')]
    quick = "wait_for(lambda: 'asleep slow' in journal.read_text())"
    launcher = Scripts(tmp_path / 'journal', jobs=2, quick=quick, slow=SLEEP)

    def stop(line):
        if 'quick, seed 0: train done' in line:
            raise KeyboardInterrupt

    begin = time.time()
    with pytest.raises(KeyboardInterrupt):
        Schedule(jobs, launcher, say=stop).run()
    assert time.time() - begin < 20
    assert gone(int((tmp_path / 'pid').read_text()))
    assert [bool(finished(job)) for job in jobs] == [True, False, False]
    assert error_of(jobs[1]) is None, 'a stop is no failure'

    assert run(jobs, Scripts(tmp_path / 'journal'))[0] == {}
    assert launcher.begun().count('quick') == 1
    assert launcher.begun()[-2:] == ['slow', 'later']


@pytest.mark.parametrize('number', ['SIGTERM', 'SIGHUP'])
def test_a_polite_kill_or_a_closed_terminal_stops_a_study(tmp_path, polite, number):
    job = make_job(tmp_path, 'job')
    with pytest.raises(KeyboardInterrupt):
        run([job], Scripts(tmp_path / 'journal', job=TELL.replace('SIGTERM', number) + SLEEP))
    assert not finished(job)
    assert error_of(job) is None


def test_a_process_that_wont_end_is_killed(tmp_path, polite, monkeypatch):
    monkeypatch.setattr(schedule, 'PATIENCE', 0.2)
    deaf = 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
    with pytest.raises(KeyboardInterrupt):
        run(
            [make_job(tmp_path, 'job')],
            Scripts(tmp_path / 'journal', job=deaf + SLEEP.replace('\ntime', TELL + 'time')),
        )
    assert gone(int((tmp_path / 'pid').read_text()))


def test_a_stop_ends_what_a_script_started(tmp_path, polite):
    """As the launch scripts do, whose processes would go on by themselves; this one holds the lock."""
    call = f'[sys.executable, "-S", "-c", {BEGIN + TELL_GRANDPARENT + SLEEP!r}, *sys.argv[1:]]'
    launcher = Scripts(tmp_path / 'journal', job=f'import subprocess\nsubprocess.run({call}, close_fds=False)')
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path) as lock:
        run([make_job(tmp_path, 'job')], launcher, lock=lock)
    assert launcher.begun() == ['job', 'job']
    end = time.time() + 10
    while True:
        try:
            with claimed(tmp_path):
                return
        except BlockingIOError:
            assert time.time() < end
            time.sleep(0.02)


def test_a_second_study_is_kept_out_of_a_folder(tmp_path):
    work_dir = tmp_path / 'new' / 'folder'
    with claimed(work_dir):
        with pytest.raises(BlockingIOError, match=f'is running in {work_dir}'), claimed(work_dir):
            pass
        with claimed(tmp_path):
            pass
    with claimed(work_dir):
        pass


def test_a_process_that_a_killed_study_left_keeps_the_next_one_out(tmp_path):
    ready = [sys.executable, '-S', '-c', 'import sys; print(); sys.stdin.read()']
    with claimed(tmp_path) as lock:
        left = subprocess.Popen(ready, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[lock])
        left.stdout.readline()
    with pytest.raises(BlockingIOError, match='a process that a killed one left'), claimed(tmp_path):
        pass
    left.communicate()
    with claimed(tmp_path):
        pass


def test_stages_inherit_the_lock(tmp_path):
    with claimed(tmp_path) as lock:
        same = f"assert os.path.sameopenfile({lock}, os.open(journal.with_name('study.lock'), os.O_RDONLY))"
        assert run([make_job(tmp_path, 'job')], Scripts(tmp_path / 'journal', job=same), lock=lock)[0] == {}
        assert list(run([make_job(tmp_path, 'other')], Scripts(tmp_path / 'journal', other=same))[0]) == ['other']


def test_the_time_left_is_known_once_every_stage_has_ended_somewhere(tmp_path):
    done, first, second = jobs = [make_job(tmp_path, name, tested=True) for name in ('done', 'first', 'second')]
    fail = {'first': 'sys.exit(1)', 'second': 'sys.exit(1)'}
    note(done, 'train', 3000.0)
    note(done, 'test', 100.0)
    _, said = run(jobs, Scripts(tmp_path / 'journal', **fail))
    assert said[0] == '[0/3 jobs] done, seed 0: robustness', 'of unknown length'
    note(done, 'robustness', 1400.2)
    note(first, 'train', 1000.0)
    # first: test and robustness; second: training, of 2000 seconds in the mean, test and robustness
    _, said = run(jobs, Scripts(tmp_path / 'journal', **fail))
    assert said[0] == '[1/3 jobs, about 1:23:20 left] first, seed 0: test'
    _, said = run(jobs, Scripts(tmp_path / 'journal', jobs=2, **fail))
    assert '[1/3 jobs, about 41:40 left] first, seed 0: test' in said


def test_what_runs_is_told_from_time_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, 'REPORT_EVERY', 0)
    wait = "print('Iter(train) [ 350/800]  lr: 1', flush=True)\nwait_for(journal.with_name('told').exists)"
    said = []

    def say(line):
        said.append(line[9:])
        if ': train 350/800 for 0:0' in line:
            (tmp_path / 'told').write_text('')

    jobs = [make_job(tmp_path, 'job'), make_job(tmp_path, 'other')]
    assert Schedule(jobs, Scripts(tmp_path / 'journal', jobs=2, job=wait), say=say).run() == {}
    line = next(line for line in said if '350/800' in line)
    assert re.match(r'\[\d/2 jobs.*\] running: .*job, seed 0: train 350/800 for 0:0\d', line)


LOGS = {
    'Iter(train) [  50/800]  lr: 1\n': (50, 800),
    'Iter(train) [800/800]\nIter(val) [ 2/344]  eta\n': (2, 344),
    'AAT meta-initialisation [12/60]  eta: 1\n': (12, 60),
    'x' * 5000 + '\nIter(train) [150/800]\n': (150, 800),
    'reading 3/4 of it\n': None,
    '': None,
}


@pytest.mark.parametrize('text', LOGS, ids=['training', 'validation', 'AAT', 'long', 'no progress', 'empty'])
def test_progress_is_read_from_logs(tmp_path, text):
    (tmp_path / 'train.log').write_text(text)
    assert progress(tmp_path / 'train.log') == LOGS[text]
    assert progress(tmp_path / 'other.log') is None


#: What torch.distributed.run has to say of a process that failed.
TORCHRUN = """
E1125 16:43:04.448000 26094 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "torch/distributed/run.py", line 1142, in <module>
    main()
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  exitcode  : 1 (pid: 26069)
============================================================
"""
WORDS = {
    'blank lines': ('one\n  two \n\n \n', 'two'),
    'long': ('x' * 1000, 'x' * 300),
    'none': ('$ python train.py\n', 'it said nothing'),
    'none this time': ('$ python train.py\nold words\n$ python train.py\n', 'it said nothing'),
    'an error under torchrun': (f'RuntimeError: no room\n{TORCHRUN}', 'RuntimeError: no room'),
    'an error under slurm': ('no room\nsrun: error: node1: task 0: Exited with exit code 1\n', 'no room'),
    'a refusal under torchrun': (f'no such bank\n{TORCHRUN}', 'no such bank'),
}


@pytest.mark.parametrize('case', WORDS)
def test_last_words_are_the_last_that_say_something(tmp_path, case):
    text, words = WORDS[case]
    (tmp_path / 'train.log').write_text(text)
    assert last_words(tmp_path / 'train.log') == words


def test_state_is_beside_the_results(tmp_path):
    row = make_job(tmp_path, 'row', tested=True)
    note(row, 'train', 12.345)
    note(row, 'robustness', 1.0)
    assert state(row) == {'seconds': {'train': 12.3, row.output('robustness').name: 1.0}, 'name': 'row'}
