"""Draws that leave no trace in the global generators, and no seeding of them anywhere."""

import random

import numpy as np
import pytest
import torch
from conftest import REPO
from helpers import box_batch, build_model, generators_untouched, pair_batch, tiny_fcos, tiny_segformer
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from paif_mm.attacks import APGD, PGD, Corruption, FusionObjective, PixelLoss, Square, TaskLoss, WeightedSum, frozen
from paif_mm.meta_init.craft import craft
from paif_mm.randomness import OwnDraws, fixed_draws, kept_draws, random_state, set_random_state


def drawn():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_fixed_draws_are_the_same_every_time_and_unseen_afterwards():
    with generators_untouched():
        rows = []
        for seed in (0, 0, 1):
            with fixed_draws(seed=seed):
                rows.append(drawn())
    assert rows[0] == rows[1]
    assert all(a != b for a, b in zip(rows[0], rows[2], strict=True))


def test_kept_draws_go_on_from_where_they_are_and_are_unseen_afterwards():
    state = random_state()
    with kept_draws():
        inside = drawn()
    assert drawn() == inside
    set_random_state(state)
    assert drawn() == inside


def test_a_stream_of_its_own_goes_on_and_is_unseen():
    streams = OwnDraws(), OwnDraws(), OwnDraws(seed=1)
    rows = []
    with generators_untouched():
        for stream in streams * 2:
            with stream:
                rows.append(drawn())
            torch.get_rng_state()
    assert rows[0] == rows[1]
    assert rows[3] == rows[4]
    assert len({row[2] for row in rows}) == 4  # two streams, each at two places


def test_a_randomised_defence_shows_every_step_of_an_attack_other_noise(segmentor):
    """A fixed draw would let the attack fit the noise; a global one would change what is drawn after it."""
    seen, original = [], segmentor.backbone.forward

    def noisy(x):
        seen.append(torch.rand(1).item())
        return original(x)

    segmentor.backbone.forward = noisy
    try:
        with generators_untouched():
            PGD(8 / 255, steps=3, keep='last')(segmentor, pair_batch(), rng=generators(2))
    finally:
        del segmentor.backbone.forward
    assert len(set(seen)) == 3


@pytest.mark.parametrize('context', [fixed_draws, kept_draws, OwnDraws])
def test_an_exception_leaves_the_generators_as_they_were(context):
    with generators_untouched(), pytest.raises(RuntimeError, match='planted'), context():
        drawn()
        raise RuntimeError('planted')


@pytest.fixture
def two_gpus(monkeypatch):
    """Generators of two CUDA devices, played by those of the CPU."""
    generators = tuple(torch.Generator().manual_seed(seed) for seed in (5, 6))
    monkeypatch.setattr(torch.cuda, 'init', lambda: None)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'default_generators', generators, raising=False)
    return generators


@pytest.mark.parametrize('device', ['cuda', 'cuda:0', 'cuda:1'])
def test_the_generator_of_one_gpu_is_fixed_and_put_back_and_no_other_touched(two_gpus, device):
    ours, other = two_gpus[::-1] if device == 'cuda:1' else two_gpus
    states = [generator.get_state() for generator in two_gpus]
    numbers = []
    for _ in range(2):
        with generators_untouched(), fixed_draws(device):
            numbers.append(torch.rand(3, generator=ours))
            assert torch.equal(other.get_state(), states[two_gpus.index(other)])
    assert torch.equal(*numbers)
    with pytest.raises(RuntimeError, match='planted'), fixed_draws(device):
        torch.rand(3, generator=ours)
        raise RuntimeError('planted')
    assert all(torch.equal(a.get_state(), b) for a, b in zip(two_gpus, states, strict=True))


# ------------------------------------------------------------------------------------- what users call draws nothing


@pytest.fixture(scope='module')
def segmentor():
    return build_model(tiny_segformer()).train()  # a training model, whose dropout would draw


@pytest.fixture(scope='module')
def two_stages():
    """A detector that samples its proposals at random."""
    config = Config.fromfile(REPO / 'configs/families/faster-rcnn_m3fd.py').model
    config.backbone.init_cfg = None
    init_default_scope('mmdet')
    return MODELS.build(config).eval()


def generators(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


ATTACKS = {
    'PGD': PGD(8 / 255, steps=1),
    'PGD in L2': PGD(1.0, steps=1, norm='l2'),
    'restarts': PGD(8 / 255, steps=1, restarts=2, restarts_at_once=2),
    'for transfer': PGD(8 / 255, steps=2, keep='last', momentum=1.0, input_diversity=0.7, smoothing=3),
    'Auto-PGD': APGD(8 / 255, steps=3),
    'Square': Square(8 / 255, queries=3),
    'corruption': Corruption('noise', 3),
}


@pytest.mark.parametrize('name', ATTACKS)
@pytest.mark.parametrize('training', [False, True])
def test_attacks_with_generators_of_their_own_leave_the_global_ones_alone(segmentor, name, training):
    batch = pair_batch()
    with generators_untouched():
        result = ATTACKS[name](segmentor, batch, training=training, rng=generators(2))
    assert all((image != clean).any() for image, clean in zip(result.images, result.clean, strict=True))


def test_attacks_without_generators_draw_one_number_per_value_and_no_more(segmentor):
    """Only the random start: what the global generator gives next is what follows it."""
    batch = pair_batch()
    state = torch.get_rng_state()
    PGD(8 / 255, steps=2)(segmentor, batch)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    for image in batch['inputs']:
        torch.empty(image.shape).uniform_(-1, 1)
    assert torch.equal(torch.get_rng_state(), after)


OBJECTIVES = {
    'TaskLoss': TaskLoss(),
    'PixelLoss': PixelLoss('cospgd'),
    'FusionObjective': FusionObjective(),
    'WeightedSum': WeightedSum([{'type': 'TaskLoss'}, {'type': 'FusionObjective'}], [1.0, 2.0]),
}


@pytest.mark.parametrize('name', OBJECTIVES)
def test_objectives_leave_the_global_generators_alone(segmentor, name):
    batch = pair_batch()
    inputs = [image.float() for image in batch['inputs']]
    with generators_untouched(), frozen(segmentor):
        OBJECTIVES[name](segmentor, inputs, batch['data_samples'], inputs, True)


@pytest.mark.parametrize('kind', ['one stage', 'two stages'])
def test_the_loss_of_a_detector_leaves_the_global_generators_alone(two_stages, kind):
    if kind == 'one stage':
        init_default_scope('mmdet')
    model = two_stages if kind == 'two stages' else MODELS.build(tiny_fcos())
    batch = box_batch([(64, 96)])
    with generators_untouched():
        losses = [PGD(8 / 255, steps=1)(model, batch, rng=generators(1)).losses for _ in range(2)]
    assert torch.equal(*losses)


def test_making_a_bank_leaves_the_global_generators_alone(segmentor, tmp_path):
    class Dataset:
        batch = pair_batch()

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {key: value[index] for key, value in self.batch.items()}

        def get_data_info(self, index):
            return {'img_path': f'{index}.png'}

    with generators_untouched():
        banks = [
            craft(segmentor, Dataset(), tmp_path / f, {'small': 2 / 255}, 2, steps=1, progress=False) for f in 'ab'
        ]
    names = banks[0].names
    assert all(torch.equal(banks[0].read('small', n)[0], banks[1].read('small', n)[0]) for n in names)
