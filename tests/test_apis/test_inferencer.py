"""Predictions on pairs without labels, as the test tool makes them with labels."""

import json
import time

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO
from helpers import build_model
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools.mask import decode

from paif_mm.apis import PairInferencer
from paif_mm.apis.attack_command import attack
from paif_mm.apis.command import fuse, predict
from paif_mm.apis.inferencer import Prediction
from paif_mm.apis.pictures import picture_of
from paif_mm.apis.results import ResultFiles, plain_result
from paif_mm.engine.strips import draw_legend

CONFIG = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
CLASSES = ('unlabeled', 'car', 'person', 'bike', 'curve', 'car_stop', 'guardrail', 'color_cone', 'bump')


def saved(config: str, path, classes=CLASSES) -> str:
    """A checkpoint of an untrained model."""
    meta = {'dataset_meta': {'classes': classes, 'palette': [[20 * i, 255 - 20 * i, 0] for i in range(len(classes))]}}
    torch.save({'state_dict': build_model(Config.fromfile(config).model).state_dict(), 'meta': meta}, path)
    return str(path)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return saved(CONFIG, tmp_path_factory.mktemp('weights') / 'w.pth')


@pytest.fixture(scope='module')
def inferencer(weights):
    return PairInferencer(CONFIG, weights, 'cpu', show_progress=False)


@pytest.fixture
def pairs(tmp_path):
    """Folders of four pairs, the third of another size."""
    rng = np.random.default_rng(0)
    for index, size in enumerate(((32, 48), (32, 48), (40, 32), (32, 48))):
        for name, shape in (('rgb', (*size, 3)), ('ir', size)):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f'{index}.png'), rng.integers(0, 256, shape, np.uint8))
    return tmp_path / 'rgb', tmp_path / 'ir'


def images(pairs) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (cv2.imread(str(pairs[0] / f'{i}.png')), cv2.imread(str(pairs[1] / f'{i}.png'), cv2.IMREAD_UNCHANGED))
        for i in range(4)
    ]


def test_predictions_are_those_of_the_model_itself(inferencer, pairs):
    found = inferencer(pairs, batch_size=3)
    assert [labels.shape for labels in found['predictions']] == [(32, 48), (32, 48), (40, 32), (32, 48)]
    for (visible, infrared), labels, fused in zip(images(pairs), found['predictions'], found['fused'], strict=True):
        pair = torch.from_numpy(np.dstack([visible, infrared]).transpose(2, 0, 1).copy())
        sample = inferencer(np.dstack([visible, infrared]), return_datasamples=True)['predictions'][0]
        data = {'inputs': [pair], 'data_samples': [sample.clone()]}
        with torch.no_grad():
            (expected,) = inferencer.model.test_step(data)
            group = inferencer.model.data_preprocessor.groups[0]
        np.testing.assert_array_equal(labels, expected.pred_sem_seg.data[0].numpy())
        np.testing.assert_allclose(fused, 255 * group.fused[0].permute(1, 2, 0).numpy(), atol=0.51)


def test_all_ways_to_give_pairs_say_the_same(inferencer, pairs):
    expected = inferencer(pairs)['predictions']
    arrays = images(pairs)
    for inputs in (
        arrays,
        iter(arrays),
        [np.dstack(pair) for pair in arrays],
        [{'visible': a, 'infrared': b} for a, b in arrays],
    ):
        for found, wanted in zip(inferencer(inputs)['predictions'], expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_files_are_written_as_they_come(inferencer, pairs, tmp_path):
    out = tmp_path / 'out'
    seen = []
    for prediction in inferencer.stream(pairs, out_dir=str(out)):
        seen.append(prediction.name)
        written = cv2.imread(str(out / 'pred' / f'{prediction.name}.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, prediction.sample.pred_sem_seg.data[0].numpy())
        np.testing.assert_array_equal(cv2.imread(str(out / 'fused' / f'{prediction.name}.png')), prediction.fused)
        assert prediction.picture.shape[0] == prediction.fused.shape[0]
        assert prediction.picture.shape[1] > prediction.fused.shape[1]  # the legend
    assert seen == ['0', '1', '2', '3']
    assert len(list((out / 'vis').iterdir())) == 4


def test_what_can_not_be_read_is_left_out_and_named(inferencer, pairs):
    (pairs[1] / '1.png').write_bytes(b'damaged')
    (pairs[1] / '3.png').unlink()
    found = inferencer(pairs, batch_size=2)
    assert len(found['predictions']) == 2
    assert found['names'] == ['0', '2']
    assert [line.split()[0] for line in inferencer.failures] == [str(pairs[0] / '3.png'), str(pairs[1] / '1.png')]
    several = [tuple(folder / f'{name}.png' for folder in pairs) for name in (0, 7, 2)]
    assert len(inferencer(several)['predictions']) == 2
    assert 'does not exist' in inferencer.failures[0] and '7.png' in inferencer.failures[0]
    with pytest.raises(ValueError, match='1.png cannot be read'):
        inferencer((pairs[0] / '1.png', pairs[1] / '1.png'))


def test_radiometric_infrared_needs_a_range_that_may_be_estimated(inferencer, pairs):
    visible, infrared = images(pairs)[0]
    deep = (infrared.astype(np.uint16) * 40 + 7000).astype(np.uint16)
    with pytest.raises(ValueError, match='declare the infrared values'):
        inferencer((visible, deep))
    declared = inferencer((visible, deep), ir_range=(7000, 7000 + 40 * 255))
    np.testing.assert_allclose(declared['fused'][0], inferencer((visible, infrared))['fused'][0], atol=1)
    low, high = np.percentile(deep, (0.5, 99.5))
    found, expected = (inferencer((visible, deep), ir_range=r)['fused'][0] for r in ('auto', (low, high)))
    np.testing.assert_array_equal(found, expected)


def test_sizes_that_differ_are_aligned_when_asked(inferencer, pairs):
    visible, infrared = images(pairs)[0]
    with pytest.raises(ValueError, match='align="resize"'):
        inferencer((visible, infrared[::2, ::2]))
    assert inferencer((visible, infrared[::2, ::2]), align='resize')['predictions'][0].shape == (32, 48)


@pytest.mark.parametrize('align', ['resize', 'ecc-each', np.eye(3)])
def test_checkerboards_show_what_was_aligned(inferencer, pairs, tmp_path, align, monkeypatch):
    monkeypatch.setattr('paif_mm.apis.registration.find_affine', lambda *_: (np.eye(3), 0.9))
    of_one_size = [(pairs[0] / f'{i}.png', pairs[1] / f'{i}.png') for i in (0, 1)]
    inferencer(of_one_size, align=align, out_dir=str(tmp_path / 'out'))
    boards = {path.stem: path for path in (tmp_path / 'out' / 'aligned').iterdir()}
    assert set(boards) == ({'0', '1'} if np.array_equal(align, 'ecc-each') else {'0'})
    visible, infrared = images(pairs)[0]
    shown = cv2.imread(str(boards['0'])).astype(float)
    assert np.abs(shown[:6, :6] - visible[:6, :6]).mean() < 60 < np.abs(shown[:6, :6] - infrared[:6, :6, None]).mean()
    inferencer(of_one_size, out_dir=str(tmp_path / 'plain'))
    assert not (tmp_path / 'plain' / 'aligned').exists()


def test_reading_the_model_and_writing_overlap(inferencer, pairs, tmp_path, monkeypatch):
    """Three sleeps a pair, which take as long as the longest of them where they overlap, and thrice that where not."""

    def slow(function):
        return lambda *args: time.sleep(0.1) or function(*args)

    monkeypatch.setattr(inferencer, 'pipeline', slow(inferencer.pipeline))
    monkeypatch.setattr(inferencer.model, 'test_step', slow(inferencer.model.test_step))
    monkeypatch.setattr(ResultFiles, 'add', slow(ResultFiles.add))
    several = [tuple(folder / '0.png' for folder in pairs)] * 10
    inferencer(several[:1])
    start = time.perf_counter()
    assert len(inferencer(several, out_dir=str(tmp_path / 'out'))['predictions']) == 10
    assert 1.2 < time.perf_counter() - start < 2.4


def test_what_can_not_be_written_ends_the_call(inferencer, pairs, tmp_path):
    (tmp_path / 'out' / 'pred' / '1.png').mkdir(parents=True)
    with pytest.raises(OSError, match='1.png can not be written'):
        inferencer(pairs, out_dir=str(tmp_path / 'out'))
    assert inferencer(pairs)['predictions'][0].shape == (32, 48)


@pytest.mark.parametrize('height', [16, 32, 96, 480])
def test_legends_hold_every_name_without_overlap(height):
    colours = [[20 * i + 1, 255 - 20 * i, 0] for i in range(len(CLASSES))]
    legend = draw_legend(CLASSES, colours, height)
    assert len(legend) == height
    rows = max(1, min(len(CLASSES), height // 12))
    for index, colour in enumerate(colours):
        ys, xs = np.nonzero((legend == colour[::-1]).all(-1))
        assert len(ys) and ys.max() - ys.min() + 1 >= 8  # a patch that is seen, with room for its text beside it
        assert xs.max() - xs.min() == 11
        same = [other for other in range(len(CLASSES)) if other // rows == index // rows]
        assert len(same) * (ys.max() - ys.min() + 1) <= height


def test_a_video_gives_videos(inferencer, tmp_path):
    for name in ('rgb', 'ir'):
        video = cv2.VideoWriter(str(tmp_path / f'{name}.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (48, 32))
        for level in (0, 100, 200):
            video.write(np.full((32, 48, 3), level, np.uint8))
        video.release()
    out = tmp_path / 'out'
    inferencer((tmp_path / 'rgb.avi', tmp_path / 'ir.avi'), out_dir=str(out))
    made = cv2.VideoCapture(str(out / 'fused.mp4'))
    assert made.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert made.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert len(list((out / 'pred').iterdir())) == 3 and (out / 'vis.mp4').is_file()


def test_a_detector_writes_coco_s_results(tmp_path, pairs):
    config = str(REPO / 'configs' / 'quickstart' / 'fcos_general_synthetic.py')
    names = tuple(f'class {i}' for i in range(Config.fromfile(config).model.bbox_head.num_classes))
    inferencer = PairInferencer(config, saved(config, tmp_path / 'd.pth', names), 'cpu', show_progress=False)
    assert inferencer(pairs, out_dir=str(tmp_path / 'none'))['predictions'][0]['labels'] == []  # it is not trained
    assert json.loads((tmp_path / 'none' / 'pred' / 'results.json').read_text()) == []
    inferencer.model.bbox_head.test_cfg.score_thr = 0
    found = inferencer(pairs, out_dir=str(tmp_path / 'out'), return_vis=True)
    entries = json.loads((tmp_path / 'out' / 'pred' / 'results.json').read_text())
    assert len(entries) == sum(len(one['scores']) for one in found['predictions']) > 0
    first = found['predictions'][0]
    left, top, right, bottom = first['bboxes'][0]
    assert entries[0]['bbox'] == pytest.approx([left, top, right - left, bottom - top], abs=0.01)
    assert entries[0]['category'] == names[first['labels'][0]]
    assert {entry['file_name'] for entry in entries} <= {'0', '1', '2', '3'}
    assert found['visualization'][0].shape == (32, 48, 3)


def test_masks_of_instances_are_drawn_and_written_as_run_lengths(tmp_path):
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:5] = masks[1, 5, 6] = True
    found = InstanceData(
        bboxes=torch.tensor([[2.0, 1, 5, 4], [6, 5, 7, 6]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([1, 0]),
        masks=masks,
    )
    sample, meta = (
        DetDataSample(pred_instances=found),
        {'classes': ('car', 'person'), 'palette': [[9] * 3, [0, 0, 200]]},
    )
    fused = np.full((6, 8, 3), 100, np.uint8)
    picture = picture_of(fused, sample, meta)
    assert (picture[2, 3] == [150, 50, 50]).all() and (picture[0, 7] == 100).all() and (fused == 100).all()
    with ResultFiles(str(tmp_path), meta) as files:
        files.add(Prediction('a', sample, fused, picture))
    written = json.loads((tmp_path / 'pred' / 'results.json').read_text())
    assert [one['category'] for one in written] == ['person', 'car']
    for entry, mask in zip(written, masks.numpy(), strict=True):
        np.testing.assert_array_equal(decode(entry['segmentation']), mask)
    assert plain_result(sample, meta['classes'])['masks'] == [one['segmentation'] for one in written]


def test_the_command_says_what_it_left_out(weights, pairs, tmp_path, capsys):
    args = [CONFIG, weights, '--visible', str(pairs[0]), '--infrared', str(pairs[1]), '--out', str(tmp_path / 'out')]
    assert predict(args) == 0
    assert '4 pairs' in capsys.readouterr().out
    (pairs[1] / '2.png').unlink()
    assert predict([*args, '--batch-size', '2']) == 1
    told = capsys.readouterr()
    assert '3 pairs' in told.out and 'has no partner' in told.err
    with pytest.raises(SystemExit, match='give two numbers, or auto'):
        predict([*args, '--ir-range', '5'])


def test_models_that_fuse_nothing_are_refused(tmp_path):
    config = Config.fromfile(CONFIG)
    config.model.data_preprocessor = config.model.data_preprocessor.task
    path = tmp_path / 'plain.py'
    config.dump(path)
    with pytest.raises(TypeError, match='PairInferencer'):
        PairInferencer(str(path), saved(str(path), tmp_path / 'p.pth'), 'cpu')


SMALL = [np.full((2, 3, 3), 9, np.uint8), np.full((2, 3), 9, np.uint8)]


@pytest.mark.parametrize('batch_size', [1, 3])
def test_pairs_that_the_model_can_not_take_are_left_out_by_name(inferencer, pairs, tmp_path, batch_size):
    for folder, image in zip(pairs, SMALL, strict=True):
        cv2.imwrite(str(folder / '1.png'), image)
    found = inferencer(pairs, batch_size=batch_size, out_dir=str(tmp_path / 'out'))
    assert found['names'] == ['0', '2', '3'] and len(found['predictions']) == len(found['fused']) == 3
    (line,) = inferencer.failures
    assert line.startswith('1, 2x3 (height x width), can not be passed through the model: RuntimeError: ')
    assert '\n' not in line
    assert not (tmp_path / 'out' / 'pred' / '1.png').exists()
    with pytest.raises(ValueError, match='^000000, 2x3 .*can not be passed'):
        inferencer(tuple(SMALL))


def test_of_a_batch_that_fails_the_bad_pair_alone_is_left_out(inferencer, pairs, monkeypatch):
    expected, step = inferencer(pairs), inferencer.model.test_step

    def picky(data):
        if any('/3.png' in sample.img_path for sample in data['data_samples']):
            raise RuntimeError('no room')
        return step(data)

    monkeypatch.setattr(inferencer.model, 'test_step', picky)
    several = [tuple(folder / f'{name}.png' for folder in pairs) for name in (0, 3, 1)]
    found = inferencer(several, batch_size=3)
    assert found['names'] == ['0', '1']
    assert inferencer.failures == [
        '3, 32x48 (height x width), can not be passed through the model: RuntimeError: no room'
    ]
    for labels, place in zip(found['predictions'], (0, 1), strict=True):
        np.testing.assert_array_equal(labels, expected['predictions'][place])


def test_the_command_names_what_it_left_out_once(weights, pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('paif_mm.data.listing.print_log', lambda line, **_: print(line))
    for folder, image in zip(pairs, SMALL, strict=True):
        cv2.imwrite(str(folder / '1.png'), image)
    (pairs[0] / 'e.webp').write_bytes(b'')
    args = [CONFIG, weights, '--visible', str(pairs[0]), '--infrared', str(pairs[1]), '--device', 'cpu', '--out']
    for run in (predict, attack):
        assert run([*args, str(tmp_path / run.__name__)]) == 1
        told = ''.join(capsys.readouterr())
        assert told.count('1, 2x3') == 1 and told.count('1 entry (e.webp) not read') == 1
        assert len(list((tmp_path / run.__name__).rglob('*.png'))) == 6
    assert fuse([*args, str(tmp_path / 'fused')]) == 1
    assert ''.join(capsys.readouterr()).count('e.webp') == 1


def test_videos_of_two_sizes_are_refused_at_the_first_frame(inferencer, tmp_path):
    for name, size in (('rgb', (48, 32)), ('ir', (24, 16))):
        video = cv2.VideoWriter(str(tmp_path / f'{name}.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, size)
        for _ in range(3):
            video.write(np.zeros((*size[::-1], 3), np.uint8))
        video.release()
    both = tmp_path / 'rgb.avi', tmp_path / 'ir.avi'
    with pytest.raises(ValueError, match='^the first frame: the visible image is 32x48, the infrared one 16x24'):
        inferencer(both, out_dir=str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
    assert inferencer(both, align='resize')['names'] == ['000000', '000001', '000002']


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--device', 'foo'], "device 'foo' can not be used"),
        pytest.param(
            ['--device', 'cuda:0'],
            "device 'cuda:0' can not be used",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU'),
        ),
        (['--score', 'nan'], "'nan' is no finite number"),
        (['--score', '1.5'], 'must be from 0 to 1, not 1.5'),
        (['--batch-size', '0'], 'must be at least 1'),
        (['--show'], 'can not be shown without a display'),
        (['--onnx', 'm.onnx'], 'leave out the checkpoint'),
        (['--visible', '²'], '² does not exist'),
    ],
)
def test_settings_that_can_not_be_are_refused_in_a_line(weights, pairs, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    paths = ['--visible', str(pairs[0]), '--infrared', str(pairs[1]), '--out', str(tmp_path / 'out')]
    with pytest.raises(SystemExit) as ended:
        predict([CONFIG, weights, *paths, *words])
    line = capsys.readouterr().err.splitlines()[-1] if ended.value.code == 2 else str(ended.value)
    assert told in line and '\n' not in line


def test_batches_hold_a_pair(inferencer, pairs):
    for size in (0, -1):
        with pytest.raises(ValueError, match=f'batch_size must be at least 1, not {size}'):
            inferencer(pairs, batch_size=size)
