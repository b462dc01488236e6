"""Corruptions touch their own modality, grow with severity, and are the same wherever a pair stands."""

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.attacks import AdversarialAttackHook, Corruption
from paif_mm.attacks.corruptions import CORRUPTIONS, blur, fog, saturation
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.registry import ATTACKS, build


def smooth_pair(seed=0, size=(240, 320)):
    coarse = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode='bilinear')[0].mul(255).round()


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_one_modality_is_corrupted_the_more_the_higher_the_severity(name):
    pair = smooth_pair()
    changes = []
    for severity in range(1, 6):
        corrupted = Corruption(name, severity).corrupt(pair)
        other = INFRARED if CORRUPTIONS[name][0] == VISIBLE else VISIBLE
        assert torch.equal(corrupted[other], pair[other])
        assert corrupted.min() >= 0
        assert corrupted.max() <= 255
        assert torch.equal(corrupted, corrupted.round())
        changes.append((corrupted - pair).square().mean().item())
    assert changes[0] > 0
    assert all(a < b for a, b in zip(changes, changes[1:], strict=False)) or name.startswith('missing')


def test_by_hand():
    rng = torch.Generator().manual_seed(0)
    flat = torch.full((3, 20, 24), 100.0)
    torch.testing.assert_close(blur(flat, 100.0, rng), flat)
    assert torch.equal(fog(flat, 1.0, rng), flat)
    assert (fog(flat, 1e-9, rng) > 219).all()
    ramp = torch.tensor([90.0, 100, 110]).reshape(1, 1, 3)
    assert saturation(ramp, 3.0, rng).flatten().tolist() == [70, 100, 130]
    dead = Corruption('dead_pixels', 5).corrupt(torch.full((4, 200, 200), 100.0))[3]
    assert ((dead == 0) | (dead == 255)).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert Corruption('missing_infrared').corrupt(smooth_pair())[3].abs().sum() == 0
    impulse = torch.zeros(1, 61, 61)
    impulse[0, 30, 30] = 1000
    spread = blur(impulse, 2 * 480 / 61, rng)[0]  # sigma 2 at this height
    assert spread.sum().item() == pytest.approx(1000, rel=1e-4)
    assert (spread[30, 32] / spread[30, 30]).item() == pytest.approx(torch.tensor(-0.5).exp().item(), rel=1e-3)


def test_a_pair_is_corrupted_alike_in_any_batch_and_differently_by_another_seed():
    model = build_model(tiny_segformer())
    batch = pair_batch([(32, 40), (32, 40), (24, 40)])
    before = [image.clone() for image in batch['inputs']]
    attack = build(ATTACKS, {'type': 'Corruption', 'name': 'noise', 'severity': 2})
    result = attack(model, batch, index=[0, 2])
    assert result.index == [0, 2]
    assert all(torch.equal(a, b) for a, b in zip(before, batch['inputs'], strict=True))
    alone = attack(model, {key: value[2:] for key, value in batch.items()})
    assert torch.equal(alone.images[0], result.images[1])
    assert not torch.equal(Corruption('noise', 2, seed=1).corrupt(alone.clean[0]), alone.images[0])


def test_the_audit_of_a_corruption_has_its_loss():
    model = build_model(tiny_segformer()).eval()
    hook = AdversarialAttackHook({'type': 'Corruption', 'name': 'missing_visible'}, phases=('test',))

    class Runner:
        test_dataloader = ()

    runner, batch = Runner(), pair_batch()
    runner.model = model
    hook.before_test_epoch(runner)
    hook.before_test_iter(runner, 0, batch)
    assert hook.audit.max_delta == {'vis': 255, 'ir': 0}
    assert hook.audit.loss_after != hook.audit.loss_before
    assert (batch['inputs'][0][:3] == 0).all()


def test_unknown_names_severities_and_plain_images_are_refused():
    with pytest.raises(ValueError, match="there is no Corruption 'snow': Known are "):
        Corruption('snow')
    with pytest.raises(ValueError, match='severity must be 1 to 5, not 6'):
        Corruption('fog', 6)
    with pytest.raises(ValueError, match='needs pairs'):
        Corruption('fog').corrupt(torch.zeros(3, 8, 8))
