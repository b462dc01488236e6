"""The Square attack on problems whose answer is known, and on a segmentor."""

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.attacks import Budget, Square, square_attack

WHOLE = slice(None)


def test_a_linear_model_with_one_sign_per_channel_is_maximised():
    weights = [torch.ones(4, 6, 5), -torch.ones(4, 3, 7)]

    def loss(images, progress):
        assert not torch.is_grad_enabled()
        return torch.stack([(w * x).sum() for w, x in zip(weights, images, strict=True)])

    images = [torch.full(w.shape, 100.0) for w in weights]
    torch.manual_seed(0)
    adv, losses = square_attack(loss, images, [Budget(WHOLE, 8, 0)], 800)
    assert (adv[0] == 108).float().mean() > 0.9
    assert (adv[1] == 92).float().mean() > 0.9
    assert losses.loss[0] == adv[0].sum()


def test_every_query_counts_and_the_harm_never_falls():
    seen = []

    def loss(images, progress):
        seen.append(images[0].sum())
        return torch.stack([torch.sin(x).sum() for x in images])

    image = torch.full((4, 8, 8), 100.0)
    found = []
    for queries in (5, 40):
        torch.manual_seed(0)
        seen.clear()
        found.append(square_attack(loss, [image], [Budget(WHOLE, 8, 0)], queries)[1].harm)
        assert len(seen) == queries
    assert found[1] >= found[0]


def test_budgets_hold_per_modality_and_the_box_is_kept():
    image = torch.cat([torch.full((3, 8, 8), 100.0), torch.full((1, 8, 8), 254.0)])
    budgets = [Budget(slice(0, 3), 0, 0), Budget(slice(3, 4), 4, 0)]
    adv, _ = square_attack(lambda x, _: x[0].sum()[None], [image], budgets, 30)
    assert torch.equal(adv[0][:3], image[:3])
    assert adv[0].max() == 255
    assert (adv[0] - image).abs().max() <= 4


def test_a_segmentor_is_harmed_without_gradients():
    model = build_model(tiny_segformer()).eval()
    attack = Square(eps=16 / 255, queries=30, objective={'type': 'PixelLoss', 'name': 'margin'})
    torch.manual_seed(0)
    result = attack(model, pair_batch())

    def harm(images):
        return attack.objective(model, images, pair_batch()['data_samples'], images, False).harm

    assert (harm(result.images) > harm(result.clean)).all()
    assert max((a - c).abs().max() for a, c in zip(result.images, result.clean, strict=True)) == pytest.approx(16)
