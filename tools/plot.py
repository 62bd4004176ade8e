"""Learning curves of `daydreamer train`, next to published ones: a panel per task, seeds as their median and range.

    python tools/plot.py runs/walker_walk-* --keep docs/results/curves.csv --out docs/results/walker_walk.png
    python tools/plot.py docs/results/curves.csv --over minutes --out curves.png

Runs whose names differ in nothing but their seed (`walker_walk-0`, `walker_walk-1`) are one line: evaluation return
over the environment's frames, or over minutes of collecting and training. `--keep` adds the curves to a CSV that can be
drawn again without the runs. Published points are those of docs/results/published.csv. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import yaml

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from measurement import write_csv

from daydreamer.lines import Lines

PUBLISHED = Path(__file__).parents[1] / "docs" / "results" / "published.csv"
MARKERS = "os^Dvx"
AXES = {"frames": "environment frames", "minutes": "minutes of collecting and training"}


@dataclass(frozen=True)
class Point:
    """One evaluation of one run: `line` is what the runs of all seeds share, `score` the mean return."""

    task: str
    line: str
    seed: int
    frames: float
    minutes: float
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a CSV of --keep")
    parser.add_argument("--over", choices=sorted(AXES), default="frames")
    parser.add_argument("--keep", type=Path, metavar="CSV")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    points = [point for source in arguments.sources for point in read(source)]
    if arguments.keep:
        rounded = [{"minutes": f"{p.minutes:.2f}", "score": f"{p.score:.1f}"} for p in points]
        write_csv(arguments.keep, [vars(p) | r for p, r in zip(points, rounded, strict=True)])
    draw(points, published(PUBLISHED) if arguments.over == "frames" else [], arguments.over, arguments.out)


def read(source: Path) -> list[Point]:
    """The evaluations of a run, or of all runs in a CSV."""
    if source.suffix == ".csv":
        with source.open(newline="") as file:
            return [Point(row["task"], row["line"], int(row["seed"]), float(row["frames"]), float(row["minutes"]),
                          float(row["score"])) for row in csv.DictReader(file)]
    config = yaml.safe_load((source / "config.yaml").read_text())
    line, seed = config["name"].removesuffix(f"-{config['seed']}"), config["seed"]
    return [Point(task_of(config["robot"]), line, seed, score["frames"], score["seconds"] / 60,
                  score["evaluation_return"])
            for score in Lines(source / "lockstep" / "scores.jsonl").lines if "evaluation_return" in score]


def task_of(robot: dict) -> str:
    """As published.csv calls it: a DMC task, any other environment by its id, a robot by its task."""
    options = robot["options"]
    name = options.get("kwargs", {}).get("task") or options.get("id") or f"{robot['driver']} {robot['task']}"
    return f"{name}, pixels" if "image" in robot["model_keys"] else name


def published(path: Path) -> list[Point]:
    """Points of others, their method as the line."""
    with path.open(newline="") as file:
        return [Point(row["task"], row["method"], 0, float(row["frames"]), math.nan, float(row["return"]))
                for row in csv.DictReader(file)]


def draw(points: Sequence[Point], others: Sequence[Point], over: str, out: Path) -> None:
    """A panel per task that has points; what others reached is drawn as far as our runs go."""
    tasks = sorted({point.task for point in points})
    markers = dict(zip(sorted({point.line for point in others}), itertools.cycle(MARKERS), strict=False))
    columns = min(3, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(4.5 * columns, 3.2 * rows), layout="constrained",
                                     squeeze=False)
    for axes, task in zip(panels.flat, tasks, strict=False):
        ours = [point for point in points if point.task == task]
        end = 1.02 * max(getattr(point, over) for point in ours)
        for name, line in lines(ours):
            draw_seeds(axes, name, line, over)
        for name, line in lines(point for point in others if point.task == task and point.frames <= end):
            axes.plot([p.frames for p in line], [p.score for p in line], f"{markers[name]}--", color="0.5",
                      markersize=4, linewidth=0.8, label=name)
        axes.set(title=task, xlabel=AXES[over], ylabel="evaluation return", xlim=(0, end))
        axes.set_ylim(min(0.0, axes.get_ylim()[0]))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="x-small")
    for axes in panels.flat[len(tasks):]:
        axes.set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def draw_seeds(axes: Axes, name: str, line: Sequence[Point], over: str) -> None:
    """Median of the seeds, and from the worst to the best of them, as far as all have come."""
    seeds = [sorted((p for p in line if p.seed == seed), key=lambda p: p.frames) for seed in {p.seed for p in line}]
    ends = [getattr(seed[-1], over) for seed in seeds]
    at = sorted({getattr(p, over) for p in line if getattr(p, over) <= min(ends)})
    scores = np.array([np.interp(at, [getattr(p, over) for p in seed], [p.score for p in seed]) for seed in seeds])
    drawn, = axes.plot(at, np.median(scores, 0), label=f"{name} ({len(seeds)})" if len(seeds) > 1 else name)
    if len(seeds) > 1:
        axes.fill_between(at, scores.min(0), scores.max(0), color=drawn.get_color(), alpha=0.2, linewidth=0)


def lines(points: Iterable[Point]) -> list[tuple[str, list[Point]]]:
    """Points by their line, each in the order of frames."""
    found = defaultdict(list)
    for point in sorted(points, key=lambda p: p.frames):
        found[point.line].append(point)
    return sorted(found.items())


if __name__ == "__main__":
    main()
