"""Losses of an actor, from numbers that somebody else imagined."""

from __future__ import annotations

from torch import Tensor


def actor_loss(log_prob: Tensor, entropy: Tensor, advantage: Tensor, weight: Tensor, bonus: float) -> Tensor:
    """REINFORCE with an entropy bonus: [B, H].

    log_prob, entropy: of the policy at each step, with gradients; advantage: how much better the action was than
    expected, in units of the return scale; weight: probability, discounted, that the step is reached at all. All
    [B, H].
    """
    return -weight.detach() * (log_prob * advantage.detach() + bonus * entropy)
