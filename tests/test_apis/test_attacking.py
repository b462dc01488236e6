"""Own pairs under attack: within the radius, away from what the model said, and told in numbers."""

import cv2
import numpy as np
import pytest
from conftest import REPO
from mmengine.config import Config
from test_apis.test_inferencer import saved
from test_tools.commands import legend_width

from paif_mm.apis import PairInferencer, attack_pairs
from paif_mm.apis.attack_command import attack
from paif_mm.apis.attacking import effect_of, with_radius

SEGMENTOR = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
DETECTOR = str(REPO / 'configs' / 'quickstart' / 'fcos_general_synthetic.py')
PGD = {'type': 'PGD', 'eps': 8 / 255, 'steps': 10}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return saved(SEGMENTOR, tmp_path_factory.mktemp('weights') / 'w.pth')


@pytest.fixture(scope='module')
def scene(synthetic_root) -> str:
    return str(sorted((synthetic_root / 'images').iterdir())[0])


def test_the_pair_stays_in_the_ball_and_the_prediction_leaves(weights, scene):
    inferencer = PairInferencer(SEGMENTOR, weights, 'cpu', show_progress=False)
    (made,) = attack_pairs(inferencer, scene, PGD)
    clean = cv2.imread(scene, cv2.IMREAD_UNCHANGED)
    delta = np.abs(made.pair.astype(int) - clean)
    assert made.pair.dtype == np.uint8 and delta.max() == 8
    assert made.audit.max_delta == {'vis': delta[..., :3].max(), 'ir': delta[..., 3].max()}
    assert made.audit.loss_after > made.audit.loss_before
    before, after = inferencer([clean, made.pair])['predictions']  # what the files hold, to the model itself
    np.testing.assert_array_equal(before, made.before.pred_sem_seg.data[0].numpy())
    np.testing.assert_array_equal(after, made.after.pred_sem_seg.data[0].numpy())
    changed = (before != after).mean()
    assert changed > 0.02
    assert f'{changed:.1%} of the pixels' in made.effect
    height, width = clean.shape[:2]
    # clean: infrared, visible, fused, prediction; attacked: these and the changes of both; and one legend
    assert made.strip.shape == (height + 18, 10 * width + legend_width(height, inferencer.model.dataset_meta), 3)
    (again,) = attack_pairs(inferencer, scene, PGD)
    np.testing.assert_array_equal(again.pair, made.pair)


def test_one_modality_alone_is_attacked(weights, scene):
    inferencer = PairInferencer(SEGMENTOR, weights, 'cpu', show_progress=False)
    (made,) = attack_pairs(inferencer, scene, with_radius(PGD, 4 / 255, 'ir'))
    delta = np.abs(made.pair.astype(int) - cv2.imread(scene, cv2.IMREAD_UNCHANGED))
    assert delta[..., :3].max() == 0 and delta[..., 3].max() == 4


def test_steps_grow_with_another_radius():
    fgsm = {'type': 'PGD', 'eps': '4/255', 'step_size': 4 / 255, 'steps': 1}
    assert with_radius(fgsm, 8 / 255) == {**fgsm, 'eps': 8 / 255, 'step_size': pytest.approx(8 / 255)}
    one = with_radius({**fgsm, 'eps': {'ir': 4 / 255, 'vis': 0}, 'step_size': 1 / 255}, 2 / 255, 'vis')
    assert one['eps'] == {'vis': 2 / 255, 'ir': 0}
    assert one['step_size'] == {'vis': pytest.approx(0.5 / 255), 'ir': 0}
    assert with_radius({'type': 'APGD', 'eps': 0.1}, 0.2, 'ir') == {'type': 'APGD', 'eps': {'vis': 0, 'ir': 0.2}}
    with pytest.raises(ValueError, match='the attack ALMAProx has no radius eps'):
        with_radius({'type': 'ALMAProx'}, 0.1)


def test_a_detector_loses_objects(tmp_path, scene):
    config = Config.fromfile(DETECTOR)
    config.model.bbox_head.test_cfg = config.model.test_cfg = {**config.model.test_cfg, 'score_thr': 0.0}
    config.dump(tmp_path / 'config.py')
    names = tuple(f'class {i}' for i in range(config.model.bbox_head.num_classes))
    weights = saved(DETECTOR, tmp_path / 'w.pth', names)
    inferencer = PairInferencer(str(tmp_path / 'config.py'), weights, 'cpu', show_progress=False)
    inferencer.model.bbox_head.conv_cls.bias.data.fill_(1.5)  # some scores above .3
    (made,) = attack_pairs(inferencer, scene, PGD)
    believed = int((made.before.pred_instances.scores >= 0.3).sum())
    assert believed > 0
    assert made.effect.startswith(f'of {believed} objects: ')
    assert made.audit.loss_after > made.audit.loss_before


def test_effects_of_known_predictions():
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData, PixelData
    from mmpretrain.structures import DataSample
    from mmseg.structures import SegDataSample
    from torch import tensor

    maps = (tensor([[[0, 0, 1, 1]]]), tensor([[[0, 0, 0, 1]]]))
    before, after = (SegDataSample(pred_sem_seg=PixelData(data=data)) for data in maps)
    told = effect_of(before, after, ('road', 'car'))
    assert told == '25.0% of the pixels get another class\n  car: 50.0% of 2 lost, mostly to road'
    boxes = tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]])
    found = InstanceData(bboxes=boxes, labels=tensor([0, 1, 1]), scores=tensor([0.9, 0.8, 0.1]))
    less = InstanceData(
        bboxes=boxes + 100 * tensor([[0], [1], [0]]), labels=tensor([0, 1, 1]), scores=tensor([0.9] * 3)
    )
    told = effect_of(DetDataSample(pred_instances=found), DetDataSample(pred_instances=less), ('a', 'b'))
    assert told == 'of 2 objects: 1 found, 0 misclassified, 0 mislocated, 1 vanished, 2 hallucinated'
    before, after = (
        DataSample().set_pred_score(tensor(s)).set_pred_label(i) for i, s in ((0, [0.9, 0.1]), (1, [0.2, 0.8]))
    )
    assert effect_of(before, after, ('day', 'night')) == 'day (90%) -> night (80%)'


def test_the_command_writes_the_pair_and_a_strip(weights, synthetic_root, tmp_path, capsys):
    given = [SEGMENTOR, weights, '--visible', str(synthetic_root / 'images'), '--out', str(tmp_path), '--device', 'cpu']
    assert attack([*given, '--attack', 'fgsm_eps4']) == 0
    told = capsys.readouterr().out
    names = [path.stem for path in (synthetic_root / 'images').iterdir()]
    assert {path.stem for path in (tmp_path / 'strip').iterdir()} == {*names}
    assert len(list(tmp_path.glob('*.png'))) == len(names)
    for name in names:
        clean = cv2.imread(str(synthetic_root / 'images' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        made = cv2.imread(str(tmp_path / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        assert np.abs(made.astype(int) - clean).max() == 4
        assert f'{name}: ' in told
    assert told.count('max |delta| ir 4.000/255, vis 4.000/255') == len(names)
    with pytest.raises(SystemExit, match='--modality needs --eps'):
        attack([*given, '--modality', 'ir'])
    with pytest.raises(SystemExit, match='pgd5_eps4'):
        attack([*given, '--attack', 'pgd5_eps5'])
