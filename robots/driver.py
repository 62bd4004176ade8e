"""The contract between a robot and everything that commands it.

A driver owns the link to one robot or double. It runs two clocks: `command` sets a setpoint at the policy's rate,
`tick` advances the inner loop (filter, interpolation, limits, PD) at `spec.inner_hz`. Who owns the driver calls `tick`:
the body process in real time, a test or `robots.gym` in virtual time. All times are nanoseconds of a monotonic clock,
all values SI, angles in radians, quaternions wxyz, a gripper 0 closed to 1 open, actions in [-1, 1].

A driver starts disarmed. Disarmed it damps or rests and ignores commands; armed it follows them while they are fresh;
a fault is latched and leaves only through `clear_fault`, which ends disarmed.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from robots.monitors import Threshold
    from robots.task import Task


class Stop(enum.IntEnum):
    """How to stop, from gentle to final. `HOLD` stays armed, and is a command like any other: said again each period,
    the robot holds for as long as somebody says so. `DAMP` disarms; `ESTOP` damps and latches a fault."""

    HOLD = 1
    DAMP = 2
    ESTOP = 3


class Mode(enum.IntEnum):
    """What the driver does with commands: ignores them, follows them, or ignores them until an operator clears a
    fault."""

    DISARMED = 0
    ARMED = 1
    FAULT = 2


class Clip(enum.IntFlag):
    """Why an applied action differs from the requested one, as a bit mask (stored with every step as `clip`)."""

    NONE = 0
    NOT_FINITE = 1
    ACTION_SPACE = 2
    WORKSPACE = 4
    POSITION = 8
    VELOCITY = 16
    ACCELERATION = 32
    TORQUE = 64
    RELATIVE_STEP = 128
    EMPTY = 256  # the limits contradict one another: held
    DISARMED = 512
    STALE = 1024
    BUSY = 2048  # a motion of the robot's own is under way: what that is was applied


@dataclass(frozen=True)
class RobotSpec:
    """What a robot measures and accepts, known before connecting.

    `signals`: everything it measures or estimates; `units`: the unit of each signal ("rad", "m/s", "" for none).
    `action_space`: Box in [-1, 1] (float32) or Discrete. `noop`: the discrete action that holds; None where actions are
    continuous. `command_ttl`: seconds after which a setpoint is stale and the robot holds; `damp_after`: seconds after
    which it damps.
    """

    name: str
    signals: spaces.Dict
    units: Mapping[str, str]
    action_space: spaces.Box | spaces.Discrete
    control_hz: float
    inner_hz: float
    command_ttl: float = 0.2
    damp_after: float = 1.0
    noop: int | None = None

    def __post_init__(self) -> None:
        if self.command_ttl * self.control_hz < 2:
            raise ValueError(f"{self.name}: command_ttl: {self.command_ttl} s: at least two control periods "
                             f"({2 / self.control_hz:g} s at {self.control_hz:g} Hz), or commands expire between them")
        if self.damp_after < self.command_ttl:
            raise ValueError(f"{self.name}: damp_after: {self.damp_after} s: at least command_ttl "
                             f"({self.command_ttl} s)")


def expiry(control_hz: float) -> tuple[float, float]:
    """`command_ttl` and `damp_after` of robots without reasons of their own [s]."""
    ttl = max(0.2, 2.5 / control_hz)
    return ttl, max(1.0, 2 * ttl)


@dataclass(frozen=True)
class Signals:
    """One reading. `values` follow `spec.signals`; `time` is the capture time [ns]; `sequence` grows with each new
    reading."""

    values: dict[str, np.ndarray]
    time: int
    sequence: int


@dataclass(frozen=True)
class Applied:
    """What a command became: the action inside the action space that entered the body, and why it differs."""

    action: np.ndarray
    clip: Clip = Clip.NONE


@dataclass(frozen=True)
class Health:
    """`fault` is empty or says what is latched and what to do; `gauges` are named numbers in base units
    (`tilt_radians`, `torque_newton_metres`, `temperature_celsius`, `battery_ratio`, ...); `ticks` and `overruns` count
    inner-loop periods; `link_age` is seconds since the robot was last heard; `warnings` say which gauges are near the
    limits that `robots/monitors.py` watches over; `busy`: a motion of the robot's own is under way, what is commanded
    is not done."""

    mode: Mode
    fault: str = ""
    link_age: float = 0.0
    ticks: int = 0
    overruns: int = 0
    gauges: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    busy: bool = False


@dataclass(frozen=True)
class Bound:
    """One thing that holds whatever is commanded. `told`: what it is, in words; `outside`: what of the robot is beyond
    it as it stands, empty where nothing is; `way_out`: what to do then."""

    what: str
    told: str
    outside: str = ""
    way_out: str = ""


class RobotError(Exception):
    """Something between us and the robot failed. `recoverable`: the same call may work later without an operator."""

    recoverable = True


class NotConnected(RobotError):
    """The verb needs a connection: call `connect` first."""


class LinkLost(RobotError):
    """The robot, or the process that owns it, no longer answers."""


class StaleState(RobotError):
    """The newest reading is too old to act on."""


class CommandRejected(RobotError):
    """The robot refused a command, or the command was not in the action space's shape."""

    recoverable = False


class FaultLatched(RobotError):
    """A fault is latched: an operator must look, then `clear_fault`."""

    recoverable = False


class Driver(ABC):
    """A spec and nine verbs; what else there is, is there for those who need it.

    Implementations are used from one thread, except `stop`, which any thread may call. A driver that configs can name
    also has `Options`, a frozen dataclass whose fields are its settings, and `tasks`, and is built as
    `Class(options, control_hz=20.0, seed=0)`, which opens nothing. `thresholds`: what to watch of its gauges, unless a
    config says otherwise; `packages`: the distributions of the vendor's SDK that its links import; `a|b`: one of
    them.
    """

    Options: ClassVar[type]
    tasks: ClassVar[Mapping[str, type[Task]]]
    thresholds: ClassVar[Mapping[str, Threshold]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    spec: RobotSpec

    @abstractmethod
    def connect(self, timeout: float = 10.0) -> None:
        """Open the link within `timeout` seconds and come up disarmed. Raises LinkLost. Connecting twice changes
        nothing."""

    @abstractmethod
    def disconnect(self) -> None:
        """Park where the state is fresh and no stop is latched, else damp; then close the link. Never raises for a lost
        link."""

    @abstractmethod
    def read(self) -> Signals:
        """The newest reading, without blocking. Raises NotConnected, LinkLost."""

    @abstractmethod
    def command(self, action: np.ndarray) -> Applied:
        """Set the setpoint for the next control period, without blocking longer than one. Disarmed or faulted: nothing
        moves, and the clip mask says so. Raises NotConnected, CommandRejected (wrong shape)."""

    @abstractmethod
    def tick(self) -> None:
        """Advance the inner loop by one period of `1 / spec.inner_hz` seconds. Only the owner of the driver calls
        this."""

    @abstractmethod
    def arm(self) -> None:
        """Follow commands from now on; the first setpoint is the measured pose. Raises FaultLatched, StaleState."""

    @abstractmethod
    def stop(self, level: Stop) -> None:
        """Stop as `level` says; from any thread, with the loop dead, at any time; never raises."""

    @abstractmethod
    def clear_fault(self, token: str) -> None:
        """Leave a latched fault, disarmed. `token` names the operator who looked; empty raises FaultLatched."""

    @abstractmethod
    def health(self) -> Health:
        """How the robot is; never blocks, works before connecting."""

    def standing(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action that leaves the robot as these signals show it: none at all, where actions are velocities. Needs
        no connection."""
        space = self.spec.action_space
        if isinstance(space, spaces.Discrete):
            return np.int64(self.spec.noop)
        return np.zeros(space.shape, np.float32)

    def limits(self, values: Mapping[str, np.ndarray]) -> Sequence[Bound]:
        """What bounds this robot's motion, for an operator to read, and whether the one that these signals show is
        inside. Needs no connection."""
        return ()

    def keep_pace(self, speed: float) -> None:
        """The owner ticks in real time, the robot's clock `speed` times as fast as the wall's: from now on, slow work
        (rendering, vendor calls) belongs on threads and parking keeps that pace. Without this call all of it happens in
        virtual time. Called again whenever a double's speed changes, on the thread that ticks; what is not a double
        refuses any speed but 1 (ValueError)."""

    def reseed(self, seed: int) -> None:
        """What a double draws from now on (noise, a random pose) depends on `seed` alone. Hardware ignores it."""
