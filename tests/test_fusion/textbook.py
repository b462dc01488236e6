"""The searched fusion network written straightforwardly, formula by formula: the reference for value and speed.

Guided filters as He et al. 2013 print them: box means by cumulative sums, one filter per strength, low and high
frequencies and their concatenation as tensors; dense blocks concatenate; memory layout is torch's default.
Works on the parameters of a :class:`paif_mm.fusion.FusionNet` with the released genotype, so that values and
gradients of the two can be compared tensor by tensor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def textbook_fusion(network: nn.Module, ir: Tensor, vis: Tensor) -> Tensor:
    """The output of ``network(ir, vis)``, (N, 1, H, W), with the network's parameters, in its mode."""
    p = dict(network.named_parameters()) | dict(network.named_buffers()) | {'training': network.training}
    ir = branch(p, 'ir', ir, dense_block, dilated_conv)
    vis = branch(p, 'vis', vis, dense_block, dense_block)
    x = adaptive_average(p, ir, vis)
    x = x + residual_block(p, 'chain.1', channel_attention(p, 'chain.0', x))
    x = conv(conv(x, p['head.0.weight']), p['head.1.weight'])
    return torch.tanh(F.prelu(x, p['head.2.weight']))


def branch(p: dict, name: str, x: Tensor, first, second) -> Tensor:
    features = F.prelu(conv(x, p[f'{name}.stem.0.weight']), p[f'{name}.stem.1.weight'])
    mixed = decomposition(p, f'{name}.decomposition', features)
    chain = mixed + second(p, f'{name}.chain.1', first(p, f'{name}.chain.0', mixed))
    return features + chain


def decomposition(p: dict, name: str, x: Tensor) -> Tensor:
    guide = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    low = [guided_filter(guide, x, eps) for eps in (1e-3, 1e-4)]
    high = [x - part for part in low]
    return F.conv2d(torch.cat(low + high, 1), p[f'{name}.project.weight'], p[f'{name}.project.bias'])


def guided_filter(guide: Tensor, x: Tensor, eps: float, radius: int = 4) -> Tensor:
    count = box_sum(torch.ones_like(guide[:1]), radius)
    mean_guide, mean_x = box_sum(guide, radius) / count, box_sum(x, radius) / count
    covariance = box_sum(guide * x, radius) / count - mean_guide * mean_x
    variance = box_sum(guide * guide, radius) / count - mean_guide * mean_guide
    a = covariance / (variance + eps)
    b = mean_x - a * mean_guide
    return box_sum(a, radius) / count * guide + box_sum(b, radius) / count


def box_sum(x: Tensor, radius: int) -> Tensor:
    size = 2 * radius + 1
    x = F.pad(x, (0, 0, radius + 1, radius)).cumsum(2)
    x = x[:, :, size:] - x[:, :, :-size]
    x = F.pad(x, (radius + 1, radius)).cumsum(3)
    return x[..., size:] - x[..., :-size]


def adaptive_average(p: dict, ir: Tensor, vis: Tensor) -> Tensor:
    pooled = [ir.amax(1, keepdim=True), ir.mean(1, keepdim=True), vis.amax(1, keepdim=True), vis.mean(1, keepdim=True)]
    weight = torch.sigmoid(conv(torch.cat(pooled, 1), p['rule.conv.weight']))
    return weight * ir + (1 - weight) * vis


def dense_block(p: dict, name: str, x: Tensor) -> Tensor:
    slope = p[f'{name}.act.weight']
    x1 = F.prelu(conv(x, p[f'{name}.conv1.weight']), slope)
    x2 = F.prelu(conv(torch.cat([x, x1], 1), p[f'{name}.conv2.weight']), slope)
    x3 = F.prelu(conv(torch.cat([x, x1, x2], 1), p[f'{name}.conv3.weight']), slope)
    return 0.333333 * x3 + x


def dilated_conv(p: dict, name: str, x: Tensor) -> Tensor:
    y = conv(F.relu(x), p[f'{name}.depthwise.weight'], dilation=2, groups=x.shape[1])
    return batch_norm(p, f'{name}.norm', conv(y, p[f'{name}.pointwise.weight'])) + x


def residual_block(p: dict, name: str, x: Tensor) -> Tensor:
    y = conv(conv(x, p[f'{name}.conv.weight']), p[f'{name}.dilated.weight'], dilation=2)
    y = batch_norm(p, f'{name}.norm', conv(y, p[f'{name}.pointwise.weight']))
    return F.prelu(y, p[f'{name}.act.weight']) + x


def channel_attention(p: dict, name: str, x: Tensor) -> Tensor:
    slope = p[f'{name}.act.weight']
    x = conv(x, p[f'{name}.conv1.weight'])
    y = conv(F.prelu(x, slope), p[f'{name}.conv2.weight'])
    gate = torch.sigmoid(F.conv1d(y.mean((2, 3))[:, None], p[f'{name}.gate.weight'], padding=1))
    return F.prelu(y * gate[:, 0, :, None, None] + x, slope)


def batch_norm(p: dict, name: str, x: Tensor) -> Tensor:
    statistics = (p[f'{name}.{statistic}'].clone() for statistic in ('running_mean', 'running_var'))
    return F.batch_norm(x, *statistics, p[f'{name}.weight'], p[f'{name}.bias'], p.get('training', False))


def conv(x: Tensor, weight: Tensor, dilation: int = 1, groups: int = 1) -> Tensor:
    return F.conv2d(x, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation, groups=groups)
