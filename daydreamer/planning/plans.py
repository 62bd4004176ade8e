"""Where candidate plans are drawn from: one independent distribution per step, continuous or discrete.

Both are drawn from with noise that the caller brings, shared by all robots of a batch, so that a robot's plan does not
depend on who else asks. Axes: B robots, N candidates, K elites, H horizon, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from daydreamer.nn.distributions import sample_one_hot
from daydreamer.settings import PlannerSettings


@dataclass(frozen=True)
class Gaussian:
    """Continuous actions in [-1, 1]: `mean` and `deviation` [B, H, A]."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def around(cls, plan: Tensor, settings: PlannerSettings) -> Self:
        """As wide as allowed, around a plan [B, H, A]."""
        return cls(plan, torch.full_like(plan, settings.max_deviation))

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        """N plans [B, N, H, A]; the last is the mean itself."""
        noise = torch.randn(count, *self.mean.shape[1:], generator=generator, device=self.mean.device)
        noise[-1] = 0.0
        return (self.mean.unsqueeze(1) + self.deviation.unsqueeze(1) * noise).clamp_(-1, 1)

    def refit(self, elites: Tensor, weight: Tensor, settings: PlannerSettings) -> Self:
        """The distribution of plans [B, K, H, A] that count by `weight` [B, K], which sums to one."""
        weight = weight[..., None, None]
        mean = (weight * elites).sum(1)
        variance = (weight * (elites - mean.unsqueeze(1)).square()).sum(1)
        return type(self)(mean, variance.sqrt().clamp(settings.min_deviation, settings.max_deviation))

    def explore(self, plan: Tensor, generator: torch.Generator | None) -> Tensor:
        """The first action of `plan` [B, H, A], with this distribution's noise: [B, A]."""
        noise = torch.randn(plan.shape[0], plan.shape[2], generator=generator, device=plan.device)
        return (plan[:, 0] + self.deviation[:, 0] * noise).clamp(-1, 1)


@dataclass(frozen=True)
class Categorical:
    """Discrete actions, one-hot: `probs` [B, H, A]. Deviations are read as the share of actions taken at random."""

    probs: Tensor

    @classmethod
    def around(cls, plan: Tensor, settings: PlannerSettings) -> Self:
        return cls(_mixed(plan, min(1.0, settings.max_deviation)))

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        noise = torch.rand(count, self.probs.shape[1], generator=generator, device=self.probs.device)
        shape = (len(self.probs), count, *self.probs.shape[1:])
        plans = sample_one_hot(self.probs.unsqueeze(1).expand(shape), noise.expand(shape[:-1]))
        plans[:, -1] = torch.nn.functional.one_hot(self.probs.argmax(-1), shape[-1])
        return plans

    def refit(self, elites: Tensor, weight: Tensor, settings: PlannerSettings) -> Self:
        return type(self)(_mixed((weight[..., None, None] * elites).sum(1), min(1.0, settings.min_deviation)))

    def explore(self, plan: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.rand(len(plan), generator=generator, device=plan.device)
        return sample_one_hot(self.probs[:, 0], noise)


Plans = Gaussian | Categorical


def _mixed(probs: Tensor, share: float) -> Tensor:
    """Probabilities [..., A] with `share` of the uniform ones."""
    return (1 - share) * probs + share / probs.shape[-1]
