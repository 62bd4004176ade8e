"""The distance between what a model predicted and what it then believed."""

from __future__ import annotations

from torch import Tensor

from daydreamer.nn.distributions import categorical_kl


def balanced_kl(posterior: Tensor, prior: Tensor, free_nats: float) -> tuple[Tensor, Tensor]:
    """KL(posterior || prior), once for each side: [...], [...].

    posterior, prior: probabilities [..., S, C], none zero. The first result moves only the prior, the second only the
    posterior; both stop pushing below `free_nats` in sum over S (DreamerV3, equation 3).
    """
    dynamics = categorical_kl(posterior.detach(), prior)
    representation = categorical_kl(posterior, prior.detach())
    return dynamics.clamp(min=free_nats), representation.clamp(min=free_nats)
