"""Attacks on whole models, through the hook."""

import logging
from types import SimpleNamespace

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.attacks import PGD, AdversarialAttackHook, Audit, FusionObjective, TaskLoss, WeightedSum
from paif_mm.attacks.frozen import fingerprint, frozen
from paif_mm.attacks.hook import attacked_count, attacked_places, require_one_size
from paif_mm.attacks.objectives import pixel_losses

EPS = 8 / 255


@pytest.fixture(scope='module')
def model():
    return build_model(tiny_segformer())


def runner_of(model, iteration=0):
    return SimpleNamespace(model=model, iter=iteration, logger=logging.getLogger('test'), test_dataloader=[None])


def evaluate(model, batch, after_attack=lambda: None, **attack):
    hook = AdversarialAttackHook({'type': 'PGD', **attack}, phases=('test',))
    runner = runner_of(model)
    hook.before_test_epoch(runner)
    hook.before_test_iter(runner, 0, batch)
    after_attack()
    hook.after_test_iter(runner, 0, batch)
    hook.after_test_epoch(runner)
    return hook


def test_pgd_raises_the_loss_within_the_budget(model):
    batch = pair_batch()
    result = PGD(eps=EPS)(model, batch)
    before = PGD(eps=EPS).losses(model, result.clean, result, batch)
    assert (result.losses > before).all()
    for image, clean in zip(result.images, result.clean, strict=True):
        assert (image - clean).abs().max() <= 8
        assert image.min() >= 0
        assert image.max() <= 255
    assert batch['inputs'][0].dtype == torch.uint8, 'the batch itself must not change'


def test_a_modality_with_budget_zero_stays_bit_for_bit(model):
    batch = pair_batch()
    result = PGD(eps={'ir': EPS, 'vis': 0})(model, batch)
    for image, clean in zip(result.images, batch['inputs'], strict=True):
        assert torch.equal(image[:3], clean[:3].float())
        assert 7 < (image[3] - clean[3]).abs().max() <= 8


def test_eps_zero_changes_nothing(model):
    batch = pair_batch()
    hook = evaluate(model, batch, eps=0)
    clean = model.eval().test_step(pair_batch())
    attacked = model.test_step(batch)
    for a, c in zip(attacked, clean, strict=True):
        assert torch.equal(a.seg_logits.data, c.seg_logits.data)
    assert hook.audit.max_delta == {'ir': 0, 'vis': 0}
    assert hook.audit.loss_before == hook.audit.loss_after


def test_model_comes_out_as_it_went_in(model):
    model.train()
    model.backbone.layers[0].eval()  # mixed modes
    frozen_parameter = next(model.backbone.parameters())
    frozen_parameter.requires_grad_(False)
    before = fingerprint(model)
    try:
        hook = evaluate(model, pair_batch(), eps=EPS, steps=2)
        assert fingerprint(model) == before
        assert hook.audit.untouched
        assert all(p.grad is None for p in model.parameters())
        with pytest.raises(RuntimeError, match='planted'), frozen(model):
            assert not model.training
            assert not any(p.requires_grad for p in model.parameters())
            raise RuntimeError('planted')
        assert fingerprint(model) == before
    finally:
        frozen_parameter.requires_grad_(True)


ATTACKS = {
    'PGD': {'steps': 2},
    'NFGSM': {},
    'StepControlFGSM': {},
    'APGD': {'steps': 2},
    'Square': {'queries': 2},
}


@pytest.mark.parametrize('kind', ATTACKS)
@pytest.mark.parametrize('fusion', [{'type': 'FusionNet', 'channels': 4}, {'type': 'FusionSupernet', 'channels': 4}])
def test_neither_network_gets_gradients_of_parameters_while_it_is_attacked(kind, fusion):
    """Of a search, the alphas neither; what passes both networks are the attack's own passes."""
    model, seen = build_model(tiny_segformer(fusion)).train(), []
    parameters = list(model.parameters())
    required = [parameter.requires_grad for parameter in parameters]
    for part in (model.data_preprocessor.fusion, model.backbone):
        part.register_forward_pre_hook(lambda *_: seen.append(any(p.requires_grad for p in parameters)))
    hook, batch = AdversarialAttackHook({'type': kind, 'eps': EPS, **ATTACKS[kind]}, ratio=1.0), pair_batch()
    hook.before_train_iter(SimpleNamespace(model=model, iter=0), 0, batch)
    assert len(seen) >= 2 and not any(seen)
    assert all(parameter.grad is None for parameter in parameters)
    assert [parameter.requires_grad for parameter in parameters] == required and any(required)
    assert not any(image.requires_grad for image in batch['inputs'])


def test_fingerprint_sees_weights_buffers_and_modes():
    layer = torch.nn.BatchNorm2d(2)
    seen = {fingerprint(layer)}
    layer.eval()
    seen.add(fingerprint(layer))
    layer.running_mean += 1
    seen.add(fingerprint(layer))
    layer.weight.data += 1
    seen.add(fingerprint(layer))
    layer.weight.requires_grad_(False)
    seen.add(fingerprint(layer))
    assert len(seen) == 5


def test_attacks_run_in_fp32_inside_autocast_and_no_grad(model):
    batch = pair_batch()
    torch.manual_seed(0)
    expected = PGD(eps=EPS, steps=2)(model, batch)
    torch.manual_seed(0)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        result = PGD(eps=EPS, steps=2)(model, batch)
    assert torch.equal(result.images[0], expected.images[0])


def test_audit_tells_what_happened(model):
    hook = evaluate(model, pair_batch(), eps={'ir': 4 / 255, 'vis': EPS}, steps=8)
    audit = hook.audit
    assert audit.images == 2
    assert audit.max_delta['ir'] == pytest.approx(4, abs=1e-4)
    assert audit.max_delta['vis'] == pytest.approx(8, abs=1e-4)
    assert audit.loss_after > audit.loss_before
    assert 0.2 < audit.at_bound <= 1
    assert 'model unchanged' in str(audit)


def test_audit_reports_a_model_that_changed(model, caplog):
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1}, phases=('test',))
    runner = runner_of(build_model(tiny_segformer()))
    hook.before_test_epoch(runner)
    hook.before_test_iter(runner, 0, pair_batch())
    with torch.no_grad():
        next(runner.model.parameters()).add_(1)
    hook.after_test_iter(runner, 0)
    with caplog.at_level(logging.INFO):
        hook.after_test_epoch(runner)
    assert 'model CHANGED' in caplog.text


def test_ignored_pixels_neither_count_nor_draw_gradient(model):
    """Labels of 255 leave the loss and its gradient where they are; all ignored gives zero."""
    batch = pair_batch([(32, 32)], ignored=False)
    batch['data_samples'][0].gt_sem_seg.data[:, :, 16:] = 255
    pixels = batch['inputs'][0].float().requires_grad_()
    with frozen(model):
        loss = pixel_losses(model, [pixels], batch['data_samples'], training=False)
        logits = model(**model.data_preprocessor({'inputs': [pixels]}, False), mode='tensor')
        logits = torch.nn.functional.interpolate(logits, (32, 32), mode='bilinear')
        label = batch['data_samples'][0].gt_sem_seg.data
        expected = torch.nn.functional.cross_entropy(logits, label, ignore_index=255)
        torch.testing.assert_close(loss, expected[None])
        batch['data_samples'][0].gt_sem_seg.data[:] = 255
        nothing = pixel_losses(model, [pixels], batch['data_samples'], training=False)
        assert nothing == 0
        assert not torch.autograd.grad(nothing, pixels)[0].any()


def test_labels_may_have_another_size_than_the_input(model):
    """As mmseg's test pipelines keep them: images resized, labels original, sizes differing within a batch."""
    batch = pair_batch([(32, 32), (32, 32)])
    other = pair_batch([(64, 48)])
    batch['data_samples'][0] = other['data_samples'][0]
    result = PGD(eps=EPS, steps=1)(model, batch)
    assert result.losses.shape == (2,)
    assert torch.isfinite(result.losses).all()


def test_task_loss_equals_the_models_own_loss(model):
    """Per pixel for one image = what the model reports in training, both in the fast and in the general way."""
    batch = pair_batch([(32, 40)])
    with frozen(model):
        own = model.parse_losses(model(**model.data_preprocessor(pair_batch([(32, 40)]), True), mode='loss'))[0]
        fast = TaskLoss()(model, batch['inputs'], batch['data_samples'], batch['inputs'], True)
        model.decode_head.loss_decode.use_mask = True  # any loss that is not softmax cross-entropy goes the general way
        try:
            general = TaskLoss()(model, batch['inputs'], batch['data_samples'], batch['inputs'], True)
        finally:
            model.decode_head.loss_decode.use_mask = False
    torch.testing.assert_close(fast, own[None])
    torch.testing.assert_close(general, own[None])


def test_training_batches_of_different_sizes_are_padded_with_ignored_labels():
    config = tiny_segformer()
    config.data_preprocessor.task.update(size=(48, 48), size_divisor=None)
    model = build_model(config)
    batch = pair_batch([(32, 40), (48, 48)])
    result = PGD(eps=EPS, steps=2)(model, batch, training=True)
    assert [tuple(image.shape) for image in result.images] == [(4, 32, 40), (4, 48, 48)]
    assert batch['data_samples'][0].gt_sem_seg.data.shape == (1, 32, 40), 'annotations must not change'
    losses = model(**model.data_preprocessor({**batch, 'inputs': result.images}, True), mode='loss')
    assert torch.isfinite(losses['decode.loss_ce'])


def test_missing_annotations_are_reported(model):
    batch = pair_batch()
    for sample in batch['data_samples']:
        del sample.gt_sem_seg
    with pytest.raises(ValueError, match='LoadAnnotations'):
        PGD(eps=EPS)(model, batch)


def test_fusion_objective_and_weighted_sums(model):
    batch = pair_batch()
    clean = [image.float() for image in batch['inputs']]
    attack = PGD(eps=EPS, steps=3, objective={'type': 'FusionObjective'})
    result = attack(model, batch)
    assert (result.losses > attack.losses(model, clean, result, batch)).all()
    with frozen(model), torch.no_grad():
        arguments = (model, clean, batch['data_samples'], clean, False)
        both = WeightedSum([{'type': 'TaskLoss'}, {'type': 'FusionObjective'}], [2.0, 0.5])(*arguments)
        expected = 2 * TaskLoss()(*arguments) + 0.5 * FusionObjective()(*arguments)
    torch.testing.assert_close(both.loss, expected)


@pytest.mark.parametrize(('size', 'ratio', 'expected'), [(4, 0.25, [1] * 8), (2, 0.25, [0, 1] * 4), (4, 1.0, [4] * 8)])
def test_the_attacked_share_is_exact(size, ratio, expected):
    assert [attacked_count(i, size, ratio) for i in range(8)] == expected


def test_thirds_add_up():
    assert sum(attacked_count(i, 4, 1 / 3) for i in range(300)) == 400
    assert sum(attacked_count(i, 4, 0.3) for i in range(10)) == 12


@pytest.mark.parametrize('count', [1, 3, 4, 7, 8])
def test_attacked_places_give_every_process_its_share(count):
    """Processes are dealt the places in turns; each place has the same chance."""
    seen = torch.zeros(8)
    for seed in range(400):
        places = attacked_places(8, count, torch.Generator().manual_seed(seed))
        assert len(places) == count
        assert places <= set(range(8))
        for world in (2, 4):
            loads = [sum(place % world == rank for place in places) for rank in range(world)]
            assert max(loads) - min(loads) <= 1
        seen[list(places)] += 1
    assert (seen / 400 - count / 8).abs().max() < 0.08


def test_gradients_that_are_not_finite_are_told(model, monkeypatch):
    """An attack that they leave without a direction stays in its ball, and the audit says so."""

    class Nowhere(torch.autograd.Function):
        @staticmethod
        def forward(ctx, image):
            return image.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.nan

    fuse = model.data_preprocessor.fuse

    def shattered(inputs, *args, **kwargs):
        return fuse([Nowhere.apply(inputs[0]), *inputs[1:]], *args, **kwargs)

    monkeypatch.setattr(model.data_preprocessor, 'fuse', shattered)
    for attack in ({'restarts': 2, 'restarts_at_once': 2}, {'input_diversity': 0.5, 'keep': 'last'}):
        audit = evaluate(model, pair_batch(), eps=EPS, steps=2, **attack).audit
        assert audit.broken == 0
        assert audit.blind == audit.to_dict()['blind'] == 1
        assert 'gradients of 1 NOT FINITE' in str(audit)
    monkeypatch.undo()
    assert evaluate(model, pair_batch(), eps=EPS, steps=2).audit.blind == 0


def test_a_training_warns_of_gradients_that_are_not_finite(model, caplog):
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1})
    runner = SimpleNamespace(iter=48, max_iters=1000, logger=logging.getLogger('test'))
    hook.blind = torch.tensor(3)
    hook.after_train_iter(runner, 48)
    assert not caplog.text
    runner.iter = 49
    hook.after_train_iter(runner, 49)
    assert '3 images were attacked by gradients that are not finite' in caplog.text
    assert hook.blind == 0


def test_weights_of_a_global_batch_need_parts_of_one_size(monkeypatch):
    monkeypatch.setattr('paif_mm.attacks.hook.get_world_size', lambda: 2)
    monkeypatch.setattr('paif_mm.attacks.hook.all_gather', lambda size: [size, torch.tensor([2])])
    require_one_size(2)
    with pytest.raises(ValueError, match=r'batches of one size, but the processes have \[1, 2\] images'):
        require_one_size(1)


def test_test_time_augmentation_is_not_attacked_in_silence(model):
    from mmseg.models import SegTTAModel

    with pytest.raises(TypeError, match='test without --tta'):
        evaluate(SegTTAModel(module=model), pair_batch(), eps=EPS)


def test_the_same_iteration_draws_the_same_numbers_and_no_global_ones(model):
    """As a resumed training asks for; other iterations, places and streams draw others."""
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1, 'step_size': 0}, ratio=1.0)
    state = torch.get_rng_state()

    def noise(turn, stream='train'):
        batch = pair_batch([(32, 32)] * 2)
        hook.attack_share(model, batch, turn, stream)
        return [a - c.float() for a, c in zip(batch['inputs'], batch['clean_inputs'], strict=True)]

    (a, b), (again, _), (other, _), (stream, _) = noise(0), noise(0), noise(1), noise(0, 'architecture')
    assert torch.equal(a, again)
    assert all(not torch.allclose(a, different) for different in (b, other, stream))
    assert torch.equal(torch.get_rng_state(), state)


def test_training_attacks_a_share_and_keeps_the_clean_pairs(model):
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1}, ratio=0.25)
    batch = pair_batch([(32, 32)] * 4)
    original = [image.clone() for image in batch['inputs']]
    hook.before_train_iter(runner_of(model.train()), 0, batch)
    changed = [not torch.equal(a.float(), o.float()) for a, o in zip(batch['inputs'], original, strict=True)]
    assert sum(changed) == 1
    assert all(torch.equal(c, o) for c, o in zip(batch['clean_inputs'], original, strict=True))
    assert model.training
    hook.before_test_iter(runner_of(model), 0, untouched := pair_batch())
    assert untouched['inputs'][0].dtype == torch.uint8, 'phases outside the hook pass unchanged'


def test_stacked_inputs_stay_stacked(model):
    batch = pair_batch()
    batch['inputs'] = torch.stack(batch['inputs'])
    AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1}).before_train_iter(runner_of(model), 0, batch)
    assert batch['inputs'].shape == (2, 4, 32, 40)


def test_models_without_fusion_are_attacked_alike():
    config = tiny_segformer()
    config.data_preprocessor = config.data_preprocessor.task
    model = build_model(config)
    batch, seen = pair_batch(channels=3), []
    original = list(batch['inputs'])
    hook = evaluate(model, batch, after_attack=lambda: seen.append(set(batch)), eps=EPS)
    assert hook.audit.max_delta == {'all': pytest.approx(8, abs=1e-4)}
    assert hook.audit.loss_after > hook.audit.loss_before
    assert seen == [{'inputs', 'data_samples'}], 'what the model is given'
    assert all(torch.equal(c, o) for c, o in zip(batch['clean_inputs'], original, strict=True)), 'for strips'
    with pytest.raises(ValueError, match='3 channels'):
        PGD(eps={'ir': EPS, 'vis': EPS})(model, pair_batch(channels=3))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'eps': -1}, 'negative'),
        ({'eps': {'thermal': 0.1}}, 'thermal'),
        ({'eps': 8}, '255'),
        ({'eps': EPS, 'steps': 0}, 'steps'),
        ({'eps': EPS, 'norm': 'l1'}, 'l1'),
        ({'eps': EPS, 'keep': 'best'}, 'best'),
    ],
)
def test_settings_are_checked_when_the_attack_is_built(settings, message):
    with pytest.raises(ValueError, match=message):
        PGD(**settings)


def test_hook_settings_are_checked():
    with pytest.raises(ValueError, match='ratio'):
        AdversarialAttackHook({'type': 'PGD', 'eps': EPS}, ratio=2)
    with pytest.raises(ValueError, match='validate'):
        AdversarialAttackHook({'type': 'PGD', 'eps': EPS}, phases=('validate',))


@pytest.mark.gpu
def test_it_runs_on_a_gpu():
    """Batches come from the CPU, the attack runs where the model is; both agree with the CPU's losses."""
    model = build_model(tiny_segformer())
    batch = pair_batch()
    attack = PGD(eps=EPS, steps=3, random_start=False)
    on_cpu = attack(model, batch)
    on_gpu = attack(model.cuda(), batch)
    assert on_gpu.images[0].is_cuda
    assert max(float((a - c).abs().max()) for a, c in zip(on_gpu.images, on_gpu.clean, strict=True)) <= 8
    torch.testing.assert_close(on_gpu.losses.cpu(), on_cpu.losses, rtol=0.02, atol=0.02)


def test_the_audit_counts_images_that_are_not_finite(model):
    result = PGD(eps=EPS, steps=1)(model, pair_batch())
    result.images[1][0, 0, 0] = float('nan')
    audit = Audit()
    audit.update(result, PGD(eps=EPS), torch.zeros(2), torch.zeros(2))
    assert audit.broken == audit.to_dict()['broken'] == 1
    assert str(audit).startswith('audit: 2 images, 1 of them NOT FINITE, max |delta| ir ')
    assert all(0 < delta <= 8 for delta in audit.max_delta.values()), 'of the others'
