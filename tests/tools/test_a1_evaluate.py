"""The truth of the simulator, beside what the robot thinks."""

from pathlib import Path

import numpy as np
import pytest

from robots.unitree_a1.anatomy import A1, NOMINAL
from services import config as configs

ROOT = Path(__file__).parents[2]


class Trotting:
    """Has learned to trot: diagonal legs swing together, 2.5 times a second."""

    def reset(self):
        self.period = 0

    def act(self, obs):
        self.period += 1
        angles = NOMINAL.reshape(4, 3) * [0, 1, 1]
        for leg, offset in enumerate((0.0, 0.5, 0.5, 0.0)):
            phase = 2 * np.pi * (self.period * 2.5 / 20 + offset)
            swing = max(0.0, np.cos(phase))
            angles[leg] += [0, 0.25 * swing - 0.35 * np.sin(phase), -0.5 * swing]
        return np.clip(A1.to_action(angles.ravel(), "nominal"), -1, 1)


def test_what_a_run_reached_is_measured_by_where_the_robot_got(tool):
    env = tool.environment(configs.load(ROOT / "configs/a1_run.yaml"), 4.0, 0.0)
    row = tool.episode(env, Trotting(), 0)
    assert row["seconds"] == 4 and not row["fell"]
    assert row["true_m_per_s"] > 0.4 and row["metres"] == pytest.approx(4 * row["true_m_per_s"], rel=0.15)
    assert row["estimated_m_per_s"] == pytest.approx(row["true_m_per_s"], abs=0.15)
    assert row["reward_per_step"] == pytest.approx(row["return"] / 80, abs=0.01)
