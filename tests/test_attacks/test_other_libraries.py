"""The same attack on a detector and a classifier: any OpenMMLab model whose loss is known."""

import pytest
import torch
from helpers import pair_batch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from paif_mm.attacks import PGD, TaskLoss
from paif_mm.attacks.frozen import fingerprint, frozen
from paif_mm.attacks.functional import complete
from paif_mm.attacks.objectives import Questions

EPS = 4 / 255


def fused(task: dict) -> dict:
    return {'type': 'paif_mm.FusionDataPreprocessor', 'fusion': {'type': 'FusionNet', 'channels': 4}, 'task': task}


@pytest.fixture
def detector():
    import mmdet.models  # noqa: F401

    init_default_scope('mmdet')
    torch.manual_seed(0)
    task = {'type': 'DetDataPreprocessor', 'mean': [120.0] * 3, 'std': [60.0] * 3, 'pad_size_divisor': 32}
    return MODELS.build(
        ConfigDict(
            {
                'type': 'FCOS',
                'data_preprocessor': fused(task),
                'backbone': {
                    'type': 'ResNet',
                    'depth': 18,
                    'base_channels': 8,
                    'num_stages': 4,
                    'out_indices': (1, 2, 3),
                },
                'neck': {'type': 'FPN', 'in_channels': [16, 32, 64], 'out_channels': 32, 'num_outs': 3},
                'bbox_head': {
                    'type': 'FCOSHead',
                    'num_classes': 3,
                    'in_channels': 32,
                    'feat_channels': 32,
                    'stacked_convs': 1,
                    'strides': [8, 16, 32],
                    'regress_ranges': ((-1, 64), (64, 128), (128, 10000)),
                },
                'test_cfg': {
                    'nms_pre': 100,
                    'score_thr': 0.05,
                    'nms': {'type': 'nms', 'iou_threshold': 0.5},
                    'max_per_img': 9,
                },
            }
        )
    )


def detection_batch(sizes):
    from mmdet.structures import DetDataSample

    batch = pair_batch(sizes)
    samples = []
    for height, width in sizes:
        sample = DetDataSample(
            gt_instances=InstanceData(bboxes=torch.tensor([[4.0, 4, 40, 30]]), labels=torch.tensor([1]))
        )
        sample.set_metainfo({'img_shape': (height, width), 'ori_shape': (height, width), 'scale_factor': (1, 1)})
        samples.append(sample)
    return {'inputs': batch['inputs'], 'data_samples': samples}


@pytest.mark.parametrize('training', [False, True])
def test_a_detector_is_attacked_through_its_own_losses(detector, training):
    """Images of different sizes, each with its own loss: mmdet pads the batch, the attack does not notice."""
    batch = detection_batch([(64, 96), (80, 64)])
    attack = PGD(eps=EPS, steps=3)
    before_state = fingerprint(detector)
    result = attack(detector, batch, training=training)
    before = attack.losses(detector, result.clean, result, batch, training=training)
    assert (result.losses > before).all()
    assert fingerprint(detector) == before_state
    alone = {key: value[1:] for key, value in batch.items()}
    single = attack.losses(detector, result.clean[1:], attack(detector, alone, training=training), alone, training)
    torch.testing.assert_close(single, before[1:])
    predictions = detector.eval().test_step({**batch, 'inputs': result.images})
    assert len(predictions) == 2


@pytest.mark.parametrize('training', [False, True])
def test_samples_of_a_detector_s_randomness_differ_and_stay_the_same_in_every_step(detector, training):
    batch = detection_batch([(64, 96)])
    image = batch['inputs'][0].float()
    detector.bbox_head.register_forward_pre_hook(
        lambda _, inputs: ([x + torch.randn_like(x) for x in inputs[0]], *inputs[1:])
    )

    def asked(samples: int) -> list[float]:
        questions = Questions(TaskLoss(), detector, batch['data_samples'], [image], training, samples)
        with frozen(detector), torch.no_grad():
            return [float(complete(questions([image], 0.0)).loss) for _ in range(2 * samples)]

    alone, several = asked(1), asked(3)
    assert alone[0] == alone[1] == several[0]
    assert several[:3] == several[3:] and len(set(several)) == 3


def test_a_classifier_is_attacked_on_its_stacked_batch():
    import mmpretrain.models  # noqa: F401
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    task = {'type': 'ClsDataPreprocessor', 'mean': [120.0] * 3, 'std': [60.0] * 3, 'num_classes': 4}
    model = MODELS.build(
        ConfigDict(
            {
                'type': 'ImageClassifier',
                'data_preprocessor': fused(task),
                'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'stem_channels': 8},
                'neck': {'type': 'GlobalAveragePooling'},
                'head': {'type': 'LinearClsHead', 'num_classes': 4, 'in_channels': 64},
            }
        )
    )
    inputs = torch.stack(pair_batch([(32, 32)] * 2)['inputs'])
    samples = [DataSample().set_gt_label(label) for label in (1, 3)]
    batch = {'inputs': inputs, 'data_samples': samples}
    attack = PGD(eps=EPS, steps=3)
    result = attack(model, batch)
    assert (result.losses > attack.losses(model, result.clean, result, batch)).all()
    assert max(float((a - c).abs().max()) for a, c in zip(result.images, result.clean, strict=True)) <= 4
