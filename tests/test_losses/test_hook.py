"""The fusion loss beside a model's own losses."""

from types import SimpleNamespace

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.losses import FusionLossHook
from paif_mm.losses.hook import batch_fusion_loss


class L1(torch.nn.Module):
    """Mean |u - x|: a stand-in whose value is easily written down."""

    def forward(self, fused, ir, vis):
        return (fused - ir).abs().mean()


def hooked(model, **kwargs):
    hook = FusionLossHook(**kwargs)
    hook.before_train(SimpleNamespace(model=model))
    return hook


def losses_of(model, batch, training=True):
    data = model.data_preprocessor(batch, training)
    return model(**data, mode='loss')


def test_losses_are_weighted_and_the_fusion_loss_is_logged():
    model = build_model(tiny_segformer()).train()
    model.decode_head.dropout = torch.nn.Identity()
    for module in model.modules():
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    plain = losses_of(model, pair_batch())
    hook = hooked(model, loss=L1(), weight=0.5, task_weight=3)
    losses = losses_of(model, pair_batch())
    assert set(losses) == set(plain) | {'loss_fusion'}
    torch.testing.assert_close(losses['decode.loss_ce'], 3 * plain['decode.loss_ce'])
    assert losses['decode.acc_seg'] == plain['decode.acc_seg']
    (group,) = model.data_preprocessor.groups
    torch.testing.assert_close(losses['loss_fusion'], 0.5 * (group.luma - group.pair[:, 3:]).abs().mean())
    total, log = model.parse_losses(losses)
    assert 'loss_fusion' in log
    hook.after_train(None)
    assert 'loss_fusion' not in losses_of(model, pair_batch())


def test_it_trains_the_fusion_network_alone():
    model = build_model(tiny_segformer()).train()
    hooked(model, loss=L1())
    losses_of(model, pair_batch())['loss_fusion'].backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.data_preprocessor.parameters() if p.grad is not None)


def test_the_target_is_the_clean_pair():
    model = build_model(tiny_segformer()).train()
    hooked(model, loss=L1(), weight=1)
    clean = pair_batch()
    attacked = {**pair_batch(), 'clean_inputs': clean['inputs']}
    attacked['inputs'] = [(image.float() + 20).clamp(0, 255) for image in clean['inputs']]
    loss = losses_of(model, attacked)['loss_fusion']
    (group,) = model.data_preprocessor.groups
    target = torch.stack(clean['inputs'])[:, 3:].float() / 255
    torch.testing.assert_close(loss, (group.luma - target).abs().mean())


def test_images_count_equally_whatever_their_sizes():
    model = build_model(tiny_segformer())
    model.data_preprocessor.fuse(pair_batch([(8, 8), (16, 16), (8, 8)])['inputs'])
    groups = model.data_preprocessor.groups
    values = torch.cat([(g.luma - g.clean[:, 3:]).abs().mean((1, 2, 3)) for g in groups])
    torch.testing.assert_close(
        batch_fusion_loss(L1(), SimpleNamespace(groups=groups, image_weights=None)), values.mean()
    )


def test_predictions_and_attacks_pass_unchanged():
    model = build_model(tiny_segformer()).eval()
    hooked(model)
    assert set(losses_of(model, pair_batch())) == {'decode.loss_ce', 'decode.acc_seg'}
    assert len(model.test_step(pair_batch())) == 2


def test_a_model_without_fusion_is_refused():
    config = tiny_segformer()
    config.data_preprocessor = config.data_preprocessor.task
    with pytest.raises(TypeError, match='paif_mm.FusionDataPreprocessor'):
        hooked(build_model(config))
