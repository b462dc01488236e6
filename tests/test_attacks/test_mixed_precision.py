"""Training with mixed precision: attacks in fp32 unless told otherwise, training passes in bf16, statistics in fp32."""

import pytest
import torch
from helpers import backbone_form, box_batch, build_model, pair_batch, tiny_fcos, tiny_segformer
from mmengine.hooks import Hook
from searching import collate, loader
from torch.utils.data import DataLoader

from paif_mm.attacks import PGD, frozen
from paif_mm.attacks.frozen import fingerprint
from paif_mm.attacks.functional import differentiate
from paif_mm.attacks.objectives import Questions
from paif_mm.attacks.pixel_losses import PIXEL_LOSSES
from paif_mm.engine.runner import QuietRunner
from paif_mm.registry import ATTACKS, OBJECTIVES, build

EPS = 8 / 255
L2 = {'type': 'PGD', 'eps': 2.0, 'steps': 2, 'norm': 'l2'}  # follows the gradients themselves, not their signs
HALF = {'type': 'paif_mm.AdversarialAttackHook', 'attack': L2}


class Witness(Hook):
    """Remembers the inputs of every training pass, and the dtypes of what it computes."""

    priority = 'LOW'  # after the attack

    def __init__(self):
        self.inputs, self.dtypes, self.losses = [], set(), []

    def before_train(self, runner):
        for module in runner.model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(self._see)

    def _see(self, module, inputs, output):
        if module.training:
            self.dtypes.add(output.dtype)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.inputs.append(torch.stack([image.detach().float() for image in data_batch['inputs']]))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs)


def boxes():
    batch = box_batch([(32, 40)] * 4)
    items = [{key: value[i] for key, value in batch.items()} for i in range(4)]
    return DataLoader(items, batch_size=2, collate_fn=collate)


def train(work_dir, wrapper: str, config, data, hooks) -> tuple:
    """Two iterations; the Runner and its witness."""
    witness, name = Witness(), f'{work_dir}_{wrapper}'.replace('/', '_')
    runner = QuietRunner(
        model=build_model(config),
        work_dir=str(work_dir / wrapper),
        train_dataloader=data,
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': 2},
        optim_wrapper={'type': wrapper, 'optimizer': {'type': 'SGD', 'lr': 0.01}},
        custom_hooks=[{'type': 'paif_mm.FusionLossHook'}, *hooks, witness],
        default_hooks={'checkpoint': None, 'logger': {'type': 'LoggerHook', 'log_metric_by_epoch': False}},
        log_processor={'by_epoch': False},
        randomness={'seed': 0},
        experiment_name=name,
        default_scope='mmseg',
        log_level='WARNING',
    )
    runner.train()
    return runner, witness


@pytest.mark.parametrize(
    ('config', 'hooks'),
    [
        (tiny_segformer, [HALF]),
        (tiny_segformer, [{**HALF, 'weight': 2.0}]),
        (tiny_segformer, [{**HALF, 'trades': 6.0}]),
        (tiny_segformer, [{**HALF, 'ratio': 1.0, 'attack': {'type': 'NFGSM', 'eps': EPS}}]),
        (tiny_segformer, [{**HALF, 'attack': {**L2, 'objective': {'type': 'FusionObjective'}}}]),
        (tiny_segformer, [{'type': 'paif_mm.FreeAdversarialHook', 'eps': EPS, 'replays': 2}]),
        (lambda: backbone_form(tiny_segformer()), [HALF]),
        (tiny_fcos, [HALF]),
    ],
    ids=['half', 'weight', 'trades', 'nfgsm', 'fusion', 'free', 'backbone', 'detector'],
)
def test_training_passes_are_in_bf16_and_attacks_in_fp32(tmp_path, config, hooks):
    data = boxes if config is tiny_fcos else loader
    plain, mixed = (
        train(tmp_path, name, config(), data(), hooks) for name in ('OptimWrapper', 'paif_mm.BFloat16OptimWrapper')
    )
    assert plain[1].dtypes == {torch.float32}
    assert torch.bfloat16 in mixed[1].dtypes
    assert torch.equal(plain[1].inputs[0], mixed[1].inputs[0]), 'the first attack, of the same weights'
    states = [runner.model.state_dict() for runner, _ in (plain, mixed)]
    assert any('running_var' in name for name in states[1])
    for name, value in states[1].items():
        assert value.dtype in (torch.float32, torch.int64), name
        assert value.isfinite().all(), name
    assert any(not torch.equal(value, states[0][name]) for name, value in states[1].items()), 'trained in bf16'
    for one, other in zip(plain[1].losses, mixed[1].losses, strict=True):
        for name in one:
            assert other[name].dtype == torch.float32, name
            assert other[name].item() == pytest.approx(one[name].item(), rel=0.1, abs=0.02), name


def gradients_of(model, objective: dict, dtype=torch.float32):
    batch = pair_batch(ignored=False)
    images = [image.float() for image in batch['inputs']]
    questions = Questions(build(OBJECTIVES, objective), model, batch['data_samples'], images, False)
    points = [(image + 3).clamp(0, 255) for image in images]
    with frozen(model, dtype):
        return differentiate(questions, points, 0.0)


OBJECTIVE_CONFIGS = [
    {'type': 'TaskLoss'},
    {'type': 'TaskLoss', 'terms': ['decode.loss_ce']},
    {'type': 'FusionObjective'},
    *({'type': 'PixelLoss', 'name': name} for name in PIXEL_LOSSES),
]


@pytest.mark.parametrize('objective', OBJECTIVE_CONFIGS, ids=lambda objective: '-'.join(map(str, objective.values())))
def test_gradients_inside_autocast_are_those_of_fp32_and_in_bf16_near_them(objective):
    model = build_model(tiny_segformer())
    losses, expected = gradients_of(model, objective)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        inside, gradients = gradients_of(model, objective)
    assert torch.equal(inside.loss, losses.loss)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    coarse_losses, coarse = gradients_of(model, objective, torch.bfloat16)
    assert coarse_losses.loss.dtype == coarse_losses.harm.dtype == torch.float32
    torch.testing.assert_close(coarse_losses.loss, losses.loss, rtol=0.05, atol=0.02)
    for a, b in zip(coarse, expected, strict=True):
        assert a.dtype == torch.float32
        assert not torch.equal(a, b)
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.4, 'DLR divides by small differences'


@pytest.mark.parametrize('name', ['PGD', 'APGD', 'NFGSM'])
def test_attacks_in_bf16_pass_in_bf16_and_keep_to_their_budget(name):
    model, batch, seen = build_model(tiny_segformer()), pair_batch(), set()
    model.decode_head.conv_seg.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    before = fingerprint(model)
    steps = {} if name == 'NFGSM' else {'steps': 3}
    attack = build(ATTACKS, {'type': name, 'eps': EPS, 'dtype': 'bfloat16', **steps})
    result = attack(model, batch)
    assert seen == {torch.bfloat16}
    assert fingerprint(model) == before
    radius = attack.budgets(4)[0].eps
    for image, clean in zip(result.images, result.clean, strict=True):
        assert image.dtype == torch.float32
        assert 0.5 * radius < (image - clean).abs().max() <= radius
    assert result.losses is None, 'losses that are reported are measured in fp32'


@pytest.mark.parametrize('dtype', ['float16', 'half', 'float64', 16])
def test_other_dtypes_are_refused_with_the_reason(dtype):
    with pytest.raises(ValueError, match="must be 'float32' or 'bfloat16', not .*underflow"):
        PGD(eps=EPS, dtype=dtype)
