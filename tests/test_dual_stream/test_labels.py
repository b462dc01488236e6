"""Labels of side outputs, and EGFNet's edge map, against known answers."""

import cv2
import numpy as np
import pytest
import torch
from helpers import build_model
from test_dual_stream.models import small

from paif_mm.dual_stream.edges import edge_map
from paif_mm.dual_stream.labels import boundaries, foreground


def test_the_foreground_is_what_is_not_class_0():
    labels = torch.tensor([0, 3, 255, 1]).view(1, 1, 2, 2)
    assert foreground(labels, 255).flatten().tolist() == [0, 1, 255, 1]


def test_boundaries_are_where_five_by_five_pixels_hold_two_classes():
    labels = torch.zeros(1, 1, 9, 9, dtype=torch.long)
    labels[..., 5:] = 2
    assert boundaries(labels, 255)[0, 0].tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0]] * 9
    labels[..., 5:] = 255
    assert boundaries(labels, 255)[0, 0].tolist() == [[0, 0, 0, 0, 0, 255, 255, 255, 255]] * 9


def test_boundaries_are_those_of_a_search_by_hand():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 1, 7, 6), generator=generator).repeat_interleave(3, 2).repeat_interleave(3, 3)
    labels[0, 0, 4:9, 2:5] = 255
    found = boundaries(labels, 255)
    for image, answer in zip(labels[:, 0].numpy(), found[:, 0].numpy(), strict=True):
        for y, x in np.ndindex(image.shape):
            window = image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            expected = 255 if image[y, x] == 255 else int(len(set(window.flatten()) - {255}) > 1)
            assert answer[y, x] == expected


def opencv_edges(grey: np.ndarray) -> np.ndarray:
    parts = [cv2.convertScaleAbs(cv2.Sobel(grey, cv2.CV_16S, *axis)) for axis in ((1, 0), (0, 1))]
    return cv2.addWeighted(parts[0], 0.5, parts[1], 0.5, 0).astype(float)


def test_edges_are_those_of_opencv_up_to_rounding():
    rng = np.random.default_rng(0)
    pair = cv2.GaussianBlur(rng.integers(0, 256, (21, 18, 4), dtype=np.uint8), (5, 5), 1)
    expected = opencv_edges(cv2.cvtColor(pair[..., :3], cv2.COLOR_BGR2GRAY)) + opencv_edges(pair[..., 3])
    found = edge_map(torch.from_numpy(pair).permute(2, 0, 1)[None].float())
    assert found.shape == (1, 1, 21, 18)
    assert np.abs(found[0, 0].numpy() - expected).max() <= 4  # of the luminance, times the filter's weights
    assert expected.max() > 100


def test_edges_are_bounded_and_differentiable():
    pair = torch.zeros(1, 4, 6, 6)
    pair[..., 3:] = 255.0
    assert edge_map(pair).max() == 255  # |S_x| is 1020, taken as 255, in both modalities; half of each counts
    pair = torch.rand(1, 4, 6, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    edge_map(pair * 50).sum().backward()
    assert (pair.grad.abs().sum((2, 3)) > 0).all()


@pytest.mark.parametrize('scale', ['normalised', 'raw'])
def test_egfnet_sees_the_edges_of_the_raw_pair(scale):
    config = small('EGFNet')
    if scale == 'raw':
        for key in ('mean', 'std'):
            config.data_preprocessor.pop(key)
    model = build_model(config)
    pair = torch.randint(0, 256, (4, 24, 32), generator=torch.Generator().manual_seed(0))
    inputs = model.data_preprocessor({'inputs': [pair.byte()]}, False)['inputs']
    torch.testing.assert_close(model.edges(inputs.float()), edge_map(pair[None].float()), rtol=1e-4, atol=1e-2)
