"""Fusion networks under torch's transforms: torch.func, forward-mode derivatives, several gradients at once."""

import pytest
import torch
from test_fusion.fusion_nets import network, pair
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vjp, vmap

from paif_mm.fusion import FusionBaseline, FusionSupernet, build_operation
from paif_mm.fusion.activation import PReLU
from paif_mm.fusion.channels import channel_max, channel_min
from paif_mm.fusion.guided_filter import GuidedDecomposition, box_sum
from paif_mm.registry import OPERATIONS

NETWORKS = {
    'fixed': lambda: network(channels=4),
    'supernet': lambda: FusionSupernet(channels=4),
    'baseline': lambda: FusionBaseline('SA', 'AA', depth=1, channels=4),
}
PARTS = {
    'guided filter': lambda: GuidedDecomposition(3),
    'activation': lambda: nn.Sequential(nn.Conv2d(3, 3, 1), PReLU()),
    'largest channel': lambda: channel_max,
    'smallest channel': lambda: channel_min,
    'box sum': lambda: lambda x: box_sum(x, 2),
    **{name: lambda name=name: build_operation(name, 3) for name in sorted(OPERATIONS.module_dict)},
}


@pytest.fixture(params=NETWORKS)
def net(request) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]().double().eval()


@pytest.fixture(params=PARTS)
def part(request):
    torch.manual_seed(0)
    form = PARTS[request.param]()
    return form.double().eval() if isinstance(form, nn.Module) else form


def features() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 6, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)


def assert_close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_func_grad_is_autograds_towards_images_and_weights(net):
    ir, vis = pair(2, 1, 9, 8)
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights, ir, vis):
        return functional_call(net, weights, (ir, vis)).square().sum()

    by_weights, by_ir, by_vis = grad(loss, (0, 1, 2))(weights, ir, vis)
    inputs = [ir.clone().requires_grad_(), vis.clone().requires_grad_()]
    net.requires_grad_()  # alphas too
    expected = torch.autograd.grad(net(*inputs).square().sum(), [*inputs, *net.parameters()])
    assert_close([by_ir, by_vis, *by_weights.values()], list(expected))
    assert min(float(g.abs().max()) for g in expected[:2]) > 0


def test_directional_derivatives_are_those_of_gradients_of_gradients(net):
    primal, tangent = pair(2, 1, 9, 8), pair(2, 1, 9, 8)[::-1]
    fused, found = jvp(lambda *images: net(*images), primal, tangent)
    inputs = [image.clone().requires_grad_() for image in primal]
    expected = net(*inputs)
    assert_close(fused, expected.detach())
    u = torch.zeros_like(expected, requires_grad=True)
    back = torch.autograd.grad(expected, inputs, u, create_graph=True)
    (twice,) = torch.autograd.grad(back, u, list(tangent))
    assert_close(found, twice)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (net(*(x + s * step * t for x, t in zip(primal, tangent, strict=True))) for s in (1, -1))
    torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)
    for gradients in (False, True):
        with forward_ad.dual_level(), torch.set_grad_enabled(gradients):
            duals = [forward_ad.make_dual(x.clone(), t.clone()) for x, t in zip(primal, tangent, strict=True)]
            assert_close(forward_ad.unpack_dual(net(*duals)).tangent.detach(), found)


def test_vmap_takes_images_and_networks_one_by_one(net):
    ir, vis = pair(3, 1, 9, 8)
    with torch.no_grad():
        expected = net(ir, vis)
        assert_close(vmap(lambda a, b: net(a[None], b[None])[0])(ir, vis), expected)
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights, a, b):
        return functional_call(net, weights, (a[None], b[None])).square().sum()

    each = vmap(grad(loss), (None, 0, 0))(weights, ir, vis)
    alone = [grad(loss)(weights, ir[i], vis[i]) for i in range(3)]
    assert_close(each, {name: torch.stack([one[name] for one in alone]) for name in weights})
    two = {name: torch.stack([p, 1.1 * p]) for name, p in weights.items()}
    several = vmap(lambda w: functional_call(net, w, (ir, vis)))(two)
    for i in range(2):
        assert_close(several[i], functional_call(net, {name: p[i] for name, p in two.items()}, (ir, vis)).detach())


def test_rows_of_a_jacobian_may_be_asked_for_at_once(net):
    inputs = [image.clone().requires_grad_() for image in pair(1, 1, 5, 4)]
    wanted = [*inputs, *(p for p in net.parameters() if p.requires_grad)]
    fused = net(*inputs).flatten()
    rows = torch.eye(20, dtype=fused.dtype)
    at_once = torch.autograd.grad(fused, wanted, rows, is_grads_batched=True, retain_graph=True)
    looped = [torch.autograd.grad(fused, wanted, row, retain_graph=True) for row in rows]
    for found, *expected in zip(at_once, *looped, strict=True):
        assert_close(found, torch.stack(expected))


def test_rows_of_second_derivatives_may_be_asked_for_at_once(part):
    x = features()[:1, :, :3, :3].clone().requires_grad_()
    (first,) = torch.autograd.grad(part(2 * x).exp().sum(), x, create_graph=True)
    if not first.requires_grad:
        return
    rows = torch.eye(first.numel(), dtype=x.dtype).view(-1, *first.shape)
    (at_once,) = torch.autograd.grad(first, x, rows, is_grads_batched=True, retain_graph=True)
    assert_close(at_once, torch.stack([torch.autograd.grad(first, x, row, retain_graph=True)[0] for row in rows]))


def test_every_part_has_the_jacobian_of_one_row_after_the_other(part):
    x = features()[:, :, :3, :3].clone()
    leaf = x.clone().requires_grad_()
    y = part(leaf * 1)  # what is overwritten is no leaf
    rows = torch.eye(y.numel(), dtype=x.dtype).view(-1, *y.shape)
    looped = torch.stack([torch.autograd.grad(y, leaf, row, retain_graph=True)[0] for row in rows])
    (at_once,) = torch.autograd.grad(y, leaf, rows, is_grads_batched=True, retain_graph=True)
    (onwards,) = torch.autograd.grad(y, leaf, rows, is_grads_batched=True, create_graph=True)

    def fresh(x):
        return part(x * 1)

    for name, found in {
        'is_grads_batched': at_once,
        'with a graph': onwards.detach(),
        'jacrev': jacrev(fresh)(x).reshape(looped.shape),
        'jacfwd': jacfwd(fresh)(x).reshape(looped.shape),
        'vjp': vmap(vjp(fresh, x)[1])(rows)[0],
        'vmap': vmap(lambda row: torch.autograd.grad(y, leaf, row, retain_graph=True)[0])(rows),
    }.items():
        torch.testing.assert_close(found, looped, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f'{name}: {text}')
