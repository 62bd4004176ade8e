"""Reward per step by minute of runs, beside what learns nothing, as a picture.

    python tools/plot_run.py runs/a1_walk --baselines docs/results/a1_baselines.csv --out docs/results/a1_walk.png

`--baselines` is what `tools/baselines.py` wrote; each is drawn as its mean, a level line; those within 0.1 share one.
Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, with its summary.json")
    parser.add_argument("--baselines", type=Path)
    parser.add_argument("--pose", default="back", help="the pose the baselines start in")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    curves = {run.resolve().name: by_minute(run) for run in arguments.runs}
    levels = baselines(arguments.baselines, arguments.pose) if arguments.baselines else {}
    draw(curves, levels, arguments.out)


def by_minute(run: Path) -> list[float]:
    """Reward per step of each full minute of a run; NaN where it took no step."""
    summary = json.loads((run / "summary.json").read_text())
    return [float("nan") if value is None else value for value in summary["reward_per_step"]["by_minute"]]


def baselines(path: Path, pose: str) -> dict[str, float]:
    """Mean reward per step of each baseline from this pose."""
    found = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["pose"] == pose:
                found[row["baseline"]].append(float(row["reward_per_step"]))
    return {name: mean(values) for name, values in found.items()}


def draw(curves: dict[str, list[float]], levels: dict[str, float], out: Path) -> None:
    """Runs as lines over the minutes, baselines as level lines with their names at the right."""
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    alike = defaultdict(list)
    for name, level in levels.items():
        alike[round(level, 1)].append(name)
    for level, names in alike.items():
        axes.axhline(level, color="0.6", linewidth=1, linestyle="--")
        axes.annotate("\n".join(names), (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
                      textcoords="offset points", va="center", color="0.4", fontsize="small", annotation_clip=False)
    axes.set(xlabel="minute of the run", ylabel="reward per step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
