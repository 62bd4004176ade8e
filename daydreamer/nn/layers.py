"""Layers of every network in the project.

Normalisation is LayerNorm although DreamerV3 today uses RMSNorm: PyTorch has a fused CPU kernel for the first and not
for the second, whose backward pass takes ten times as long and would be a third of a training step.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-3  # of every normalisation


def initialise(weight: Tensor, fan_in: int, scale: float = 1.0) -> None:
    """Fill with a normal truncated at two deviations whose variance is `scale**2 / fan_in`; scale 0 gives zeros."""
    if scale == 0:
        nn.init.zeros_(weight)
        return
    deviation = 1.1368 * scale / fan_in ** 0.5  # 1.1368 restores the variance that truncation takes
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


def as_products_take(x: Tensor) -> Tensor:
    """`x` in the precision of matrix products: what many layers read is rounded once, not by each of them."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class Linear(nn.Linear):
    """nn.Linear with the project's initialisation."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, scale: float = 1.0) -> None:
        super().__init__(inputs, outputs, bias=bias)
        initialise(self.weight, inputs, scale)
        if bias:
            nn.init.zeros_(self.bias)


class Activation(nn.Module):
    """LayerNorm, then SiLU: [..., F] to [..., F]."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(units, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(x))


def mlp(inputs: int, units: int, layers: int, raw: bool = False) -> nn.Sequential:
    """`layers` times Linear, LayerNorm, SiLU: [..., inputs] to [..., units].

    `raw`: the inputs are few numbers as they were measured or done, whose size matters. The first layer then has a
    bias, as if one more input were always one: without it LayerNorm leaves of its inputs only their direction, of a
    single number its sign."""
    widths = [inputs] + [units] * layers
    net = nn.Sequential(*(nn.Sequential(Linear(i, o, bias=raw and n == 0), Activation(o))
                          for n, (i, o) in enumerate(pairwise(widths))))
    if raw:
        initialise(net[0][0].bias, 1)
    return net


class BlockLinear(nn.Module):
    """A linear layer whose matrix is block-diagonal: block g of the outputs sees block g of the inputs only."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        assert inputs % blocks == 0 and outputs % blocks == 0, (inputs, outputs, blocks)
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        initialise(self.weight, inputs // blocks)

    def forward(self, x: Tensor, add: Tensor) -> Tensor:
        """x [B, inputs] times the blocks, plus `add` [B, outputs] or [outputs]; gives [B, outputs]."""
        return self.grouped(x, add).transpose(0, 1).reshape(len(x), -1)

    def grouped(self, x: Tensor, add: Tensor) -> Tensor:
        """The same, not yet put together: [blocks, B, outputs / blocks]."""
        x = x.reshape(len(x), self.blocks, -1).transpose(0, 1)
        add = add.reshape(-1, self.blocks, self.weight.shape[2]).transpose(0, 1)
        return torch.baddbmm(add, x, self.weight)


class BlockGru(nn.Module):
    """The recurrence of DreamerV3: a GRU whose recurrent matrices are block-diagonal and whose inputs reach all blocks.

    The part of the input that depends on the action alone is computed apart, so that a sequence computes it at once.
    """

    def __init__(self, deter: int, stoch: int, action: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.from_deter = mlp(deter, hidden, 1)
        self.from_stoch = mlp(stoch, hidden, 1)
        self.from_action = mlp(action, hidden, 1, raw=True)
        self.action_in = Linear(hidden, deter, scale=3 ** -0.5)  # a third each: together one layer of 3 * hidden inputs
        self.state_in = Linear(2 * hidden, deter, bias=False, scale=(2 / 3) ** 0.5)
        self.deter_in = BlockLinear(deter, deter, blocks)
        self.activation = Activation(deter)
        self.gates = BlockLinear(deter, 3 * deter, blocks)
        self.gates_bias = nn.Parameter(torch.zeros(3 * deter))

    def action_term(self, action: Tensor) -> Tensor:
        """[..., A] to [..., deter]. An action longer than one in any coordinate counts as its clipped self."""
        return self.action_in(self.from_action(action / action.abs().clamp(min=1.0)))

    def forward(self, deter: Tensor, stoch: Tensor, action_term: Tensor) -> Tensor:
        """One step: deter [B, D], stoch [B, S * C], action_term [B, D] to the next deter [B, D]."""
        inputs = torch.cat([self.from_deter(deter), self.from_stoch(stoch)], -1)
        mixed = torch.addmm(action_term, inputs, self.state_in.weight.T)
        with torch.autocast("cpu", enabled=False):  # gates in bfloat16 lose what their small products would save
            return self._gated(deter, mixed.float())

    def _gated(self, deter: Tensor, mixed: Tensor) -> Tensor:
        """The step behind `mixed` [B, D], what deter, stoch and action say to all blocks."""
        x = self.activation(self.deter_in(deter, mixed))
        reset, candidate, update = self.gates.grouped(x, self.gates_bias).chunk(3, -1)  # each [blocks, B, D / blocks]
        candidate = 2 * torch.sigmoid(2 * torch.sigmoid(reset) * candidate) - 1  # tanh, which takes 3 times as long
        old = deter.reshape(len(deter), self.gates.blocks, -1).transpose(0, 1)
        new = torch.lerp(old, candidate.to(old.dtype), torch.sigmoid(update - 1).to(old.dtype))
        return new.transpose(0, 1).reshape(deter.shape)
