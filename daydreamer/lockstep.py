"""One process, one thread: step an environment, store, train at a fixed ratio. For benchmarks and tests.

    folder/replay/         the chunk log
    folder/checkpoints/    weights, optimiser, normalisers and RNG; counters and the sampler's state; see `checkpoints`
    folder/scores.jsonl    a line per episode and per evaluation
    folder/metrics.jsonl   a line per diagnosis, with the metrics of that update

A score is `training_return`, the return of one episode (with `cut` where the run ended before it did), or
`evaluation_return`, the mean of `evaluation_returns`. Beside it stand the counters: `frames` are steps times the
environment's action repeat, `seconds` are those of collecting and training.

Episodes are seeded one by one, and a checkpoint lies between two episodes. So a run that ends and is started again
continues bit for bit, wherever the environment's episode is determined by the seed of its `reset`. An environment that
keeps its state over a reset (a robot) continues from where it is. A run that is killed goes on from its last
checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np

from daydreamer import checkpoints
from daydreamer.agent import FLAGS, Agent
from daydreamer.blueprint import Blueprint
from daydreamer.diagnostics.findings import Finding
from daydreamer.diagnostics.watch import Watch
from daydreamer.evaluation import Evaluator, Played
from daydreamer.exploration import Explorer
from daydreamer.lines import Lines
from daydreamer.models.world_model import State
from daydreamer.nn.memory import keep_freed_memory
from daydreamer.recorder import Recorder
from daydreamer.replay.chunk import Schema
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import AgentSettings
from daydreamer.uniform import applied, no_action, uniform

COUNTERS = ("steps", "episodes", "evaluations", "replayed", "seconds")


@dataclass(frozen=True)
class LockstepSettings:
    """`train_ratio`: replayed steps per collected step, from the end of the prefill. At the end of the episode in which
    a multiple of `evaluate_every` steps was reached, `evaluate_episodes` are played with the mode of the policy; 0:
    never. A checkpoint is written after `checkpoint_every` steps likewise. `reset_options` go to every `reset`;
    `frames_per_step` is the environment's action repeat, for the scores. `explore_hold`: steps for which a random
    action is held before the first update."""

    train_ratio: float = 256.0
    evaluate_every: int = 0
    evaluate_episodes: int = 10
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
    before the first. `reward`: mean reward per step of the newest steps. `metrics` of the newest update; `findings`
    of the newest diagnosis."""

    steps: int
    episodes: int
    updates: int
    seconds: float
    reward: float
    score: float | None
    evaluation: Played | None
    metrics: dict[str, float]
    findings: Sequence[Finding] = ()


class Lockstep:
    """A run in `folder`; resumes the one that is there.

        with Lockstep(env, AgentSettings(), ReplaySettings(), LockstepSettings(), folder, seed=0) as run:
            run.run(steps=20_000)
    """

    REPORT = 32  # steps between two reports; there is one after each evaluation and at the end, too

    def __init__(self, env: gymnasium.Env, agent: AgentSettings, replay: ReplaySettings, settings: LockstepSettings,
                 folder: Path, seed: int = 0, evaluator: Evaluator | None = None, device: str = "cpu") -> None:
        """`env` and `evaluator` belong to the run from now on. Raises ValueError for spaces that no model can read,
        SchemaError and CheckpointError where `folder` is of another environment or agent, LogLocked where it is in use.
        """
        self.env = uniform(env)
        self.evaluator = evaluator
        self.settings, self.replay, self.seed, self.folder = settings, replay, seed, Path(folder)
        space, actions = self.env.observation_space, self.env.action_space
        keep_freed_memory()
        self.agent = Agent(space, actions, agent, seed, device)
        self.recorder = Recorder(self.folder / "replay", Schema.of_spaces(space, actions), replay, seed)
        self.steps = self.episodes = self.evaluations = self.replayed = 0
        self.seconds = 0.0
        self.keys = [*space, "reward", *FLAGS]
        self._score: float | None = None
        self._evaluation: Played | None = None
        self.scores, self._figures = (Lines(self.folder / name) for name in ("scores.jsonl", "metrics.jsonl"))
        self._metrics: dict[str, float] = {}
        self._watch = Watch(self.agent)
        self._rewards: list[float] = []
        self._reward = 0.0
        self._resume()
        self.scores.cut(self.steps)
        self._figures.cut(self.steps)

    def run(self, steps: int, progress: Callable[[Progress], None] = lambda _: None,
            stop: Callable[[], bool] = lambda: False) -> None:
        """Collect until there are `steps` steps in all, or `stop()`; close the episode then running, and write a
        checkpoint."""
        every = self.settings
        while self.steps < steps and not stop():
            before = self.steps
            cut = self._episode(steps, progress, stop)
            self._write_score(training_return=round(self._score, 3), **({"cut": True} if cut else {}))
            if self.evaluator and self._reached(every.evaluate_every, before):
                self.evaluate(every.evaluate_episodes)
                self._report(progress)
            if self._reached(every.checkpoint_every, before):
                self.save()
        self.save()
        self._report(progress)

    def evaluate(self, episodes: int) -> Played:
        """Play with the mode of the policy, for the scores; nothing of it is stored. Needs an `evaluator`."""
        seeds = [self._seed(1, self.evaluations + 1 + i) for i in range(episodes)]
        self._evaluation = self.evaluator.play(self.agent, seeds)
        self.evaluations += episodes
        returns = [round(score, 3) for score in self._evaluation.returns]
        self._write_score(evaluation_return=round(self._evaluation.mean, 3), evaluation_returns=returns)
        return self._evaluation

    def save(self) -> None:
        """Write a checkpoint durably; the one before stands until it is whole."""
        self.recorder.flush()
        counters = {name: getattr(self, name) for name in COUNTERS} | {"recorder": self.recorder.state_dict()}
        checkpoints.save(self._checkpoints, self.agent.state_dict(), counters, Blueprint.of(self.agent))

    def close(self) -> None:
        """Let environments and folder go."""
        self.recorder.close()
        self.env.close()
        if self.evaluator is not None:
            self.evaluator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def _resume(self) -> None:
        try:
            found = checkpoints.load_newest(self._checkpoints, Blueprint.of(self.agent))
        except checkpoints.CheckpointError:
            self.close()
            raise
        if found is None:
            return
        self.agent.load_state_dict(found.tensors)
        self.recorder.load_state_dict(found.counters["recorder"])
        for name in COUNTERS:
            setattr(self, name, found.counters[name])

    def _reached(self, every: int, before: int) -> bool:
        """Whether the steps since `before` went over a multiple of `every`; where that lies depends on no restart."""
        return every > 0 and self.steps // every > before // every

    def _episode(self, until: int, progress: Callable[[Progress], None], stop: Callable[[], bool]) -> bool:
        """Play and record one episode, training in between. Stopped early, it ends as one that was cut off; whether it
        was."""
        self.episodes += 1
        began = time.monotonic() - self.seconds
        obs, _ = self.env.reset(seed=self._seed(0, self.episodes), options=self.settings.reset_options or None)
        self._explorer = Explorer(self.env.action_space, self.settings.explore_hold, self._seed(2, self.episodes))
        carry, action, score = self.agent.initial(1), no_action(self.env.action_space), 0.0
        reward, first, terminated, over, cut = 0.0, True, False, False, False
        while True:
            cut = not over and (self.steps >= until or stop())
            over = over or cut
            step = {**obs, "reward": reward, "is_first": first, "is_last": over, "is_terminal": terminated,
                    "weights_version": self.agent.updates or -1}
            if over:
                action = no_action(self.env.action_space)
                self.recorder.add(step | {"action": action, "action_requested": action})
                break
            requested, carry = self._act(obs, carry, action, first)
            obs, reward, terminated, truncated, info = self.env.step(requested)
            action, clip = applied(requested, info)
            self.recorder.add(step | {"action": action, "action_requested": requested, "clip": clip})
            first, over, score = False, terminated or truncated, score + float(reward)
            self.steps += 1
            self._rewards.append(float(reward))
            self._train()
            self.seconds = time.monotonic() - began
            if self.steps % self.REPORT == 0:
                self._report(progress)
        self.recorder.flush()
        self._score = score
        return cut

    def _act(self, obs: dict[str, np.ndarray], carry: State, prev_action: Any, first: bool) -> tuple[Any, State]:
        """One action as the environment takes it, random before the first update."""
        if self.agent.updates:
            rows = {key: np.asarray(value)[None] for key, value in obs.items()}
            actions, carry = self.agent.act(carry, rows, np.asarray(prev_action)[None], np.array([first]))
            action = actions[0]
        else:
            action = self._explorer.action()
        return (int(action) if self.agent.discrete else action), carry

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

    def _report(self, progress: Callable[[Progress], None]) -> None:
        if self._rewards:
            self._reward, self._rewards = float(np.mean(self._rewards)), []
        progress(Progress(self.steps, self.episodes, self.agent.updates, self.seconds, self._reward, self._score,
                          self._evaluation, self._metrics, self._watch.findings))

    def _write_metrics(self) -> None:
        figures = self._metrics | self._watch.figures
        self._figures.add({"steps": self.steps, "updates": self.agent.updates} | {
            name: float(f"{value:.5g}") for name, value in figures.items() if math.isfinite(value)})

    def _write_score(self, **score: Any) -> None:
        self.scores.add({"frames": self.steps * self.settings.frames_per_step, "steps": self.steps,
                         "episodes": self.episodes, "updates": self.agent.updates, "seconds": round(self.seconds, 1),
                         **score})

    def _seed(self, purpose: int, number: int) -> int:
        """The seed of one episode, which depends on nothing that happened before it."""
        return int(np.random.SeedSequence([self.seed, purpose, number]).generate_state(1)[0])
