"""How an A1 moves that acts as a run has learned to, by the simulator's truth: what its own estimates are held to.

    python tools/a1_evaluate.py runs/a1_run --episodes 6 --out docs/results/a1_run_evaluated.csv

One row per episode of `--seconds`, without exploration and from the pose of the run's config, with the sensor noise of
the double (without it, all episodes are the same): the return, the mean speed along the heading, true and as the robot
estimated it, how far it got, and whether the episode ended by a fall.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from measurement import Row, report

from daydreamer.agent import Agent
from daydreamer.player import Player
from robots.gym import RobotEnv
from robots.registry import make
from services import config as configs
from services.config import Config


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--episodes", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config, player = configs.load(arguments.run / "config.yaml"), Agent.load(arguments.run)
    env, name = environment(config, arguments.seconds, arguments.noise), arguments.run.resolve().name
    report([{"run": name, "updates": player.agent.updates, "episode": seed + 1, **episode(env, player, seed)}
            for seed in range(arguments.episodes)], arguments.out)
    env.close()


def environment(config: Config, seconds: float, noise: float) -> RobotEnv:
    """The double of the config and its task, with every signal, where nobody touches it."""
    robot = config.robot
    quiet = dict(robot.options) | {"turn_every": 0.0, "push_every": 0.0, "lift_after": 0.0, "noise": noise}
    driver, task = make(robot.driver, robot.task, quiet, robot.control_hz, config.seed)
    return RobotEnv(driver, task, round(seconds * robot.control_hz))


def episode(env: RobotEnv, player: Player, seed: int) -> Row:
    """Play one; speeds in m/s, distance in m."""
    obs, _ = env.reset(seed=seed)
    player.reset()
    link = env.driver.link
    began, rewards, truth, estimate, over = link.data.qpos[:2].copy(), [], [], [], False
    while not over:
        obs, reward, fell, truncated, _ = env.step(player.act(obs))
        rewards.append(reward)
        truth.append(ahead(link.true_velocity(), obs["up"]))
        estimate.append(ahead(obs["base_velocity"], obs["up"]))
        over = fell or truncated
    return {"seconds": len(rewards) / env.driver.spec.control_hz, "return": round(float(sum(rewards)), 1),
            "reward_per_step": round(float(np.mean(rewards)), 2), "true_m_per_s": round(float(np.mean(truth)), 3),
            "estimated_m_per_s": round(float(np.mean(estimate)), 3),
            "metres": round(float(np.linalg.norm(link.data.qpos[:2] - began)), 2), "fell": int(fell)}


def ahead(velocity: np.ndarray, up: np.ndarray) -> float:
    """The part of a velocity [3] in the body frame that is level and along the heading."""
    level = np.array([1.0, 0.0, 0.0]) - up[0] * up
    return float(velocity @ level / max(1e-6, np.linalg.norm(level)))


if __name__ == "__main__":
    main()
