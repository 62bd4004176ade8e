"""The A1 in numbers. Sources: the robot's published description, and the settings that DayDreamer ran it with (Wu et
al. 2022, section 4.1 and its released code)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robots.legs.anatomy import Anatomy, share_of

LOWER = np.tile([-0.802851, -1.0472, -2.69653], 4)
UPPER = np.tile([0.802851, 4.18879, -0.916298], 4)
# A smaller reach, around standing: what Walk in the Park learns to walk with (Smith et al. 2022, its released code).
NOMINAL = np.tile([0.05, 0.7, -1.4], 4)
SWING = np.tile([0.2, 0.4, 0.4], 4)

A1 = Anatomy(
    name="unitree_a1",
    lower=LOWER,
    upper=UPPER,
    torque=np.full(12, 33.5),
    trip=np.full(12, 42.0),
    speed=16.0,
    kp=np.full(12, 80.0),
    kd=np.tile([1.0, 2.0, 2.0], 4),
    damping=np.full(12, 4.0),
    window=0.2,  # at most 16 N m from the spring term
    reaches={"range": share_of(LOWER, UPPER, np.tile([0.01, 0.01, 0.01], 4), np.tile([0.99, 0.90, 0.60], 4)),
             "nominal": (NOMINAL - SWING, NOMINAL + SWING)},
    stand_action=np.tile([0.0, -0.2, 1.0], 4),
    folded=np.tile([0.0, 1.1776, -2.69], 4),
    hips=np.array([[0.183, -0.047], [0.183, 0.047], [-0.183, -0.047], [-0.183, 0.047]]),
    offset=0.08505,
    thigh=0.2,
    calf=0.2,
    model=Path(__file__).with_name("a1.xml"),
)
