"""The arithmetic of learning against loops in NumPy, in double precision, over random inputs."""

import numpy as np
import pytest
import torch

from daydreamer.losses.kl import balanced_kl
from daydreamer.losses.returns import ReturnScale, lambda_return
from daydreamer.nn.distributions import BIN_LIMIT, BINS, BoundedNormal, Categorical, TwoHot, symexp, symlog, unimix
from daydreamer.nn.optimiser import LaProp


@pytest.fixture
def random():
    return np.random.default_rng(0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def tensor(x):
    return torch.tensor(x, dtype=torch.float32)


def test_symlog_and_symexp_are_exact_near_zero_and_far_from_it():
    x = np.concatenate([-np.logspace(-8, 8, 50), [0.0], np.logspace(-8, 8, 50)])
    np.testing.assert_allclose(symlog(tensor(x)), np.sign(x) * np.log1p(np.abs(x)), rtol=1e-6)
    y = np.linspace(-BIN_LIMIT, BIN_LIMIT, 101)
    np.testing.assert_allclose(symexp(tensor(y)), np.sign(y) * np.expm1(np.abs(y)), rtol=1e-5)


@pytest.mark.parametrize("mix", [0.0, 0.95, 1.0, "by step"])
def test_lambda_returns_are_the_mixture_of_all_n_step_returns(mix, random):
    """Written out forwards: the sum over n of the n-step return times the chance that the mixture stops there."""
    shape = batch, steps = 3, 9
    reward, value = random.normal(size=shape), random.normal(size=shape)
    discount = 0.97 * (random.random(shape) > 0.2)
    mixes = random.random(shape) if mix == "by step" else np.full(shape, mix)
    expected = np.zeros((batch, steps - 1))
    for b in range(batch):
        for t in range(steps - 1):
            reached, gained, worth = 1.0, 0.0, 1.0  # chance not to have stopped, discounted rewards, discount so far
            for n in range(t + 1, steps):
                gained, worth = gained + worth * reward[b, n], worth * discount[b, n]
                stops = 1.0 if n == steps - 1 else 1 - mixes[b, n]
                expected[b, t] += reached * stops * (gained + worth * value[b, n])
                reached *= 1 - stops
    found = lambda_return(tensor(reward), tensor(discount), tensor(value), tensor(mixes))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_hot_says_back_every_number_it_can_hold_and_no_more(random):
    two_hot = TwoHot()
    bins = np.sign(y := np.linspace(-BIN_LIMIT, BIN_LIMIT, BINS)) * np.expm1(np.abs(y))
    numbers = np.concatenate([-np.logspace(-3, 8, 40), [0.0], np.logspace(-3, 8, 40), [1e30, -1e30]])
    held = np.clip(numbers, bins[0], bins[-1])
    place = np.interp(held, bins, np.arange(BINS))
    low = np.minimum(place.astype(int), BINS - 2)
    probs = np.zeros((len(numbers), BINS))
    probs[np.arange(len(numbers)), low], probs[np.arange(len(numbers)), low + 1] = 1 - (place - low), place - low
    np.testing.assert_allclose(two_hot.mean(tensor(probs + 1e-30).log()), held, rtol=2e-5, atol=1e-6)
    logits = random.normal(size=probs.shape)
    expected = -(probs * np.log(softmax(logits))).sum(-1)
    np.testing.assert_allclose(two_hot.loss(tensor(logits), tensor(numbers)), expected, rtol=1e-4)


def test_the_balanced_kl_pulls_each_side_along_its_own_gradient(random):
    """d KL(p||q) / d logits of q is q - p; of p it is p (log p/q - KL): in closed form, per categorical."""
    left, right = random.normal(size=(2, 5, 3, 4))
    p, q = softmax(left), softmax(right)
    ratio = np.log(p / q)
    each = (p * ratio).sum(-1, keepdims=True)
    ours = [tensor(x).requires_grad_() for x in (left, right)]
    dynamics, representation = balanced_kl(*(x.softmax(-1) for x in ours), 0.0)
    np.testing.assert_allclose(dynamics.detach(), each.sum((-2, -1)), rtol=1e-5)
    by_prior, = torch.autograd.grad(dynamics.sum(), ours[1], retain_graph=True)
    by_posterior, = torch.autograd.grad(representation.sum(), ours[0])
    np.testing.assert_allclose(by_prior, q - p, atol=1e-6)
    np.testing.assert_allclose(by_posterior, p * (ratio - each), atol=1e-6)


def test_free_nats_hold_off_only_those_who_are_near():
    near, far = np.zeros((2, 4)), np.stack([np.zeros(4), [9.0, 0, 0, 0]])  # two latents of four classes
    other = tensor(np.stack([near, far])).requires_grad_()
    dynamics, _ = balanced_kl(tensor(softmax(np.stack([near, near]))), other.softmax(-1), 1.0)
    gradient, = torch.autograd.grad(dynamics.sum(), other)
    assert dynamics[0] == 1.0 and dynamics[1] > 1.0
    assert not gradient[0].any() and gradient[1].any()


def test_the_scale_of_returns_is_a_running_range_of_percentiles(random):
    scale, low, high = ReturnScale(rate=0.05), 0.0, 0.0
    for _ in range(100):
        returns = 20 * random.standard_cauchy((8, 15))
        scale.update(*scale.range(tensor(returns)))
        low += 0.05 * (np.percentile(returns, 5) - low)
        high += 0.05 * (np.percentile(returns, 95) - high)
    assert scale.value().item() == pytest.approx(max(1.0, high - low), rel=1e-4)


def test_laprop_with_adaptive_clipping_stays_with_its_formulas_over_many_steps(random):
    """Three tensors, one of them as good as zero, gradients from too small to clip to far too large."""
    starts = [random.normal(size=(5, 4)), 1e-6 * random.normal(size=3), 10 * random.normal(size=(2, 2))]
    ours = [torch.nn.Parameter(tensor(p)) for p in starts]
    optimiser = LaProp(ours, learning_rate=3e-3, warmup=50, clip=0.3)
    numbers, squares, momenta = [p.copy() for p in starts], [0.0] * 3, [0.0] * 3
    for t in range(1, 301):
        gradients = [random.normal(size=p.shape) * 10 ** random.uniform(-4, 2) for p in numbers]
        optimiser.step(sum((p * tensor(g)).sum() for p, g in zip(ours, gradients)))
        for i, g in enumerate(gradients):
            g = g * min(1.0, 0.3 * max(np.linalg.norm(numbers[i]), 1e-3) / np.linalg.norm(g))
            squares[i] = 0.999 * squares[i] + 0.001 * g ** 2
            momenta[i] = 0.9 * momenta[i] + 0.1 * g / np.sqrt(squares[i] / (1 - 0.999 ** t))
            numbers[i] = numbers[i] - 3e-3 * min(1.0, t / 50) * momenta[i] / (1 - 0.9 ** t)
    for found, expected in zip(ours, numbers):
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-3, atol=2e-5)


def test_policies_are_densities_whose_entropy_is_their_mean_surprise(random):
    normal = BoundedNormal.of(torch.tensor([0.4, 1.0]))
    x = torch.linspace(-8, 8, 20001).unsqueeze(-1)
    log_prob = normal.log_prob(x).double()
    step = 16 / 20000
    assert (log_prob.exp().sum() * step).item() == pytest.approx(1, abs=1e-4)
    assert -(log_prob.exp() * log_prob).sum().item() * step == pytest.approx(normal.entropy().item(), abs=1e-4)
    mixed = unimix(tensor(logits := random.normal(size=(6, 5))), 0.1)
    p = 0.9 * softmax(logits) + 0.1 / 5
    np.testing.assert_allclose(mixed, p, rtol=1e-5)
    np.testing.assert_allclose(Categorical(mixed).entropy(), -(p * np.log(p)).sum(-1), rtol=1e-5)
