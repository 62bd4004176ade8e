"""Convolutions for images: an encoder to a flat embedding and a decoder back, each other's mirror (DreamerV3).

All images of an observation have the same height and width and are stacked along the channels, [N, channels, H, W] in
[0, 1].
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydreamer.nn.layers import EPSILON, Linear, initialise, mlp

MULTIPLIERS = (2, 3, 4, 4)  # channels of each stage, in units of the size's `depth`
SMALLEST = 4  # height and width that a stage may not go below


def stages(height: int, width: int) -> int:
    """How often an image can be halved, at most four times. Raises ValueError where it cannot be halved once."""
    count = 0
    while count < len(MULTIPLIERS) and all(n % 2 == 0 and n // 2 >= SMALLEST for n in (height, width)):
        height, width, count = height // 2, width // 2, count + 1
    if not count:
        raise ValueError(f"image of {height} x {width}: height and width must be even and at least {2 * SMALLEST}")
    return count


class _Conv(nn.Module):
    """A convolution that keeps height and width."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        initialise(self.conv.weight, inputs * kernel ** 2)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _ChannelNorm(nn.GroupNorm):
    """Normalises each image over channels, height and width, so that nothing mixes across images."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=EPSILON)


class ImageEncoder(nn.Module):
    """Images [N, channels, H, W] in [0, 1] to embeddings [N, outputs]."""

    def __init__(self, channels: int, height: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [channels] + [m * depth for m in MULTIPLIERS[:stages(height, width)]]
        self.convs = nn.ModuleList(_Conv(i, o) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(_ChannelNorm(o) for o in widths[1:])
        self.outputs = widths[-1] * (height * width) // 4 ** len(self.convs)

    def forward(self, images: Tensor) -> Tensor:
        x = images - 0.5
        for conv, norm in zip(self.convs, self.norms):
            x = F.silu(norm(F.max_pool2d(conv(x), 2)))
        return x.flatten(1)


class ImageDecoder(nn.Module):
    """Features [N, F] to images [N, channels, H, W] in [0, 1]."""

    def __init__(self, inputs: int, channels: int, height: int, width: int, depth: int, units: int) -> None:
        super().__init__()
        count = stages(height, width)
        widths = [m * depth for m in MULTIPLIERS[:count]][::-1]
        self.shape = (widths[0], height // 2 ** count, width // 2 ** count)
        self.enter = nn.Sequential(mlp(inputs, units, 1), Linear(units, self.shape[0] * self.shape[1] * self.shape[2]))
        self.norms = nn.ModuleList(_ChannelNorm(i) for i in widths)
        self.convs = nn.ModuleList(_Conv(i, o) for i, o in zip(widths, widths[1:] + [channels]))

    def forward(self, features: Tensor) -> Tensor:
        x = self.enter(features).unflatten(1, self.shape)
        for conv, norm in zip(self.convs, self.norms):
            x = conv(F.interpolate(F.silu(norm(x)), scale_factor=2.0, mode="nearest"))
        return torch.sigmoid(x.float())
