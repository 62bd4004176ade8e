"""What an arm with a gripper is told and tells, once per inner period."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robots.link import Link


class ArmState(NamedTuple):
    """What the controller measures. `time` is when it was received [ns]."""

    time: int
    q: np.ndarray  # [J] rad
    dq: np.ndarray  # [J] rad/s
    effort: np.ndarray  # [J] N m, as the controller estimates it from its motors
    gripper: float  # measured opening: 0 closed to 1 open
    holding: bool  # the gripper reports that its fingers closed on something
    trouble: str = ""  # why the controller itself does not move (protective stop, e-stop, error), and what to do


class ArmCommand(NamedTuple):
    """The setpoint of the next period. Links to position controllers send `q`; links to velocity controllers send `dq`,
    corrected by how far the arm is from where it should be."""

    q: np.ndarray  # [J] rad
    dq: np.ndarray  # [J] rad/s, the setpoint's own velocity; zero: stand still at `q`
    gripper: float | None = None  # wanted opening, 0 closed to 1 open; None: as it is


ArmLink = Link[ArmCommand | None, ArmState]  # None: brake and stand, as the controller does by itself
