"""Proximity operators of norms within a box, in a diagonal metric, torch only."""

import torch
from torch import Tensor

ROOT_STEPS = 20  # of the L2 norm's


def prox_linf(point: Tensor, low: Tensor, high: Tensor, metric: Tensor, length: Tensor | float) -> Tensor:
    """argmin of length max |delta| + sum_i metric_i (delta_i - point_i)^2 / 2 over low <= delta <= high.

    The box contains 0, so that the answer cuts the point at the box and at a level t, |delta| <= t. With r_i what the
    box leaves of |point_i|, the derivative towards t is length - sum over r_i > t of metric_i (|point_i| - t), which
    rises with t; between two neighbours of the sorted r_i it is linear, so that its zero is found exactly.
    """
    reach, order = point.clamp(low, high).abs().flatten().sort(descending=True)
    reach, weight = reach.double(), metric.flatten()[order].double()
    pull = (weight * point.flatten()[order].abs()).cumsum(0)  # of the first k values, were they cut to 0
    weight = weight.cumsum(0)
    below = torch.cat([reach[1:], reach.new_zeros(1)])
    length = torch.as_tensor(length, dtype=pull.dtype, device=pull.device)
    place = torch.searchsorted(pull - below * weight, length).clamp_max(len(pull) - 1)
    level = ((pull[place] - length) / weight[place]).clamp(below[place], reach[place])
    level = torch.where(pull[-1] > length, level, 0).to(point.dtype)
    return point.clamp(low, high).clamp(-level, level)


def prox_l2(point: Tensor, low: Tensor, high: Tensor, metric: Tensor, length: Tensor | float) -> Tensor:
    """argmin of length ||delta||_2 + sum_i metric_i (delta_i - point_i)^2 / 2 over low <= delta <= high.

    The box contains 0. Where ||delta|| = r, delta_i = clamp(metric_i point_i r / (metric_i r + length)). The norm of
    that over r, g(r), falls with r, and r is where it is 1: 0 if g(0) <= 1, where the slopes metric_i point_i that the
    box leaves are no longer than length. 1 / g is nearly linear, and exactly so for an even metric and no box: Newton's
    steps on it find r, and halvings of what encloses r where they leave that.
    """
    pull = metric * point
    short, long = point.new_zeros(()), point.clamp(low, high).norm()  # what encloses r
    radius = long
    for _ in range(ROOT_STEPS):
        damped = metric * radius + length
        share = pull / damped
        cut = torch.maximum(torch.minimum(share, high / radius), low / radius)  # delta / r
        ratio = cut.norm()
        short, long = torch.where(ratio >= 1, radius, short), torch.where(ratio >= 1, long, radius)
        fall = (cut.square() * torch.where(cut == share, metric / damped, 1 / radius)).sum() / ratio
        ahead = radius + (ratio - 1) * ratio / fall
        radius = torch.where((ahead >= short) & (ahead <= long), ahead, (short + long) / 2)
    free = torch.where(pull > 0, high > 0, low < 0)
    found = (pull * radius / (metric * radius + length)).clamp(low, high)
    return torch.where((pull * free).norm() > length, found, 0)
