"""`daydreamer train`: agent and robot in lockstep in one process, in the robot's own time, with a bar and a curve."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daydreamer.exploration import HOLD
from daydreamer.lockstep import Lockstep, LockstepSettings, Progress
from robots import registry
from robots.gym import RobotEnv
from services import run_folder
from services.config import Config
from services.console.live import duration, sparkline
from services.console.watching import ended_by_signals
from services.embodiment import robot_spec

CURVE = 40  # points


def train(config: Config, home: Path, steps: int, episode_steps: int, console: Console) -> None:
    """Collect until the run has `steps` steps in all, training at the config's ratio, or until SIGINT or SIGTERM.

    An episode is cut after `episode_steps` where it has not ended by then. Raises RunFolderError, ConfigError.
    """
    stop = threading.Event()
    env = _environment(config, episode_steps)
    settings = LockstepSettings(train_ratio=config.learner.train_ratio,
                                explore_hold=max(1, round(HOLD * config.robot.control_hz)))
    with (run_folder.claim(home, config) as folder, ended_by_signals(stop),
          Lockstep(env, config.agent, config.replay, settings, folder.path / "lockstep", config.seed,
                   device=config.learner.device) as lockstep):
        report = Report(config.name, lockstep.steps, steps)
        with Live(console=console, auto_refresh=False) as live:
            lockstep.run(steps, lambda progress: live.update(report.picture(progress), refresh=True), stop.is_set)
        if not console.is_terminal:
            console.line()
        console.print(f"{folder.path}: {lockstep.steps} steps, {lockstep.episodes} episodes, "
                      f"{lockstep.agent.updates} updates", highlight=False, soft_wrap=True)


class Report:
    """What is drawn of a run: how far it is, and the returns of its episodes over all of its `steps` steps."""

    def __init__(self, name: str, done: int, steps: int) -> None:
        self._name, self._done, self._steps = name, done, steps
        self._began = time.monotonic()
        self._sums, self._counts = [0.0] * CURVE, [0] * CURVE

    def picture(self, progress: Progress) -> Table:
        """Two lines: the bar, and the curve with the newest figures."""
        part = min(CURVE - 1, progress.steps * CURVE // self._steps)
        if progress.score is not None:
            self._sums[part] += progress.score
            self._counts[part] += 1
        seconds = time.monotonic() - self._began
        speed = (progress.steps - self._done) / seconds if seconds > 0 else 0.0
        left = f", {duration((self._steps - progress.steps) / speed)} to go" if speed > 0 else ""
        bar = Table.grid(padding=(0, 2))
        bar.add_row(Text(self._name, "bold"), ProgressBar(self._steps, progress.steps, width=CURVE),
                    f"{progress.steps} of {self._steps}{left}")
        score = "–" if progress.score is None else f"{progress.score:.1f}"
        bar.add_row("", Text(sparkline(self._curve()), "cyan"),
                    f"reward {progress.reward:.3f}, episode {score}, {speed:.0f} steps/s")
        return bar

    def _curve(self) -> list[float | None]:
        """Mean return of the episodes in each part of the run, None where there was none."""
        return [total / count if count else None for total, count in zip(self._sums, self._counts, strict=True)]


def _environment(config: Config, episode_steps: int) -> RobotEnv:
    robot_spec(config)
    robot = config.robot
    driver, task = registry.make(robot.driver, robot.task, robot.options, robot.control_hz, config.seed)
    return RobotEnv(driver, task, episode_steps, robot.model_keys)
