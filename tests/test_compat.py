"""The operator fallback and safe checkpoints."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPO
from mmengine.logging import HistoryBuffer

from paif_mm import compat

fallback = pytest.mark.skipif(
    compat.has_compiled_ops(), reason='the compiled mmcv is installed: nothing to fall back to'
)


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_paif_mm_makes_the_openmmlab_libraries_importable():
    code = 'import paif_mm, mmseg.models, mmdet.models, mmpretrain.models; print("fine")'
    assert run_python(code).endswith('fine')


def test_custom_imports_is_enough_in_a_foreign_config(tmp_path):
    config = tmp_path / 'foreign.py'
    config.write_text("custom_imports = dict(imports=['paif_mm'])\ndefault_scope = 'mmseg'\n")
    code = (
        'from mmengine import Config; from mmengine.registry import init_default_scope, TRANSFORMS, HOOKS, MODELS;'
        f"cfg = Config.fromfile({str(config)!r}); init_default_scope('mmseg');"
        "print(TRANSFORMS.get('paif_mm.LoadPairFromFile').__name__, HOOKS.get('paif_mm.FusionLossHook').__name__,"
        "MODELS.get('paif_mm.FusionDataPreprocessor').__name__)"
    )
    assert run_python(code).splitlines()[-1].split() == ['LoadPairFromFile', 'FusionLossHook', 'FusionDataPreprocessor']


def test_a_compiled_extension_is_never_replaced(tmp_path):
    """A module that stands for the compiled one is left where it is."""
    code = (
        'import sys, types; import mmcv; real = types.ModuleType("mmcv._ext"); sys.modules["mmcv._ext"] = real;'
        'import paif_mm; from paif_mm.compat import has_compiled_ops;'
        'print(sys.modules["mmcv._ext"] is real, has_compiled_ops())'
    )
    assert run_python(code).endswith('True True')


@fallback
def test_nms_keeps_the_best_of_overlapping_boxes():
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
    dets, kept = nms(boxes, torch.tensor([0.5, 0.9, 0.3]), iou_threshold=0.5)
    assert kept.tolist() == [1, 2]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.3])


@fallback
def test_nms_offset_counts_inclusive_corners():
    """Two boxes of 2x1 and 1x1 inclusive pixels overlap by 1/2; without the offset their area is 0."""
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 0]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, iou_threshold=0.4, offset=1)[1].tolist() == [0]
    assert nms(boxes, scores, iou_threshold=0.6, offset=1)[1].tolist() == [0, 1]


@fallback
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_loss_and_its_gradient_follow_the_definition(weighted):
    """Against mmdet's own python form, target 3 of 3 classes being background."""
    from mmcv.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    logits = torch.randn(7, 3, dtype=torch.double, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 3, 1, 0])
    weight = torch.tensor([0.5, 2.0, 1.5], dtype=torch.double) if weighted else None
    ours = sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, 'sum')
    one_hot = torch.nn.functional.one_hot(target, 4)[:, :3].double()
    p = logits.sigmoid()
    p_t = one_hot * p + (1 - one_hot) * (1 - p)
    alpha_t = one_hot * 0.25 + (1 - one_hot) * 0.75
    expected = -alpha_t * (1 - p_t) ** 2 * p_t.log()
    if weighted:
        expected = expected * torch.cat([weight, weight.new_ones(1)])[target][:, None]
    torch.testing.assert_close(ours, expected.sum())
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, weight, 'sum'), logits)
    (ours_gradient,) = torch.autograd.grad(ours, logits)
    (gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(ours_gradient, gradient)


@fallback
def test_focal_loss_is_finite_for_extreme_logits():
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, 'sum')
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert loss.item() == pytest.approx(200 * 0.75 + 200 * 0.25)


@fallback
def test_other_operators_say_so_when_they_are_called():
    from mmcv.ops import RoIPool

    layer = RoIPool(output_size=2, spatial_scale=1.0)
    with pytest.raises(NotImplementedError, match='roi_pool_forward'):
        layer(torch.rand(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]))


def test_what_mmengine_saves_is_loaded_weights_only(tmp_path):
    buffer = HistoryBuffer([1.0, 2.5], [1, 1])
    saved = {'message_hub': {'loss': buffer, 'lr': np.float64(0.1)}, 'state_dict': {'w': torch.ones(2)}}
    torch.save(saved, tmp_path / 'x.pth')
    loaded = compat.load_checkpoint_file(tmp_path / 'x.pth')
    assert loaded['message_hub']['loss'].mean() == 1.75
    assert loaded['message_hub']['lr'] == 0.1


class Planted:
    def __reduce__(self):
        return os.mkdir, ('planted_by_a_checkpoint',)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': Planted()}, 'evil.pth')
    from mmengine.runner import load_checkpoint

    with pytest.raises(RuntimeError, match='evil.pth can not be loaded safely'):
        load_checkpoint(torch.nn.Linear(1, 1), 'evil.pth')
    assert not os.path.exists('planted_by_a_checkpoint')


class Getattr:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_getattr_in_a_checkpoint_reaches_nothing_but_log_statistics(tmp_path):
    torch.save({'state_dict': Getattr()}, tmp_path / 'reach.pth')
    with pytest.raises(RuntimeError, match='reach.pth can not be loaded safely .*__init__'):
        compat.load_checkpoint_file(tmp_path / 'reach.pth')


def test_damaged_and_missing_checkpoints_are_named(tmp_path):
    torch.save({'a': torch.ones(1000)}, tmp_path / 'cut.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'cut.pth').read_bytes()[:900])
    with pytest.raises(RuntimeError, match='cut.pth'):
        compat.load_checkpoint_file(tmp_path / 'cut.pth')
    with pytest.raises(FileNotFoundError, match='none.pth'):
        compat.load_checkpoint_file(tmp_path / 'none.pth')
    (tmp_path / 'text.pth').write_bytes(pickle.dumps(Planted()))
    with pytest.raises(RuntimeError, match='text.pth'):
        compat.load_checkpoint_file(tmp_path / 'text.pth')


@pytest.mark.parametrize('former', ['mmengine', 'mmsegmentation', 'mmdet', 'mmpretrain'])
def test_nothing_we_require_brings_an_mmcv_of_its_own(former):
    """mmcv and mmcv-lite install the same files: a requirement on either would overwrite the one that is there."""
    from importlib.metadata import distributions

    successor = {'mmdet': 'onedl-mmdetection'}.get(former, f'onedl-{former}')
    (installed,) = (found for found in distributions() if found.metadata['Name'] in (former, successor))
    unconditional = [line for line in installed.requires or [] if 'extra ==' not in line]
    assert not [line for line in unconditional if line.lower().startswith('mmcv')]


def test_our_own_requirements_leave_openmmlab_to_the_user():
    lines = (REPO / 'requirements' / 'runtime.txt').read_text().splitlines()
    assert not [line for line in lines if line.startswith(('mm', 'onedl'))]
    assert not [line for line in (REPO / 'requirements' / 'openmmlab.txt').read_text().splitlines() if 'mmcv' in line]
    assert "install_requires=requirements('runtime')" in (REPO / 'setup.py').read_text()


def test_without_openmmlab_what_to_install_is_said_in_one_line():
    code = (
        'import sys; sys.modules.update(mmcv=None, mmseg=None)\n'
        'try: import paif_mm\n'
        'except ImportError as error: print(error)'
    )
    assert run_python(code).startswith('paif_mm needs mmcv and mmseg: pip install -e ".[openmmlab]"')


def test_mmseg_and_mmdet_accept_mmcv_2_2():
    code = (
        'import mmcv; mmcv.__version__ = "2.2.0"; import paif_mm, mmseg.models, mmdet.models; print(mmcv.__version__)'
    )
    assert run_python(code).endswith('2.2.0')


@pytest.mark.parametrize(
    ('there', 'expected'), [('', 'False'), ('def apply_chunking_to_forward(): pass', 'True')], ids=['too new', 'fits']
)
def test_a_transformers_that_is_too_new_for_mmpretrain_does_not_matter(tmp_path, there, expected):
    package = tmp_path / 'transformers'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / 'modeling_utils.py').write_text(there)
    info = tmp_path / 'transformers-5.24.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n')
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r}); import paif_mm, mmpretrain.utils.dependency as d\n'
    code += 'print(d.WITH_MULTIMODAL)\n'
    code += '' if there else 'import mmseg.models, mmdet.models, mmpretrain.models, mmpretrain.datasets\n'
    assert run_python(code) == expected


@fallback
@pytest.mark.gpu
def test_the_fallback_gives_the_same_on_a_gpu():
    from mmcv.ops import nms, sigmoid_focal_loss

    torch.manual_seed(0)
    logits, target = torch.randn(7, 3), torch.randint(0, 4, (7,))
    boxes = torch.rand(20, 4).cumsum(1) * 10
    results = []
    for device in ('cpu', 'cuda'):
        x = logits.detach().to(device).requires_grad_()  # a leaf of its own on each device
        loss = sigmoid_focal_loss(x, target.to(device), 2.0, 0.25, None, 'sum')
        loss.backward()
        kept = nms(boxes.to(device), boxes[:, 0].contiguous().to(device), 0.3)[1]
        results.append((loss.detach().cpu(), x.grad.cpu(), kept.cpu()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@fallback
def test_roi_align_by_hand_and_its_gradient():
    """The mean over a bin of a ramp is the ramp at its centre; d sum / d input adds up to the number of bins."""
    from mmcv.ops import RoIAlign

    ramp = torch.arange(8.0).expand(1, 1, 8, 8).clone().requires_grad_()
    rois = torch.tensor([[0, 1.0, 1.0, 5.0, 5.0]])
    pooled = RoIAlign(2, spatial_scale=1.0, sampling_ratio=2)(ramp, rois)
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[1.5, 3.5], [1.5, 3.5]]))  # centres 2, 4, less half a pixel
    pooled.sum().backward()
    assert ramp.grad.sum().item() == pytest.approx(4)
    assert torch.equal(ramp.grad[0, 0, 6:], torch.zeros(2, 8))
    with pytest.raises(NotImplementedError, match='pool_mode'):
        RoIAlign(2, pool_mode='max')(ramp, rois)
