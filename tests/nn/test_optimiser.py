"""The optimiser against its formulas, written out once more for one tensor."""

import math

import pytest
import torch
from torch import nn

from daydreamer.nn.optimiser import LaProp, NonFiniteGradient


def by_hand(start: torch.Tensor, gradients: list[torch.Tensor], rate: float, warmup: int, clip: float) -> torch.Tensor:
    p, square, momentum = start.clone().double(), 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        g = gradient.double()
        g = g * min(1.0, clip * max(p.norm().item(), 1e-3) / g.norm().item())
        square = 0.999 * square + 0.001 * g ** 2
        momentum = 0.9 * momentum + 0.1 * g / (square / (1 - 0.999 ** t)).sqrt()
        p = p - rate * min(1.0, t / warmup) * momentum / (1 - 0.9 ** t)
    return p.float()


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4], ids=["below the clip", "ordinary", "clipped"])
def test_updates_follow_the_formulas(size):
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), [size * torch.randn(4, 3) for _ in range(6)]
    parameter = nn.Parameter(start.clone())
    optimiser = LaProp([parameter], learning_rate=0.01, warmup=3, clip=0.3)
    for gradient in gradients:
        norm = optimiser.step((parameter * gradient).sum())
        torch.testing.assert_close(norm, gradient.norm())
    torch.testing.assert_close(parameter.data, by_hand(start, gradients, 0.01, 3, 0.3))
    assert optimiser.updates == 6


def test_each_tensor_is_clipped_by_its_own_norm():
    small, large = nn.Parameter(torch.full((2,), 1e-2)), nn.Parameter(torch.full((2,), 10.0))
    optimiser = LaProp([small, large], learning_rate=0.1, warmup=0, clip=0.3)
    optimiser.step(small.sum() + large.sum())
    taken = [square.sqrt().norm().item() / math.sqrt(0.001) for square in optimiser.squares]  # norms after clipping
    assert taken == pytest.approx([0.3 * 1e-2 * math.sqrt(2), math.sqrt(2)], rel=1e-3)


def test_a_gradient_that_is_not_finite_changes_nothing():
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    optimiser = LaProp(parameters, learning_rate=0.1, warmup=0, clip=0.3)
    with pytest.raises(NonFiniteGradient):
        optimiser.step(parameters[0].sum() * float("inf") + parameters[1].sum())
    assert all((p == 1).all() for p in parameters) and optimiser.updates == 0


def test_it_finds_a_minimum():
    parameter, target = nn.Parameter(torch.zeros(5)), torch.linspace(-2, 2, 5)
    optimiser = LaProp([parameter], learning_rate=0.02, warmup=10, clip=0.3)
    for _ in range(400):
        optimiser.step((parameter - target).square().sum())
    torch.testing.assert_close(parameter.data, target, atol=0.05, rtol=0)
