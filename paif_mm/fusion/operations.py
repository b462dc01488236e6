"""The searchable operations of the fusion network (PAIF, ACM MM 2023, Sec. 2.1), registered by the paper's names.

Every operation maps (N, C, H, W) to (N, C, H, W) for any H, W >= 1, has no convolution bias, and is built from
``channels`` alone: ``OPERATIONS.build(dict(type='3-DB', channels=32))``. The number in a name is the kernel size.

An operation leaves its input as it is: skip connections, other candidates of a search and backward passes read it
afterwards, so that ``nn.ReLU(inplace=True)`` must not come first. Its output is fresh, or the input itself: it is
overwritten if no gradient is wanted.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paif_mm.registry import OPERATIONS

from .activation import PReLU
from .channels import channel_max, makes_graph

KERNEL_SIZES = (3, 5, 7)


def conv(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias whose output has the input's size; odd kernels only."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=False,
    )


class Convolution(nn.Module):
    """``k-C``: one convolution and a PReLU; the only operation without a skip connection.

    Args:
        channels (int): channels C of input and output.
        kernel_size (int): odd kernel size.
    """

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv = conv(channels, channels, kernel_size)
        self.act = PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class DenseBlock(nn.Module):
    """``k-DB``: three densely connected convolutions with one shared PReLU slope, ``x + 0.333333 * x3``.

    Args:
        channels (int): channels C of input and output.
        kernel_size (int): odd kernel size of the three convolutions.
    """

    # The released network's literal, not 1/3: released weights were trained with it.
    SCALE = 0.333333

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv1 = conv(channels, channels, kernel_size)
        self.conv2 = conv(2 * channels, channels, kernel_size)
        self.conv3 = conv(3 * channels, channels, kernel_size)
        self.act = PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.act(self.conv1(x))
        features = [x, x1, self.act(conv_of_concatenation(self.conv2, [x, x1]))]
        del x1
        return skip(x, self.act(conv_of_concatenation(self.conv3, features)), self.SCALE)


class DilatedConv(nn.Module):
    """``k-DC``: ReLU, depthwise convolution with dilation 2, 1x1 convolution, BatchNorm; added to the input.

    Args:
        channels (int): channels C of input and output.
        kernel_size (int): odd kernel size of the depthwise convolution.
    """

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        self.depthwise = conv(channels, channels, kernel_size, dilation=2, groups=channels)
        self.pointwise = conv(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y, depthwise, pointwise = F.relu(x), self.depthwise, self.pointwise.weight
        trains = torch.is_grad_enabled() and depthwise.weight.requires_grad and not torch.jit.is_tracing()
        if y.is_cpu and trains:
            # On a CPU the weight gradient of a dilated depthwise convolution takes twice the time of everything that
            # the full convolution takes which both convolutions make, and torch 2.14 computes a wrong one in bfloat16.
            weight = pointwise * depthwise.weight.transpose(0, 1)
            return skip(x, normalised(self.norm, y, weight, depthwise.padding, depthwise.dilation))
        return skip(x, normalised(self.norm, depthwise(y), pointwise))


class ResidualBlock(nn.Module):
    """``k-RB``: convolution, 3x3 convolution with dilation 2, 1x1 convolution, BatchNorm, PReLU; added to the input.

    Args:
        channels (int): channels C of input and output.
        kernel_size (int): odd kernel size of the first convolution.
    """

    def __init__(self, channels: int, kernel_size: int = 7):
        super().__init__()
        self.conv = conv(channels, channels, kernel_size)
        self.dilated = conv(channels, channels, 3, dilation=2)
        self.pointwise = conv(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return skip(x, self.act(normalised(self.norm, self.dilated(self.conv(x)), self.pointwise.weight)))


class ChannelAttention(nn.Module):
    """``CA``: two 3x3 convolutions with efficient channel attention (ECA, Wang et al. 2020) and one PReLU slope.

    As in the released network, the skip connection adds the output of the *first convolution*, not the input.

    Args:
        channels (int): channels C of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv(channels, channels, 3)
        self.conv2 = conv(channels, channels, 3)
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)  # slides over channels
        self.act = PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.conv2(F.prelu(x, self.act.weight))  # x, which is added below, must not be overwritten
        return self.act(torch.addcmul(x, y, self.attention(y)))

    def attention(self, y: Tensor) -> Tensor:
        """One weight in (0, 1) per channel: (N, C, H, W) -> (N, C, 1, 1)."""
        gate = self.gate(y.mean((2, 3)).unsqueeze(1)).sigmoid()  # (N, 1, C)
        return gate.transpose(1, 2).unsqueeze(-1)


class SpatialAttention(ChannelAttention):
    """``SA``: as ``CA`` with one weight per pixel instead of one per channel (CBAM's, Woo et al. 2018).

    The weight is sigmoid(conv7x7([max_c y, mean_c y])). Everything else equals ``CA``, so that comparing the two
    compares the attentions.

    Args:
        channels (int): channels C of input and output.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.gate = conv(2, 1, 7)

    def attention(self, y: Tensor) -> Tensor:
        """One weight in (0, 1) per pixel: (N, C, H, W) -> (N, 1, H, W)."""
        return self.gate(torch.cat([channel_max(y), y.mean(1, keepdim=True)], 1)).sigmoid()


class TransformerBlock(nn.Module):
    """``TB``: pre-norm transformer block, ``x + attention(norm(x))`` and then ``x + mlp(norm(x))``.

    Attention is linear in the number of pixels (Shen et al. 2021, 'Efficient Attention'): keys are normalised over all
    pixels, queries over their features, and the d x d context softmax(K)^T V of a head is formed first. So every pixel
    sees the whole image at any size, 480x640 included, without windows or padding. The MLP holds a depthwise 3x3
    convolution, which tells positions apart (as in SegFormer's Mix-FFN).

    Args:
        channels (int): channels C of input and output.
        head_channels (int): features per head; a C that it does not divide makes one head.
        expansion (int): hidden channels of the MLP, in multiples of C.
    """

    def __init__(self, channels: int, head_channels: int = 8, expansion: int = 2):
        super().__init__()
        self.heads = channels // head_channels if channels % head_channels == 0 else 1
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = conv(channels, 3 * channels, 1)
        self.out = conv(channels, channels, 1)
        self.norm2 = nn.LayerNorm(channels)
        hidden = expansion * channels
        self.mlp = nn.Sequential(
            conv(channels, hidden, 1), conv(hidden, hidden, 3, groups=hidden), nn.GELU(), conv(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attention(_norm_channels(self.norm1, x)))
        return x + self.mlp(_norm_channels(self.norm2, x))

    def attention(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        pixels = self.qkv(x).permute(0, 2, 3, 1).reshape(n, h * w, 3, self.heads, c // self.heads)
        query, key, value = pixels.permute(2, 0, 3, 1, 4)  # (N, heads, HW, d) each
        context = key.softmax(-2).transpose(-1, -2) @ value  # (N, heads, d, d)
        result = query.softmax(-1) @ context
        return result.transpose(1, 2).reshape(n, h, w, c).permute(0, 3, 1, 2)


def _norm_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm over the channels of each pixel; free of copies in channels-last layout."""
    return norm(x.permute(0, 2, 3, 1)).to(x.dtype).permute(0, 3, 1, 2)


def conv_of_concatenation(layer: nn.Conv2d, inputs: list[Tensor]) -> Tensor:
    """``layer(torch.cat(inputs, 1))`` without the concatenation: a convolution is linear in its input channels.

    Saves writing the concatenation and, in backward, splitting its gradient. The list is emptied, so that an input that
    nobody else holds is freed as soon as it has been read.
    """
    return _sum_of_convs(inputs, layer.weight, layer.bias, layer.padding, layer.dilation)


def normalised(
    norm: nn.BatchNorm2d | nn.SyncBatchNorm,
    x: Tensor | list[Tensor],
    weight: Tensor,
    padding=0,
    dilation=1,
    bias: Tensor | None = None,
) -> Tensor:
    """A batch norm's output for the convolution of x; in eval mode they are one convolution.

    For a list, x is their concatenation, as of :func:`conv_of_concatenation`.
    """
    inputs = x if isinstance(x, list) else [x]
    if norm.training:
        return norm(_sum_of_convs(inputs, weight, bias, padding, dilation))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    mean = norm.running_mean if bias is None else norm.running_mean - bias
    shift = norm.bias - mean * scale
    return _sum_of_convs(inputs, weight * scale[:, None, None, None], shift, padding, dilation)


def _sum_of_convs(inputs: list[Tensor], weight: Tensor, bias: Tensor | None, padding, dilation) -> Tensor:
    weights = list(weight.split([x.shape[1] for x in inputs], dim=1)) if len(inputs) > 1 else [weight]
    out = F.conv2d(inputs.pop(), weights.pop(), bias, padding=padding, dilation=dilation)
    while inputs:
        out.add_(F.conv2d(inputs.pop(), weights.pop(), padding=padding, dilation=dilation))
    return out


def skip(x: Tensor, y: Tensor, scale: float = 1) -> Tensor:
    """x + scale * y for a y that nobody reads afterwards: it is overwritten if no gradient is wanted."""
    wanted = x.requires_grad or y.requires_grad or makes_graph()
    return torch.add(x, y, alpha=scale, out=y if x.dtype == y.dtype and not wanted else None)


def build_operation(name: str, channels: int) -> nn.Module:
    """Build the operation registered as ``name``.

    Raises:
        KeyError: there is none.
        ValueError: it overwrites its input.
    """
    operation = OPERATIONS.build({'type': name, 'channels': channels})
    if _overwrites(operation, channels):
        raise ValueError(
            f'operation {name} overwrites its input, which others may read: let it work on a copy (inplace=False)'
        )
    return operation


def _overwrites(operation: nn.Module, channels: int) -> bool:
    """Seen on one pixel, once, since compiled code and inference mode do not count writes."""
    modes = {module: module.training for module in operation.modules()}
    with torch.inference_mode(False), torch.no_grad():
        x = torch.zeros(1, channels, 1, 1)
        before = x._version
        operation.eval()(x)
    for module, training in modes.items():
        module.training = training
    return x._version != before


def _register(name: str, operation: type, **settings) -> None:
    def build(channels: int) -> nn.Module:
        return operation(channels, **settings)

    OPERATIONS.register_module(name=name, module=build)


for _name, _operation in (('C', Convolution), ('DC', DilatedConv), ('RB', ResidualBlock), ('DB', DenseBlock)):
    for _size in KERNEL_SIZES:
        _register(f'{_size}-{_name}', _operation, kernel_size=_size)
_register('CA', ChannelAttention)
_register('SA', SpatialAttention)
_register('TB', TransformerBlock)
