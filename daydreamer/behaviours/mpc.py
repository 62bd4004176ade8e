"""Model predictive control: plan a few steps ahead at every decision, take the first, plan again.

A behaviour that learns lends the planner its actor for proposals and its value for what comes behind the horizon
(TD-MPC2, Hansen et al. 2024). Planning has no weights: the same weights act with and without it, and where not even
one iteration fits before the deadline, the actor acts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from daydreamer.behaviours.behaviour import Behaviour, Mode
from daydreamer.models.world_model import Losses, State, WorldModel
from daydreamer.planning.planner import Found, Planner
from daydreamer.settings import AgentSettings


class Mpc(Behaviour):
    """Plans around `learned`. Carry: `plan` [B, H, A], the last one, beside what the learned behaviour carries."""

    plans = True

    def __init__(self, model: WorldModel, learned: Behaviour, settings: AgentSettings) -> None:
        super().__init__()
        self._learned, self.settings = learned, settings.planner
        self.action_size, self.discrete = model.spec.action_size, not model.spec.action_space.shape
        self.planner = Planner(settings.planner, settings.discount, self.discrete)
        self._found: Found | None = None

    @property
    def learned(self) -> Behaviour:
        return self._learned

    @property
    def figures(self) -> Mapping[str, float]:
        """`plan_seconds` and `plan_iterations` of the last act."""
        found = self._found
        return {"plan_seconds": found.seconds, "plan_iterations": found.iterations} if found else {}

    def initial(self, batch: int) -> State:
        device = next(self._learned.parameters()).device
        rest = 1 / self.action_size if self.discrete else 0.0
        plan = torch.full((batch, self.settings.horizon, self.action_size), rest, device=device)
        return self._learned.initial(batch) | {"plan": plan}

    def act(self, model: WorldModel, state: State, carry: State, mode: Mode,
            deadline: float = math.inf) -> tuple[Tensor, State]:
        """See Behaviour. Planning starts from the last plan, one step on; exploring draws from what it ends with."""
        plan = carry["plan"]
        start = torch.cat([plan[:, 1:], plan[:, -1:]], 1)
        self._found = found = self.planner.plan(model, self._learned, state, start, deadline)
        if not found.iterations:
            action, carry = self._learned.act(model, state, carry, mode)
        else:
            action = found.plans.explore(found.plan, self.generator) if mode == "sample" else found.plan[:, 0]
        return action, carry | {"plan": found.plan}

    def noise(self, *batch: int) -> Tensor:
        return self._learned.noise(*batch)

    def propose(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        return self._learned.propose(features, noise)

    def value(self, model: WorldModel, state: State) -> Tensor:
        return self._learned.value(model, state)

    def loss(self, model: WorldModel, states: State, batch: Mapping[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        return self._learned.loss(model, states, batch)

    def after_update(self, metrics: Mapping[str, Tensor]) -> None:
        self._learned.after_update(metrics)
