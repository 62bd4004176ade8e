"""Reward per step, minute by minute, of what learns nothing: what a learned policy of the A1 has to beat.

Zero action (the middle of every joint's range), random actions, and holding the standing pose, from each start, in
virtual time; the double, its task and its limits are those of a run. With `--push-every` somebody pushes it meanwhile.

    python tools/baselines.py --minutes 5 --poses back belly --out docs/results/a1_baselines.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from measurement import report

from robots.gym import RobotEnv
from robots.registry import make
from robots.unitree_a1.anatomy import A1

CONTROL_HZ = 20
Choose = Callable[[np.random.Generator], np.ndarray]
BASELINES: dict[str, Choose] = {
    "zero action": lambda random: np.zeros(12, np.float32),
    "random action": lambda random: random.uniform(-1, 1, 12).astype(np.float32),
    "hold home": lambda random: A1.stand_action.astype(np.float32),
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--poses", nargs="+", default=["back"])
    parser.add_argument("--push-every", type=float, default=0.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report([row for pose in arguments.poses for name in BASELINES
            for row in by_minute(pose, name, arguments.minutes, arguments.seed, arguments.push_every)], arguments.out)


def by_minute(pose: str, name: str, minutes: int, seed: int, push_every: float) -> Iterator[dict[str, object]]:
    """One row per minute of the robot's time."""
    options, random = {"pose": pose, "push_every": push_every}, np.random.default_rng(seed)
    env = RobotEnv(*make("unitree_a1", "walk", options, CONTROL_HZ, seed))
    env.reset()
    for minute in range(1, minutes + 1):
        rewards = [env.step(BASELINES[name](random))[1] for _ in range(60 * CONTROL_HZ)]
        yield {"pose": pose, "baseline": name, **({"push_every": push_every} if push_every else {}),
               "minute": minute, "reward_per_step": round(float(np.mean(rewards)), 3)}
    env.close()


if __name__ == "__main__":
    main()
