"""Exported models say of pairs of any size what the models say; ONNX is tested where its packages are installed."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO, environment
from helpers import backbone_form, build_model, tiny_fcos, tiny_segformer
from mmengine.config import Config
from test_apis.test_inferencer import saved

from paif_mm.apis import OnnxInferencer, PairInferencer
from paif_mm.apis.command import predict
from paif_mm.apis.deployed import deployed
from paif_mm.apis.exporting import ENDINGS, META, errors, example, export, mean_iou, sizes_around
from paif_mm.perception import to_backbone_form

SEGMENTOR = REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py'
MODELS = {'segmentor': tiny_segformer(), 'detector': tiny_fcos(), 'fusion': tiny_segformer()}


SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in ('onnx', 'torch_export')]  # half a minute each


@pytest.fixture(params=['torchscript', *SLOW])
def form(request) -> str:
    if request.param == 'onnx':
        onnx_packages()
    return request.param


def onnx_packages() -> None:
    for name in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(name, reason='of requirements/export.txt')


def model_of(kind: str):
    model = build_model(MODELS[kind]).eval()
    if kind == 'detector':
        spread(model.bbox_head)
    return model


@torch.no_grad()
def spread(head) -> None:
    """Boxes of many sizes, and scores without near-ties, whose order rounding would decide."""
    head.conv_cls.weight.mul_(30)
    head.conv_cls.bias.fill_(-0.5)
    head.conv_reg.weight.mul_(30)
    head.conv_reg.bias.fill_(6)


@torch.no_grad()
def said(model, pair: torch.Tensor):
    """What the model's own test step says of a pair (1, 4, H, W), and the fused image in [0, 255]."""
    from mmdet.structures import DetDataSample
    from mmseg.structures import SegDataSample

    size = tuple(pair.shape[-2:])
    kind = DetDataSample if hasattr(model, 'bbox_head') else SegDataSample
    meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
    (sample,) = model.test_step({'inputs': [pair[0]], 'data_samples': [kind(metainfo=meta)]})
    return sample, model.data_preprocessor.groups[0].fused * 255


@pytest.mark.parametrize('size', [(64, 96), (53, 71)])
def test_the_exported_function_is_the_segmentor_s_own(size):
    model, pair = model_of('segmentor'), example(size)
    fused, logits = deployed(model)(pair)
    sample, expected = said(model, pair)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(logits[0], sample.seg_logits.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('size', [(64, 96), (85, 72)])  # with padding, too
def test_the_exported_function_is_the_detector_s_own(size):
    model, pair = model_of('detector'), example(size)
    _, boxes, scores, labels = deployed(model)(pair)
    found = said(model, pair)[0].pred_instances
    assert len(found) > 10
    torch.testing.assert_close(boxes, found.bboxes, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(scores, found.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(labels, found.labels)


def test_both_forms_of_a_model_are_exported_alike():
    model, pair = model_of('segmentor'), example((64, 96))
    inside = build_model(backbone_form(MODELS['segmentor'])).eval()
    inside.load_state_dict(to_backbone_form(model.state_dict()), strict=False)
    for one, other in zip(deployed(inside)(pair), deployed(model)(pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('kind', MODELS)
def test_files_are_the_model_at_any_size(kind, form, tmp_path):
    module = deployed(model_of(kind), 'fusion' if kind == 'fusion' else 'model')
    run = export(module, tmp_path / f'model{ENDINGS[form]}', form, (128, 160), {'classes': ['a', 'b']})
    for size in (*sizes_around((128, 160)), (200, 96)):
        found = errors(module, run, size)
        assert found.keys() == set(module.outputs)
        assert max(found.values()) < 1e-5, (size, found)
    with torch.no_grad():  # and not of any model
        next(module.fuser.fusion.parameters()).add_(0.3)
    assert max(errors(module, run, (128, 160)).values()) > 1e-4


def test_torch_s_files_keep_what_is_known_of_the_classes(tmp_path):
    export(deployed(model_of('segmentor')), tmp_path / 'm.pt', 'torchscript', (64, 96), {'classes': ['a', 'b']})
    facts = {META: ''}
    torch.jit.load(str(tmp_path / 'm.pt'), _extra_files=facts)
    assert json.loads(facts[META]) == {'outputs': ['fused', 'logits'], 'classes': ['a', 'b']}


def test_other_models_are_refused():
    with pytest.raises(ValueError, match='--part fusion exports'):
        model = model_of('segmentor')
        model.test_cfg = model.test_cfg.copy()
        model.test_cfg.mode = 'slide'
        deployed(model)


def test_mean_iou_of_known_maps():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    def sample(labels):
        truth = SegDataSample(gt_sem_seg=PixelData(data=torch.tensor([labels])))
        return {'inputs': torch.zeros(4, 1, 4), 'data_samples': truth}

    def run(pairs):
        return [None, np.eye(3, dtype=np.float32)[[0, 0, 1, 1]].T.reshape(1, 3, 1, 4)]

    # 0: one right, one missed by 1's place, one ignored; 1: one right, one false
    assert mean_iou(run, [sample([[0, 255, 0, 1]])], 3) == pytest.approx(100 * (1 / 2 + 1 / 2) / 2)


@pytest.fixture(scope='module')
def exported(tmp_path_factory, synthetic_root):
    """A segmentor's config, checkpoint, ONNX file, and what the tool said."""
    onnx_packages()
    folder = tmp_path_factory.mktemp('export')
    weights = saved(str(SEGMENTOR), folder / 'w.pth')
    words = [str(SEGMENTOR), weights, '--shape', '64', '96', '--out', str(folder / 'm.onnx'), '--fp16', '--int8']
    root = ['--cfg-options', f'test_dataloader.dataset.data_root={synthetic_root}']
    command = [sys.executable, '-W', 'ignore', 'tools/export.py', *words, *root]
    done = subprocess.run(command, cwd=REPO, env=with_packages(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return str(SEGMENTOR), weights, folder / 'm.onnx', done.stdout


def with_packages() -> dict:
    import onnxruntime

    return environment(os.path.dirname(onnxruntime.__path__[0]))


@pytest.mark.slow
def test_the_tool_tells_errors_and_what_smaller_files_cost(exported):
    *_, path, told = exported
    for height, width in sizes_around((64, 96)):
        assert f'\n  {height}x{width}: fused ' in told
    assert 'mIoU on 4 pairs' in told
    for kind in ('fp16', 'int8'):
        small = path.with_name(f'm_{kind}.onnx')
        assert small.stat().st_size < (0.7 if kind == 'fp16' else 1) * path.stat().st_size
        assert f'{small}: ' in told


@pytest.mark.slow
def test_onnx_files_predict_what_the_model_predicts(exported, synthetic_root, tmp_path):
    config, weights, path, _ = exported
    scenes = str(synthetic_root / 'images')
    expected = PairInferencer(config, weights, 'cpu', show_progress=False)(scenes)
    found = OnnxInferencer(config, str(path), show_progress=False)(scenes)
    for key in ('predictions', 'fused'):
        for one, other in zip(found[key], expected[key], strict=True):
            assert (one != other).mean() < 1e-3
    assert predict([config, '--onnx', str(path), '--visible', scenes, '--out', str(tmp_path / 'out')]) == 0
    assert len(list((tmp_path / 'out' / 'pred').iterdir())) == 12


def test_smallest_boxes_in_pixels_of_files_are_refused():
    model = model_of('detector')
    model.bbox_head.test_cfg.min_bbox_size = 5
    with pytest.raises(ValueError, match='min_bbox_size=5 counts pixels of files'):
        deployed(model)


@pytest.mark.slow
def test_onnx_files_of_detectors_find_what_the_model_finds(synthetic_root, tmp_path):
    """Also where the pipeline makes pairs of 85x128, whose padding has boxes beyond the image."""
    onnx_packages()
    source = REPO / 'configs' / 'quickstart' / 'fcos_general_synthetic.py'
    config = Config.fromfile(source)
    config.model.test_cfg.score_thr = 0.0
    config.dump(tmp_path / 'config.py')
    names = tuple(f'class {i}' for i in range(config.model.bbox_head.num_classes))
    weights = saved(str(source), tmp_path / 'w.pth', names)
    inferencer = PairInferencer(str(tmp_path / 'config.py'), weights, 'cpu', show_progress=False)
    spread(inferencer.model.bbox_head)
    meta = {'classes': list(names), 'palette': [[0, 0, 0]] * len(names)}
    export(deployed(inferencer.model), tmp_path / 'm.onnx', 'onnx', (96, 128), meta)
    onnx = OnnxInferencer(str(tmp_path / 'config.py'), str(tmp_path / 'm.onnx'), show_progress=False)
    scenes = str(synthetic_root / 'images')
    for one, other in zip(onnx(scenes)['predictions'], inferencer(scenes)['predictions'], strict=True):
        assert len(one['scores']) == len(other['scores']) > 5
        np.testing.assert_allclose(one['scores'], other['scores'], atol=1e-4)
        np.testing.assert_allclose(one['bboxes'], other['bboxes'], atol=0.05)


@pytest.mark.slow
def test_a_file_runs_without_torch_or_this_package(exported, synthetic_root, tmp_path):
    config, weights, path, _ = exported
    image = sorted((synthetic_root / 'images').iterdir())[0]
    pair = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
    for name, part in (('rgb', pair[..., :3]), ('ir', pair[..., 3])):
        cv2.imwrite(str(tmp_path / f'{name}.png'), part)
    names = [str(path), *(str(tmp_path / f'{name}.png') for name in ('rgb', 'ir', 'out'))]
    check = "assert not {'torch', 'paif_mm', 'mmengine'} & set(sys.modules)"
    script = f"import runpy, sys; sys.argv[1:] = {names}; runpy.run_path('demo/run_onnx.py'); {check}"
    subprocess.run([sys.executable, '-c', script], cwd=REPO, env=with_packages(), check=True)
    model = PairInferencer(config, weights, 'cpu', show_progress=False)
    found = model(str(image))
    palette = np.array(model.model.dataset_meta['palette'])[:, ::-1]
    expected = (found['fused'][0] + palette[found['predictions'][0]]) / 2
    assert np.abs(cv2.imread(str(tmp_path / 'out.png')) - expected).max() <= 1
