"""`daydreamer train`: agent and robot in lockstep in one process, in the robot's own time, with a bar and a curve."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium
import torch
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daydreamer.evaluation import Evaluator
from daydreamer.exploration import HOLD
from daydreamer.lockstep import Lockstep, LockstepSettings, Progress
from robots.environments import frames_per_step
from services import run_folder
from services.config import Config
from services.console.film import Filmed
from services.console.live import UNKNOWN, duration, sparkline
from services.console.watching import ended_by_signals
from services.embodiment import environment

CURVE = 40  # points
RECENT = 64  # reports that the time left is reckoned from
VIDEO = "evaluation.mp4"


def train(config: Config, home: Path, console: Console) -> None:
    """Collect until the run has `training.steps` in all, training at the config's ratio, or until SIGINT or SIGTERM.

    Raises RunFolderError, ConfigError.
    """
    stop = threading.Event()
    torch.set_num_threads(config.learner.threads)
    env = environment(config)
    with run_folder.claim(home, config) as folder, ended_by_signals(stop):
        evaluator = evaluator_of(config, folder.path / VIDEO if config.training.video else None, console)
        with Lockstep(env, config.agent, config.replay, _settings(config, env), folder.path / "lockstep", config.seed,
                      evaluator, config.learner.device) as lockstep:
            report = Report(config, console, lockstep.scores.lines)
            with Live(console=console, auto_refresh=False) as live:
                lockstep.run(config.training.steps, lambda progress: live.update(report(progress), refresh=True),
                             stop.is_set)
            if not console.is_terminal:
                console.line()
            console.print(f"{folder.path}: {lockstep.steps} steps, {lockstep.episodes} episodes, "
                          f"{lockstep.agent.updates} updates", highlight=False, soft_wrap=True)


def evaluator_of(config: Config, video: Path | None, console: Console) -> Evaluator:
    """Environments of the config to evaluate in; the first is filmed for `video`, if it has a picture."""
    def make(index: int) -> gymnasium.Env:
        env = environment(config, filmed=video is not None and index == 0)
        if video is None or index > 0:
            return env
        if env.render_mode == "rgb_array":
            return Filmed(env, video)
        console.print("no video: this environment has no picture")
        return env

    return Evaluator(make)


class Report:
    """What is drawn of a run: how far it is, and the returns of its `scores` over all of its steps.

    The curve is of evaluations where there are any, else of the episodes of training. Without a terminal, each new
    evaluation is a line as well.
    """

    def __init__(self, config: Config, console: Console, scores: Sequence[Mapping[str, Any]]) -> None:
        self._name, self._steps, self._console, self._scores = config.name, config.training.steps, console, scores
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._curves = {kind: [[] for _ in range(CURVE)] for kind in ("evaluation_return", "training_return")}
        self._taken, self._evaluated = 0, f"evaluation {UNKNOWN}"
        self._take()

    def __call__(self, progress: Progress) -> Table:
        """The bar, the curve with the newest figures, and what is clearly wrong."""
        self._recent.append((time.monotonic(), progress.steps))
        if self._take() and not self._console.is_terminal:
            self._console.print(f"{self._name}: {progress.steps} steps, {self._evaluated}", highlight=False,
                                soft_wrap=True)
        speed = self._speed()
        left = f", {duration((self._steps - progress.steps) / speed)} to go" if speed > 0 else ""
        bar = Table.grid(padding=(0, 2))
        bar.add_row(Text(self._name, "bold"), f"{progress.steps} of {self._steps}{left}")
        bar.add_row(ProgressBar(self._steps, progress.steps, width=CURVE),
                    f"episode {_number(progress.score)}, {speed:.0f} steps/s")
        bar.add_row(Text(sparkline(self._curve()), "cyan"), self._evaluated)
        for finding in progress.findings:
            bar.add_row("", Text(finding.text, "yellow"))
        return bar

    def _take(self) -> bool:
        """Put new scores into the curves; whether there was an evaluation among them."""
        new = [score for score in self._scores[self._taken:] if "cut" not in score]
        self._taken = len(self._scores)
        for score in new:
            part = min(CURVE - 1, score["steps"] * CURVE // self._steps)
            for kind in self._curves.keys() & score.keys():
                self._curves[kind][part].append(score[kind])
        evaluations = [score["evaluation_returns"] for score in new if "evaluation_returns" in score]
        if evaluations:
            lowest, mean, highest = min(evaluations[-1]), fmean(evaluations[-1]), max(evaluations[-1])
            self._evaluated = f"evaluation {mean:.1f} ({lowest:.1f} to {highest:.1f})"
        return bool(evaluations)

    def _speed(self) -> float:
        """Steps per second, lately."""
        (then, before), (now, steps) = self._recent[0], self._recent[-1]
        return (steps - before) / (now - then) if now > then else 0.0

    def _curve(self) -> list[float | None]:
        """Mean return in each part of the run, None where there was none."""
        curve = next((curve for curve in self._curves.values() if any(curve)), [])
        return [fmean(part) if part else None for part in curve]


def _settings(config: Config, env: gymnasium.Env) -> LockstepSettings:
    training = config.training
    hold = max(1, round(HOLD * config.robot.control_hz))
    return LockstepSettings(
        train_ratio=config.learner.train_ratio, evaluate_every=training.evaluate_every,
        evaluate_episodes=training.evaluate_episodes, checkpoint_every=training.checkpoint_every,
        frames_per_step=frames_per_step(env), explore_hold=hold)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"
