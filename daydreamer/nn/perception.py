"""What a model sees: an encoder and a decoder chosen by the observation space.

A Box with three axes is an image [H, W, C] with finite bounds (RGB bytes, depth); every other Box or MultiBinary is a
vector. Vectors are squeezed by symlog and joined; images are scaled to [0, 1] by their bounds and stacked along the
channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from daydreamer.nn.distributions import symexp, symlog
from daydreamer.nn.images import ImageDecoder, ImageEncoder
from daydreamer.nn.layers import Linear, mlp
from daydreamer.settings import Size

LAYERS = 3


class Layout:
    """How an observation's keys are ordered and joined. Raises ValueError for a space that no model can read."""

    def __init__(self, space: spaces.Dict) -> None:
        for key, part in space.items():
            if not isinstance(part, (spaces.Box, spaces.MultiBinary)):
                raise ValueError(f"observation {key}: {part}: only Box and MultiBinary can be seen")
        self.shapes = {key: tuple(space[key].shape) for key in sorted(space)}
        self.images = [key for key, shape in self.shapes.items() if len(shape) == 3]
        self.vectors = [key for key in self.shapes if key not in self.images]
        self.sizes = [int(np.prod(self.shapes[key])) for key in self.vectors]
        self.channels = [self.shapes[key][2] for key in self.images]
        self.bounds = {key: _bounds(key, space[key]) for key in self.images}
        if len({self.shapes[key][:2] for key in self.images}) > 1:
            raise ValueError(f"images {', '.join(self.images)}: they must have the same height and width")

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.shapes[self.images[0]][:2]

    def vector(self, obs: Mapping[str, Tensor]) -> Tensor:
        """All vectors in one, raw: [..., sum(sizes)]."""
        lead = {key: obs[key].shape[:obs[key].ndim - len(self.shapes[key])] for key in self.vectors}
        return torch.cat([obs[key].float().reshape(*lead[key], -1) for key in self.vectors], -1)

    def image(self, obs: Mapping[str, Tensor]) -> Tensor:
        """All images in one, in [0, 1]: [..., channels, H, W]."""
        parts = [(obs[key].float() - low) / (high - low) for key, (low, high) in self.bounds.items()]
        return torch.cat(parts, -1).movedim(-1, -3)


def _bounds(key: str, space: spaces.Box) -> tuple[float, float]:
    low, high = float(np.min(space.low)), float(np.max(space.high))
    if not np.isfinite(high - low) or high <= low:
        raise ValueError(f"image {key}: bounds {low} to {high}: an image needs finite bounds")
    return low, high


class Encoder(nn.Module):
    """Observations [..., *shape] to embeddings [..., outputs]."""

    def __init__(self, space: spaces.Dict, size: Size) -> None:
        super().__init__()
        self.layout = layout = Layout(space)
        self.outputs = 0
        if layout.vectors:
            self.vector = mlp(sum(layout.sizes), size.units, LAYERS, raw=True)
            self.outputs += size.units
        if layout.images:
            self.image = ImageEncoder(sum(layout.channels), *layout.frame, size.depth)
            self.outputs += self.image.outputs

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        parts = []
        if self.layout.vectors:
            parts.append(self.vector(symlog(self.layout.vector(obs))))
        if self.layout.images:
            images = self.layout.image(obs)
            parts.append(self.image(images.flatten(0, -4)).unflatten(0, images.shape[:-3]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class Decoder(nn.Module):
    """Features [..., F] to observations: squared errors in symlog space for vectors, in [0, 1] for images."""

    def __init__(self, inputs: int, space: spaces.Dict, size: Size) -> None:
        super().__init__()
        self.layout = layout = Layout(space)
        if layout.vectors:
            self.vector = nn.Sequential(mlp(inputs, size.units, LAYERS), Linear(size.units, sum(layout.sizes)))
        if layout.images:
            self.image = ImageDecoder(inputs, sum(layout.channels), *layout.frame, size.depth, size.units)

    def loss(self, features: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Summed over everything seen: [...]."""
        loss = torch.zeros(features.shape[:-1], device=features.device)
        if self.layout.vectors:
            loss = loss + (self.vector(features).float() - symlog(self.layout.vector(obs))).square().sum(-1)
        if self.layout.images:
            loss = loss + (self._images(features) - self.layout.image(obs)).square().sum((-3, -2, -1))
        return loss

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Expected observation, float32 [..., *shape] per key, in the observation's own units."""
        obs: dict[str, Tensor] = {}
        if self.layout.vectors:
            parts = symexp(self.vector(features).float()).split(self.layout.sizes, -1)
            obs |= {key: p.reshape(*features.shape[:-1], *self.layout.shapes[key])
                    for key, p in zip(self.layout.vectors, parts)}
        if self.layout.images:
            parts = self._images(features).movedim(-3, -1).split(self.layout.channels, -1)
            bounds = self.layout.bounds.items()
            obs |= {key: low + (high - low) * p for (key, (low, high)), p in zip(bounds, parts)}
        return obs

    def _images(self, features: Tensor) -> Tensor:
        return self.image(features.reshape(-1, features.shape[-1])).unflatten(0, features.shape[:-1])
