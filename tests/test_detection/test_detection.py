"""Attacks, banks and searches with a detector behind the fusion network, through the same seams."""

import pytest
import torch
from helpers import box_batch, build_model, deterministic, tiny_fcos
from mmengine.runner import Runner
from searching import make_runner

from paif_mm.attacks import PGD
from paif_mm.attacks.objectives import TaskLoss, as_the_network_sees
from paif_mm.meta_init.craft import craft, transfer
from paif_mm.perception import find_fuser


@pytest.fixture(scope='module')
def model():
    return deterministic(build_model(tiny_fcos())).eval()


def losses_of(model, batch, **objective):
    inputs = [image.float() for image in batch['inputs']]
    return TaskLoss(**objective)(model, inputs, batch['data_samples'], inputs, training=False)


def test_the_objective_is_the_sum_of_the_detectors_losses(model):
    batch = box_batch(sizes=[(32, 40)])
    terms = model(**model.data_preprocessor(batch, False), mode='loss')
    total = losses_of(model, box_batch(sizes=[(32, 40)]))
    assert total.item() == pytest.approx(sum(terms[f'loss_{name}'].item() for name in ('cls', 'bbox', 'centerness')))
    parts = [losses_of(model, box_batch(sizes=[(32, 40)]), terms=[f'loss_{name}']) for name in ('cls', 'bbox')]
    assert [part.item() for part in parts] == pytest.approx([terms['loss_cls'].item(), terms['loss_bbox'].item()])


def test_unknown_terms_are_named(model):
    with pytest.raises(ValueError, match='no loss loss_mask; the terms of TaskLoss are among loss_cls, loss_bbox'):
        losses_of(model, box_batch(), terms=['loss_mask'])


@pytest.mark.parametrize('term', ['loss_cls', 'loss_bbox', 'loss_centerness'])
def test_an_attack_on_one_term_raises_that_term(model, term):
    attack = PGD(eps=4 / 255, steps=3, random_start=False, objective={'type': 'TaskLoss', 'terms': [term]})
    result = attack(model, box_batch())
    before = attack.losses(model, result.clean, result, box_batch())
    assert (result.losses > before).all()
    for attacked, clean in zip(result.images, result.clean, strict=True):
        assert 0 < (attacked - clean).abs().max() <= 4 + 1e-3


def test_boxes_of_test_samples_are_attacked_where_the_network_sees_them(model):
    """Test pipelines keep boxes in pixels of the file, here twice as large as the network's input."""
    seen = as_the_network_sees(box_batch(scale=2.0)['data_samples'][0])
    assert torch.equal(seen.gt_instances.bboxes, box_batch()['data_samples'][0].gt_instances.bboxes)
    torch.testing.assert_close(losses_of(model, box_batch(scale=2.0)), losses_of(model, box_batch()))
    inputs = [image.float() for image in box_batch()['inputs']]
    training = TaskLoss()(model, inputs, box_batch(scale=2.0)['data_samples'], inputs, training=True)
    assert not torch.allclose(training, losses_of(model, box_batch()))  # training samples are at their final size


def test_an_attack_leaves_the_samples_alone(model):
    batch = box_batch(scale=2.0)
    before = [sample.gt_instances.bboxes.clone() for sample in batch['data_samples']]
    PGD(eps=4 / 255, steps=1)(model, batch)
    assert all(torch.equal(a, s.gt_instances.bboxes) for a, s in zip(before, batch['data_samples'], strict=True))


def test_a_pair_is_attacked_and_fused_as_if_it_were_alone(model):
    sizes = [(32, 40), (24, 48)]
    attack = PGD(eps=4 / 255, steps=2, random_start=False)
    both = attack(model, box_batch(sizes)).images
    batch = box_batch(sizes)
    alone = attack(model, {key: value[1:] for key, value in batch.items()}).images
    torch.testing.assert_close(both[1], alone[0], atol=1e-3, rtol=0)
    model.data_preprocessor(box_batch(sizes), False)
    fused = {i: group.fused[k] for group in find_fuser(model).groups for k, i in enumerate(group.index)}
    model.data_preprocessor({key: value[1:] for key, value in batch.items()}, False)
    torch.testing.assert_close(find_fuser(model).groups[0].fused[0], fused[1])


@torch.no_grad()
def test_a_radius_of_zero_changes_no_detection(model):
    clean = model.test_step(box_batch())
    batch = box_batch()
    batch['inputs'] = PGD(eps=0.0)(model, batch).images
    for a, b in zip(clean, model.test_step(batch), strict=True):
        assert len(a.pred_instances)
        assert torch.equal(a.pred_instances.bboxes, b.pred_instances.bboxes)
        assert torch.equal(a.pred_instances.scores, b.pred_instances.scores)


class Boxes:
    """Pairs with boxes, as mmdet's data sets give them."""

    metainfo = {'classes': ('person', 'bicycle', 'car')}

    def __init__(self, count=4, split='train'):
        self.split = split
        batch = box_batch([(32, 40)] * count)
        self.items = [{key: value[i] for key, value in batch.items()} for i in range(count)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return {'inputs': self.items[index]['inputs'], 'data_samples': self.items[index]['data_samples'].clone()}

    def get_data_info(self, index):
        return {'img_path': f'{self.split}{index}.png'}


def test_a_bank_is_crafted_on_a_detector(model, tmp_path):
    bank = craft(model, Boxes(), tmp_path, {'small': 1 / 255, 'heavy': 4 / 255}, num=3, steps=2, progress=False)
    small, heavy = (bank.manifest['levels'][name] for name in ('small', 'heavy'))
    assert small['loss_before'] < small['loss_after'] < heavy['loss_after']
    assert 0 <= heavy['AP50_before'] <= 100
    rows = transfer(model, Boxes(), bank)
    assert rows['heavy']['loss'] == pytest.approx(heavy['loss_after'])
    assert rows['clean']['AP50'] == pytest.approx(heavy['AP50_before'])


def test_a_search_moves_the_alphas_with_a_detector_behind_the_supernet(tmp_path):
    from torch.utils.data import DataLoader

    def loader(split):
        def collate(items):
            return {key: [item[key] for item in items] for key in items[0]}

        return DataLoader(Boxes(split=split), batch_size=2, collate_fn=collate)

    runner: Runner = make_runner(
        tmp_path,
        model=build_model(tiny_fcos({'type': 'FusionSupernet', 'channels': 4})),
        train=loader('train'),
        arch_dataloader=loader('architecture'),
        max_iters=4,
        arch_interval=2,
        hooks=[{'type': 'paif_mm.AdversarialAttackHook', 'attack': {'type': 'PGD', 'eps': 2 / 255, 'steps': 1}}],
    )
    runner.train()
    record = runner.train_loop.record
    assert torch.equal(record[0], record[1])
    assert not torch.equal(record[-1], record[0])
    assert torch.isfinite(record[-1]).all()
