"""The one interface of every behaviour: what chooses actions in a model's states, and learns to.

Axes: B batch, T time, A action, F feature. A behaviour's carry is what acting takes from step to step beside the
model's state (a planner's last plan, noise that is correlated in time): a dict of tensors [B, ...], empty for most. An
agent keeps both in one dict, so their names must not clash, and resets both where an episode begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from daydreamer.models.world_model import Losses, State, WorldModel

Mode = Literal["sample", "mode"]


class Behaviour(nn.Module):
    """See the module's docstring. Subclasses implement `noise`, `propose`, `value` and `loss`.

    `generator` draws all noise; None is PyTorch's global one. `training_only` names the submodules that `act` does not
    need; those of them that are in `planning_only` are needed by `value`. `plans`: whether acting asks for the model's
    and the behaviour's `planning_only` parts as well.
    """

    generator: torch.Generator | None = None
    training_only: tuple[str, ...] = ()
    planning_only: tuple[str, ...] = ("critic",)
    plans = False

    @property
    def learned(self) -> Behaviour:
        """The part that has weights: the behaviour itself, unless it is planned around another."""
        return self

    @property
    def figures(self) -> Mapping[str, float]:
        """What is worth knowing about the last `act`, by name."""
        return {}

    def initial(self, batch: int) -> State:
        """The carry before the first step of an episode: [B, ...]."""
        return {}

    def act(self, model: WorldModel, state: State, carry: State, mode: Mode,
            deadline: float = math.inf) -> tuple[Tensor, State]:
        """Actions [B, A] for the model's state [B, ...] (one-hot where discrete; who executes them clips), and the next
        carry. `mode` "sample" explores, "mode" does not. Who plans stops planning before `deadline`, which is a time
        of `time.monotonic`."""
        features = model.features(state)
        return self.propose(features, self.noise(len(features)) if mode == "sample" else None), carry

    def noise(self, *batch: int) -> Tensor:
        """What `propose` needs for actions [*batch, A] that explore."""
        raise NotImplementedError

    def propose(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """The actor's actions [..., A] at features [..., F]; without noise, those it holds for best."""
        raise NotImplementedError

    def value(self, model: WorldModel, state: State) -> Tensor:
        """The discounted return expected from states [..., ...] on if the actor acts: [...]."""
        raise NotImplementedError

    def loss(self, model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        """Named, unweighted terms and metrics, all scalars, from states [B, T, ...] as the model's loss returned them
        and the batch it got, with `is_last` bool [B, T]."""
        raise NotImplementedError

    def after_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Called after an update that was made, with the metrics of `loss`; slow copies follow here."""
