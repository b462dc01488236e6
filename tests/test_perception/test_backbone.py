"""The fusion network inside the backbone: the same model in another form."""

import subprocess
import sys

import pytest
import torch
from conftest import REPO, environment
from helpers import backbone_form, box_batch, build_model, deterministic, pair_batch, tiny_fcos, tiny_segformer

from paif_mm.attacks import PGD
from paif_mm.losses import FusionLossHook
from paif_mm.perception import FusionBackbone, find_fuser, require_fuser, to_backbone_form


def both_forms(config):
    """A model in preprocessor form and one in backbone form with the same weights."""
    model = deterministic(build_model(config))
    other = deterministic(build_model(backbone_form(config), seed=1))
    other.load_state_dict(to_backbone_form(model.state_dict()), strict=True)
    return model, other


@pytest.mark.parametrize(('config', 'batch'), [(tiny_segformer, pair_batch), (tiny_fcos, box_batch)])
def test_both_forms_have_the_same_losses(config, batch):
    model, other = both_forms(config())
    losses = [m(**m.data_preprocessor(batch(), True), mode='loss') for m in (model.train(), other.train())]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value)


@torch.no_grad()
def test_both_forms_predict_the_same():
    model, other = both_forms(tiny_segformer())
    a, b = (m.eval().test_step(pair_batch([(32, 40)])) for m in (model, other))
    torch.testing.assert_close(a[0].seg_logits.data, b[0].seg_logits.data)


def test_both_forms_are_attacked_alike():
    model, other = both_forms(tiny_segformer())
    attack = PGD(eps=4 / 255, steps=2, random_start=False, keep='last')
    a, b = (attack(m, pair_batch()).images for m in (model, other))
    assert not torch.equal(a[0], pair_batch()['inputs'][0].float())
    for x, y in zip(a, b, strict=True):
        assert (x - y).abs().max() <= 1e-3


class Runner:
    def __init__(self, model):
        self.model = model


def test_the_fusion_loss_of_both_forms_compares_with_the_clean_pair():
    values = []
    for model in both_forms(tiny_segformer()):
        hook = FusionLossHook(weight=1.0)
        hook.before_train(Runner(model.train()))
        batch = pair_batch()
        attacked = {**batch, 'inputs': pair_batch(seed=1)['inputs'], 'clean_inputs': batch['inputs']}
        for data in (attacked, batch):
            values.append(model(**model.data_preprocessor(data, True), mode='loss')['loss_fusion'])
        hook.after_train(Runner(model))
    torch.testing.assert_close(values[0], values[2])
    torch.testing.assert_close(values[1], values[3])
    assert abs(values[0] - values[1]) > 0.01


def test_image_weights_reach_the_backbone_form():
    _, other = both_forms(tiny_segformer())
    fuser = require_fuser(other, 'test')
    assert isinstance(fuser, FusionBackbone)
    other.data_preprocessor({**pair_batch(), 'image_weights': [0.5, 1.5]}, True)
    assert fuser.image_weights == [0.5, 1.5]
    other.data_preprocessor(pair_batch(), True)
    assert fuser.image_weights is None


def test_models_without_fusion_are_told_so():
    model = build_model(tiny_segformer())
    plain = torch.nn.Module()
    plain.data_preprocessor = model.data_preprocessor.task
    assert find_fuser(plain) is None
    with pytest.raises(TypeError, match='FusionLossHook needs a fused model: wrap model.data_preprocessor'):
        require_fuser(plain, 'FusionLossHook')


def test_weights_without_a_fusion_network_are_refused():
    with pytest.raises(ValueError, match=r'no data_preprocessor\.fusion'):
        to_backbone_form({'backbone.conv.weight': torch.zeros(1)})


def test_images_that_are_no_pairs_are_refused():
    _, other = both_forms(tiny_segformer())
    with pytest.raises(ValueError, match='FusionBackbone fuses pairs'):
        other.backbone(torch.zeros(1, 3, 32, 40))


@torch.no_grad()
def test_the_backbone_form_is_exported_with_its_fusion_network():
    _, other = both_forms(tiny_segformer())
    example, pair = (pair_batch([(32, 40)], seed=seed)['inputs'][0][None].float() for seed in (0, 1))
    exported = torch.export.export(other.eval(), (example,), strict=False).module()  # the default of later torch
    torch.testing.assert_close(exported(pair), other(pair, mode='tensor'))


WORKER = """
import copy
import torch
from torch.distributed.fsdp import fully_shard
from helpers import backbone_form, build_model, deterministic, pair_batch, tiny_segformer

torch.distributed.init_process_group('gloo')
whole = deterministic(build_model(backbone_form(tiny_segformer()))).train()
sharded = copy.deepcopy(whole)
fully_shard(sharded.backbone.fusion)
fully_shard(sharded)
for model in (whole, sharded):
    model.parse_losses(model(**model.data_preprocessor(pair_batch(), True), mode='loss'))[0].backward()
expected = dict(whole.named_parameters())
for name, parameter in sharded.named_parameters():
    torch.testing.assert_close(parameter.grad.full_tensor(), expected[name].grad)
    assert 'fusion' not in name or parameter.grad.to_local().numel() <= expected[name].numel()
torch.distributed.destroy_process_group()
print('equal')
"""


@pytest.mark.slow
def test_two_processes_that_share_out_the_weights_have_the_gradients_of_one(tmp_path):
    if not hasattr(pytest.importorskip('torch.distributed.fsdp'), 'fully_shard'):
        pytest.skip('this torch has no fully_shard')
    worker = tmp_path / 'worker.py'
    worker.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29616', str(worker)],
        env=environment(REPO / 'tests'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'equal' in done.stdout
