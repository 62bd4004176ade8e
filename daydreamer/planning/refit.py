"""How much each elite counts when the distribution of plans is fitted again: all that MPPI and CEM differ in.

scores [B, K] are returns, the best first; LOST marks a plan whose return is not finite, and counts nothing as long as
another plan is left. The weights [B, K] sum to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

LOST = -1e30  # the score of a plan whose return is not finite


def mppi(scores: Tensor, temperature: float) -> Tensor:
    """Model predictive path integral control (Williams et al. 2016), as in TD-MPC2: better plans count more.

    TD-MPC2's temperature is in units of the return. Here it is in units of the elites' mean distance from the best, so
    that it means the same for small and large rewards.
    """
    behind, left = _behind(scores)
    spread = (behind * left).sum(1, keepdim=True) / left.sum(1, keepdim=True)
    return torch.softmax(-behind / (temperature * spread).clamp(min=1e-8), 1)


def cem(scores: Tensor, temperature: float) -> Tensor:
    """The cross-entropy method (Rubinstein 1999): all elites count the same."""
    _, left = _behind(scores)
    return left / left.sum(1, keepdim=True)


def _behind(scores: Tensor) -> tuple[Tensor, Tensor]:
    """How far each plan is behind the best, and a one for each that is not lost (for all where none is left)."""
    behind = scores[:, :1] - scores
    return behind, (behind < -LOST / 2).float()


METHODS: Mapping[str, Callable[[Tensor, float], Tensor]] = MappingProxyType({"mppi": mppi, "cem": cem})
