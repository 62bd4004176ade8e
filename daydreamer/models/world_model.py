"""The one interface of every world model; behaviours and planners know nothing else.

Axes: B batch, T time, H horizon, N candidates, A action, E embedding, F feature. A `State` is a pytree (here: a dict)
of tensors whose leading axes are batch axes; a sequence of states has the time axis second, [B, T, ...].

Time: step t holds what the robot saw at t, the reward and flags on arriving at t, and the `action` chosen for t. A
model is given `prev_action[t] = action[t-1]`, zero where `is_first`. Discrete actions arrive one-hot, float32.

Laws (tests/models/test_laws.py holds every model to them, with the noise given): a sequence equals its steps one by
one; `imagine` equals repeated `imagine_step`; `is_first` erases the past; candidates do not influence one another; a
saved and restored state continues identically; gradients reach the actions where the spec says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from gymnasium import spaces
from torch import Tensor, nn

State = dict[str, Tensor]
Prediction = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class ModelSpec:
    """What a model reads and offers. `action_size`: A (one-hot width for discrete actions)."""

    observation_space: spaces.Dict
    action_space: spaces.Box | spaces.Discrete
    action_size: int
    feature_size: int
    offers_reward: bool = True
    offers_continuation: bool = True
    offers_decoder: bool = False
    offers_goals: bool = False
    action_gradients: bool = True

    @classmethod
    def of(cls, observation_space: spaces.Dict, action_space: spaces.Space) -> ModelSpec:
        """What every model of these spaces shares. Raises ValueError for actions that no model can take."""
        if isinstance(action_space, spaces.Discrete) and action_space.start == 0:
            return cls(observation_space, action_space, int(action_space.n), feature_size=0)
        if isinstance(action_space, spaces.Box) and len(action_space.shape) == 1 \
                and (action_space.low == -1).all() and (action_space.high == 1).all():
            return cls(observation_space, action_space, int(action_space.shape[0]), feature_size=0)
        raise ValueError(f"action space {action_space}: Discrete from 0, or a Box of one axis from -1 to 1, is allowed")

    def offering(self, **changes: object) -> ModelSpec:
        """The same spec with what a model adds: its `feature_size` and its offers."""
        return replace(self, **changes)


def stack_states(states: Sequence[State]) -> State:
    """T states [B, ...] to one sequence [B, T, ...]."""
    return {key: torch.stack([state[key] for state in states], 1) for key in states[0]}


class WorldModel(nn.Module):
    """See the module's docstring. Subclasses set `spec` and implement what the spec offers.

    `generator` draws the noise where none is given; None is PyTorch's global one. `training_only` names the submodules
    that `encode`, `observe` and `features` do not use, so that who only acts needs no copy of them. `planning_only`
    are those of them that `imagine`, `reward` and `continuation` use: who plans needs these.
    """

    spec: ModelSpec
    generator: torch.Generator | None = None
    training_only: tuple[str, ...] = ()
    planning_only: tuple[str, ...] = ("reward_head", "continuation_head")

    def initial(self, batch: int) -> State:
        """The state before anything was seen; leading axis [B]."""
        raise NotImplementedError

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Observations [..., *shape] to embeddings [..., E]; no mixing over time, so the result can be cached."""
        raise NotImplementedError

    def noise(self, *batch: int) -> Tensor:
        """Noise for one step [*batch, ...]; what `observe` and `imagine_step` draw themselves when given none."""
        raise NotImplementedError

    def observe(self, state: State, prev_action: Tensor, embed: Tensor, is_first: Tensor,
                noise: Tensor | None = None) -> tuple[State, Prediction]:
        """Correct one step: prev_action [B, A], embed [B, E], is_first bool [B]."""
        raise NotImplementedError

    def observe_sequence(self, state: State, prev_actions: Tensor, embeds: Tensor, is_first: Tensor,
                         noise: Tensor | None = None) -> tuple[State, Prediction]:
        """Correct T steps: [B, T, A], [B, T, E], bool [B, T], noise [B, T, ...] to states and predictions."""
        raise NotImplementedError

    def imagine_step(self, state: State, action: Tensor, noise: Tensor | None = None) -> State:
        """Predict one step: action [B, A]. With the noise given the result is deterministic."""
        raise NotImplementedError

    def imagine(self, state: State, actions: Tensor, noise: Tensor | None = None) -> State:
        """Predict H steps: actions [B, H, A], noise [B, H, ...] to states [B, H, ...] (the start is not among them)."""
        raise NotImplementedError

    def features(self, state: State) -> Tensor:
        """What actor, critic and heads read: [..., F]."""
        raise NotImplementedError

    def outcome(self, state: State, action: Tensor) -> Tensor:
        """Features [..., F] of what actions [..., A] lead to from states [..., ...]: what a critic of actions reads."""
        batch = action.shape[:-1]
        flat = {key: x.flatten(0, len(batch) - 1) for key, x in state.items()}
        return self.features(self.imagine_step(flat, action.flatten(0, -2))).unflatten(0, batch)

    def reward(self, state: State) -> Tensor:
        """Expected reward on arriving at the state: [...]."""
        raise NotImplementedError

    def continuation(self, state: State) -> Tensor:
        """Probability that the episode goes on after the state: [...]."""
        raise NotImplementedError

    def decode(self, state: State) -> dict[str, Tensor]:
        """Expected observation: [..., *shape] per key."""
        raise NotImplementedError

    def distance(self, state: State, goal: State) -> Tensor:
        """How far two states are apart: [...]."""
        raise NotImplementedError

    def surprise(self, prediction: Prediction, state: State) -> Tensor:
        """How wrong the prediction was, per step: [...], in nats where the model has a likelihood."""
        raise NotImplementedError

    def loss(self, batch: Mapping[str, Tensor], state: State) -> tuple[Losses, State]:
        """Named, unweighted terms, each [B, T], or fewer steps where a term looks ahead, and the states [B, T, ...] of
        all T steps.

        `batch`: observation keys [B, T, *shape], `prev_action` [B, T, A], `reward` [B, T], `is_first`, `is_terminal`
        bool [B, T].
        """
        raise NotImplementedError

    def after_update(self) -> None:
        """Called after an update that was made; slow copies follow here."""
