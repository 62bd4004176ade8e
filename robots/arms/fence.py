"""Keeps the tool in its workspace, and the hand off the table, whatever the joints are told: no joint moves so fast
that the tool could not stop inside.

The joints' limits alone do not bound where the tool goes. From any motion that the fence let through, all joints can
brake together, as much as the fastest of them needs, and the tool then stops where the fence allows it. A step is let
through as far as this stays true after it.
"""

from __future__ import annotations

import numpy as np

from robots.arms.anatomy import HAND, Anatomy
from robots.driver import Clip

SHARES = (1.0, 0.5, 0.25)  # of a wanted step beyond braking, the first that fits
CLOSE = 1e-6  # m
CLEARANCE = 0.002  # m between hand and table


class Fence:
    """Looks at setpoints [J] rad, once per `period` [s], before the joints' own limits do. A tool that is outside may
    only come back, along each axis."""

    def __init__(self, anatomy: Anatomy, period: float) -> None:
        self._chain, (self._low, self._high) = anatomy.chain, anatomy.workspace
        self._table = anatomy.table + CLEARANCE
        self._lower, self._upper = anatomy.lower, anatomy.upper
        self._change, self._fastest = anatomy.acceleration * period**2, anatomy.velocity * period

    def admit(self, setpoint: np.ndarray, moved: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, Clip]:
        """The next setpoint on the way to `target`, from one that moved by `moved` in the period before; and whether it
        was cut short. Where each joint by itself would bend the way out of the workspace, they go straight."""
        way = np.minimum(np.maximum(target, self._lower), self._upper) - setpoint
        wanted = np.minimum(np.maximum(way, moved - self._change), moved + self._change)
        wanted = np.minimum(np.maximum(wanted, -self._fastest), self._fastest)
        now, brake = self.outside(setpoint), self._slower(moved)
        for share in SHARES:
            step = brake + share * (wanted - brake)
            if self._is_safe(setpoint + step, step, now):
                return setpoint + step if share < 1 else target, Clip.NONE if share == 1 else Clip.WORKSPACE
        step = moved + _within(_within(way, self._fastest) - moved, self._change)
        return setpoint + (step if self._is_safe(setpoint + step, step, now) else brake), Clip.WORKSPACE

    def _is_safe(self, setpoint: np.ndarray, moved: np.ndarray, now: np.ndarray) -> bool:
        """Braking from there ends no farther outside than the tool is `now`."""
        return bool((self.outside(self._rest(setpoint, moved)) <= now + CLOSE).all())

    def _slower(self, moved: np.ndarray) -> np.ndarray:
        """The next step of a braking that keeps the joints on their line."""
        fastest = np.abs(moved).max()
        return moved * max(0.0, 1 - self._change / fastest) if fastest > 0 else moved

    def _rest(self, setpoint: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Where the joints stand when they brake from now on."""
        fastest = np.abs(moved).max()
        steps = fastest // self._change
        travel = steps - self._change / max(fastest, 1e-12) * steps * (steps + 1) / 2
        return np.minimum(np.maximum(setpoint + moved * travel, np.minimum(self._lower, setpoint)),
                          np.maximum(self._upper, setpoint))

    def outside(self, q: np.ndarray) -> np.ndarray:
        """How far the tool is outside the workspace, along each axis, and the hand too near the table [4] m."""
        pose = self._chain.pose(q)
        place, lowest = pose[:3, 3], pose[2, 3] + (HAND @ pose[2, :3]).min()
        return np.array([*np.maximum(np.maximum(self._low - place, place - self._high), 0.0),
                         max(self._table - lowest, 0.0)])


def _within(step: np.ndarray, most: float) -> np.ndarray:
    """All joints shortened alike until none moves more than `most`."""
    return step * min(1.0, most / max(np.abs(step).max(), 1e-12))
