"""Whatever a checkpoint comes from, nothing in it is run."""

import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import CheckpointLoader, checkpoint, load_checkpoint
from torch import nn

import paif_mm  # noqa: F401

PLANTED = 'planted_by_a_download'


class Planted:
    def __reduce__(self):
        return os.mkdir, (PLANTED,)


def weights(value):
    """Of a linear layer, also as mmcls:// takes them: out of a classifier's backbone."""
    layer = {'weight': torch.full((1, 1), value), 'bias': torch.zeros(1)}
    return {'state_dict': {**layer, **{f'backbone.{name}': tensor for name, tensor in layer.items()}}}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def url(tmp_path, monkeypatch):
    """A local server of ``good.pth`` and ``evil.pth``, and an empty cache for what is downloaded."""
    (tmp_path / 'served').mkdir()
    torch.save(weights(3.0), tmp_path / 'served/good.pth')
    torch.save({'state_dict': Planted()}, tmp_path / 'served/evil.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(tmp_path / 'served')))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    names = {name: f'http://127.0.0.1:{server.server_port}/{name}.pth' for name in ('good', 'evil')}
    for function in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(checkpoint, function, lambda: names)
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    thread.join()
    server.server_close()


def sources(url):
    yield from (
        f'{url}/{{}}.pth',
        'torchvision://{}',
        'modelzoo://{}',
        'open-mmlab://{}',
        'openmmlab://{}',
        'mmcls://{}',
    )


@pytest.mark.parametrize('place', range(6))
def test_a_malicious_download_is_refused_and_does_not_run(url, place):
    source = list(sources(url))[place].format('evil')
    with pytest.raises(RuntimeError, match='evil.pth.* can not be loaded safely .*mkdir') as error:
        load_checkpoint(nn.Linear(1, 1), source)
    assert '\n' not in str(error.value)
    assert not os.path.exists(PLANTED)


@pytest.mark.parametrize('place', range(6))
def test_a_good_download_is_loaded_and_kept(url, place, tmp_path):
    model = nn.Linear(1, 1)
    load_checkpoint(model, list(sources(url))[place].format('good'))
    assert model.weight.item() == 3
    (kept,) = (tmp_path / 'cache/hub/checkpoints').glob('good-*.pth')
    torch.save(weights(4.0), kept)
    load_checkpoint(model, list(sources(url))[place].format('good'))
    assert model.weight.item() == 4, 'from the cache'


def test_files_of_one_name_at_two_addresses_are_two_files(url, tmp_path):
    for version in (1, 2):
        load_checkpoint(nn.Linear(1, 1), f'{next(iter(sources(url))).format("good")}?version={version}')
    assert len(list((tmp_path / 'cache/hub/checkpoints').glob('good-*.pth'))) == 2


@pytest.mark.parametrize('name', ['good', 'evil'])
def test_object_stores_and_model_clouds_are_read_weights_only(url, name, tmp_path, monkeypatch):
    content = (tmp_path / f'served/{name}.pth').read_bytes()

    class Store:
        def get(self, path):
            return content

    class Model:
        name = 'x.pth'

        def download(self, path):
            with open(path, 'wb') as file:
                file.write(content)

    cloud = SimpleNamespace(modelcloud=SimpleNamespace(get=lambda path: Model()))
    monkeypatch.setitem(sys.modules, 'pavi', cloud)
    monkeypatch.setattr('paif_mm.compat.loading.get_file_backend', lambda *args, **kwargs: Store())
    for source in (f's3://bucket/{name}.pth', f'petrel://{name}.pth', f'abc:s3://{name}.pth', f'pavi://{name}'):
        if name == 'good':
            assert CheckpointLoader.load_checkpoint(source, 'cpu')['state_dict']['weight'].item() == 3
        else:
            with pytest.raises(RuntimeError, match='can not be loaded safely'):
                CheckpointLoader.load_checkpoint(source, 'cpu')
    assert not os.path.exists(PLANTED)


def test_a_model_of_mmengines_own_folder_is_read_weights_only(url, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, 'get_external_models', lambda: {'local': 'evil.pth'})
    (tmp_path / 'home').mkdir()
    (tmp_path / 'served/evil.pth').rename(tmp_path / 'home/evil.pth')
    with pytest.raises(RuntimeError, match='can not be loaded safely'):
        CheckpointLoader.load_checkpoint('open-mmlab://local', 'cpu')
    assert not os.path.exists(PLANTED)


def test_no_scheme_has_a_loader_of_mmengine_that_unpickles():
    """Those that are still mmengine's own download through ours."""
    theirs = {p: f for p, f in CheckpointLoader._schemes.items() if f.__module__ == 'mmengine.runner.checkpoint'}
    assert set(theirs) == {'torchvision://', 'modelzoo://', 'mmcls://'}
    for loader in theirs.values():
        assert 'load' not in loader.__code__.co_names, 'no torch.load'
        assert 'load_from_http' in loader.__code__.co_names
