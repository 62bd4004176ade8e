"""One process, one thread: step an environment, store, train at a fixed ratio. For benchmarks and tests.

    folder/replay/                  the chunk log
    folder/checkpoint.safetensors   weights, optimiser, normalisers and RNG; counters and sampler state as its metadata
    folder/scores.jsonl             a line per episode and per evaluation
    folder/metrics.jsonl            a line per diagnosis, with the metrics of that update

Episodes are seeded one by one, and a checkpoint lies between two episodes. So a run that ends and is started again
continues bit for bit, wherever the environment's episode is determined by the seed of its `reset`. An environment that
keeps its state over a reset (a robot) continues from where it is. A run that is killed goes on from its last
checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from daydreamer.agent import FLAGS, Agent, BadWeights
from daydreamer.diagnostics.findings import Finding
from daydreamer.diagnostics.watch import Watch
from daydreamer.exploration import Explorer
from daydreamer.models.world_model import State
from daydreamer.recorder import Recorder
from daydreamer.replay import files
from daydreamer.replay.chunk import Schema
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings

COUNTERS = ("steps", "episodes", "evaluations", "replayed", "seconds")


@dataclass(frozen=True)
class LockstepSettings:
    """`train_ratio`: replayed steps per collected step, from the end of the prefill. `evaluate_every` steps, at the
    end of an episode, `evaluate_episodes` are played without exploration noise; 0: never. `checkpoint_every` steps
    likewise. `reset_options` go to every `reset`; `frames_per_step` is the environment's action repeat, for the
    scores. `explore_hold`: steps for which a random action is held before the first update."""

    train_ratio: float = 256.0
    evaluate_every: int = 0
    evaluate_episodes: int = 5
    checkpoint_every: int = 10_000
    frames_per_step: int = 1
    explore_hold: int = 1
    reset_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)}: at least 0 (0: never)")
        for name in ("train_ratio", "evaluate_episodes", "frames_per_step", "explore_hold"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)}: more than 0")


@dataclass(frozen=True)
class Progress:
    """Where a run is. `score`: the newest return of a training episode, `evaluation` the newest of evaluations; None
    before the first. `reward`: mean reward per step since the last report. `metrics` of the newest update; `findings`
    of the newest diagnosis."""

    steps: int
    episodes: int
    updates: int
    seconds: float
    reward: float
    score: float | None
    evaluation: float | None
    metrics: dict[str, float]
    findings: Sequence[Finding] = ()


class Lockstep:
    """A run in `folder`; resumes the one that is there.

        with Lockstep(env, AgentSettings(), ReplaySettings(), LockstepSettings(), folder, seed=0) as run:
            run.run(steps=20_000)
    """

    REPORT = 32  # steps between two reports

    def __init__(self, env: gymnasium.Env, agent: AgentSettings, replay: ReplaySettings, settings: LockstepSettings,
                 folder: Path, seed: int = 0, evaluation_env: gymnasium.Env | None = None, device: str = "cpu") -> None:
        """`env` belongs to the run from now on. Raises ValueError for spaces that no model can read, SchemaError and
        BadWeights where `folder` is of another environment or agent, LogLocked where it is in use."""
        self.env = uniform(env)
        self.evaluation_env = uniform(evaluation_env) if evaluation_env is not None else None
        self.settings, self.replay, self.seed, self.folder = settings, replay, seed, Path(folder)
        space, actions = self.env.observation_space, self.env.action_space
        self.agent = Agent(space, actions, agent, seed, device)
        self.recorder = Recorder(self.folder / "replay", Schema.of_spaces(space, actions), replay, seed)
        self.steps = self.episodes = self.evaluations = self.replayed = 0
        self.seconds = 0.0
        self.keys = [*space, "reward", *FLAGS]
        self._score: float | None = None
        self._evaluation: float | None = None
        self._metrics: dict[str, float] = {}
        self._watch = Watch(self.agent)
        self._rewards: list[float] = []
        self._resume()

    def run(self, steps: int, progress: Callable[[Progress], None] = lambda _: None,
            stop: Callable[[], bool] = lambda: False) -> None:
        """Collect until there are `steps` steps in all, or `stop()`; close the episode then running, and write a
        checkpoint."""
        began = time.monotonic() - self.seconds
        saved, evaluated = self.steps, self.steps
        every = self.settings
        while self.steps < steps and not stop():
            self._episode(steps, lambda: self._report(began, progress), stop)
            self.seconds = time.monotonic() - began
            self._write_score("training_return", self._score)
            if self.evaluation_env and every.evaluate_every and self.steps - evaluated >= every.evaluate_every:
                evaluated = self.steps
                self._evaluation = self.evaluate(every.evaluate_episodes)
                self._write_score("evaluation_return", self._evaluation)
            if every.checkpoint_every and self.steps - saved >= every.checkpoint_every:
                saved = self.steps
                self.save()
        self.save()

    def evaluate(self, episodes: int) -> float:
        """Mean return of episodes in the evaluation environment, without exploration noise; nothing of it is stored."""
        env, returns = self.evaluation_env or self.env, []
        for _ in range(episodes):
            self.evaluations += 1
            obs, _ = env.reset(seed=self._seed(1, self.evaluations))
            carry, action, first, score, over = self.agent.initial(1), self._no_action(), True, 0.0, False
            while not over:
                action, carry = self._act(obs, carry, action, first, "mode")
                obs, reward, terminated, truncated, _ = env.step(action)
                first, over, score = False, terminated or truncated, score + float(reward)
            returns.append(score)
        return float(np.mean(returns))

    def save(self) -> None:
        """Write a checkpoint durably; the one before stands until it is whole."""
        self.recorder.flush()
        state = {name: getattr(self, name) for name in COUNTERS}
        state["recorder"] = self.recorder.state_dict()
        content = save(self.agent.state_dict(), metadata={"lockstep": json.dumps(state)})
        os.close(files.create(self._checkpoint, content))

    def close(self) -> None:
        """Let environments and folder go."""
        self.recorder.close()
        self.env.close()
        if self.evaluation_env is not None:
            self.evaluation_env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        try:
            with safe_open(self._checkpoint, "pt") as file:
                state = json.loads(file.metadata()["lockstep"])
                self.agent.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            self.close()
            raise BadWeights(f"{self._checkpoint}: {error}; choose another folder") from error
        self.recorder.load_state_dict(state["recorder"])
        for name in COUNTERS:
            setattr(self, name, state[name])

    def _episode(self, until: int, report: Callable[[], None], stop: Callable[[], bool]) -> None:
        """Play and record one episode, training in between. Stopped early, it ends as one that was cut off."""
        self.episodes += 1
        obs, _ = self.env.reset(seed=self._seed(0, self.episodes), options=self.settings.reset_options or None)
        self._explorer = Explorer(self.env.action_space, self.settings.explore_hold, self._seed(2, self.episodes))
        carry, action, score = self.agent.initial(1), self._no_action(), 0.0
        reward, first, terminated, over = 0.0, True, False, False
        while True:
            over = over or self.steps >= until or stop()
            if over:
                action = self._no_action()
            else:
                action, carry = self._act(obs, carry, action, first, "explore")
            self.recorder.add({**obs, "action": action, "action_requested": action, "reward": reward, "is_first": first,
                               "is_last": over, "is_terminal": terminated, "weights_version": self.agent.updates or -1})
            if over:
                break
            obs, reward, terminated, truncated, _ = self.env.step(action)
            first, over, score = False, terminated or truncated, score + float(reward)
            self.steps += 1
            self._rewards.append(float(reward))
            self._train()
            if self.steps % self.REPORT == 0:
                report()
        self.recorder.flush()
        self._score = score

    def _act(self, obs: dict[str, np.ndarray], carry: State, prev_action: Any, first: bool,
             mode: str) -> tuple[Any, State]:
        """One action as the environment takes it. Before the first update, exploring is random."""
        if mode == "explore" and not self.agent.updates:
            action = self._explorer.action()
            return (int(action) if self.agent.discrete else action), carry
        rows = {key: np.asarray(value)[None] for key, value in obs.items()}
        actions, carry = self.agent.act(carry, rows, np.asarray(prev_action)[None], np.array([first]),
                                        "mode" if mode == "mode" else "sample")
        return (int(actions[0]) if self.agent.discrete else actions[0]), carry

    def _train(self) -> None:
        """As many updates as the ratio has earned since the prefill."""
        size = self.replay.batch * self.replay.length
        earned = (self.steps - self.replay.prefill) * self.settings.train_ratio
        while self.replayed + size <= earned and self.recorder.steps >= self.replay.prefill:
            batch = self.recorder.sample(self.keys)
            self._metrics = self.agent.train(batch, self.replay.burn_in)
            self.replayed += size
            if self._watch.look(batch, self.replay.burn_in):
                self._write_metrics()

    def _report(self, began: float, progress: Callable[[Progress], None]) -> None:
        reward, self._rewards = float(np.mean(self._rewards or [0.0])), []
        progress(Progress(self.steps, self.episodes, self.agent.updates, time.monotonic() - began, reward, self._score,
                          self._evaluation, self._metrics, self._watch.findings))

    def _write_metrics(self) -> None:
        figures = self._metrics | self._watch.figures
        line = {"steps": self.steps, "updates": self.agent.updates} | {
            name: float(f"{value:.5g}") for name, value in figures.items() if math.isfinite(value)}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _write_score(self, name: str, value: float | None) -> None:
        line = {"frames": self.steps * self.settings.frames_per_step, "steps": self.steps, "episodes": self.episodes,
                "updates": self.agent.updates, "seconds": round(self.seconds, 1), name: value}
        with (self.folder / "scores.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _seed(self, purpose: int, number: int) -> int:
        """The seed of one episode, which depends on nothing that happened before it."""
        return int(np.random.SeedSequence([self.seed, purpose, number]).generate_state(1)[0])

    def _no_action(self) -> Any:
        space = self.env.action_space
        return 0 if isinstance(space, spaces.Discrete) else np.zeros(space.shape, np.float32)


class _Named(gymnasium.ObservationWrapper):
    """Observations as a Dict of arrays: a lone Box is called `observation`, float64 becomes float32."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        self._lone = not isinstance(space, spaces.Dict)
        parts = {"observation": space} if self._lone else dict(space.spaces)
        self.observation_space = spaces.Dict({key: _single(part) for key, part in parts.items()})

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        parts = {"observation": observation} if self._lone else observation
        return {key: np.asarray(parts[key], space.dtype) for key, space in self.observation_space.items()}


def _single(space: spaces.Space) -> spaces.Space:
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), space.shape, np.float32)
    return space


def uniform(env: gymnasium.Env) -> gymnasium.Env:
    """Any environment with observations by name and, where they are continuous, actions in [-1, 1]."""
    space = env.action_space
    if isinstance(space, spaces.Box) and not ((space.low == -1).all() and (space.high == 1).all()):
        env = RescaleAction(env, np.float32(-1), np.float32(1))
    return _Named(env)
