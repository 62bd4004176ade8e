"""Driver of an arm with a gripper, whatever its make: actions become setpoints, setpoints pass the safety chain.

Every inner period the motion that the actions stand for (robots.arms.motion) says where the joints should be, the fence
keeps the tool in its workspace, the joints' limits choose the next setpoint, and the link exchanges it for a state. A
command that is too old leaves the arm standing where it is; disarmed or faulted, it brakes and stands.
"""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.fence import Fence
from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.arms.motion import Glide, follow, over
from robots.arms.options import ArmOptions
from robots.arms.spec import motion, robot_spec
from robots.arms.tasks import PickPlace, Reach
from robots.driver import (
    Applied,
    Clip,
    CommandRejected,
    Driver,
    Health,
    LinkLost,
    Mode,
    NotConnected,
    RobotError,
    Signals,
    StaleState,
    Stop,
)
from robots.safety import Gate, Interlock, Limits, Trust, Watchdog

log = logging.getLogger(__name__)

STALE = 0.1  # s without a new state
WINDOW = 0.25  # rad that a setpoint runs ahead of its joint, at most
PARK_SECONDS = 8.0
STANDS = 0.01  # rad/s
INSET = 0.03  # m that targets keep from the workspace's faces


class ArmDriver(Driver):
    """See the module. An arm is a subclass that has `Options`, `anatomy_of`, `protocol` and `hardware`. `link` opens
    another way to the arm than the options name."""

    Options = ArmOptions
    tasks = {"reach": Reach, "pick_place": PickPlace}

    def __init__(self, options: ArmOptions | None = None, control_hz: float = 10.0, seed: int = 0,
                 link: Callable[[], ArmLink] | None = None) -> None:
        self.options = options = options or self.Options()
        self.anatomy = self.anatomy_of(options)
        if not 1 <= control_hz <= self.anatomy.inner_hz:
            raise ValueError(f"control_hz: {control_hz:g}: allowed is 1 to {self.anatomy.inner_hz:g}")
        self.inner_hz = control_hz * round(self.anatomy.inner_hz / control_hz)
        self._period, self._control_hz, self._seed = 1 / self.inner_hz, control_hz, seed
        self._motion = motion(self.anatomy, self._period, options)
        self.spec = robot_spec(self.anatomy, options, self._motion, control_hz, self.inner_hz)
        self.link: ArmLink | None = None
        self._make_link = link or self._way
        self._gate, self._fence = Gate(self.spec.action_space, self.spec.noop), Fence(self.anatomy, self._period)
        self._limits = Limits(self.anatomy.lower, self.anatomy.upper, self._period, velocity=self.anatomy.velocity,
                              acceleration=self.anatomy.acceleration, window=WINDOW)
        self._interlock = Interlock()
        self._commands, self._states = (Watchdog(self.spec.command_ttl, self.spec.damp_after) for _ in range(2))
        self._targets = np.random.default_rng(seed)
        self._connected = self._hold_wanted = False
        self._speed, self._clip = 0.0, Clip.NONE
        self._ticks = self._sequence = 0

    @staticmethod
    @abstractmethod
    def anatomy_of(options: ArmOptions) -> Anatomy:
        """The arm that these options name."""

    @abstractmethod
    def protocol(self) -> ArmLink:
        """The vendor's SDK to a double in a process of its own (the link's `double`), as `options` and `inner_hz` say.
        With a camera, the double renders for `robots.cameras.realsense.Software` and says its address as `camera`."""

    @abstractmethod
    def hardware(self) -> ArmLink:
        """The vendor's SDK to `options.address`."""

    def direct(self) -> ArmLink:
        """A double in this process."""
        from robots.arms.double import ArmDouble, Surroundings  # mujoco only where there is no robot

        return ArmDouble(self.anatomy, self.inner_hz, Surroundings.of(self.options, self._control_hz), self._seed)

    def _way(self) -> ArmLink:
        """The link that the options name, with its camera."""
        options = self.options
        if options.link == "direct":
            return self.direct()
        link = self.protocol() if options.link == "protocol" else self.hardware()
        if options.camera == "off":
            return link
        from robots.arms.seeing import with_camera

        return with_camera(link, options)

    def connect(self, timeout: float = 10.0) -> None:
        """Opens the link and comes up disarmed. A latched fault stays latched."""
        if self._connected:
            return
        if self.link is None:
            self.link = self._make_link()
        if self._speed:
            self.link.keep_pace(self._speed)
        self._interlock.stop(Stop.DAMP)
        self._state = self.link.open(timeout)
        if not _is_finite(self._state):
            self.link.close()
            raise LinkLost(f"{self.spec.name}: its state is not finite; check its sensors")
        self._see(self._state)
        self._follow_pose()
        self._draw_target()
        self._connected = True

    def disconnect(self) -> None:
        """Takes the tool up and home where that is safe, then stands; closes the link."""
        if not self._connected:
            return
        try:
            self._park()
            self._interlock.stop(Stop.DAMP)
            self._advance(None)
        except RobotError as error:
            log.warning("parking ended early: %s", error)
        self._interlock.stop(Stop.DAMP)
        self._connected = False
        self.link.close()

    def read(self) -> Signals:
        """The newest state and what follows from it; see `robots.arms.spec` for names, sizes and units."""
        self._require_connection()
        state = self._state
        pose, jacobian = self.anatomy.chain.jacobian(state.q)
        wanted = state.gripper if self._motion.opening is None else self._motion.opening
        place = pose[:3, 3]
        values = {"joint_angles": state.q, "joint_velocities": state.dq, "effort": state.effort,
                  "setpoint": self._limits.setpoint, "tool_position": place, "tool_velocity": jacobian[:3] @ state.dq,
                  "gripper": np.array([state.gripper, wanted]), "holding": np.array([state.holding]),
                  "side": self._side(place), "busy": np.array([self._motion.busy])}
        if self.options.target_every:
            values["target"] = self._target
        values = {name: np.asarray(value, np.float32) for name, value in values.items()}
        return Signals(values | self.link.extras(), state.time, self._sequence)

    def command(self, action: np.ndarray) -> Applied:
        """What the options' `actions` say. The mask also holds what fence and limits met since the command before.

        While the arm does something by itself, noop is applied.
        """
        self._require_connection()
        if self._interlock.mode != Mode.ARMED:
            return _with(Gate(self.spec.action_space, self.spec.noop).admit(action), Clip.DISARMED)
        self._obey_hold()
        applied = self._gate.admit(action)
        self._commands.feed(self.link.now())
        clip = self._motion.command(applied.action, self._limits.setpoint, self._state)
        met, self._clip = self._clip | clip, Clip.NONE
        if clip & Clip.BUSY:
            applied = Applied(np.asarray(self.spec.noop, np.int64), applied.clip)
        return _with(applied, met)

    def tick(self) -> None:
        """One inner period: choose the setpoint, exchange it for a state."""
        self._require_connection()
        if self._interlock.mode != Mode.ARMED:
            return self._stand()
        self._obey_hold()
        trust = self._trust()
        if trust == Trust.DAMP:
            log.warning("no command, or no state, for %.1f s: stands, disarmed", self.spec.damp_after)
            self._interlock.stop(Stop.DAMP)
            return self._stand()
        if trust == Trust.HOLD:
            self._settle()
            self._clip |= Clip.STALE
        self._follow(self._motion.step(self._limits.setpoint, self._state))

    def arm(self) -> None:
        """The first setpoint is the measured pose. Raises StaleState where it is older than 0.1 s."""
        self._require_connection()
        if self._link_age() > STALE:
            raise StaleState(f"the newest state is {self._link_age():.2f} s old; is the robot on?")
        self._follow_pose()
        self._commands.feed(self.link.now())
        self._hold_wanted, self._clip = False, Clip.NONE
        self._interlock.arm()

    def stop(self, level: Stop) -> None:
        """HOLD comes to rest until the next command; DAMP and ESTOP brake and stand with the next period."""
        self._hold_wanted = True
        self._interlock.stop(level)

    def clear_fault(self, token: str) -> None:
        """Ends disarmed, the vendor's own stop recovered; an empty token raises FaultLatched. CommandRejected: it needs
        an operator at the robot, and the fault stays."""
        faulted = self._interlock.mode == Mode.FAULT
        self._interlock.clear(token)
        if faulted and self._connected:
            try:
                self.link.recover()
            except CommandRejected as error:
                self._interlock.trip(str(error))
                raise
            self._state = self.link.exchange(None)  # it may have taken longer than a state stays fresh

    def health(self) -> Health:
        """Gauges: `effort_ratio`, of the joint that works nearest to its limit, and what the link knows."""
        if not self._connected:
            return Health(self._interlock.mode, self._interlock.fault, ticks=self._ticks)
        gauges = {"effort_ratio": float((np.abs(self._state.effort) / self.anatomy.effort).max())}
        return Health(self._interlock.mode, self._interlock.fault, self._link_age(), self._ticks,
                      gauges=gauges | self.link.gauges(), busy=self._motion.busy)

    def keep_pace(self, speed: float) -> None:
        """Renders on a thread and parks in real time. Only a double in this process has another speed than 1."""
        if speed != 1 and self.options.link != "direct":
            raise ValueError(f"speed: {speed:g}: link={self.options.link} runs in real time, at 1")
        self._speed = speed
        if self.link is not None:
            self.link.keep_pace(speed)

    def reseed(self, seed: int) -> None:
        """Targets; and the double's noise and places of objects."""
        self._targets = np.random.default_rng(seed)
        if self.link is None:
            self.link = self._make_link()
        self.link.reseed(seed)

    def _follow(self, target: np.ndarray) -> None:
        """Through fence and limits to the link."""
        before = self._limits.setpoint
        allowed, fenced = self._fence.admit(before, self._moved, target)
        setpoint, clip = self._limits.advance(allowed, self._state.q)
        self._clip |= clip | fenced
        self._moved = setpoint - before
        if clip & (Clip.EMPTY | Clip.NOT_FINITE):
            self._interlock.trip(f"no setpoint satisfies the limits ({clip!r})")
            return self._stand()
        self._advance(ArmCommand(setpoint, self._moved / self._period, self._motion.opening))

    def _stand(self) -> None:
        """Follows the pose, so that the setpoint of an arm that stands is where it is."""
        self._advance(None)
        self._follow_pose()

    def _advance(self, command: ArmCommand | None) -> None:
        before = self._state.time
        self._see(self.link.exchange(command))
        self._ticks += 1
        if self._state.time != before:
            self._sequence = self._ticks
        if self.options.target_every and self._ticks % round(self.options.target_every * self.inner_hz) == 0:
            self._draw_target()

    def _see(self, state: ArmState) -> None:
        """What is not finite is a fault, and the state before it stays."""
        if state.trouble:
            self._interlock.trip(state.trouble)
        if not _is_finite(state):
            return self._interlock.trip("the robot's state is not finite; check its sensors")
        self._state = state
        self._states.feed(state.time)

    def _trust(self) -> Trust:
        """As far as both the commands and the robot's own states are fresh."""
        now = self.link.now()
        return max(self._commands.trust(now), self._states.trust(now))

    def _follow_pose(self) -> None:
        self._limits.start(self._state.q)
        self._moved = np.zeros_like(self._limits.setpoint)
        self._motion.start(self._limits.setpoint, self._state)
        self._rest()

    def _settle(self) -> None:
        """What comes next begins at rest."""
        self._motion.rest()
        self._rest()

    def _rest(self) -> None:
        if self.spec.noop is None:
            self._gate.start(np.zeros(self.spec.action_space.shape))

    def _obey_hold(self) -> None:
        if self._hold_wanted:
            self._hold_wanted = False
            self._commands.feed(self.link.now())
            self._settle()

    def _side(self, place: np.ndarray) -> np.ndarray:
        """Whether it is over the left bin, and over the right one [2]."""
        below = over(place, self.anatomy.bins)
        return np.array([bin is below for bin in self.anatomy.bins])

    def _draw_target(self) -> None:
        low, high = self.anatomy.workspace
        self._target = self._targets.uniform(low + INSET, high - INSET)

    def _can_park(self) -> bool:
        return self._interlock.mode == Mode.ARMED and self._link_age() <= STALE

    def _park(self) -> None:
        """Up, then home, in straight lines. Does nothing where it is not safe."""
        home, start = self.anatomy.chain.pose(self.anatomy.home), time.monotonic()
        glide = Glide(self.anatomy.chain.position(self._limits.setpoint), self._period)
        goal = np.array([*glide.place[:2], max(glide.place[2], self.anatomy.hover)])
        for tick in range(round(PARK_SECONDS * self.inner_hz)):
            if not self._can_park():
                return
            glide.advance(np.zeros(3), goal, goal)
            self._follow(follow(self.anatomy, self._limits.setpoint, glide, home[:3, :3], self._period))
            if np.abs(glide.place - goal).max() < 1e-3:
                if (goal == home[:3, 3]).all() and np.abs(self._moved).max() < STANDS * self._period:
                    return
                goal = home[:3, 3]
            ahead = tick * self._period / self._speed - (time.monotonic() - start) if self._speed else 0.0
            if ahead > 0.002:
                time.sleep(ahead)

    def _link_age(self) -> float:
        return (self.link.now() - self._state.time) * 1e-9

    def _require_connection(self) -> None:
        if not self._connected:
            raise NotConnected(f"{self.spec.name}: connect first")


def _is_finite(state: ArmState) -> bool:
    return math.isfinite(state.q.sum() + state.dq.sum() + state.effort.sum() + state.gripper)


def _with(applied: Applied, clip: Clip) -> Applied:
    return Applied(applied.action, applied.clip | clip) if clip else applied
