"""DayDreamer's discrete actions for picking and placing: steps of the tool, and a gripper that toggles.

Beside what it is told, the arm does some things by itself, as DayDreamer's robots did (Wu et al. 2022): after a release
the tool rises; fingers that closed on nothing open again; after too long without a grasp the arm opens its fingers
and goes back over the middle of its bin. And it moves back a little from what it touches. While it does, it is busy:
what it is told then is not done.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gymnasium import spaces

from robots.arms.anatomy import Anatomy
from robots.arms.link import ArmState
from robots.arms.motion import LEVEL, MARGIN, Glide, Motion, follow, over
from robots.driver import Clip

NAMES = ("noop", "+x", "-x", "+y", "-y", "+z", "-z", "toggle")
STEP = 0.04  # m
DIRECTIONS = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], float)
THERE = 0.001  # m
BACK = 0.015  # m that the tool moves back from what it touched
ASIDE, STANDS = 0.005, 0.05  # m off its place and rad/s at most: a tool that presses on something
CLOSING, OPENED = 0.15, 0.05  # s that fingers have before they are looked at; of the opening: near enough
PATIENCE = 2.0  # s for fingers that do not arrive
LOAD_SECONDS = 0.2  # in which what the motors bear becomes what they bear without a touch
LOST = 0.3  # s without the feeling of holding until an object is given up


class Moves(Motion):
    """`reset_after` [s] without a grasp or a release, 0: never; a sudden force of `touch` [N] at the tool ends a
    move."""

    space = spaces.Discrete(len(NAMES))
    noop = 0

    def __init__(self, anatomy: Anatomy, period: float, reset_after: float, touch: float) -> None:
        super().__init__(anatomy, period)
        self._reset_after, self._touch = reset_after, touch
        self._down = anatomy.chain.pose(anatomy.home)[:3, :3]
        lows, highs = zip(*anatomy.bins, strict=True)
        self._low = np.array([*np.min(lows, 0), anatomy.workspace[0][2] + MARGIN])
        self._high = np.array([*np.max(highs, 0), anatomy.hover])

    @property
    def busy(self) -> bool:
        """See Motion."""
        return self._script is not None or self._backing

    def start(self, setpoint: np.ndarray, state: ArmState) -> None:
        """See Motion. The first thing the arm does is to go where moves can begin: over a bin, the tool down."""
        self._state, self._glide = state, Glide(self._anatomy.chain.position(setpoint), self._period)
        self._goal = self._origin = self._glide.place.copy()
        self.opening, self._closed = None, state.gripper < 0.5
        self._idle = self._unheld = 0.0
        self._load, self._met = state.effort, Clip.NONE
        self._led, self._backing = True, False  # something was commanded since it rested; it moves back from a touch
        self._gave_way = False  # since the last move
        self._script: Iterator[None] | None = self._to_bin()

    def command(self, action: np.ndarray, setpoint: np.ndarray, state: ArmState) -> Clip:
        """See Motion. WORKSPACE: the step would leave the bin, or the workspace; TORQUE: the move before was ended by a
        touch, or the tool presses on something; BUSY: nothing is done."""
        met, self._met, self._led = self._met, Clip.NONE, True
        if not self.busy and self._presses():
            self._follow_pressure()
            met |= Clip.TORQUE
        if self.busy:
            return met | Clip.BUSY
        self._gave_way = False
        if NAMES[action] == "toggle":
            self._script = self._release() if self._closed else self._grasp()
        elif action != self.noop:
            wanted = self._goal + STEP * DIRECTIONS[action - 1]
            goal = self._allowed(wanted)
            self._head_for(goal)
            met |= Clip.NONE if np.abs(goal - wanted).max() < THERE else Clip.WORKSPACE
        return met

    def rest(self) -> None:
        """See Motion. What it was doing by itself is given up, and until the next command it does no such thing."""
        self._script, self._led = None, False
        self._goal = self._glide.resting_place()
        self._idle = self._unheld = 0.0

    def step(self, setpoint: np.ndarray, state: ArmState) -> np.ndarray:
        """See Motion."""
        self._state = state
        self._watch()
        if self._script is not None and next(self._script, "done") == "done":
            self._script = None
        self._glide.advance(np.zeros(3), self._goal, self._goal)
        return follow(self._anatomy, setpoint, self._glide, self._down, self._period)

    def _watch(self) -> None:
        """What makes the arm do something by itself."""
        state = self._state
        self._unheld = 0.0 if state.holding or not self._closed else self._unheld + self._period
        self._idle += self._period
        if self._arrived():
            self._backing = False
        elif not self._backing and self._force() > self._touch:
            self._give_way()
        self._load = self._load + (state.effort - self._load) * self._period / LOAD_SECONDS
        if self._script is None and self._led and not self._backing:
            if self._unheld > LOST:
                self._script = self._release()
            elif 0 < self._reset_after < self._idle:
                self._script = self._reset()

    def _head_for(self, goal: np.ndarray) -> None:
        self._origin, self._goal = self._glide.place.copy(), goal

    def _force(self) -> float:
        """N at the tool that the motors suddenly bear: gravity and a pose's load come slowly, and are followed."""
        _, jacobian = self._anatomy.chain.jacobian(self._state.q)
        moves = jacobian[:3]
        return float(np.linalg.norm(np.linalg.solve(moves @ moves.T + 1e-3 * np.eye(3),
                                                    moves @ (self._state.effort - self._load))))

    def _presses(self) -> bool:
        """Something slowly met holds the tool aside of where it went. Giving way once a move is enough."""
        aside = np.abs(self._anatomy.chain.position(self._state.q) - self._goal).max()
        return bool(aside > ASIDE and np.abs(self._state.dq).max() < STANDS) and not self._gave_way

    def _give_way(self) -> None:
        """Back on the way that it came, a little before where it is now."""
        here, way = self._anatomy.chain.position(self._state.q), self._goal - self._origin
        way /= max(float(np.linalg.norm(way)), THERE)
        self._back(here, self._origin + max(0.0, float(way @ (here - self._origin)) - BACK) * way)
        self._met |= Clip.TORQUE

    def _follow_pressure(self) -> None:
        """A little farther the way that it was pushed aside."""
        here = self._anatomy.chain.position(self._state.q)
        aside = here - self._goal
        goal = here + BACK * aside / np.linalg.norm(aside)
        self._back(here, np.minimum(np.maximum(goal, self._low), self._high))

    def _back(self, here: np.ndarray, goal: np.ndarray) -> None:
        self._glide.stop(here)
        self._goal, self._backing, self._gave_way = goal, True, True

    def _allowed(self, goal: np.ndarray) -> np.ndarray:
        """The nearest allowed goal: hovering, anywhere; lower, in the bin below, and without one only up."""
        goal = np.minimum(np.maximum(goal, self._low), self._high)
        if min(goal[2], self._goal[2]) >= self._high[2] - LEVEL:
            return goal
        below = over(self._goal, self._anatomy.bins)
        if below is None:
            return np.array([*self._goal[:2], max(goal[2], self._goal[2])])
        return np.array([*np.minimum(np.maximum(goal[:2], below[0]), below[1]), goal[2]])

    def _arrived(self) -> bool:
        return bool(np.abs(self._goal - self._glide.place).max() < THERE)

    def _grasp(self) -> Iterator[None]:
        yield from self._move_fingers(0.0)
        if self._state.holding:
            self._idle = self._unheld = 0.0
        else:
            yield from self._move_fingers(1.0)

    def _release(self) -> Iterator[None]:
        yield from self._move_fingers(1.0)
        self._idle = 0.0
        yield from self._rise()

    def _reset(self) -> Iterator[None]:
        yield from self._move_fingers(1.0)
        yield from self._to_bin()
        self._idle = 0.0

    def _to_bin(self) -> Iterator[None]:
        """Up, and over the middle of the nearest bin."""
        yield from self._rise()
        middles = [(low + high) / 2 for low, high in self._anatomy.bins]
        nearest = min(middles, key=lambda middle: float(np.linalg.norm(middle - self._goal[:2])))
        yield from self._go(np.array([*nearest, self._anatomy.hover]))

    def _rise(self) -> Iterator[None]:
        yield from self._go(np.array([*self._goal[:2], self._anatomy.hover]))

    def _go(self, goal: np.ndarray) -> Iterator[None]:
        self._head_for(goal)
        while not self._arrived():
            yield

    def _move_fingers(self, opening: float) -> Iterator[None]:
        """Until they are there, or hold something, or do not move."""
        self.opening, self._closed, self._unheld = opening, opening < 0.5, 0.0
        for tick in range(round(PATIENCE / self._period)):
            yield
            there = abs(self._state.gripper - opening) < OPENED
            if tick * self._period > CLOSING and (there or self._closed and self._state.holding):
                return
