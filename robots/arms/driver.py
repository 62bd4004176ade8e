"""Driver of an arm with a gripper, whatever its make: actions become setpoints, setpoints pass the safety chain.

The motion that the actions stand for (robots.arms.motion) says where the joints should be, and the fence keeps the tool
in its workspace before the limits choose the next setpoint (robots.setpoints). A command that is too old leaves the arm
standing where it is; disarmed or faulted, it brakes and stands.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.fence import Fence
from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.arms.motion import Glide, follow, over
from robots.arms.options import ArmOptions
from robots.arms.spec import motion, robot_spec
from robots.arms.tasks import PickPlace, Reach
from robots.driver import Bound, Clip, CommandRejected, Health, LinkLost, Mode
from robots.monitors import Threshold
from robots.safety import Limits
from robots.setpoints import SetpointDriver

WINDOW = 0.25  # rad that a setpoint runs ahead of its joint, at most
PARK_SECONDS = 8.0
STANDS = 0.01  # rad/s
LOAD_SECONDS = 1.0  # in which what a joint bears becomes its load
INSET = 0.03  # m that targets keep from the workspace's faces
STRAY, AWAY = 0.02, 0.005  # rad and m that an arm at rest may be beyond its limits: it yields to its weight
WAY_BACK = "armed it goes back by itself: bring it inside before, by hand or with the vendor's program"


class ArmDriver(SetpointDriver):
    """See the module. An arm is a subclass that has `Options`, `anatomy_of`, `protocol` and `hardware`. `link` opens
    another way to the arm than the options name. Actions are what the options' `actions` say; the mask of an applied
    one also holds what the fence met."""

    Options = ArmOptions
    tasks = {"reach": Reach, "pick_place": PickPlace}
    thresholds = {"effort_ratio": Threshold(0.9, math.inf), "torque_residual_ratio": Threshold(0.6, math.inf)}

    def __init__(self, options: ArmOptions | None = None, control_hz: float = 10.0, seed: int = 0,
                 link: Callable[[], ArmLink] | None = None) -> None:
        options = options or self.Options()
        self.anatomy = self.anatomy_of(options)
        if not 1 <= control_hz <= self.anatomy.inner_hz:
            raise ValueError(f"control_hz: {control_hz:g}: allowed is 1 to {self.anatomy.inner_hz:g}")
        self.inner_hz = control_hz * round(self.anatomy.inner_hz / control_hz)
        self._period, self._control_hz, self._seed = 1 / self.inner_hz, control_hz, seed
        self._motion = motion(self.anatomy, self._period, options)
        super().__init__(options, robot_spec(self.anatomy, options, self._motion, control_hz, self.inner_hz))
        self._make_link = link or self._way
        self._fence = Fence(self.anatomy, self._period)
        self._limits = Limits(self.anatomy.lower, self.anatomy.upper, self._period, velocity=self.anatomy.velocity,
                              acceleration=self.anatomy.acceleration, window=WINDOW)
        self._targets = np.random.default_rng(seed)

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

    def _open_way(self) -> ArmLink:
        return self._make_link()

    def _begin(self, state: ArmState) -> None:
        self._state, self._load = state, state.effort
        if not _is_finite(state):
            self.link.close()
            raise LinkLost(f"{self.spec.name}: its state is not finite; check its sensors")
        self._see(state)
        self._draw_target()

    def _values(self) -> dict[str, np.ndarray]:
        """See `robots.arms.spec`."""
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
        return values

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
        """Gauges: `effort_ratio`, of the joint that works nearest to its limit; `torque_residual_ratio`, of the one
        that suddenly works most beyond its load; and what the link knows."""
        if not self._connected:
            return Health(self._interlock.mode, self._interlock.fault, ticks=self._ticks)
        effort, most = self._state.effort, self.anatomy.effort
        gauges = {"effort_ratio": float((np.abs(effort) / most).max()),
                  "torque_residual_ratio": float((np.abs(effort - self._load) / most).max())}
        return Health(self._interlock.mode, self._interlock.fault, self._link_age(), self._ticks,
                      gauges=gauges | self.link.gauges(), busy=self._motion.busy)

    def limits(self, values: Mapping[str, np.ndarray]) -> tuple[Bound, ...]:
        """Of the joints and of the tool; see Driver."""
        arm, q = self.anatomy, values["joint_angles"]
        joints = zip(q, arm.lower, arm.upper, strict=True)
        stray = [f"joint {n} is at {at:.2f}" for n, (at, low, high) in enumerate(joints, 1)
                 if not low - STRAY <= at <= high + STRAY]
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in zip(arm.lower, arm.upper, strict=True))
        room = ", ".join(f"{axis} {low:g} to {high:g}" for axis, low, high in zip("xyz", *arm.workspace, strict=True))
        away = [f"{what} by {100 * by:.1f} cm" for what, by in zip((*"xyz", "the table"), self._fence.outside(q))
                if by > AWAY]
        return (
            Bound("joint range", f"{ranges} rad", ", ".join(stray), WAY_BACK),
            Bound("joint speed", f"at most {arm.velocity:g} rad/s and {arm.acceleration:g} rad/s²"),
            Bound("torque", f"setpoints stay within {WINDOW:g} rad of the measured angles"),
            Bound("workspace", f"the tool stays in {room} m, the hand above the table", ", ".join(away), WAY_BACK))

    def reseed(self, seed: int) -> None:
        """Targets; and the double's noise and places of objects."""
        self._targets = np.random.default_rng(seed)
        if self.link is None:
            self.link = self._make_link()
        self.link.reseed(seed)

    def _take(self, action: np.ndarray) -> Clip:
        return self._motion.command(action, self._limits.setpoint, self._state)

    def _wanted(self) -> np.ndarray:
        return self._motion.step(self._limits.setpoint, self._state)

    def _follow(self, target: np.ndarray) -> None:
        """Through fence and limits to the link."""
        allowed, fenced = self._fence.admit(self._limits.setpoint, self._moved, target)
        self._clip |= fenced
        super()._follow(allowed)

    def _order(self, setpoint: np.ndarray, before: np.ndarray) -> ArmCommand:
        self._moved = setpoint - before
        return ArmCommand(setpoint, self._moved / self._period, self._motion.opening)

    def _stand(self) -> None:
        """Follows the pose, so that the setpoint of an arm that stands is where it is."""
        self._advance(None)
        self._start()

    def _advance(self, order: ArmCommand | None) -> None:
        super()._advance(order)
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
        self._load = self._load + (state.effort - self._load) * self._period / LOAD_SECONDS

    def _start(self) -> None:
        self._limits.start(self._state.q)
        self._moved = np.zeros_like(self._limits.setpoint)
        self._motion.start(self._limits.setpoint, self._state)
        self._rest()

    def _settle(self) -> None:
        self._motion.rest()
        self._rest()

    def _rest(self) -> None:
        """What is not finite from now on is replaced by none at all."""
        if self.spec.noop is None:
            self._gate.start(np.zeros(self.spec.action_space.shape))

    def _hold(self) -> None:
        self._settle()

    def _side(self, place: np.ndarray) -> np.ndarray:
        """Whether it is over the left bin, and over the right one [2]."""
        below = over(place, self.anatomy.bins)
        return np.array([bin is below for bin in self.anatomy.bins])

    def _draw_target(self) -> None:
        low, high = self.anatomy.workspace
        self._target = self._targets.uniform(low + INSET, high - INSET)

    def _park(self) -> None:
        """Up, then home, in straight lines."""
        home = self.anatomy.chain.pose(self.anatomy.home)
        glide = Glide(self.anatomy.chain.position(self._limits.setpoint), self._period)
        goal = np.array([*glide.place[:2], max(glide.place[2], self.anatomy.hover)])
        for _ in self._periods(PARK_SECONDS):
            if not self._can_park():
                return
            glide.advance(np.zeros(3), goal, goal)
            self._follow(follow(self.anatomy, self._limits.setpoint, glide, home[:3, :3], self._period))
            if np.abs(glide.place - goal).max() < 1e-3:
                if (goal == home[:3, 3]).all() and np.abs(self._moved).max() < STANDS * self._period:
                    return
                goal = home[:3, 3]


def _is_finite(state: ArmState) -> bool:
    return math.isfinite(state.q.sum() + state.dq.sum() + state.effort.sum() + state.gripper)
