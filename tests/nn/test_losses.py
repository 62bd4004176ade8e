"""Losses against numbers worked out by hand."""

import pytest
import torch

from daydreamer.losses.actor_critic import actor_loss
from daydreamer.losses.kl import balanced_kl
from daydreamer.losses.returns import ReturnScale, lambda_return
from daydreamer.nn.distributions import unimix


def test_lambda_one_is_the_discounted_sum_and_the_last_value():
    reward, value = torch.tensor([[99.0, 1, 2, 3]]), torch.tensor([[99.0, 50, 60, 70]])
    returns = lambda_return(reward, torch.full((1, 4), 0.5), value, 1.0)
    assert returns.tolist() == [[1 + 0.5 * (2 + 0.5 * (3 + 0.5 * 70)), 2 + 0.5 * (3 + 0.5 * 70), 3 + 0.5 * 70]]


def test_lambda_zero_looks_one_step_ahead():
    reward, value = torch.tensor([[99.0, 1, 2, 3]]), torch.tensor([[99.0, 50, 60, 70]])
    assert lambda_return(reward, torch.full((1, 4), 0.5), value, 0.0).tolist() == [[26.0, 32.0, 38.0]]


def test_nothing_is_worth_anything_behind_an_end():
    reward, value = torch.tensor([[0.0, 1, 2, 3]]), torch.full((1, 4), 1000.0)
    discount = torch.tensor([[1.0, 1, 0, 1]])
    assert lambda_return(reward, discount, value, 1.0)[0, :2].tolist() == [3.0, 2.0]


def test_a_mix_of_zero_cuts_the_return_at_the_value_of_that_step():
    reward, value = torch.tensor([[0.0, 1, 2, 3]]), torch.tensor([[0.0, 10, 20, 30]])
    mix = torch.tensor([[1.0, 1, 0, 1]])
    assert lambda_return(reward, torch.ones(1, 4), value, mix)[0, :2].tolist() == [1 + 2 + 20, 2 + 20]


def test_small_returns_are_not_blown_up():
    scale = ReturnScale()
    scale.update(*scale.range(torch.linspace(-0.1, 0.1, 100)))
    assert scale.value().item() == 1


def test_the_scale_follows_the_range_without_its_tails():
    scale, returns = ReturnScale(), torch.linspace(0, 100, 1001)
    returns[-1] = 1e9
    for _ in range(1000):
        scale.update(*scale.range(returns))
    assert scale.value().item() == pytest.approx(90, rel=1e-2)


def test_kl_moves_one_side_at_a_time_and_stops_at_the_free_nats():
    torch.manual_seed(0)
    far, other = (3 * torch.randn(2, 6, 8)).requires_grad_(), (3 * torch.randn(2, 6, 8)).requires_grad_()
    dynamics, representation = balanced_kl(unimix(far, 0.01), unimix(other, 0.01), 1.0)
    assert dynamics.shape == (2,) and torch.equal(dynamics, representation)
    assert torch.autograd.grad(dynamics.sum(), [far, other], retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(representation.sum(), [far, other], allow_unused=True)[1] is None
    near, _ = balanced_kl(unimix(far, 0.01), unimix(far + 1e-3, 0.01), 1.0)
    assert near.tolist() == [1.0, 1.0]
    assert not torch.autograd.grad(near.sum(), far)[0].any()


def test_the_actor_follows_the_advantage():
    log_prob, entropy = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    loss = actor_loss(log_prob, entropy, torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.5]]), 0.1)
    by_log_prob, by_entropy = torch.autograd.grad(loss.sum(), [log_prob, entropy])
    assert by_log_prob.tolist() == [[-2.0, 0.5]]
    assert by_entropy.tolist() == [[pytest.approx(-0.1), pytest.approx(-0.05)]]
