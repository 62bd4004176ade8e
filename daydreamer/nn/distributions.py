"""Distributions as plain tensor arithmetic: no validation, no hidden sampling.

Whoever samples brings the noise, so that the same noise gives the same sample. A categorical needs one uniform number:
the sample is the class in whose stretch of the cumulated probabilities it falls. (Gumbel noise needs one number per
class, and drawing those would be a twelfth of a training step.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 255
BIN_LIMIT = 20.0  # in symlog space


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): squeezes both tails, keeps zero (DreamerV3)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())


def unimix(logits: Tensor, mix: float) -> Tensor:
    """Probabilities [..., C] of a categorical mixed with `mix` of the uniform one, so that none is ever zero."""
    return torch.softmax(logits.float(), -1) * (1 - mix) + mix / logits.shape[-1]


def sample_one_hot(probs: Tensor, noise: Tensor) -> Tensor:
    """One-hot sample [..., C] of `probs` [..., C] by `noise` [...] in [0, 1); gradients pass straight to `probs`."""
    cumulated = probs.detach().cumsum(-1)
    index = torch.searchsorted(cumulated, noise.unsqueeze(-1).contiguous()).clamp_(max=probs.shape[-1] - 1)
    hot = torch.zeros_like(probs, requires_grad=False).scatter_(-1, index, 1.0)
    return hot + (probs - probs.detach()) if probs.requires_grad else hot


def categorical_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats of independent categoricals, probabilities [..., S, C], summed over S: [...]."""
    return (p * (p.log() - q.log())).sum((-2, -1))


@dataclass(frozen=True)
class Categorical:
    """A discrete policy; actions are one-hot [..., A]. `probs` [..., A] must not contain zeros."""

    probs: Tensor

    def mode(self) -> Tensor:
        return F.one_hot(self.probs.argmax(-1), self.probs.shape[-1]).float()

    def sample(self, noise: Tensor) -> Tensor:
        return sample_one_hot(self.probs.detach(), noise)

    def log_prob(self, action: Tensor) -> Tensor:
        return (self.probs.log() * action).sum(-1)

    def entropy(self) -> Tensor:
        return -(self.probs * self.probs.log()).sum(-1)


@dataclass(frozen=True)
class BoundedNormal:
    """A continuous policy: normal around a mean in [-1, 1] with a deviation in [0.1, 1], [..., A] each (DreamerV3).

    Samples are not clipped: who executes them does, and the dynamics treat an action beyond one as one.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> BoundedNormal:
        """From a network's output [..., 2 A]."""
        mean, deviation = raw.float().chunk(2, -1)
        return cls(torch.tanh(mean), 0.1 + 0.9 * torch.sigmoid(deviation + 2))

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.deviation * noise

    def log_prob(self, action: Tensor) -> Tensor:
        z = (action - self.mean) / self.deviation
        return -(0.5 * z.square() + self.deviation.log() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        return (self.deviation.log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class TwoHot(torch.nn.Module):
    """A scalar as a categorical over bins that lie evenly in symlog space and are read in raw space (DreamerV3).

    The bins are symmetric and the expectation pairs them, so that uniform logits mean exactly zero.
    """

    bins: Tensor

    def __init__(self) -> None:
        super().__init__()
        positive = symexp(torch.linspace(0, BIN_LIMIT, BINS // 2 + 1, dtype=torch.float64)).float()
        self.register_buffer("bins", torch.cat([-positive[1:].flip(0), positive]), persistent=False)

    def mean(self, logits: Tensor) -> Tensor:
        """Expectation: [..., BINS] to [...]."""
        probs = torch.softmax(logits.float(), -1)
        half = BINS // 2
        return ((probs[..., half + 1:] - probs[..., :half].flip(-1)) * self.bins[half + 1:]).sum(-1)

    def loss(self, logits: Tensor, *targets: Tensor) -> Tensor:
        """Cross entropy [...] of logits [..., BINS] against the two bins around a target [...], weighted by closeness;
        summed over the targets."""
        target = torch.stack(targets, -1).clamp(self.bins[0], self.bins[-1])
        above = torch.searchsorted(self.bins, target).clamp(1, BINS - 1)
        low, high = self.bins[above - 1], self.bins[above]
        share = (target - low) / (high - low)
        picked = torch.log_softmax(logits.float(), -1).gather(-1, torch.cat([above - 1, above], -1))
        return -(picked * torch.cat([1 - share, share], -1)).sum(-1)
