"""What robots whose joints follow setpoints have in common, legs and arms: from a command to the link, period by
period.

Every inner period the subclass says where the joints should be, the limits choose the next setpoint from that and from
the measured angles, and the link exchanges it for a state. A command that is too old leaves the robot where it is;
disarmed or faulted, it does not follow any.
"""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from robots.driver import (
    Applied,
    Clip,
    Driver,
    Mode,
    NotConnected,
    RobotError,
    RobotSpec,
    Signals,
    StaleState,
    Stop,
)
from robots.link import Link
from robots.safety import Gate, Interlock, Limits, Trust, Watchdog

log = logging.getLogger(__name__)

STALE = 0.1  # s without a new state


class SetpointDriver(Driver):
    """See the module. `options` has `link`, the kind of link that they mean; `link` is None until it is needed first.
    Subclasses set `_limits` before they connect, and implement the methods that are abstract here."""

    link: Link[Any, Any] | None = None
    _limits: Limits

    def __init__(self, options: Any, spec: RobotSpec) -> None:
        self.options, self.spec = options, spec
        self._gate, self._interlock = Gate(spec.action_space, spec.noop), Interlock()
        self._commands, self._states = (Watchdog(spec.command_ttl, spec.damp_after) for _ in range(2))
        self._connected = self._hold_wanted = False
        self._ticks = self._sequence = 0
        self._speed, self._clip = 0.0, Clip.NONE

    @abstractmethod
    def _open_way(self) -> Link[Any, Any]:
        """The link that the options mean, not yet open."""

    @abstractmethod
    def _begin(self, state: Any) -> None:
        """The first state of a connection. Raises LinkLost where nobody can begin with it."""

    @abstractmethod
    def _see(self, state: Any) -> None:
        """Keep a state as `_state`, feed `_states` with its time, and trip the interlock where it must not go on."""

    @abstractmethod
    def _values(self) -> dict[str, np.ndarray]:
        """Every signal of the spec that is not the link's own."""

    @abstractmethod
    def _take(self, action: np.ndarray) -> Clip:
        """An admitted action: what is wanted from now on, and why it is not just that. BUSY: nothing of it; for robots
        with discrete actions."""

    @abstractmethod
    def _wanted(self) -> np.ndarray:
        """Where the joints should be after the next period [J] rad."""

    @abstractmethod
    def _order(self, setpoint: np.ndarray, before: np.ndarray) -> Any:
        """What the link is told, so that the joints go from the setpoint before to this one [J] rad."""

    @abstractmethod
    def _stand(self) -> None:
        """One inner period that follows no command. The setpoint follows the pose."""

    @abstractmethod
    def _start(self) -> None:
        """The setpoint is the measured pose; what comes next begins there, at rest."""

    @abstractmethod
    def _settle(self) -> None:
        """Nothing of the motion before is left: what comes next begins at the present setpoint, at rest."""

    @abstractmethod
    def _hold(self) -> None:
        """The command is too old: come to rest. Called every period for as long as that is so."""

    @abstractmethod
    def _park(self) -> None:
        """Go where the robot may be left alone, as long as `_can_park`."""

    def _sink(self) -> None:
        """After parking, disarmed: stand or damp until the link may be closed."""
        self._stand()

    def connect(self, timeout: float = 10.0) -> None:
        """Opens the link and comes up disarmed. A latched fault stays latched."""
        if self._connected:
            return
        if self.link is None:
            self.link = self._open_way()
        if self._speed:
            self.link.keep_pace(self._speed)
        self._interlock.stop(Stop.DAMP)
        self._begin(self.link.open(timeout))
        self._start()
        self._connected = True

    def disconnect(self) -> None:
        """Parks where that is safe, then stands or damps; closes the link, whatever fails before."""
        if not self._connected:
            return
        try:
            try:
                self._park()
            finally:
                self._interlock.stop(Stop.DAMP)
                self._sink()
        except RobotError as error:
            log.warning("parking ended early: %s", error)
        finally:
            self._connected = False
            self.link.close()

    def read(self) -> Signals:
        """The newest state and what follows from it."""
        self._require_connection()
        values = {name: np.asarray(value, np.float32) for name, value in self._values().items()}
        return Signals(values | self.link.extras(), self._state.time, self._sequence)

    def command(self, action: np.ndarray) -> Applied:
        """The mask also holds what the limits met since the command before. While the robot does something by itself,
        noop is applied. A command that comes too late begins at rest, even where no period was held in between."""
        self._require_connection()
        if self._interlock.mode != Mode.ARMED:
            return _with(Gate(self.spec.action_space, self.spec.noop).admit(action), Clip.DISARMED)
        self._obey_hold()
        if self._trust() != Trust.FRESH:
            self._settle()
        applied = self._gate.admit(action)
        self._commands.feed(self.link.now())
        clip = self._take(applied.action)
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
            log.warning("no command, or no state, for %.1f s: disarmed", self.spec.damp_after)
            self._interlock.stop(Stop.DAMP)
            return self._stand()
        if trust == Trust.HOLD:
            self._hold()
            self._clip |= Clip.STALE
        self._follow(self._wanted())

    def arm(self) -> None:
        """The first setpoint is the measured pose. Raises StaleState where it is older than 0.1 s."""
        self._require_connection()
        if self._link_age() > STALE:
            raise StaleState(f"the newest state is {self._link_age():.2f} s old; is the robot on?")
        self._start()
        self._commands.feed(self.link.now())
        self._hold_wanted, self._clip = False, Clip.NONE
        self._interlock.arm()

    def stop(self, level: Stop) -> None:
        """HOLD comes to rest until the next command; DAMP and ESTOP follow none from the next period on."""
        self._hold_wanted = True
        self._interlock.stop(level)

    def clear_fault(self, token: str) -> None:
        """Ends disarmed; an empty token raises FaultLatched."""
        self._interlock.clear(token)

    def keep_pace(self, speed: float) -> None:
        """Renders on a thread and parks in real time. Only a double in this process has another speed than 1."""
        if speed != 1 and self.options.link != "direct":
            raise ValueError(f"speed: {speed:g}: link={self.options.link} runs in real time, at 1")
        self._speed = speed
        if self.link is not None:
            self.link.keep_pace(speed)

    def _follow(self, target: np.ndarray) -> None:
        """Through the limits to the link."""
        before = self._limits.setpoint
        setpoint, clip = self._limits.advance(target, self._state.q)
        self._clip |= clip
        if clip & (Clip.EMPTY | Clip.NOT_FINITE):
            self._interlock.trip(f"no setpoint satisfies the limits ({clip!r})")
            return self._stand()
        self._advance(self._order(setpoint, before))

    def _advance(self, order: Any) -> None:
        before = self._state.time
        self._see(self.link.exchange(order))
        self._ticks += 1
        if self._state.time != before:
            self._sequence = self._ticks

    def _trust(self) -> Trust:
        """As far as both the commands and the robot's own states are fresh."""
        now = self.link.now()
        return max(self._commands.trust(now), self._states.trust(now))

    def _obey_hold(self) -> None:
        if self._hold_wanted:
            self._hold_wanted = False
            self._commands.feed(self.link.now())
            self._settle()

    def _can_park(self) -> bool:
        return self._interlock.mode == Mode.ARMED and self._link_age() <= STALE

    def _periods(self, seconds: float) -> Iterator[None]:
        """Inner periods for so long, at the owner's pace."""
        start, hz = time.monotonic(), self.spec.inner_hz
        for tick in range(round(seconds * hz)):
            yield
            ahead = tick / hz / self._speed - (time.monotonic() - start) if self._speed else 0.0
            if ahead > 0.002:
                time.sleep(ahead)

    def _link_age(self) -> float:
        return (self.link.now() - self._state.time) * 1e-9

    def _require_connection(self) -> None:
        if not self._connected:
            raise NotConnected(f"{self.spec.name}: connect first")


def signals_of(sizes: Mapping[str, tuple[int, str]], camera: bool) -> tuple[dict[str, spaces.Space], dict[str, str]]:
    """Spaces and units of vectors, name -> (size, unit), and of a camera's `image` and `depth`."""
    signals: dict[str, spaces.Space] = {name: spaces.Box(-np.inf, np.inf, (size,), np.float32)
                                        for name, (size, _) in sizes.items()}
    units = {name: unit for name, (_, unit) in sizes.items()}
    if camera:
        signals["image"] = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        signals["depth"] = spaces.Box(0, 255, (64, 64, 1), np.uint8)
        units |= {"image": "", "depth": "0.02 m"}
    return signals, units


def _with(applied: Applied, clip: Clip) -> Applied:
    return Applied(applied.action, applied.clip | clip) if clip else applied
