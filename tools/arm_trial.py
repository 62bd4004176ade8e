"""What an arm or a ball learned, minute by minute, from the experience that a run recorded; it may still be going on.

    python tools/arm_trial.py runs/ur5e_reach --out docs/results/ur5e_reach.csv

Task `reach`: of the targets whose time ended in the minute, how many the tool was within 5 cm of at the end, and the
median distance then. Task `pick_place`: grasps, releases over the other bin, and drops. Task `navigate`: the ball's
mean distance to its goal in arena units, while it was seen. Minutes are counted in control periods of the robot.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from measurement import Row, report

from daydreamer.replay.stats import columns
from robots.arms.tasks import DROPPED, GRASPED, PLACED
from services import config as configs

REACHED = 0.05  # m
COLUMNS = {"reach": ("reward", "tool_position", "target"), "pick_place": ("reward",),
           "navigate": ("reward", "ball_position", "goal", "ball_lost")}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--minutes", type=int, default=1, help="of each row")
    parser.add_argument("--out", type=Path, help="a CSV file to add the figures to")
    arguments = parser.parse_args()
    robot = configs.load(arguments.run / "config.yaml").robot
    values = read(arguments.run, COLUMNS[robot.task])
    size, name = round(robot.control_hz * 60 * arguments.minutes), arguments.run.resolve().name
    figures = {"reach": reach, "pick_place": pick_place, "navigate": navigate}[robot.task]
    rows = []
    for minute, start in enumerate(range(0, len(values["reward"]) - size + 1, size), 1):
        part = {key: value[start:start + size] for key, value in values.items()}
        reward = {"reward_per_step": round(float(part["reward"].mean()), 3)}
        rows.append({"run": name, "minute": minute * arguments.minutes} | reward | figures(part))
    report(rows, arguments.out)


def read(run: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Recorded columns [steps, ...] in their order, in real time or in lockstep. Raises LogError."""
    lockstep = run / "lockstep" / "replay"
    streams = columns(lockstep if lockstep.is_dir() else run / "replay", names)
    return {name: np.concatenate([stream[name] for stream in streams]) for name in streams[0]}


def reach(part: Mapping[str, np.ndarray]) -> Row:
    """Of targets whose last step lies in the part."""
    last = np.flatnonzero((np.diff(part["target"], axis=0) != 0).any(1))
    away = np.linalg.norm(part["tool_position"][last] - part["target"][last], axis=1)
    return {"targets": len(last), "reached": round(float((away < REACHED).mean()), 3) if len(last) else "",
            "median_cm": round(100 * float(np.median(away)), 1) if len(last) else ""}


def pick_place(part: Mapping[str, np.ndarray]) -> Row:
    """What each reward stands for."""
    return {name: int((part["reward"] == reward).sum())
            for name, reward in (("grasped", GRASPED), ("placed", PLACED), ("dropped", DROPPED))}


def navigate(part: Mapping[str, np.ndarray]) -> Row:
    """Over the steps in which the ball was seen."""
    seen = part["ball_lost"].reshape(-1) == 0
    away = np.linalg.norm(part["ball_position"] - part["goal"], axis=1)[seen]
    return {"distance": round(float(away.mean()), 3) if seen.any() else "", "lost": int((~seen).sum())}


if __name__ == "__main__":
    main()
