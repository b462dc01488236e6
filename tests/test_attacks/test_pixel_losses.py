"""Losses of single pixels against closed forms, and as objectives of a segmentor."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.attacks import DAG, PDPGD, PGD, ALMAProx, Losses, PixelLoss, TaskLoss, WeightedSum
from paif_mm.attacks.pixel_losses import BEYOND, PIXEL_LOSSES, bounded, scaled_margin

#: Three pixels of class 0: right by a margin of 2, wrong by 1, a tie of the first two.
Z = ((2.0, 0, 0), (0.0, 1, 0), (1.0, 1, 0))
LOGITS = torch.tensor(Z).T.reshape(1, 3, 1, 3)
LABELS = torch.tensor([[[0, 0, 0]]])
P = [torch.tensor(z).softmax(0) for z in Z]
CE = [-math.log(p[0]) for p in P]


def loss(name, progress=0.0, logits=LOGITS, labels=LABELS):
    return PIXEL_LOSSES[name](logits, labels, progress).flatten().tolist()


def test_cross_entropies_by_hand():
    assert loss('cross_entropy') == pytest.approx(CE)
    assert loss('masked_cross_entropy') == pytest.approx([CE[0], 0, CE[2]])  # of a tie the first class wins


def test_balanced_classes_count_alike():
    labels = torch.tensor([[[0, 0, 0, 1]]])
    logits = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()  # all right, and alike
    values = torch.tensor(loss('balanced_cross_entropy', logits=logits, labels=labels))
    assert values[:3].sum() == pytest.approx(values[3].item())
    plain = torch.tensor(loss('cross_entropy', logits=logits, labels=labels))
    assert values.mean() == pytest.approx(plain.mean().item(), rel=1e-5)


def test_jensen_shannon_is_the_divergence():
    expected = []
    for p in P:
        p, q = p.double(), torch.tensor([1.0, 0, 0]).double()
        m = (p + q) / 2
        expected.append(float((p * (p / m).log()).sum() / 2 + (q[0] * (q[0] / m[0]).log()) / 2))
    assert loss('jensen_shannon') == pytest.approx(expected, abs=1e-6)
    lost = torch.tensor([-200.0, 0, 0]).reshape(1, 3, 1, 1)
    assert loss('jensen_shannon', logits=lost, labels=LABELS[..., :1]) == pytest.approx([math.log(2)])


@pytest.mark.parametrize(('progress', 'share'), [(0.0, 0.0), (0.5, 0.25), (0.9, 0.45)])
def test_segpgd_moves_from_right_to_wrong_pixels(progress, share):
    expected = [(1 - share) * CE[0], share * CE[1], (1 - share) * CE[2]]
    assert loss('segpgd', progress) == pytest.approx(expected)


def test_cospgd_weighs_by_the_cosine_without_a_gradient():
    cosines = [float(p[0] / p.norm()) for p in P]
    assert loss('cospgd') == pytest.approx([ce * cosine for ce, cosine in zip(CE, cosines, strict=True)])
    z = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(PIXEL_LOSSES['cospgd'](z, LABELS, 0.0).sum(), z)
    for i in range(3):  # weight x d cross-entropy / d z_y
        assert gradient[0, 0, 0, i].item() == pytest.approx(cosines[i] * (float(P[i][0]) - 1), rel=1e-5)


def test_margins_by_hand():
    assert loss('margin') == pytest.approx([-2, 0, 0])
    assert loss('dlr') == pytest.approx([-1, 0, 0])
    assert loss('dlr', logits=7 * LOGITS) == pytest.approx([-1, 0, 0])  # whatever the scale


def test_cospgd_takes_another_direction_than_cross_entropy():
    """A weight after the reduction would leave the direction as it was (a defect of published ports)."""
    z = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.randint(0, 5, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    directions = []
    for name in ('cross_entropy', 'cospgd'):
        (gradient,) = torch.autograd.grad(PIXEL_LOSSES[name](z, y, 0.0).mean(), z)
        directions.append(gradient.flatten() / gradient.norm())
    assert directions[0] @ directions[1] < 0.99


@pytest.fixture(scope='module')
def model():
    return build_model(tiny_segformer()).eval()


def call(model, objective, batch, progress=1.0):
    inputs = [image.float() for image in batch['inputs']]
    return objective(model, inputs, batch['data_samples'], inputs, False, progress)


@pytest.mark.parametrize('name', PIXEL_LOSSES)
def test_ignored_pixels_and_other_images_take_no_part(model, name):
    batch = pair_batch([(32, 40), (32, 40)])
    found = call(model, PixelLoss(name), batch, progress=0.5)
    one = call(model, PixelLoss(name), {key: value[1:] for key, value in batch.items()}, progress=0.5)
    torch.testing.assert_close(found.loss[1], one.loss[0])
    batch['data_samples'][0].gt_sem_seg.data[:] = 255
    found = call(model, PixelLoss(name), batch, progress=0.5)
    assert found.loss[0] == found.harm[0] == 0
    torch.testing.assert_close(found.loss[1], one.loss[0])


def test_cross_entropy_agrees_with_the_models_own_loss(model):
    torch.testing.assert_close(call(model, PixelLoss(), pair_batch()).loss, call(model, TaskLoss(), pair_batch()))


def test_harm_is_the_share_of_wrong_pixels(model):
    with torch.no_grad():
        prediction = model.test_step(pair_batch([(32, 40)]))[0].pred_sem_seg.data[0]
    batch = pair_batch([(32, 40)])
    label = batch['data_samples'][0].gt_sem_seg.data[0]
    wrong = (prediction != label)[label != 255].float().mean().item()
    assert call(model, PixelLoss('margin'), batch).harm.item() == pytest.approx(wrong)


@pytest.mark.parametrize('name', PIXEL_LOSSES)
def test_every_pixel_loss_drives_an_attack(model, name):
    attack = PGD(eps=8 / 255, steps=4, random_start=False, objective={'type': 'PixelLoss', 'name': name})
    result = attack(model, pair_batch())
    clean = call(model, PixelLoss('cross_entropy'), pair_batch())
    attacked = call(model, PixelLoss('cross_entropy'), {**pair_batch(), 'inputs': result.images})
    assert (attacked.harm >= clean.harm).all()
    assert (attacked.harm > clean.harm).any()
    assert (result.losses is None) == (name == 'segpgd')  # whose values can't be compared over the steps


def test_sums_of_objectives_have_losses_and_harms():
    class Fixed:
        def __call__(self, *args):
            return Losses(torch.tensor([1.0]), torch.tensor([0.5]))

    class Plain:
        scheduled = True

        def __call__(self, *args):
            return torch.tensor([3.0])

    both = WeightedSum([Fixed(), Plain()], [2.0, 1.0])
    assert both(None) == Losses(*(torch.tensor([value]) for value in (5.0, 4.0, 5.0)))
    assert both.scheduled


def test_wrong_names_and_models_are_refused():
    with pytest.raises(ValueError, match='PixelLoss has no loss .*Known are '):
        PixelLoss('cosine')
    with pytest.raises(TypeError, match='PixelLoss attacks segmentors, not Linear'):
        call(torch.nn.Linear(1, 1), PixelLoss(), pair_batch())


@pytest.mark.parametrize('name', sorted(PIXEL_LOSSES))
def test_the_losses_of_sea_are_steered_by_the_mean_cross_entropy(name):
    logits, labels = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6))
    labels[1, 2:] = 255
    found = PixelLoss(name)._image_losses(logits, labels, 0.5)
    pairs = zip(logits, labels, strict=True)
    expected = torch.stack([F.cross_entropy(z[None], y[None], ignore_index=255) for z, y in pairs])
    steered = name in ('masked_cross_entropy', 'balanced_cross_entropy', 'jensen_shannon')
    torch.testing.assert_close(found.steer, expected if steered else found.loss)


def test_class_weights_of_the_data_set_weigh_the_right_pixels():
    logits, labels = torch.randn(1, 3, 4, 5), torch.randint(0, 3, (1, 4, 5))
    weight = [0.5, 2.0, 7.0]
    found = PixelLoss('balanced_cross_entropy', weight)._image_losses(logits, labels, 0.0).loss
    right = logits.argmax(1) == labels
    losses = F.cross_entropy(logits, labels, weight=torch.tensor(weight), reduction='none')
    torch.testing.assert_close(found, (losses * right).mean((1, 2)))


def test_class_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='class_weight for balanced_cross_entropy alone, not for dlr'):
        PixelLoss('dlr', [1.0, 1.0])
    with pytest.raises(ValueError, match='has 2 weights, but the model 3 classes'):
        PixelLoss('balanced_cross_entropy', [1.0, 1.0])._image_losses(
            torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64), 0.0
        )


INF = float('inf')
#: Logits of one pixel of class 0 and what its scaled margin is in the limit; the finite pixel beside it has 0 to 3.
INFINITE = {
    'surely right': ((INF, 1, 2, 0), 1.0),
    'surely wrong': ((1, INF, 2, 0), -1.0),
    'level with another': ((INF, INF, 2, 0), 0.0),
    'of a class that is never predicted': ((-INF, 1, 2, 0), None),
    'beside a class that is never predicted': ((3, -INF, 2, 0), 1 / 3),
    'beside two': ((3, -INF, 2, -INF), None),
    'of none but infinite ones': ((-INF, -INF, -INF, -INF), 0.0),
}


@pytest.mark.parametrize('name', INFINITE)
def test_infinite_logits_are_bounded(name):
    """To finite values of the same order; what is finite stays as it is, and gradients are finite."""
    pixel, margin = INFINITE[name]
    logits = torch.tensor([pixel, (0.0, 1, 2, 3)]).T.reshape(1, 4, 1, 2).requires_grad_()
    found, labels = bounded(logits), torch.zeros(1, 1, 2, dtype=torch.long)
    assert found.isfinite().all()
    finite = logits.isfinite()
    assert torch.equal(found[finite], logits[finite])
    before, after = logits.detach()[0, :, 0, 0], found.detach()[0, :, 0, 0]
    assert torch.equal(before[:, None] < before, after[:, None] < after), 'the order of classes'
    margins = scaled_margin(found.detach(), labels)
    assert margins[0, 0, 1] == pytest.approx(-1.5)
    if margin is not None:
        assert margins[0, 0, 0].item() == pytest.approx(margin, abs=0.03)
    right = pixel[0] >= max(pixel)
    assert (margins[0, 0, 0] >= 0) == right
    for loss_of in PIXEL_LOSSES.values():
        values = loss_of(bounded(logits), labels, 0.5)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert values.isfinite().all()
        assert gradient.isfinite().all()
        assert not gradient[~finite].any()


def test_bounded_logits_are_those_of_each_image_and_what_is_no_number_stays_none():
    logits = torch.tensor([[5.0, INF, -INF], [50.0, INF, math.nan]]).reshape(2, 3, 1, 1)
    found = bounded(logits).flatten(1)
    assert found[0].tolist() == [5, 5 + BEYOND, 5 - BEYOND]
    assert found[1, :2].tolist() == [50, 50 + BEYOND]
    assert found[1, 2].isnan()


def test_a_model_with_infinite_logits_is_attacked_by_its_other_pixels():
    """A hundredth of the pixels: losses are finite, and what is left of the gradient is followed."""
    model, batch = build_model(tiny_segformer()).eval(), pair_batch()

    def spoil(module, inputs, logits):
        spoilt = logits.clone()
        spoilt[:, 0, 0, 0], spoilt[:, 1, -1, -1] = INF, -INF
        return spoilt

    model.decode_head.register_forward_hook(spoil)
    for name in PIXEL_LOSSES:
        attack = PGD(8 / 255, steps=2, step_size=8 / 255, objective={'type': 'PixelLoss', 'name': name})
        found = attack(model, batch)
        assert attack.losses(model, found.images, found, batch).isfinite().all(), name
        assert not found.blind.any(), name
        assert all((a - c).abs().max() > 7 for a, c in zip(found.images, found.clean, strict=True)), name
    for attack in (ALMAProx(0.9, steps=3), PDPGD(0.9, steps=3), DAG(0.9, steps=3)):
        assert all(image.isfinite().all() for image in attack(model, batch).images)
