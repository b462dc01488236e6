"""Steps of attacks and parts of losses in which a GPU's queue never runs empty: nothing is read back, nothing sent."""

from collections import Counter

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer
from torch.utils._python_dispatch import TorchDispatchMode

from paif_mm.attacks import frozen
from paif_mm.fusion import activation
from paif_mm.losses import FusionLoss
from paif_mm.losses.hook import batch_fusion_loss
from paif_mm.losses.weighting import rows
from paif_mm.registry import ATTACKS, build

EPS = 8 / 255
#: ``item()`` and ``bool(...)``; tensors of Python's numbers, also of lists that tensors are indexed by; results whose
#: size depends on values.
WAITING = ('_local_scalar_dense', 'lift_fresh', 'nonzero', 'masked_select', 'bincount', '_unique2')


class Waits(TorchDispatchMode):
    """Counts operations that would make a program wait for its GPU, and tensors made without saying on which device."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self.unsaid = torch.device('meta')

    def __enter__(self):
        self.unsaid.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.unsaid.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.overloadpacket.__name__
        masked = name == 'index' and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITING or masked or any(value == torch.device('meta') for value in kwargs.values()):
            self.counts[name] += 1
            kwargs = {key: torch.device('cpu') if key == 'device' else value for key, value in kwargs.items()}
        return function(*args, **kwargs)


@pytest.fixture(autouse=True)
def _as_elsewhere(monkeypatch):
    """The fusion network's PReLU looks at its slope on CPUs alone."""
    monkeypatch.setattr(activation, '_has_values', lambda x: False)


def test_what_waits_is_seen():
    x = torch.rand(3, 4)
    for wait in (
        lambda: x.sum().item(),
        lambda: bool((x > 0).all()),
        lambda: x[[2, 1, 0]],
        lambda: x.new_tensor([1.0]),
        lambda: x[x > 0.5],
        lambda: (x > 0).long().flatten().bincount(),
        lambda: torch.arange(3),
    ):
        with Waits() as waits:
            wait()
        assert waits.counts.total() == 1
    with Waits(), pytest.raises(NotImplementedError):
        torch.tensor([1.0]).to(x)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    'attack',
    [
        {'type': 'PGD', 'eps': EPS},
        {'type': 'PGD', 'eps': EPS, 'dtype': 'bfloat16'},
        {'type': 'PGD', 'eps': 2.0, 'norm': 'l2'},
        {'type': 'PGD', 'eps': EPS, 'keep': 'last', 'momentum': 1.0, 'smoothing': 5},
        {'type': 'PGD', 'eps': EPS, 'objective': {'type': 'FusionObjective'}},
        {'type': 'APGD', 'eps': EPS},
    ],
    ids=lambda attack: '-'.join(str(value) for value in attack.values()),
)
def test_no_step_of_an_attack_waits(attack, training):
    model, batch, counts = build_model(tiny_segformer()), pair_batch(), []
    build(ATTACKS, {**attack, 'steps': 2})(model, batch, training=training)  # what is made once and kept
    for steps in (2, 5):
        with Waits() as waits:
            build(ATTACKS, {**attack, 'steps': steps})(model, batch, training=training)
        counts.append(waits.counts)
    assert counts[0] == counts[1]


def test_the_fusion_loss_of_weighted_images_waits_for_nothing():
    model, batch, loss = build_model(tiny_segformer()), pair_batch([(32, 40)] * 3), FusionLoss()
    fuser = model.data_preprocessor
    with frozen(model):
        fuser(batch)
    expected = batch_fusion_loss(loss, fuser)
    for weights in (None, [1.0, 1.0, 1.0], [0.5, 2.0, 0.5], [1.5, 1.5, 0.0]):
        fuser.image_weights = weights
        with Waits() as waits:
            found = batch_fusion_loss(loss, fuser)
        assert not waits.counts
        if weights in (None, [1.0, 1.0, 1.0]):
            torch.testing.assert_close(found, expected)


def test_rows_are_those_of_indexing():
    values = torch.rand(4, 2, 3, requires_grad=True)
    assert torch.equal(rows(values, [2, 0]), values[[2, 0]])
    assert rows(values, []).shape == (0, 2, 3)
    one, other = (
        torch.autograd.grad(part.square().sum(), values)[0] for part in (rows(values, [1, 1]), values[[1, 1]])
    )
    assert torch.equal(one, other)


def test_a_size_whose_images_all_weigh_nothing_is_left_out_of_the_fusion_loss():
    model, loss = build_model(tiny_segformer()), FusionLoss()
    fuser = model.data_preprocessor
    pairs = [torch.rand(4, 32, 40) * 255, torch.rand(4, 40, 48) * 255]
    with frozen(model):
        fuser.fuse(pairs)
        fuser.image_weights = [2.0, 0.0]
        found = batch_fusion_loss(loss, fuser)
        fuser.fuse(pairs[:1])
        fuser.image_weights = None
        expected = batch_fusion_loss(loss, fuser)
    torch.testing.assert_close(found, expected)
