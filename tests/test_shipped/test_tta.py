"""Test-time augmentation of shipped configs, by the Runner of tools/test.py --tta, against known answers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPO
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmseg.structures import SegDataSample
from test_shipped.layouts import make_layouts
from test_shipped.shrink import SCALE, shrink
from torch import nn
from torchvision.ops import batched_nms

from paif_mm.engine.launch import apply_tta
from paif_mm.engine.runner import QuietRunner
from paif_mm.perception import find_fuser


@pytest.fixture(scope='module', autouse=True)
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp('workplace')
    make_layouts(folder / 'data')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv('PAIF_MM_DATA', raising=False)
        yield folder


class Predictions(Hook):
    """Keeps what a test predicts, and of which inputs."""

    priority = 'LOWEST'

    def before_test_epoch(self, runner):
        self.samples, self.inputs = [], []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.samples += outputs
        self.inputs.append(data_batch['inputs'])


def prepared(name: str, *, tta: bool) -> Config:
    """A shipped config, shrunk, that tests two images with random weights."""
    config = Config.fromfile(REPO / 'configs' / f'{name}.py')
    shrink(config)
    config.load_from = None
    config.work_dir, config.launcher = f'tta/{name}', 'none'
    config.test_dataloader.batch_size = 1
    config.test_dataloader.dataset.indices = 2
    if tta:
        apply_tta(config)
    return config


def run(config: Config, state: dict | None = None, equivariant: bool = False):
    """(metrics, predictions, model that was tested); ``state`` are its weights, else random ones."""
    runner = QuietRunner.from_cfg(config)
    model = getattr(runner.model, 'module', runner.model)
    if state is None:
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=1.5 / module.weight[0].numel() ** 0.5)
            if equivariant and isinstance(module, nn.Conv2d):
                module.weight.data = (module.weight + module.weight.flip(-1)).detach() / 2
        undecided(model)
    else:
        model.load_state_dict(state)
    kept = Predictions()
    runner.register_hook(kept)
    return runner.test(), kept, model


def undecided(model) -> None:
    """Let random weights give different answers in different places."""
    model = getattr(model, 'module', model)
    if hasattr(model, 'decode_head'):
        pair = cv2.imread(str(min(Path('data/synthetic/images').iterdir())), cv2.IMREAD_UNCHANGED)
        view = seen(pair if find_fuser(model) else pair[..., :3], 1.0, False)
        logits = predict(model.eval(), SegDataSample(), view).seg_logits.data
        model.decode_head.conv_seg.bias.data -= logits.mean((1, 2))
    elif hasattr(model, 'head'):
        model.head.fc.weight.data *= 0.03


# ------------------------------------------------------------------------------------------- views computed by hand


def load(sample, fused: bool) -> np.ndarray:
    """HxWx4 of a pair of one file or two, HxWx3 of an image."""
    image = cv2.imread(sample.img_path, cv2.IMREAD_UNCHANGED if fused else cv2.IMREAD_COLOR)
    if fused and image.shape[2] == 3:
        partner = sample.img_path.replace('/vi/', '/ir/').replace('/Vis/', '/Ir/')
        image = np.dstack([image, cv2.imread(partner, cv2.IMREAD_GRAYSCALE)])
    return image


def seen(image: np.ndarray, factor: float, flip: bool) -> torch.Tensor:
    """A view (C, h, w)."""
    height, width = image.shape[:2]
    size = int(width * factor + 0.5), int(height * factor + 0.5)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(image[:, ::-1] if flip else image)).permute(2, 0, 1)


def predict(model, sample, view: torch.Tensor, **meta):
    sample = sample.new()
    shape = tuple(view.shape[1:])
    sample.set_metainfo({'img_shape': shape, 'ori_shape': shape, 'flip': False, 'scale_factor': (1.0, 1.0), **meta})
    with torch.no_grad():
        return model.test_step({'inputs': [view], 'data_samples': [sample]})[0]


SEGMENTORS = {
    'paif/segformer_general_mfnet': 1,
    'quickstart/segformer_hds_synthetic': 1,
    'msrs_half/segformer_sat_msrs': 1,
    'families/segformer_convnext_mfnet': 1,
    'study/resnet18_general_msrs': 0.5,
    'study/resnet18_average_general_msrs': 0.5,
    'study/resnet18_visible_msrs': 0.5,
    'dropin/segformer_mit-b0_mfnet': 1,
}


@pytest.mark.parametrize('name', SEGMENTORS)
def test_a_segmentor_averages_the_softmax_of_its_views(name):
    first = SEGMENTORS[name]
    config = prepared(name, tta=True)
    resize = [step for step in config.tta_pipeline if step['type'] == 'Resize']
    for step in resize:
        step.scale = tuple(int(side * first) for side in SCALE)
    assert bool(resize) == (first != 1)
    metrics, kept, model = run(config)
    assert np.isfinite(metrics['mIoU'])
    fused = find_fuser(model) is not None
    assert fused == (name != 'study/resnet18_visible_msrs')
    for sample, views in zip(kept.samples, kept.inputs, strict=True):
        image = load(sample, fused)
        height, width = image.shape[:2]
        if first != 1:
            image = cv2.resize(image, (int(width * first), int(height * first)), interpolation=cv2.INTER_LINEAR)
        total, count = 0, 0
        for factor in (1.0, 0.75, 1.25):
            for flip in (False, True):
                view = seen(image, factor, flip)
                assert any(torch.equal(view, other[0]) for other in views), 'what the network was shown'
                logits = predict(model, sample, view).seg_logits.data[None]
                logits = logits.flip(-1) if flip else logits
                logits = F.interpolate(logits, (height, width), mode='bilinear', align_corners=model.align_corners)
                total, count = total + logits[0].softmax(0), count + 1
        assert count == len(views) == 6
        differing = (total.argmax(0) != sample.pred_sem_seg.data[0]).float().mean()
        assert differing < 1e-3
        assert len(sample.pred_sem_seg.data.unique()) > 1, 'no constant answer, which any average would give'
        truth = cv2.imread(sample.seg_map_path, cv2.IMREAD_UNCHANGED)
        assert np.array_equal(sample.gt_sem_seg.data[0].numpy(), truth)


@pytest.mark.parametrize('name', ['paif/fcos_general_m3fd', 'msrs_half/fcos_general_msrs', 'families/retinanet_m3fd'])
def test_a_detector_joins_the_boxes_of_a_pair_and_of_its_mirror_image(name):
    config = prepared(name, tta=True)
    config.model.module.test_cfg.score_thr = 0.0
    metrics, kept, model = run(config)
    assert metrics
    for sample, views in zip(kept.samples, kept.inputs, strict=True):
        assert len(views) == 2
        image = load(sample, True)
        width = image.shape[1]
        found = []
        for flip in (False, True):
            view = seen(image, 1.0, flip)
            assert torch.equal(view, views[flip][0])
            instances = predict(model, sample, view).pred_instances
            boxes = instances.bboxes.clone()
            if flip:
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            found.append((boxes, instances.scores, instances.labels))
        boxes, scores, labels = (torch.cat(part) for part in zip(*found, strict=True))
        keep = batched_nms(boxes, scores, labels, 0.5)[:100]
        torch.testing.assert_close(sample.pred_instances.bboxes, boxes[keep], rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(sample.pred_instances.scores, scores[keep])
        assert len(keep) > 1


def test_a_classifier_averages_the_scores_of_a_pair_and_of_its_mirror_image():
    metrics, kept, model = run(prepared('families/resnet18_pairs', tta=True))
    assert 0 <= metrics['accuracy/top1'] <= 100
    for sample, (plain, mirrored) in zip(kept.samples, kept.inputs, strict=True):
        assert torch.equal(mirrored[0], plain[0].flip(-1))
        scores = [predict(model, sample, view[0]).pred_score for view in (plain, mirrored)]
        assert (scores[0] - scores[1]).abs().max() > 1e-4
        torch.testing.assert_close(sample.pred_score, (scores[0] + scores[1]) / 2)
        assert sample.gt_label == {'day': 0, 'night': 1}[Path(sample.img_path).parent.name]


# -------------------------------------------------------------------------------------------- a model that cannot tell


@MODELS.register_module()
class EvenConvolution(nn.Module):
    """A backbone of one convolution, which a mirror image leaves alike once its kernel is even."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return (self.layer(x).relu(),)


def test_flipping_changes_nothing_for_an_equivariant_model():
    found = {}
    for tta in (False, True):
        config = prepared('quickstart/segformer_general_synthetic', tta=tta)
        model = config.model['module'] if tta else config.model
        model.backbone = {'type': 'EvenConvolution'}
        head = {'type': 'FCNHead', 'in_channels': 8, 'channels': 8, 'num_convs': 1, 'concat_input': False}
        model.decode_head = {**head, 'num_classes': 9, 'in_index': 0, 'dropout_ratio': 0.0, 'align_corners': False}
        if tta:
            config.tta_pipeline[-1]['transforms'][0] = [{'type': 'Resize', 'scale_factor': 1.0, 'keep_ratio': True}]
        found[tta] = run(config, equivariant=True)
    (plain, kept, _), (augmented, both, _) = found[False], found[True]
    assert [len(views) for views in both.inputs] == [2, 2]
    for a, b in zip(kept.samples, both.samples, strict=True):
        labels = [sample.pred_sem_seg.data for sample in (a, b)]
        assert len(labels[0].unique()) > 1
        assert (labels[0] != labels[1]).float().mean() < 1e-3
    assert augmented['mIoU'] == pytest.approx(plain['mIoU'], abs=0.1)


# ------------------------------------------------------------------------------------ a stock preprocessor in the way


def as_mmseg_does(config: Config) -> Config:
    """The lines of mmseg's tools/test.py --tta."""
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.tta_model.module = config.model
    config.model = config.tta_model
    return config


def stock_preprocessor() -> dict:
    base = Config.fromfile(REPO / 'configs/dropin/segformer_mit-b0_mfnet.py').model.data_preprocessor.task
    return {key: value for key, value in base.items() if key != 'size'}


def test_the_drop_in_config_is_tested_fused_by_either_tool():
    ours, kept, model = run(prepared('dropin/segformer_mit-b0_mfnet', tta=True))
    theirs, other, _ = run(as_mmseg_does(prepared('dropin/segformer_mit-b0_mfnet', tta=False)), model.state_dict())
    assert find_fuser(model) is not None
    assert ours == theirs
    for a, b in zip(kept.samples, other.samples, strict=True):
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)


def test_a_stock_preprocessor_at_the_top_of_a_config_gives_way_to_the_models_own():
    usual, _, model = run(prepared('dropin/segformer_mit-b0_mfnet', tta=True))
    config = prepared('dropin/segformer_mit-b0_mfnet', tta=False)
    config.data_preprocessor = stock_preprocessor()
    apply_tta(config)
    metrics, _, other = run(config, model.state_dict())
    assert find_fuser(other) is not None
    assert metrics == usual


def test_other_tools_refuse_to_test_a_model_that_lost_its_fusion_network():
    config = prepared('dropin/segformer_mit-b0_mfnet', tta=False)
    config.data_preprocessor = stock_preprocessor()
    with pytest.raises(TypeError, match='fuses nothing, though it is trained with a fusion loss: .*data_preprocessor'):
        run(as_mmseg_does(config))
