"""The fusion that is no network."""

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.fusion import AverageFusion


@pytest.mark.parametrize(('weight', 'expected'), [(0.5, 0.4), (0.0, 0.6), (1.0, 0.2), (0.25, 0.5)])
def test_weighted_means(weight, expected):
    ir, vis = torch.full((2, 1, 3, 4), 0.2), torch.full((2, 1, 3, 4), 0.6)
    torch.testing.assert_close(AverageFusion(weight)(ir, vis), torch.full((2, 1, 3, 4), expected))


def test_a_weight_of_zero_leaves_the_visible_image_to_the_model():
    model = build_model(tiny_segformer({'type': 'AverageFusion', 'ir_weight': 0.0}))
    batch = pair_batch()
    fused = model.data_preprocessor.fuse([image.float() for image in batch['inputs']])
    for image, pair in zip(fused, batch['inputs'], strict=True):
        torch.testing.assert_close(image, pair[:3].float(), atol=0.5, rtol=0)  # up to the rounding of the formulas
    assert not list(model.data_preprocessor.fusion.parameters())


def test_weights_beyond_the_range_are_refused():
    with pytest.raises(ValueError, match='ir_weight must be in'):
        AverageFusion(1.5)
