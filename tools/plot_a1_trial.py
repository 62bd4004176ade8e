"""The picture of an A1's trial, for `tools/a1_trial.py`. Needs the extra `bench`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from a1_trial import PUSHED, Trial, by_minutes, recoveries
from plot_run import baselines

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

# DayDreamer on a real A1 (Wu et al. 2022): steps at 20 Hz, reward per step.
PUBLISHED = ((19_000, 5.7), (47_000, 9.2), (66_000, 9.8))


def draw(trial: Trial, levels: Path, out: Path) -> None:
    """Reward over the minutes with what happened to it, or, of the task `run`, speed and falls over the steps."""
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    if trial.task == "run":
        _running(trial, axes)
    else:
        _walking(trial, levels, axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def _walking(trial: Trial, levels: Path, axes: Axes) -> None:
    rewards = by_minutes(trial, 1)
    axes.plot(np.arange(1, len(rewards) + 1), rewards, marker="o", markersize=3, label="this run")
    axes.plot([steps / 1200 for steps, _ in PUBLISHED], [reward for _, reward in PUBLISHED], "k^",
              label="DayDreamer on a real A1 (published)")
    stood = {row["minute"]: row["standing_s"] != "" for row in recoveries(trial)}
    for label, colour, minutes in (
        ("laid on its back, stood again", "tab:green", [minute for minute, again in stood.items() if again]),
        ("laid on its back, did not", "tab:red", [minute for minute, again in stood.items() if not again]),
        ("pushed", "0.75", [trial.minute(step) for step in trial.events(PUSHED)]),
    ):
        if minutes:
            axes.plot(minutes, np.full(len(minutes), 4.6), "|", color=colour, label=label)
    alike = defaultdict(list)
    for name, level in baselines(levels, "back").items():
        alike[round(level, 1)].append(name)
    for level, names in alike.items():
        axes.axhline(level, color="0.6", linewidth=1, linestyle="--", label=f"{', '.join(names)}, from its back")
    axes.set(xlabel="minute of the robot's time", ylabel="reward per step")


def _running(trial: Trial, axes: Axes) -> None:
    """Means over stretches of 500 steps."""
    values, size = trial.values, 500
    full = len(trial.reward) // size * size
    steps = np.arange(size, full + 1, size)
    speed = np.cos(values["tilt"][:, 1]) * values["base_velocity"][:, 0]
    fell = values["is_terminal"] & ~values["is_first"]
    axes.plot(steps, speed[:full].reshape(-1, size).mean(1), label="speed forwards, m/s")
    axes.axhline(0.4, color="0.6", linewidth=1, linestyle="--", label="0.4 m/s")
    axes.set(xlabel="steps", ylabel="metres per second")
    other = axes.twinx()
    other.plot(steps, fell[:full].reshape(-1, size).mean(1) * trial.hz * 60, color="tab:red", linewidth=1)
    other.set_ylabel("falls per minute", color="tab:red")
    other.spines[["top"]].set_visible(False)
