"""The Go2 in numbers. Sources: the robot's published description, and for Kp and the folded pose the vendor's example
that makes it stand (go2_stand_example.py); its Kd of 5 follows an action half as fast as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robots.legs.anatomy import Anatomy

_FRONT, _REAR = (-1.5708, 3.4907), (-0.5236, 4.5379)  # rad, the thighs
LOWER = np.ravel([(-1.0472, thigh[0], -2.7227) for thigh in (_FRONT, _FRONT, _REAR, _REAR)])
UPPER = np.ravel([(1.0472, thigh[1], -0.83776) for thigh in (_FRONT, _FRONT, _REAR, _REAR)])
TORQUE = np.tile([23.7, 23.7, 45.43], 4)
STAND = np.tile([0.0, 0.8, -1.5], 4)
# What actions reach: thighs from a little behind standing straight to folded, calves from folded to nearly straight.
LOW = np.tile([-0.95, -0.45, -2.7], 4)
HIGH = np.tile([0.95, 2.9, -1.1], 4)
SWING = np.tile([0.2, 0.4, 0.4], 4)

GO2 = Anatomy(
    name="unitree_go2",
    lower=LOWER,
    upper=UPPER,
    torque=TORQUE,
    trip=1.25 * TORQUE,
    speed=16.0,
    kp=np.full(12, 60.0),
    kd=np.full(12, 3.0),
    damping=np.full(12, 5.0),
    window=0.25,  # at most 15 N m from the spring term
    reaches={"range": (LOW, HIGH), "nominal": (STAND - SWING, STAND + SWING)},
    stand_action=(STAND - LOW) / (HIGH - LOW) * 2 - 1,
    folded=np.tile([0.0, 1.36, -2.65], 4),
    hips=np.array([[0.1934, -0.0465], [0.1934, 0.0465], [-0.1934, -0.0465], [-0.1934, 0.0465]]),
    offset=0.0955,
    thigh=0.213,
    calf=0.213,
    model=Path(__file__).with_name("go2.xml"),
)
