"""Architecture gradients against hand-derived and numerical ones, in float64."""

import pytest
import torch

from paif_mm.search import METHODS, best_response, first_order, one_step

SETTINGS = {'first_order': {}, 'one_step': {'unroll_step': 0.1}, 'best_response': {}}


def scalars(**values):
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values.values()]


def quadratic(theta, alpha, a=1.5):
    """L_tr = a/2 (theta - alpha)^2 and L_val = 1/2 (theta - 1)^2 + 3 alpha.

    d L_tr / d theta = a (theta - alpha), so theta' = theta - xi a (theta - alpha), and the gradient through one
    unrolled step is d/d alpha L_val(theta') = (theta' - 1) xi a + 3, for every xi.
    """

    def hand(xi):
        unrolled = theta.item() - xi * a * (theta.item() - alpha.item())
        return (unrolled - 1) * xi * a + 3

    return lambda: a / 2 * (theta - alpha) ** 2, lambda: 0.5 * (theta - 1) ** 2 + 3 * alpha, hand


@pytest.mark.parametrize('xi', [1e-6, 1e-3, 0.1, 0.5])
def test_one_step_equals_the_hand_derived_gradient_of_a_quadratic(xi):
    theta, alpha = scalars(theta=2.0, alpha=-0.5)
    train, val, hand = quadratic(theta, alpha)
    (gradient,) = one_step(train, val, [theta], [alpha], unroll_step=xi)
    assert gradient.item() == pytest.approx(hand(xi), abs=1e-9)


def test_one_step_tends_to_first_order_as_the_step_goes_to_zero():
    theta, alpha = scalars(theta=2.0, alpha=-0.5)
    train, val, _ = quadratic(theta, alpha)
    (first,) = first_order(train, val, [theta], [alpha])
    assert first.item() == 3
    gaps = [one_step(train, val, [theta], [alpha], unroll_step=xi)[0].item() - 3 for xi in (1e-2, 1e-3, 1e-4)]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.05)  # linear in xi, and not zero
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.01)


def test_best_response_is_exact_for_a_squared_difference():
    """L_tr = 1/2 (a theta - b alpha)^2 has theta*(alpha) = b alpha / a, so d L_val / d alpha gains (b / a) G."""
    a, b = 1.7, -0.6
    theta, alpha = scalars(theta=0.9, alpha=2.0)

    def train():
        return 0.5 * (a * theta - b * alpha) ** 2

    def val():
        return theta**3 + alpha.sin()

    (gradient,) = best_response(train, val, [theta], [alpha])
    exact = 3 * theta.item() ** 2 * b / a + torch.cos(alpha).item()
    assert gradient.item() == pytest.approx(exact, rel=1e-12)


def test_best_response_without_a_training_gradient_is_first_order():
    theta, alpha = scalars(theta=1.0, alpha=2.0)
    (gradient,) = best_response(lambda: 0 * theta * alpha, lambda: theta * alpha**2, [theta], [alpha])
    assert gradient.item() == 4


def test_one_step_without_a_validation_gradient_is_first_order():
    theta, alpha = scalars(theta=1.0, alpha=2.0)
    (gradient,) = one_step(lambda: theta**2 * alpha, lambda: alpha**2, [theta], [alpha], unroll_step=0.1)
    assert gradient.item() == 4


@pytest.fixture
def network():
    """A two-layer network whose hidden units are mixed by two alphas, and its two losses."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 8, 3, dtype=torch.float64), torch.randn(2, 8, dtype=torch.float64)
    weights = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 4), (4, 3), (4, 3), (3,))]
    alphas = [torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)]

    def loss(i, weights, alphas):
        p = alphas[0].softmax(0)
        hidden = (x[i] @ weights[0]).tanh()
        mixed = p[0] * (hidden @ weights[1]).tanh() + p[1] * (hidden @ weights[2]).sigmoid()
        return (mixed @ weights[3] - y[i]).square().mean()

    return loss, weights, alphas


def numerical(function, alpha, h=1e-5):
    """Central differences of a scalar function of alpha."""
    result = []
    for i in range(alpha.numel()):
        step = torch.zeros_like(alpha)
        step[i] = h
        result.append((function(alpha + step) - function(alpha - step)).item() / (2 * h))
    return torch.tensor(result, dtype=alpha.dtype)


def test_first_order_is_the_numerical_derivative_at_fixed_weights(network):
    loss, weights, alphas = network
    (gradient,) = first_order(lambda: loss(0, weights, alphas), lambda: loss(1, weights, alphas), weights, alphas)
    expected = numerical(lambda alpha: loss(1, weights, [alpha]), alphas[0].detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_one_step_is_the_numerical_derivative_through_the_unrolled_step(network):
    loss, weights, alphas = network
    xi = 0.2

    def unrolled(alpha):
        g = torch.autograd.grad(loss(0, weights, [alpha]), weights)
        return loss(1, [w - xi * d for w, d in zip(weights, g, strict=True)], [alpha])

    gradient = one_step(
        lambda: loss(0, weights, alphas), lambda: loss(1, weights, alphas), weights, alphas, unroll_step=xi, radius=1e-4
    )
    expected = numerical(unrolled, alphas[0].detach())
    torch.testing.assert_close(gradient[0], expected, rtol=1e-5, atol=1e-8)
    direct = numerical(lambda alpha: loss(1, weights, [alpha]), alphas[0].detach())
    assert (expected - direct).norm() > 0.05 * direct.norm(), 'the Hessian product must matter here'


def test_best_response_is_the_implicit_gradient_with_an_outer_product_hessian(network):
    """d alpha L_val - (a g^T) (g g^T)^+ G with the pseudo-inverse computed as a matrix."""
    loss, weights, alphas = network
    (gradient,) = best_response(lambda: loss(0, weights, alphas), lambda: loss(1, weights, alphas), weights, alphas)

    def flat(i):
        grads = torch.autograd.grad(loss(i, weights, alphas), [*weights, *alphas])
        return torch.cat([g.flatten() for g in grads[:-1]]), grads[-1]

    (g, a), (big_g, direct) = flat(0), flat(1)
    expected = direct - torch.outer(a, g) @ torch.linalg.pinv(torch.outer(g, g)) @ big_g
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('name', METHODS)
def test_nothing_but_the_result_is_left(network, name):
    loss, weights, alphas = network
    before = [tensor.detach().clone() for tensor in (*weights, *alphas)]
    METHODS[name](lambda: loss(0, weights, alphas), lambda: loss(1, weights, alphas), weights, alphas, **SETTINGS[name])
    for tensor, saved in zip((*weights, *alphas), before, strict=True):
        assert torch.equal(tensor, saved)
        assert tensor.grad is None


def test_one_step_restores_the_weights_after_an_exception(network):
    loss, weights, alphas = network
    before = [weight.detach().clone() for weight in weights]

    def broken():
        raise RuntimeError('no batch')

    with pytest.raises(RuntimeError, match='no batch'):
        one_step(lambda: loss(0, weights, alphas), broken, weights, alphas, unroll_step=0.1)
    assert all(torch.equal(weight, saved) for weight, saved in zip(weights, before, strict=True))


def test_a_weight_without_influence_counts_as_zero(network):
    loss, weights, alphas = network
    idle = torch.ones(2, dtype=torch.float64, requires_grad=True)
    plain = best_response(lambda: loss(0, weights, alphas), lambda: loss(1, weights, alphas), weights, alphas)
    more = best_response(lambda: loss(0, weights, alphas), lambda: loss(1, weights, alphas), [*weights, idle], alphas)
    torch.testing.assert_close(plain, more)
