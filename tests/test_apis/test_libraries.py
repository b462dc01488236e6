"""mmseg's and mmdet's own ways to use a model say of pairs what the model says."""

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO
from mmengine.config import Config
from mmengine.registry import init_default_scope
from test_apis.test_inferencer import CLASSES, saved

from paif_mm.apis import PairInferencer

SEGMENTOR = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
DETECTOR = str(REPO / 'configs' / 'quickstart' / 'fcos_general_synthetic.py')


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    """The same two pairs as RGBA files, as arrays, as two files each, and as dicts."""
    folder, rng = tmp_path_factory.mktemp('pairs'), np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (64, 96, 4), np.uint8) for _ in range(2)]
    files, twos = [], []
    for index, array in enumerate(arrays):
        names = [folder / f'{index}_{part}.png' for part in ('rgba', 'visible', 'infrared')]
        for name, image in zip(names, (array, array[..., :3], array[..., 3]), strict=True):
            cv2.imwrite(str(name), image)
        files.append(str(names[0]))
        twos.append((str(names[1]), str(names[2])))
    dicts = [{'img_path': visible, 'ir_path': infrared} for visible, infrared in twos]
    return {'files': files, 'arrays': arrays, 'two files': twos, 'dicts': dicts}


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory, given):
    """Weights, and what the model says of the pairs."""
    weights = saved(SEGMENTOR, tmp_path_factory.mktemp('segmentor') / 'w.pth')
    expected = PairInferencer(SEGMENTOR, weights, 'cpu', show_progress=False)(given['arrays'])['predictions']
    assert len(np.unique(expected)) > 1
    return weights, expected


@pytest.fixture(scope='module')
def detector(tmp_path_factory, given):
    config = Config.fromfile(DETECTOR)
    config.model.bbox_head.test_cfg = config.model.test_cfg = {**config.model.test_cfg, 'score_thr': 0.0}
    path = tmp_path_factory.mktemp('detector') / 'config.py'
    config.dump(path)
    names = tuple(f'class {i}' for i in range(config.model.bbox_head.num_classes))
    weights = saved(DETECTOR, path.parent / 'w.pth', names)
    expected = PairInferencer(str(path), weights, 'cpu', show_progress=False)(given['arrays'])['predictions']
    assert all(len(one['scores']) > 3 for one in expected)
    return str(path), weights, expected


def maps(samples) -> list[np.ndarray]:
    return [sample.pred_sem_seg.data[0].numpy() for sample in samples]


@pytest.mark.parametrize('kind', ['files', 'arrays', 'two files'])
def test_inference_model_takes_pairs(segmentor, given, kind):
    from mmseg.apis import inference_model, init_model

    weights, expected = segmentor
    model = init_model(SEGMENTOR, weights, device='cpu')
    np.testing.assert_array_equal(maps(inference_model(model, given[kind])), expected)
    if kind != 'two files':  # a tuple is a batch to mmseg: two files alone are given as a list of one pair
        np.testing.assert_array_equal(maps([inference_model(model, given[kind][1])])[0], expected[1])
    np.testing.assert_array_equal(maps(inference_model(model, given['files'])), expected)  # after whatever was before


@pytest.mark.parametrize('kind', ['files', 'arrays', 'two files', 'dicts'])
def test_mmseg_s_inferencer_takes_and_draws_pairs(segmentor, given, kind, tmp_path):
    from mmseg.apis import MMSegInferencer

    weights, expected = segmentor
    inferencer = MMSegInferencer(SEGMENTOR, weights, device='cpu')
    found = inferencer(given[kind], batch_size=2, return_vis=True, out_dir=str(tmp_path), opacity=0.1)
    np.testing.assert_array_equal(found['predictions'], expected)
    np.testing.assert_array_equal(inferencer(given[kind][:1])['predictions'], expected[0])
    colours = np.asarray(inferencer.model.dataset_meta['palette'], np.uint8)
    for picture, pair, labels in zip(found['visualization'], given['arrays'], expected, strict=True):
        painted = 0.9 * pair[..., 2::-1] + 0.1 * colours[labels]  # R,G,B, on the visible image
        assert np.median(np.abs(picture - painted)) < 2
    assert len(list((tmp_path / 'vis').iterdir())) == len(list((tmp_path / 'pred').iterdir())) == 2


@pytest.mark.parametrize('kind', ['files', 'arrays', 'two files'])
def test_inference_detector_takes_pairs(detector, given, kind):
    from mmdet.apis import inference_detector, init_detector

    config, weights, expected = detector
    model = init_detector(config, weights, device='cpu')
    for sample, wanted in zip(inference_detector(model, given[kind]), expected, strict=True):
        np.testing.assert_allclose(sample.pred_instances.scores, wanted['scores'], rtol=1e-5)
        np.testing.assert_allclose(sample.pred_instances.bboxes, wanted['bboxes'], rtol=1e-4, atol=1e-3)
    one = inference_detector(model, given[kind][1] if kind != 'two files' else given[kind][1:])
    one = one[0] if isinstance(one, list) else one
    np.testing.assert_allclose(one.pred_instances.scores, expected[1]['scores'], rtol=1e-5)


@pytest.mark.parametrize('kind', ['files', 'arrays', 'two files', 'dicts'])
def test_mmdet_s_inferencer_takes_and_draws_pairs(detector, given, kind, tmp_path):
    from mmdet.apis import DetInferencer

    config, weights, expected = detector
    inferencer = DetInferencer(config, weights, device='cpu', show_progress=False)
    found = inferencer(given[kind], batch_size=2, return_vis=True, out_dir=str(tmp_path), no_save_pred=False)
    for one, wanted in zip(found['predictions'], expected, strict=True):
        assert one['labels'] == wanted['labels']
        np.testing.assert_allclose(one['bboxes'], wanted['bboxes'], rtol=1e-4, atol=1e-3)
    assert [picture.shape for picture in found['visualization']] == [(64, 96, 3)] * 2
    assert len(list((tmp_path / 'vis').iterdir())) == 2


def test_infrared_of_many_bits_keeps_its_declared_range(segmentor, given, tmp_path):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    weights, expected = segmentor
    config = Config.fromfile(SEGMENTOR)
    config.test_pipeline[0].ir_range = config.test_dataloader.dataset.pipeline[0].ir_range = (1000, 1000 + 255 * 8)
    deep = [array.astype(np.uint16) for array in given['arrays']]
    for array in deep:
        array[..., 3] = array[..., 3] * 8 + 1000
    found = maps(inference_model(init_model(config.copy(), weights, device='cpu'), deep))
    assert np.mean(np.array(found) == np.array(expected)) > 0.999  # rounding
    found = MMSegInferencer(config, weights, device='cpu')(deep)['predictions']
    assert np.mean(np.array(found) == np.array(expected)) > 0.999


def test_models_without_pairs_are_used_as_ever(tmp_path, given):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    config = Config.fromfile(SEGMENTOR)
    config.model.data_preprocessor = config.model.data_preprocessor.task
    load = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]
    config.test_pipeline, config.test_dataloader.dataset.pipeline = load, load
    config.dump(tmp_path / 'plain.py')
    weights = saved(str(tmp_path / 'plain.py'), tmp_path / 'w.pth', CLASSES)
    path = given['two files'][0][0]
    found = maps([inference_model(init_model(config.copy(), weights, device='cpu'), path)])[0]
    np.testing.assert_array_equal(MMSegInferencer(config, weights, device='cpu')(path)['predictions'], found)
    init_default_scope('mmseg')
    model = init_model(config.copy(), weights, device='cpu')
    image = torch.from_numpy(cv2.imread(path).transpose(2, 0, 1).copy())
    sample = inference_model(model, path).clone()
    with torch.no_grad():
        (again,) = model.test_step({'inputs': [image], 'data_samples': [sample]})
    np.testing.assert_array_equal(maps([again])[0], found)
