"""Returns and their scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lambda_return(reward: Tensor, discount: Tensor, bootstrap: Tensor, mix: Tensor | float) -> Tensor:
    """TD(lambda) returns of steps 0 .. T-1: [B, T].

    reward, discount, bootstrap: [B, T+1], all on arriving at the step, so that entry 0 is not used: `discount[t]` is
    zero where nothing follows step t, `bootstrap[t]` is the value of step t. `mix` [B, T+1] or a number in [0, 1] is
    lambda: how far to trust the return behind step t rather than its value.

        R[t] = reward[t+1] + discount[t+1] * ((1 - mix) * bootstrap[t+1] + mix * R[t+1]),  R[T] = bootstrap[T]
    """
    mix = torch.as_tensor(mix, device=reward.device).expand_as(reward)
    direct = reward + discount * (1 - mix) * bootstrap
    through = discount * mix
    following, returns = bootstrap[:, -1], []
    for now, gain in zip(reversed(direct.unbind(1)[1:]), reversed(through.unbind(1)[1:])):
        following = now + gain * following
        returns.append(following)
    return torch.stack(returns[::-1], 1)


class ReturnScale(nn.Module):
    """A running range of returns: the distance from their 5th to their 95th percentile, at least 1 (DreamerV3).

    Advantages are divided by it, so that the entropy bonus means the same for small and large rewards, while small
    returns are not blown up.
    """

    low: Tensor
    high: Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @staticmethod
    def range(returns: Tensor) -> tuple[Tensor, Tensor]:
        """The 5th and 95th percentile of `returns` [...]: two scalars."""
        return torch.quantile(returns.float().flatten(), returns.new_tensor([0.05, 0.95])).unbind()

    @torch.no_grad()
    def update(self, low: Tensor, high: Tensor) -> None:
        """Move a small step towards this range."""
        self.low.lerp_(low, self.rate)
        self.high.lerp_(high, self.rate)

    def value(self) -> Tensor:
        """The scale, a scalar tensor."""
        return (self.high - self.low).clamp(min=1.0)
