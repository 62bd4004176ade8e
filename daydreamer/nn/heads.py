"""Heads that read a model's features [..., F]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydreamer.nn.distributions import BINS, TwoHot
from daydreamer.nn.layers import Linear, mlp


class ScalarHead(nn.Module):
    """A two-hot scalar (reward, value) that starts at exactly zero everywhere."""

    def __init__(self, inputs: int, units: int, layers: int) -> None:
        super().__init__()
        self.body = nn.Sequential(mlp(inputs, units, layers), Linear(units, BINS, scale=0.0))
        self.two_hot = TwoHot()

    def forward(self, features: Tensor) -> Tensor:
        """Logits [..., BINS]."""
        return self.body(features)

    def mean(self, logits: Tensor) -> Tensor:
        """The scalar that these logits mean: [...]."""
        return self.two_hot.mean(logits)

    def loss(self, logits: Tensor, *targets: Tensor) -> Tensor:
        """How badly the logits say each target [...], in nats, summed over the targets: [...]."""
        return self.two_hot.loss(logits, *targets)


class BinaryHead(nn.Module):
    """The probability of an event."""

    def __init__(self, inputs: int, units: int, layers: int) -> None:
        super().__init__()
        self.body = nn.Sequential(mlp(inputs, units, layers), Linear(units, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Probability [...]."""
        return torch.sigmoid(self.body(features).float()).squeeze(-1)

    def loss(self, features: Tensor, happened: Tensor) -> Tensor:
        """Cross entropy [...] against `happened` float [...]."""
        return F.binary_cross_entropy_with_logits(self.body(features).float().squeeze(-1), happened, reduction="none")
