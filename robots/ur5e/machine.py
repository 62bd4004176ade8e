"""A UR controller without its ports: power, safety, the uploaded control script, and the arm that it moves.

The script is not interpreted. What it does with the registers that ur-rtde writes and reads is played: a command's
number in the first integer, 1 while it is ready and 2 when a command is done in the first integer that it answers with.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import numpy as np

from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.ur5e.rtde import Value
from robots.ur5e.status import EMERGENCY_STOP, NORMAL, PLAYING, PROTECTIVE_STOP, RUNNING, STOPPED

log = logging.getLogger(__name__)

HZ = 500.0  # cycles of an e-Series controller
POWER_OFF, IDLE = 3, 5  # robot modes
SAFETY_BITS = {NORMAL: 1 << 0, PROTECTIVE_STOP: 1 << 2 | 1 << 10, EMERGENCY_STOP: 1 << 6 | 1 << 7 | 1 << 10}
READY, DONE = 1, 2  # what the script says of itself
MOVE_J, SPEED_J, SERVO_J, SPEED_STOP, SERVO_STOP, TRIGGER_STOP = 1, 9, 11, 15, 16, 31
STOP_L, STOP_J, SET_WATCHDOG, JOINTS_WITHIN_LIMITS, STOP_SCRIPT = 33, 34, 35, 37, 255
STARTING = 0.05  # s from a script's arrival until it runs
UNLOCK_AFTER = 5.0  # s, as UR's controllers
STILL = 0.03  # rad/s


@dataclass
class Motion:
    """What the arm does now: servo, speed, move, brake or stand. `goal`: joint angles, those of a speed velocities."""

    kind: str
    goal: np.ndarray
    velocity: float = 0.0  # rad/s, of a move
    acceleration: float = 0.0  # rad/s², of a move or a speed


@dataclass
class Gripper:
    """Fingers at `wish`, or on their way there; 0 closed to 1 open. None: nobody has told them yet."""

    wish: float | None = None
    measured: float = 1.0
    holding: bool = False


@dataclass
class Machine:
    """`arm` advances by one of its inner periods, `inner_hz`, in every so manieth `cycle` of 2 ms. `limits`: low and
    high joint angles [J] of the safety system; `unlock_after` [s] a protective stop."""

    arm: ArmLink
    inner_hz: float
    limits: tuple[np.ndarray, np.ndarray]
    unlock_after: float = UNLOCK_AFTER
    seed: int = 0
    gripper: Gripper = field(default_factory=Gripper)
    robot_mode: int = RUNNING
    safety_mode: int = NORMAL
    remote: bool = True  # the pendant leaves control to the network
    clock_offset: float = 0.0  # s that the timestamp is ahead

    def __post_init__(self) -> None:
        self._every, self._cycles = round(HZ / self.inner_hz), 0
        self.begin()

    def begin(self) -> None:
        """Everything is as at the start, but the time."""
        self._registers: dict[str, Value] = {}
        self._answers: dict[str, Value] = {}
        self._running, self._starts_at = False, math.inf
        self._watchdog, self._fed = math.inf, 0.0
        self._busy = self._executed = False
        self._stopped_at = -math.inf
        self.robot_mode, self.safety_mode, self.remote, self.gripper.wish = RUNNING, NORMAL, True, None
        self.arm.reseed(self.seed)
        self._state: ArmState = self.arm.open(10.0)
        self._stand()
        self._brake()

    @property
    def seconds(self) -> float:
        """Since it was switched on."""
        return self._cycles / HZ

    @property
    def program_runs(self) -> bool:
        """The control script plays."""
        return self._running

    def write(self, values: dict[str, Value]) -> None:
        """Registers that a client has written."""
        self._registers.update(values)
        if "input_int_register_0" in values:
            self._fed = self.seconds

    def load(self) -> None:
        """A control script arrived. It only starts where the robot may move."""
        if self.robot_mode == RUNNING and self.safety_mode == NORMAL:
            self._starts_at = self.seconds + STARTING

    def stop_program(self, why: str) -> None:
        """The program ends and the arm brakes."""
        if self._running:
            log.info("program stopped: %s", why)
        self._running, self._starts_at, self._watchdog, self._busy = False, math.inf, math.inf, False
        self._brake()

    def protective_stop(self, why: str) -> None:
        """As on a collision: the arm stands until it is unlocked, at the earliest after 5 s."""
        if self.safety_mode == NORMAL:
            self.stop_program(f"protective stop: {why}")
            self.safety_mode, self._stopped_at = PROTECTIVE_STOP, self.seconds

    def emergency_stop(self) -> None:
        """The button is pressed: the motors lose their power."""
        self.stop_program("emergency stop")
        self.safety_mode, self.robot_mode = EMERGENCY_STOP, POWER_OFF

    def release_button(self) -> None:
        """The button is turned back. The motors stay without power."""
        if self.safety_mode == EMERGENCY_STOP:
            self.safety_mode = NORMAL

    def unlock(self) -> bool:
        """Whether the protective stop let go."""
        if self.safety_mode != PROTECTIVE_STOP or self.seconds - self._stopped_at < self.unlock_after:
            return False
        self.safety_mode = NORMAL
        self.arm.recover()
        return True

    def power_on(self) -> None:
        """The motors get power; their brakes hold."""
        if self.safety_mode == NORMAL and self.robot_mode == POWER_OFF:
            self.robot_mode = IDLE

    def release_brakes(self) -> None:
        """The arm may move."""
        if self.safety_mode == NORMAL and self.robot_mode == IDLE:
            self.robot_mode = RUNNING

    def cycle(self) -> None:
        """2 ms pass."""
        self._cycles += 1
        if self.seconds >= self._starts_at:
            self._start()
        if self._running:
            if self.seconds - self._fed > self._watchdog:
                self.stop_program("the watchdog was not fed")
            else:
                self._script()
        if self._cycles % self._every == 0:
            self._move()

    def values(self) -> dict[str, Value]:
        """Everything that RTDE can read, now."""
        state = self._state
        known: dict[str, Value] = {
            "timestamp": self.seconds + self.clock_offset, "actual_q": tuple(state.q), "actual_qd": tuple(state.dq),
            "target_moment": tuple(state.effort), "joint_temperatures": (32.0,) * 6, "speed_scaling": 1.0,
            "robot_mode": self.robot_mode, "safety_mode": self.safety_mode,
            "runtime_state": PLAYING if self._running else STOPPED,
            "robot_status_bits": (self.robot_mode >= IDLE) | self._running << 1,
            "safety_status_bits": SAFETY_BITS[self.safety_mode],
        }
        return self._zeros | known | self._answers

    _zeros = {f"output_{kind}_register_{number}": 0 for kind in ("int", "double") for number in range(48)}

    def _start(self) -> None:
        self._running, self._starts_at, self._watchdog = True, math.inf, math.inf
        self._executed = False
        self._answers["output_int_register_0"] = READY

    def _script(self) -> None:
        """One turn of the control script's main loop."""
        number = int(self._registers.get("input_int_register_0", 0))
        if self._busy:
            self._busy = not self._done()
            if not self._busy:
                self._answers["output_int_register_0"] = DONE
        elif number in (SERVO_J, SPEED_J):
            self._follow(number)
            self._answers["output_int_register_0"] = READY
        elif number == 0:
            self._executed = False
            self._answers["output_int_register_0"] = READY
        elif not self._executed:
            self._executed = self._busy = True
            self._begin(number)

    def _follow(self, number: int) -> None:
        """A command of every period: the newest counts."""
        values = self._doubles(8)
        kind = "servo" if number == SERVO_J else "speed"
        self._motion = Motion(kind, values[:6], acceleration=values[6])

    def _begin(self, number: int) -> None:
        """A command that takes until it is done."""
        values = self._doubles(8)
        if number == MOVE_J:
            self._motion = Motion("move", values[:6], values[6], values[7])
        elif number in (SPEED_STOP, SERVO_STOP, STOP_L, STOP_J):
            self._brake()
        elif number == TRIGGER_STOP:
            self.protective_stop("triggered by the client")
        elif number == SET_WATCHDOG:
            self._watchdog = 1 / values[0]
        elif number == JOINTS_WITHIN_LIMITS:
            low, high = self.limits
            inside = ((low <= values[:6]) & (values[:6] <= high)).all()
            self._answers["output_int_register_1"] = int(inside)
        elif number == STOP_SCRIPT:
            self.stop_program("as the client asked")
        else:
            self.stop_program(f"command {number} is not played by this double")

    def _doubles(self, count: int) -> np.ndarray:
        return np.array([self._registers.get(f"input_double_register_{number}", 0.0) for number in range(count)])

    def _done(self) -> bool:
        state, motion = self._state, self._motion
        if motion.kind == "move":
            return np.abs(motion.goal - state.q).max() < 1e-3 and np.abs(state.dq).max() < STILL
        return motion.kind != "brake"

    def _brake(self) -> None:
        """Until it stands."""
        self._motion = Motion("brake", self._setpoint)

    def _move(self) -> None:
        """One inner period of the arm."""
        state = self._state = self.arm.exchange(self._command())
        self.gripper.measured, self.gripper.holding = state.gripper, state.holding
        if state.trouble:
            self.protective_stop(state.trouble)

    def _command(self) -> ArmCommand | None:
        before, period, motion = self._setpoint, 1 / self.inner_hz, self._motion
        if self.robot_mode != RUNNING or self.safety_mode != NORMAL:
            self._stand()  # it may be pushed meanwhile
            self._brake()
            return None
        if motion.kind == "brake":
            self._stand()
            if np.abs(self._state.dq).max() < STILL:
                self._motion = Motion("stand", self._setpoint)
            return None
        if motion.kind in ("servo", "stand"):
            self._setpoint = motion.goal.copy()
        else:
            self._speed = self._next_speed(motion, period)
            self._setpoint = before + self._speed * period
        return ArmCommand(self._setpoint, (self._setpoint - before) / period, self.gripper.wish)

    def _stand(self) -> None:
        """What comes next starts here, at rest."""
        self._setpoint, self._speed = self._state.q.copy(), np.zeros_like(self._state.q)

    def _next_speed(self, motion: Motion, period: float) -> np.ndarray:
        """Of every joint, towards a wanted speed, or towards a goal that it can still stop at."""
        wanted = motion.goal
        if motion.kind == "move":
            way = motion.goal - self._setpoint
            length = np.abs(way).max()
            fastest = min(motion.velocity, math.sqrt(2 * motion.acceleration * length), length / period)
            wanted = way * (fastest / length) if length > 0 else np.zeros_like(way)
        change = motion.acceleration * period
        return self._speed + np.clip(wanted - self._speed, -change, change)
