"""The page of ``paif demo`` in a browser, as a visitor uses it; skipped where there is no gradio or no browser."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPO, environment
from test_apis.test_inferencer import saved

from paif_mm.apis.playing import synthetic_examples

CONFIG = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
FLAGS = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]
SECONDS = 60_000


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """Of the page, served by the command, with two models of random weights."""
    pytest.importorskip('gradio', reason='no gradio: pip install -r requirements/demo.txt')
    folder = tmp_path_factory.mktemp('page')
    weights = [saved(CONFIG, folder / f'{name}.pth') for name in ('plain', 'robust')]
    command = [sys.executable, '-W', 'ignore', '-m', 'paif_mm.command', 'demo', '--port', str(free_port())]
    for path in weights:
        command += ['--model', CONFIG, path]
    log = open(folder / 'log.txt', 'w')  # noqa: SIM115
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored, where tests run in the background
    )
    try:
        yield address_in(folder / 'log.txt', process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        log.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


def address_in(log: Path, process: subprocess.Popen) -> str:
    deadline = time.time() + 120
    while not (found := re.search(r'the page is at (\S+)', log.read_text())):
        assert process.poll() is None and time.time() < deadline, log.read_text()
        time.sleep(0.1)
    return found[1]


@pytest.fixture(scope='module')
def browser():
    sync_api = pytest.importorskip('playwright.sync_api', reason='no playwright: pip install playwright')
    path = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if path is None:
        pytest.skip("no chromium: Debian's package is chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser, address):
    """The page as it first appears, with what it asks of other servers."""
    opened = browser.new_page(viewport={'width': 1500, 'height': 1300})
    opened.outside = []
    own = (address, 'blob:', 'data:')
    opened.on('request', lambda one: one.url.startswith(own) or opened.outside.append(one.url))
    opened.goto(address)
    opened.wait_for_selector('#prediction_1 img', timeout=SECONDS)
    yield opened
    opened.close()


def words(page, model: int = 0) -> str:
    return page.input_value(f'#words_{model} textarea')


def drop(page, visible: str, infrared: str) -> None:
    """Put files in the places of those that are there."""
    for place in ('visible', 'infrared'):
        page.click(f'#{place}_file button[aria-label=Clear]')
        page.wait_for_selector(f'#{place}_file input[type=file]', state='attached')
    for place, path in (('visible', visible), ('infrared', infrared)):
        page.set_input_files(f'#{place}_file input[type=file]', path)


def message(page) -> str:
    """The next one that pops up."""
    toast = page.wait_for_selector('.toast-body', timeout=SECONDS)
    text = toast.inner_text()
    page.locator('.toast-close').first.click()
    return text


def test_uploaded_pairs_are_predicted_attacked_and_drawn(page, tmp_path):
    (pair,) = synthetic_examples(tmp_path, count=1, size=(48, 64))
    before = page.get_attribute('#visible_0 img', 'src')
    drop(page, *pair)
    page.wait_for_function(f'document.querySelector("#visible_0 img")?.src != {json.dumps(before)}', timeout=SECONDS)
    assert words(page) == 'not attacked'
    page.click('#attack')
    for model in range(2):
        page.wait_for_function(
            f'document.querySelector("#words_{model} textarea").value.includes("→")', timeout=SECONDS
        )
        assert 'of the pixels get another class' in words(page, model)
    page.wait_for_selector('text=what the attack maximises')
    page.wait_for_selector('#download:not([disabled])', timeout=SECONDS)
    with page.expect_download() as download:
        page.click('#download')
    download.value.save_as(tmp_path / 'strip.png')
    # both models: infrared, visible, fused, prediction; attacked all these, and the changes of both; the classes
    height, width, _ = cv2.imread(str(tmp_path / 'strip.png')).shape
    assert height == 2 * (48 + 18) and width > 10 * 64
    assert not page.outside


def test_an_example_is_predicted_when_it_is_chosen(page):
    before = page.get_attribute('#visible_0 img', 'src')
    page.locator('#examples button img').nth(2).click()
    page.wait_for_function(f'document.querySelector("#visible_0 img").src != {json.dumps(before)}', timeout=SECONDS)
    assert words(page, 1) == 'not attacked'


def test_bad_uploads_get_a_message_without_a_path_of_the_server(page, tmp_path):
    (tmp_path / 'broken.png').write_text('no image')
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((20, 30), np.uint8))
    (pair,) = synthetic_examples(tmp_path, count=1, size=(48, 64))
    drop(page, str(tmp_path / 'broken.png'), pair[1])
    told = message(page)
    assert 'broken.png is no image that can be read' in told and '/' not in told
    drop(page, pair[0], str(tmp_path / 'small.png'))
    told = message(page)
    assert 'the visible image is 48x64, the infrared one 20x30' in told and str(tmp_path) not in told
    page.click('#visible_file button[aria-label=Clear]')
    page.wait_for_selector('#visible_file input[type=file]', state='attached')
    page.click('#predict')
    assert 'drop a visible image first' in message(page)


def get(address: str, data: bytes | None = None, **headers) -> tuple[int, bytes]:
    request = urllib.request.Request(address, data, {'Content-Type': 'application/json', **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize('path', ['/etc/passwd', str(REPO / 'setup.py'), '../../etc/passwd', 'log.txt', 'plain.pth'])
def test_no_file_of_the_server_is_read(address, path, tmp_path):
    for route in ('gradio_api/file=', 'gradio_api/file/', 'file='):
        status, content = get(f'{address}{route}{path}')
        assert status in (403, 404), (route, content[:200])
    config = json.loads(get(f'{address}config')[1])
    calls = [one for one in config['dependencies'] if len(one['inputs']) == 5]
    assert calls
    file = {'path': path, 'url': path, 'meta': {'_type': 'gradio.FileData'}}
    body = {'data': [file, None, 'refused', *['segformer_general_synthetic'] * 2], 'session_hash': 'x'}
    for call in calls:
        sent = {**body, 'fn_index': call['id']}
        status, content = get(f'{address}gradio_api/queue/join', json.dumps(sent).encode())
        assert status == 200 or b'InvalidPathError' in content or status == 403, content
        if status == 200:
            _, content = get(f'{address}gradio_api/queue/data?session_hash=x')
            told = [json.loads(line[6:]) for line in content.decode().splitlines() if line.startswith('data: ')]
            (end,) = [one for one in told if one['msg'] == 'process_completed']
            assert not end['success']
            assert 'root:' not in str(end)


def test_it_listens_on_this_machine_alone(address):
    assert address.startswith('http://127.0.0.1:')
    port = int(address.rstrip('/').rpartition(':')[2])
    connections = Path('/proc/net/tcp').read_text() if os.path.exists('/proc/net/tcp') else ''
    if not connections:
        pytest.skip('this system has no /proc/net/tcp to look at')
    listening = [line.split()[1] for line in connections.splitlines()[1:] if line.split()[3] == '0A']
    assert [where for where in listening if where.endswith(f':{port:04X}')] == [f'0100007F:{port:04X}']


def test_files_above_the_limit_are_refused(address):
    boundary = 'x' * 20
    body = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body += bytes(21 * 2**20) + f'\r\n--{boundary}--\r\n'.encode()
    status, _ = get(
        f'{address}gradio_api/upload', body, **{'Content-Type': f'multipart/form-data; boundary={boundary}'}
    )
    assert status == 413
