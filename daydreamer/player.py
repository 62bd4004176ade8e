"""An agent that plays in one environment, observation by observation: it remembers what an episode needs remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from daydreamer import checkpoints
from daydreamer.agent import Agent
from daydreamer.settings import AgentSettings
from daydreamer.uniform import no_action


class Player:
    """Takes single observations and gives single actions. It learns nothing.

        obs, _ = env.reset()
        player.reset()
        while not over:
            obs, reward, terminated, truncated, _ = env.step(player.act(obs))
            over = terminated or truncated
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.reset()

    def reset(self) -> None:
        """The next observation begins an episode."""
        self._carry, self._first = self.agent.initial(1), True
        self._action = no_action(self.agent.action_space)

    def act(self, obs: Mapping[str, np.ndarray] | np.ndarray) -> np.ndarray | int:
        """What the policy thinks best: float32 [A] in [-1, 1], or an int where discrete.

        `obs` by name as the agent was trained on, more names do not matter; a lone array is called `observation`.
        Raises BadObservation.
        """
        named = obs if isinstance(obs, Mapping) else {"observation": obs}
        rows = {key: np.asarray(value)[None] for key, value in named.items()}
        actions, self._carry = self.agent.act(self._carry, rows, np.asarray(self._action)[None],
                                              np.array([self._first]), "mode")
        self._first = False
        self._action = int(actions[0]) if self.agent.discrete else actions[0]
        return self._action


def load(path: Path, device: str = "cpu", settings: AgentSettings | None = None) -> Agent:
    """The agent of the newest checkpoint under `path`, to act; with `settings` in place of those it was trained with.

    It may have been trained on another device. Raises CheckpointError, and BadWeights for settings that the weights do
    not fit.
    """
    found = checkpoints.load_latest(path)
    blueprint = found.blueprint if settings is None else replace(found.blueprint, settings=settings)
    agent = blueprint.build(device=device)
    agent.load_acting_state({name: found.tensors[name] for name in agent.acting_state() if name in found.tensors})
    agent.optimiser.updates = int(found.tensors["updates"])
    return agent
