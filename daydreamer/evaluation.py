"""How good an agent is: episodes with the mode of its policy, side by side, of which nothing is stored or learned.

An evaluation leaves no trace in the agent. What the agent draws at random meanwhile comes from the evaluation's seeds,
and afterwards its generator stands where it stood: training is the same, bit for bit, with evaluations and without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import gymnasium
import numpy as np

from daydreamer.agent import Agent
from daydreamer.uniform import applied, no_action, uniform

SIDE_BY_SIDE = 10  # episodes at a time


@dataclass(frozen=True)
class Played:
    """The returns of some episodes, in the order of their seeds."""

    returns: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.returns)


class Evaluator:
    """Environments to play in: `make(i)` makes the i-th, when it is first needed. They are closed by `close`."""

    def __init__(self, make: Callable[[int], gymnasium.Env]) -> None:
        self._make = make
        self._envs: list[gymnasium.Env] = []

    def play(self, agent: Agent, seeds: Sequence[int]) -> Played:
        """One episode per seed, which determines it together with the weights."""
        rounds = [seeds[start:start + SIDE_BY_SIDE] for start in range(0, len(seeds), SIDE_BY_SIDE)]
        with _untouched(agent, seeds[0]):
            return Played(tuple(score for each in rounds for score in self._round(agent, each)))

    def close(self) -> None:
        """Let the environments go."""
        for env in self._envs:
            env.close()
        self._envs = []

    def _round(self, agent: Agent, seeds: Sequence[int]) -> list[float]:
        """An episode in each of the first environments, with one decision for all at a time.

        Who has finished is decided for as well, from its last observation, so that the batch keeps its shape.
        """
        while len(self._envs) < len(seeds):
            self._envs.append(uniform(self._make(len(self._envs))))
        shown = [env.reset(seed=seed)[0] for env, seed in zip(self._envs, seeds, strict=False)]
        carry, first, running = agent.initial(len(seeds)), True, np.ones(len(seeds), bool)
        actions, scores = np.stack([no_action(agent.action_space)] * len(seeds)), [0.0] * len(seeds)
        while running.any():
            obs = {key: np.stack([each[key] for each in shown]) for key in agent.observation_space}
            actions, carry = agent.act(carry, obs, actions, np.full(len(seeds), first), "mode")
            first = False
            for i in np.flatnonzero(running):
                action = int(actions[i]) if agent.discrete else actions[i]
                shown[i], reward, terminated, truncated, info = self._envs[i].step(action)
                actions[i], _ = applied(action, info)
                scores[i] += float(reward)
                running[i] = not (terminated or truncated)
        return scores


@contextmanager
def _untouched(agent: Agent, seed: int) -> Iterator[None]:
    """Random numbers from `seed`, and then the agent's own again."""
    state = agent.generator.get_state()
    agent.generator.manual_seed(seed)
    try:
        yield
    finally:
        agent.generator.set_state(state)
