"""What a quadruped can be asked to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from robots.legs.anatomy import Anatomy
from robots.task import Outcome, Task

FALLEN = math.radians(30)  # of roll or pitch
FAST, FASTER = 0.5, 1.0  # m/s that earn the whole reward of a run
FORWARD = 0.3  # m/s that earn the whole reward
ENOUGH = 0.7  # of a stage opens the next


class Walk(Task):
    """DayDreamer's staged reward (Wu et al. 2022): upright, then hips, thighs and calves as in standing, then forwards.

    Between 5 and 14: on its back 5, folded on its belly about 8, standing 9, walking forwards at 0.3 m/s 14. It never
    terminates: a fallen robot has to get up by itself. A robot's own task says whose `anatomy` it is.
    """

    anatomy: ClassVar[Anatomy]

    def reset(self) -> None:
        """Nothing is remembered."""

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `joint_angles`, `up` and `base_velocity`."""
        stand = self.anatomy.stand_action
        off = np.abs(self.anatomy.to_action(signals["joint_angles"]) - stand) / (1 + np.abs(stand))
        hip, thigh, calf = 1 - np.clip(off, 0, 1).reshape(4, 3).mean(0)
        upright = 0.5 + 0.5 * float(signals["up"][2])
        hip *= upright > ENOUGH
        thigh *= hip > ENOUGH
        calf *= thigh > ENOUGH
        forward = _forward(signals["base_velocity"], signals["up"]) if calf > ENOUGH else 0.0
        return Outcome(float(upright + hip + thigh + calf + 5 * (forward + 1)))


class Run(Task):
    """The reward of Walk in the Park (Smith et al. 2022): fast forwards, without turning; a fall ends the episode.

    Between 0 and 10, all of it from 0.5 to 1 m/s and 1 m/s slower or faster nothing: standing still earns 5, so that a
    return says little without the speed. Rewards go below 0 where the robot spins.
    """

    def reset(self) -> None:
        """Nothing is remembered."""

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `tilt`, `base_velocity` and `angular_velocity`."""
        pitch = float(signals["tilt"][1])
        speed = math.cos(pitch) * float(signals["base_velocity"][0])
        missed = max(FAST - speed, speed - FASTER, 0.0)
        reward = 10 * (max(0.0, 1 - missed) - 0.1 * abs(float(signals["angular_velocity"][2])))
        fallen = bool(np.abs(signals["tilt"]).max() > FALLEN)
        return Outcome(reward, fallen, fallen)


def _forward(velocity: np.ndarray, up: np.ndarray) -> float:
    """The share of the velocity that goes where the robot looks, times how near it is to the speed wanted: 0 to 1."""
    speed = float(np.linalg.norm(velocity))
    if speed == 0:
        return 0.0
    ahead = float(velocity[0] - up[0] * (velocity @ up))  # along the heading's horizontal part
    return max(0.0, ahead) / speed * min(1.0, ahead / FORWARD)
