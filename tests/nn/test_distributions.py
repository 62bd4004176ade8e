"""Distributions against their closed forms and against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from daydreamer.nn.distributions import (
    BINS,
    BoundedNormal,
    Categorical,
    TwoHot,
    categorical_kl,
    sample_one_hot,
    symexp,
    symlog,
    unimix,
)


def test_symexp_undoes_symlog():
    x = torch.tensor([-1e6, -3.0, -1e-3, 0.0, 1e-3, 3.0, 1e6])
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-4, atol=1e-6)
    assert symlog(torch.tensor(math.e - 1)).item() == pytest.approx(1)


def test_a_fresh_two_hot_says_exactly_zero():
    assert TwoHot().mean(torch.zeros(7, BINS)).tolist() == [0.0] * 7


@pytest.mark.parametrize("target", [-4000.0, -1.5, 0.0, 0.3, 7.0, 12345.0, 1e12])
def test_a_two_hot_that_has_learned_a_number_says_it(target):
    two_hot, target = TwoHot(), torch.tensor(target)
    logits = torch.zeros(BINS, requires_grad=True)
    gradient, = torch.autograd.grad(two_hot.loss(logits, target), logits)
    learned = logits.softmax(-1) - gradient  # where the gradient of a cross entropy vanishes
    said = two_hot.mean(learned.clamp(min=0).log())
    torch.testing.assert_close(said, target.clamp(max=two_hot.bins[-1]), rtol=1e-4, atol=1e-4)


def test_the_two_hot_loss_is_the_cross_entropy_of_the_two_nearest_bins():
    torch.manual_seed(0)
    two_hot, logits = TwoHot(), torch.randn(BINS)
    target = two_hot.bins[130] + 0.25 * (two_hot.bins[131] - two_hot.bins[130])
    log_probs = logits.log_softmax(-1)
    expected = -(0.75 * log_probs[130] + 0.25 * log_probs[131])
    torch.testing.assert_close(two_hot.loss(logits, target), expected)
    torch.testing.assert_close(two_hot.loss(logits, target, target), 2 * expected)


def test_one_hot_samples_fall_as_often_as_they_should():
    probs = torch.tensor([0.5, 0.0, 0.2, 0.3])
    count = 100_000
    noise = (torch.arange(count) + 0.5) / count  # every number once: the frequencies are the probabilities
    hot = sample_one_hot(probs.expand(count, 4), noise)
    assert (hot.sum(-1) == 1).all()
    torch.testing.assert_close(hot.mean(0), probs, atol=1e-4, rtol=0)


def test_the_largest_noise_still_falls_on_a_class():
    probs = torch.full((1000, 7), 1 / 7)
    assert (sample_one_hot(probs, torch.full((1000,), 1 - 2**-24)).sum(-1) == 1).all()


def test_gradients_pass_a_sample_as_if_it_were_its_probabilities():
    logits = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(5, 4)
    straight, = torch.autograd.grad((sample_one_hot(unimix(logits, 0.01), torch.rand(5)) * weight).sum(), logits)
    expected, = torch.autograd.grad((unimix(logits, 0.01) * weight).sum(), logits)
    torch.testing.assert_close(straight, expected)


def test_unimix_leaves_no_class_without_hope():
    assert unimix(torch.tensor([1000.0, 0, 0, 0]), 0.01).min().item() == pytest.approx(0.0025)


def test_kl_is_that_of_independent_categoricals():
    p, q = unimix(torch.randn(3, 4, 5), 0.01), unimix(torch.randn(3, 4, 5), 0.01)
    expected = kl_divergence(OneHotCategorical(p), OneHotCategorical(q)).sum(-1)
    torch.testing.assert_close(categorical_kl(p, q), expected)


def test_policies_agree_with_torch():
    normal = BoundedNormal.of(torch.randn(6, 8))
    reference = Independent(Normal(normal.mean, normal.deviation), 1)
    action = normal.sample(torch.randn(6, 4))
    torch.testing.assert_close(normal.log_prob(action), reference.log_prob(action))
    torch.testing.assert_close(normal.entropy(), reference.entropy())
    assert (normal.mean.abs() <= 1).all() and (normal.deviation >= 0.1).all() and (normal.deviation <= 1).all()
    discrete = Categorical(unimix(torch.randn(6, 4), 0.01))
    action = discrete.sample(torch.rand(6))
    torch.testing.assert_close(discrete.log_prob(action), OneHotCategorical(discrete.probs).log_prob(action))
    torch.testing.assert_close(discrete.entropy(), OneHotCategorical(discrete.probs).entropy())
    assert (discrete.mode().argmax(-1) == discrete.probs.argmax(-1)).all()
