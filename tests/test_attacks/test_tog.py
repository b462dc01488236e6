"""TOG on detectors: the losses that it follows are those of the annotations wished for, and objects obey."""

import pytest
import torch
from helpers import box_batch, build_model, pair_batch, tiny_fcos, tiny_segformer
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from paif_mm.attacks import PGD, TOG, frozen
from paif_mm.attacks.objectives import own_losses
from paif_mm.attacks.tog import made_up_boxes
from paif_mm.evaluation.outcomes import ObjectOutcomeMetric, changes

COLOURS = torch.tensor([[90.0, 100, 110, 80], [60, 70, 200, 120], [200, 80, 70, 90], [70, 200, 80, 200]])  # B,G,R,IR


@pytest.fixture(scope='module')
def model():
    return build_model(tiny_fcos()).eval()


def ask(model, objective, batch):
    images = [image.float() for image in batch['inputs']]
    with frozen(model), torch.no_grad():
        return objective(model, images, batch['data_samples'], images, False)


def loss_with(model, batch, boxes, labels):
    """The detector's own loss of each image, on other annotations."""
    found = []
    for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
        other = sample.clone()
        other.gt_instances = InstanceData(bboxes=boxes(sample), labels=labels(sample))
        with frozen(model), torch.no_grad():
            found.append(model.parse_losses(own_losses(model, image.float(), other, False))[0])
    return torch.stack(found)


def test_vanishing_follows_the_loss_without_objects(model):
    batch = box_batch()
    nothing = loss_with(model, batch, lambda s: torch.zeros(0, 4), lambda s: torch.zeros(0, dtype=torch.long))
    torch.testing.assert_close(ask(model, TOG('vanishing'), batch), -nothing)
    assert len(batch['data_samples'][0].gt_instances) == 2, 'the sample itself stays as it is'


@pytest.mark.parametrize(('target', 'expected'), [(None, [1, 0]), (1, [1, 1]), (2, [2, 0]), ('c', [2, 0])])
def test_mislabelling_follows_the_loss_of_other_classes(model, target, expected):
    """The annotations are of the classes 0 and 2 of three."""
    batch = box_batch()
    model.dataset_meta = {'classes': ('a', 'b', 'c')}
    other = loss_with(model, batch, lambda s: s.gt_instances.bboxes, lambda s: torch.tensor(expected))
    torch.testing.assert_close(ask(model, TOG('mislabelling', target), batch), -other)


def test_fabrication_follows_the_loss_with_objects_where_none_is(model):
    batch = box_batch()
    for sample in batch['data_samples']:
        sample.gt_instances = sample.gt_instances[:1]
    cells = made_up_boxes(32, 40)
    assert len(free_cells(cells)) == 8, 'the two columns on the right'
    assert cells.shape == (16, 4)
    assert cells[5].tolist() == [10, 8, 20, 16]
    sample = TOG('fabrication')._wanted(model, batch['data_samples'][0], False)
    assert len(sample.gt_instances) == 1 + len(free_cells(cells))
    assert sample.gt_instances.labels[1:].tolist() == [i % 3 for i in range(len(free_cells(cells)))]
    wished = loss_with(
        model,
        batch,
        lambda s: torch.cat([s.gt_instances.bboxes, free_cells(cells)]),
        lambda s: torch.cat([s.gt_instances.labels, torch.arange(len(free_cells(cells))) % 3]),
    )
    torch.testing.assert_close(ask(model, TOG('fabrication'), batch), -wished)


def free_cells(cells):
    """By hand: cells without a common point with the first box of :func:`box_batch`, [2, 3, 20, 25]."""
    return torch.stack([cell for cell in cells if cell[0] >= 20 or cell[2] <= 2 or cell[1] >= 25 or cell[3] <= 3])


@pytest.mark.parametrize('aim', ['vanishing', 'fabrication', 'mislabelling'])
def test_attacks_come_nearer_to_the_wish(model, aim):
    batch = box_batch()
    attack = PGD(16 / 255, 4 / 255, 5, objective={'type': 'TOG', 'aim': aim})
    found = attack(model, batch, rng=[torch.Generator().manual_seed(i) for i in range(2)])
    attacked = {'inputs': found.images, 'data_samples': batch['data_samples']}
    assert (ask(model, TOG(aim), attacked) > ask(model, TOG(aim), batch)).all()


def test_mistakes_are_told(model):
    with pytest.raises(ValueError, match="TOG has no aim 'vanish': did you mean vanishing"):
        TOG('vanish')
    with pytest.raises(ValueError, match='a target is for mislabelling, not for vanishing'):
        TOG('vanishing', 1)
    with pytest.raises(ValueError, match='there is no class 7'):
        ask(model, TOG('mislabelling', 7), box_batch())
    with pytest.raises(TypeError, match='TOG attacks detectors of boxes, not EncoderDecoder'):
        ask(build_model(tiny_segformer()).eval(), TOG('vanishing'), pair_batch())
    single = build_model(tiny_fcos(classes=1)).eval()
    batch = box_batch()
    for sample in batch['data_samples']:
        sample.gt_instances.labels[:] = 0
    with pytest.raises(ValueError, match='FCOS knows one class'):
        ask(single, TOG('mislabelling'), batch)


def scene(generator, size=(48, 64)) -> dict:
    """Two coloured boxes before a grey wall."""
    image, boxes, labels = COLOURS[0][:, None, None].expand(4, *size).clone(), [], []
    for _ in range(2):
        kind = int(torch.randint(0, 3, (), generator=generator))
        height, width = (int(torch.randint(12, 24, (), generator=generator)) for _ in range(2))
        top = int(torch.randint(0, size[0] - height, (), generator=generator))
        left = int(torch.randint(0, size[1] - width, (), generator=generator))
        image[:, top : top + height, left : left + width] = COLOURS[kind + 1][:, None, None]
        boxes, labels = [*boxes, [left, top, left + width, top + height]], [*labels, kind]
    image = (image + 6 * torch.randn(image.shape, generator=generator)).clamp(0, 255).round().to(torch.uint8)
    truth = InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float), labels=torch.tensor(labels))
    sample = DetDataSample(gt_instances=truth)
    sample.set_metainfo({'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0), 'img_path': 'x.png'})
    return {'inputs': image, 'data_samples': sample}


def trained(steps: int = 250, rate: float = 5e-3):
    model = build_model(tiny_fcos(fusion={'type': 'AverageFusion'}), 0).train()
    generator = torch.Generator().manual_seed(0)
    scenes = [scene(generator) for _ in range(32)]
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]['lr'] = rate * (1 - step / steps)
        batch = [scenes[int(i)] for i in torch.randint(0, len(scenes), (4,), generator=generator)]
        data = {key: [item[key] for item in batch] for key in batch[0]}
        loss = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def outcomes(model, images, batch) -> dict:
    metric = ObjectOutcomeMetric(score=0.2)
    data = {'inputs': images, 'data_samples': [sample.clone() for sample in batch['data_samples']]}
    with torch.no_grad():
        metric.process(batch, [sample.to_dict() for sample in model.test_step(data)])
    metric.compute_metrics(metric.results)
    return metric.per_image


@pytest.mark.slow
def test_objects_vanish_are_made_up_and_change_their_class():
    """On a detector that has learnt its task, in the outcome table of tools/test.py."""
    model, generator = trained(), torch.Generator().manual_seed(9)
    scenes = [scene(generator) for _ in range(8)]
    for i, item in enumerate(scenes):
        item['data_samples'].set_metainfo({'img_id': i})
    batch = {key: [item[key] for item in scenes] for key in scenes[0]}
    clean = outcomes(model, [image.float() for image in batch['inputs']], batch)
    found = {}
    for aim in ('vanishing', 'fabrication', 'mislabelling'):
        attack = PGD(32 / 255, 4 / 255, 20, objective={'type': 'TOG', 'aim': aim})
        result = attack(model, batch, rng=[torch.Generator().manual_seed(i) for i in range(8)])
        found[aim] = changes(clean, outcomes(model, result.images, batch))
    print(found)
    objects = found['vanishing']['objects']
    assert objects >= 10, 'it has learnt its task'
    assert found['vanishing']['vanished'] >= 0.9 * objects
    assert found['vanishing']['hallucinated'] <= 0
    assert found['mislabelling']['misclassified'] >= 3 > found['vanishing']['misclassified']
    assert found['fabrication']['hallucinated'] >= 5
