"""The way to a quadruped over its network: commands out and states in, 500 times a second, in the robot's own packets.

These robots have no watchdog that could be trusted: they go on with the last command they got. So whoever might fall
silent is watched over here: a guard, a process of its own, damps the robot when the process that owns this link hangs
or is killed. Damping (no position gain, some gain on speed) is also what is sent while connecting, when disarmed, and
when the link is closed; there is no packet for an emergency stop, only this one, repeated.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import subprocess
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from robots.driver import CommandRejected, LinkLost
from robots.legs import guard, remote
from robots.legs.anatomy import JOINTS, LEGS, Anatomy
from robots.legs.link import INNER_HZ, LegsLink, LowCommand, LowState
from robots.legs.packets import BadPacket, NotFinite, Packets, WireCommand, WireState
from robots.legs.soft_start import SoftStart
from robots.protocol import ProtocolDouble

PERIOD = round(1e9 / INNER_HZ["hardware"])  # ns
LEAD = 10 * PERIOD  # by which an owner that was late may run ahead to catch up
BEAT = 20_000_000  # ns between signs of life to the guard


class NetworkLink(LegsLink):
    """A subclass says how packets travel, and whose they are. `deadman`: only while a button of the remote is held may
    the robot move. With `double`, the settings of one, a double is started behind the same protocol, and the link goes
    there.

    An exchange never waits for the robot, but for its own turn where its owner is faster than 500 Hz.
    """

    anatomy: ClassVar[Anatomy]
    packets: ClassVar[Packets]
    double_module: ClassVar[str]

    def __init__(self, *, deadman: bool = False, double: Mapping[str, Any] | None = None) -> None:
        self._deadman, self._settings = deadman, None if double is None else dict(double)
        self._damp = self.packets.damp(self.anatomy.damping)
        self._still = np.zeros(len(JOINTS))
        self.double: ProtocolDouble | None = None
        self._guard: Guard | None = None

    def _for_double(self) -> dict[str, Any]:
        """What a double has to know of the way to it."""
        return {}

    @abstractmethod
    def _dial(self, timeout: float) -> None:
        """Open the way to the robot, or to the double, which has started. Nothing may be sent before. Raises
        LinkLost."""

    @abstractmethod
    def _new_guard(self) -> Guard:
        """One that damps the robot over this way."""

    @abstractmethod
    def _write(self, packet: bytes) -> None:
        """Send a packet, from any thread. Raises OSError where it did not get out."""

    @abstractmethod
    def _arrived(self) -> Iterable[bytes]:
        """The packets that came since the last look, oldest first. Never blocks."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Close the way, as far as it is open."""

    @abstractmethod
    def _far_end(self) -> str:
        """Where the robot is, in words."""

    def open(self, timeout: float) -> LowState:
        """The first state after a command that damps. Raises LinkLost, which says what the robot sent instead."""
        deadline = time.monotonic() + timeout
        self._ticks, self._start, self._refused, self._why = TickCount(), SoftStart(self.anatomy), 0, "nothing"
        self._due = self._sent = self._got_out = time.monotonic_ns()
        self._unsendable = ""
        self._newest: LowState | None = None
        self._charge = float("nan")
        try:
            if self._settings is not None:
                self.double = ProtocolDouble(self.double_module, self._settings | self._for_double())
                self.double.start(timeout)
            self._dial(deadline - time.monotonic())
            self._guard = self._new_guard()
            return self._first_state(deadline, timeout)
        except BaseException:
            self.close()
            raise

    def exchange(self, command: LowCommand) -> LowState:
        """The newest state, the same one again where none has come since. Raises LinkLost where a double has ended; a
        silent robot may come back."""
        self._wait_for_turn()
        now = time.monotonic_ns()
        if now - self._sent > guard.SILENCE * 1e9 - BEAT:
            self._start.restart()  # the guard may have damped it
            for _ in self._arrived():
                pass  # what waited while we hung is old, and what came after it may have been thrown away
        fault = ""
        try:
            command = self._start.admit(command, self._newest.q, now)
            told = WireCommand(command.q, self._still, self._still, command.kp, command.kd)
            packet = self.packets.encode_command(told)
        except (CommandRejected, NotFinite) as error:
            packet, fault = self._damp, str(error)
        self._send(packet, now)
        self._receive()
        if self.double is not None and self.double.ended:
            raise LinkLost("the double's process has ended")
        fault = fault or self._mute()
        return self._newest._replace(fault=fault) if fault else self._newest

    def now(self) -> int:
        """The monotonic clock; a state's time is when it was received. The robot's own clock is not used."""
        return time.monotonic_ns()

    def halt(self) -> None:
        """The guard goes on if the loop is dead: three packets are for one that was lost on its way."""
        with contextlib.suppress(OSError, AttributeError):  # it is not open, or not any more
            for _ in range(3):
                self._write(self._damp)

    def close(self) -> None:
        """The robot stays damped."""
        self.halt()
        if self._guard is not None:
            self._guard.close()
        self._hang_up()
        if self.double is not None:
            self.double.stop()
        self._guard = self.double = None

    def extras(self) -> dict[str, np.ndarray]:
        """`disturbances`: none that anybody counts. The signal is there all the same, so that a run which began on the
        double in its own process can go on here, with the same columns in its replay."""
        return {"disturbances": np.zeros(3, np.float32)}

    def gauges(self) -> dict[str, float]:
        """`packets_lost`, by the robot's own count of time; `packets_refused`, which came but were not sound;
        `clock_jumps` of the robot's clock; `foot_force_fr` and so on, in counts of the sensor; `battery_ratio` where
        the robot tells it."""
        forces = zip(LEGS, () if self._newest is None else self._newest.foot_force)
        return {"packets_lost": self._ticks.lost, "packets_refused": self._refused, "clock_jumps": self._ticks.jumps,
                **{f"foot_force_{leg.lower()}": float(force) for leg, force in forces},
                **({"battery_ratio": self._charge} if np.isfinite(self._charge) else {})}

    def reseed(self, seed: int) -> None:
        """The double's, from its next start on."""
        if self._settings is not None:
            self._settings["seed"] = seed

    def _first_state(self, deadline: float, timeout: float) -> LowState:
        while self._newest is None:
            if time.monotonic() > deadline:
                raise LinkLost(f"no state from the robot at {self._far_end()} within {timeout:g} s, but {self._why}; "
                               "is it on, and in low-level mode?")
            self._send(self._damp, time.monotonic_ns())
            time.sleep(PERIOD * 1e-9)
            self._receive()
        return self._newest

    def _wait_for_turn(self) -> None:
        now = time.monotonic_ns()
        self._due = max(self._due + PERIOD, now - LEAD)
        if self._due > now:
            time.sleep((self._due - now) * 1e-9)

    def _send(self, packet: bytes, now: int) -> None:
        self._sent = now
        self._guard.beat(now)
        try:
            self._write(packet)
            self._got_out = now
        except OSError as error:  # a full queue, a network that is down for a moment
            self._unsendable = error.strerror

    def _mute(self) -> str:
        """Why nobody could be sure to stop the robot any more; empty where that can be done."""
        if not self._guard.lives:
            return "the process that would damp the robot when this one dies has ended; connect anew"
        if self._sent - self._got_out > guard.SILENCE * 1e9:
            return f"nothing can be sent to the robot: {self._unsendable}"
        return ""

    def _receive(self) -> None:
        """Takes in what has come; the newest counts."""
        newest, fault = None, ""
        for packet in self._arrived():
            try:
                newest = self.packets.decode_state(packet)
                self._ticks.see(newest.tick)
            except BadPacket as error:
                self._refused += 1
                self._why = f"packets that were refused: {error}"
                fault = f"{error}; check the robot's sensors" if isinstance(error, NotFinite) else fault
        if newest is not None:
            self._newest = self._low_state(newest)
        if fault and self._newest is not None:
            self._newest = self._newest._replace(fault=fault)

    def _low_state(self, state: WireState) -> LowState:
        held, fault = remote.decode(state.remote), ""
        self._charge = state.charge
        if held.holds(remote.STOP):
            fault = "stopped by the remote (L2 + B)"
        elif state.given_up.any():
            fault = f"{JOINTS[int(np.argmax(state.given_up))]}: the robot switched the motor off: too hot, or its cable"
        return LowState(time.monotonic_ns(), state.q, state.dq, state.tau, state.quaternion, state.gyro,
                        state.acceleration, state.foot_force, float(state.temperature.max()),
                        not self._deadman or held.holds(remote.DEADMAN), fault)


class Guard:
    """The process that damps the robot when this one does not say that it lives: `command`, which calls `guard.watch`,
    and inherits the descriptors in `pass_fds`. With `wait` it is ready when it says so, by a line on its output, within
    so many seconds; else at once. Raises LinkLost."""

    def __init__(self, command: Sequence[str], pass_fds: Sequence[int] = (), env: Mapping[str, str] | None = None,
                 wait: float = 0.0) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE if wait else None,
                                         pass_fds=pass_fds, env=env, start_new_session=True, bufsize=0)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._beat, self.lives = 0, True
        if wait and not _said(self._process, wait):
            self.close()
            raise LinkLost(f"the process that would damp the robot when this one dies did not start within {wait:g} s")

    def beat(self, now: int) -> None:
        """We live, at `now` [ns]."""
        if now - self._beat >= BEAT:
            self._beat = now
            self._say(b".")

    def close(self) -> None:
        """Farewell."""
        self._say(guard.FAREWELL)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, word: bytes) -> None:
        try:
            self._process.stdin.write(word)
        except OSError:
            self.lives = False


def _said(process: subprocess.Popen, wait: float) -> bool:
    ready, _, _ = select.select([process.stdout], [], [], wait)
    return bool(ready and process.stdout.readline())


class TickCount:
    """Packets that were lost, by the ticks that the others bear. The unit of a tick is learnt from the first ones."""

    def __init__(self, learn: int = 50) -> None:
        self.lost = self.jumps = 0
        self._learn, self._steps = learn, []
        self._step, self._last = 0.0, None

    def see(self, tick: int) -> None:
        """The next packet that came; ticks are of 32 bits."""
        before, self._last = self._last, tick
        if before is None:
            return
        gap = (tick - before) % 2**32
        if not self._step:
            self._steps.append(gap)
            if len(self._steps) == self._learn:
                self._step = max(1.0, statistics.median(self._steps))
        elif gap > self._step * INNER_HZ["hardware"]:  # a second or more, or backwards
            self.jumps += 1
        else:
            self.lost += max(0, round(gap / self._step) - 1)
