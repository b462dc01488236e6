import pytest
import torch

from paif_mm.fusion.channels import channel_dot, channel_max, channel_min, pointwise


def features() -> torch.Tensor:
    """Half of the pixels have channels that tie, as in black regions."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    x[:, 2] = x[:, 4]
    x[0, :, 0] = 0
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(('ours', 'theirs'), [(channel_max, torch.amax), (channel_min, torch.amin)])
def test_extremum_and_gradient_are_those_of_torch_also_where_channels_tie(ours, theirs):
    x = features()
    a, b = ours(x), theirs(x, 1, keepdim=True)
    assert torch.equal(a, b)
    weights = torch.randn(a.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((y.pow(2) * weights).sum(), x, create_graph=True)[0] for y in (a, b)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*(torch.autograd.grad(g.pow(3).sum(), x)[0] for g in gradients))


@pytest.mark.parametrize('bias', [None, torch.arange(3.0, dtype=torch.float64)], ids=['plain', 'bias'])
def test_pointwise_equals_the_convolution_in_its_layout(bias):
    x, weight = features(), torch.randn(3, 5, dtype=torch.float64)
    y, expected = pointwise(x, weight, bias), torch.nn.functional.conv2d(x, weight[:, :, None, None], bias)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*(torch.autograd.grad(z.exp().sum(), x)[0] for z in (y, expected)))


def test_channel_dot_by_hand():
    a = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert torch.equal(channel_dot(a, a), torch.full((1, 1, 2, 2), 14.0))
