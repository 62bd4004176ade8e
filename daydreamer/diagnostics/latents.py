"""Are the latents used, or have they collapsed?"""

from __future__ import annotations

import torch
from torch import Tensor

DEAD = 0.01  # deviation of a dimension, relative to the root mean square deviation of all, below which it says nothing


def latent_usage(features: Tensor) -> dict[str, Tensor]:
    """Of features [..., F] over all their leading axes:

    `latent/effective_rank`: in how many directions they vary, from 1 to F: the participation ratio (sum of the
    covariance's eigenvalues)^2 / (sum of their squares). `latent/dead`: share of dimensions that do not.
    `latent/deviation`: how far they vary at all, relative to their size.
    """
    rows = features.reshape(-1, features.shape[-1]).float()
    centred = rows - rows.mean(0)
    variance = centred.square().mean(0)
    tiny = torch.finfo(variance.dtype).tiny
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred  # the same eigenvalues
    return {"latent/effective_rank": gram.trace().square() / gram.square().sum().clamp(min=tiny),
            "latent/dead": (variance <= DEAD ** 2 * variance.mean()).float().mean(),
            "latent/deviation": (variance.mean() / rows.square().mean().clamp(min=tiny)).sqrt()}


def class_usage(posterior: Tensor) -> dict[str, Tensor]:
    """Of categorical latents with probabilities [..., S, C], over all leading axes:

    `latent/perplexity`: how many classes a latent uses, as a share of C: exp of the entropy of its mean distribution,
    mean over the S latents. `latent/classes`: share of all S * C classes that were the likeliest at least once.
    `latent/information`: nats that a latent tells about the state (its mutual information with it), mean over the S
    latents; at most log C. Latents that are noise use all their classes and tell nothing.
    """
    rows = posterior.detach().flatten(0, -3).float()
    average, classes = rows.mean(0), rows.shape[-1]
    entropy, noise = _entropy(average), _entropy(rows).mean(0)
    seen = torch.zeros_like(average).scatter_(-1, rows.argmax(-1).T, 1.0)
    return {"latent/perplexity": entropy.exp().mean() / classes, "latent/classes": seen.mean(),
            "latent/information": (entropy - noise).mean()}


def _entropy(probs: Tensor) -> Tensor:
    """In nats, over the last axis."""
    return -torch.special.xlogy(probs, probs).sum(-1)
