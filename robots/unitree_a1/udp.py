"""The way to an A1 over its network: LowCmd out and LowState in, 500 times a second, on one non-blocking socket.

The robot has no watchdog that could be trusted: it goes on with the last command it got. So whoever might fall silent
is watched over here: `guard.py`, a process of its own, damps the robot when the process that owns this link hangs or is
killed. Damping (no position gain, a speed gain of 4) is also what is sent while connecting, when disarmed, and when the
link is closed; there is no datagram for an emergency stop, only this one, repeated.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robots.driver import CommandRejected, LinkLost
from robots.protocol import ProtocolDouble
from robots.unitree_a1 import anatomy, guard, remote
from robots.unitree_a1.link import INNER_HZ, A1Link, LowCommand, LowState
from robots.unitree_a1.soft_start import SoftStart
from robots.unitree_a1.wire import (
    A1,
    MOTORS,
    NO_POSITION,
    OVERHEATED,
    BadPacket,
    NotFinite,
    WireCommand,
    WireState,
)

CLIENT_PORT = 8080  # the vendor's library sends from it
PERIOD = round(1e9 / INNER_HZ["hardware"])  # ns
LEAD = 10 * PERIOD  # by which an owner that was late may run ahead to catch up
BEAT = 20_000_000  # ns between signs of life to the guard
QUEUE = 256  # datagrams looked at in one exchange; the system keeps fewer for us
STILL = np.zeros(MOTORS)
DAMP = A1.encode_command(WireCommand(np.full(MOTORS, NO_POSITION), STILL, STILL, STILL, anatomy.DAMPING_KD))


class UdpLink(A1Link):
    """To the robot at `host` and `port`; `deadman`: only while a button of the remote is held may it move. With
    `double`, the settings of one, a double is started behind the same protocol, and the link goes there.

    An exchange never waits for the robot, but for its own turn where its owner is faster than 500 Hz.
    """

    def __init__(self, host: str = "", port: int = 0, *, local_port: int = 0, deadman: bool = False,
                 double: Mapping[str, Any] | None = None) -> None:
        self._robot, self._local_port, self._deadman = (host, port), local_port, deadman
        self._settings = None if double is None else dict(double)
        self.double: ProtocolDouble | None = None
        self._socket: socket.socket | None = None
        self._guard: Guard | None = None

    def open(self, timeout: float) -> LowState:
        """The first state after a command that damps. Raises LinkLost, which says what the robot sent instead."""
        deadline = time.monotonic() + timeout
        if self._settings is not None:
            self.double = ProtocolDouble("robots.unitree_a1.udp_double", self._settings)
            self._robot = ("127.0.0.1", self.double.start(timeout)["port"])
        else:
            self._robot = (_resolved(self._robot[0]), self._robot[1])
        self._ticks, self._start, self._refused, self._why = TickCount(), SoftStart(), 0, "nothing"
        self._due = self._sent = self._got_out = time.monotonic_ns()
        self._unsendable = ""
        self._newest: LowState | None = None
        try:
            self._socket = _bound(self._local_port)
            self._guard = Guard(self._socket, self._robot)
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
            self._forget_queue()
        fault = ""
        try:
            command = self._start.admit(command, self._newest.q, now)
            packet = A1.encode_command(WireCommand(command.q, STILL, STILL, command.kp, command.kd))
        except (CommandRejected, NotFinite) as error:
            packet, fault = DAMP, str(error)
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
        """The guard goes on if the loop is dead: three datagrams are for one that was lost on its way."""
        with contextlib.suppress(OSError, AttributeError):  # it is not open, or not any more
            for _ in range(3):
                self._socket.sendto(DAMP, self._robot)

    def close(self) -> None:
        """The robot stays damped."""
        self.halt()
        for part in (self._guard, self._socket):
            if part is not None:
                part.close()
        if self.double is not None:
            self.double.stop()
        self._guard = self._socket = self.double = None

    def extras(self) -> dict[str, np.ndarray]:
        """`disturbances`: none that anybody counts. The signal is there all the same, so that a run which began on the
        double in its own process can go on here, with the same columns in its replay."""
        return {"disturbances": np.zeros(3, np.float32)}

    def gauges(self) -> dict[str, float]:
        """`packets_lost`, by the robot's own count of time; `packets_refused`, which came but were not sound;
        `clock_jumps` of the robot's clock; `foot_force_fr` and so on, in counts of the sensor."""
        forces = zip(anatomy.LEGS, () if self._newest is None else self._newest.foot_force)
        return {"packets_lost": self._ticks.lost, "packets_refused": self._refused, "clock_jumps": self._ticks.jumps,
                **{f"foot_force_{leg.lower()}": float(force) for leg, force in forces}}

    def reseed(self, seed: int) -> None:
        """The double's, from its next start on."""
        if self._settings is not None:
            self._settings["seed"] = seed

    def _first_state(self, deadline: float, timeout: float) -> LowState:
        while self._newest is None:
            if time.monotonic() > deadline:
                raise LinkLost(f"no state from the robot at {self._robot[0]}:{self._robot[1]} within {timeout:g} s, "
                               f"but {self._why}; is it on, and in low-level mode?")
            self._send(DAMP, time.monotonic_ns())
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
            self._socket.sendto(packet, self._robot)
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

    def _forget_queue(self) -> None:
        """What waited while we hung is old, and the system has thrown away what came after it."""
        with contextlib.suppress(OSError):
            for _ in range(QUEUE):
                self._socket.recvfrom(2048)

    def _receive(self) -> None:
        """Takes in what has come; the newest counts."""
        newest, fault = None, ""
        for _ in range(QUEUE):
            try:
                packet, (host, _) = self._socket.recvfrom(2048)
                if host == self._robot[0]:
                    newest = A1.decode_state(packet)
                    self._ticks.see(newest.tick)
            except OSError:
                break
            except BadPacket as error:
                self._refused += 1
                self._why = f"datagrams that were refused: {error}"
                fault = f"{error}; check the robot's sensors" if isinstance(error, NotFinite) else fault
        if newest is not None:
            self._newest = self._low_state(newest)
        if fault and self._newest is not None:
            self._newest = self._newest._replace(fault=fault)

    def _low_state(self, state: WireState) -> LowState:
        held = remote.decode(state.remote)
        fault = ""
        if held.holds(remote.STOP):
            fault = "stopped by the remote (L2 + B)"
        elif (state.mode == OVERHEATED).any():
            joint = anatomy.JOINTS[int(np.argmax(state.mode == OVERHEATED))]
            fault = f"{joint}: the robot switched the motor off: too hot, or its cable"
        return LowState(time.monotonic_ns(), state.q, state.dq, state.tau, state.quaternion, state.gyro,
                        state.acceleration, state.foot_force, float(state.temperature.max()),
                        not self._deadman or held.holds(remote.DEADMAN), fault)


class Guard:
    """The process that damps the robot when this one does not say that it lives."""

    def __init__(self, sender: socket.socket, robot: tuple[str, int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(sender.fileno()), robot[0], str(robot[1]),
             DAMP.hex()], stdin=subprocess.PIPE, pass_fds=(sender.fileno(),), start_new_session=True, bufsize=0)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._beat, self.lives = 0, True

    def beat(self, now: int) -> None:
        """We live, at `now` [ns]."""
        if now - self._beat >= BEAT:
            self._beat = now
            self._say(b".")

    def close(self) -> None:
        """Farewell."""
        self._say(guard.FAREWELL)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
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


class TickCount:
    """Datagrams that were lost, by the ticks that the others bear. The unit of a tick is learnt from the first ones."""

    def __init__(self, learn: int = 50) -> None:
        self.lost = self.jumps = 0
        self._learn, self._steps = learn, []
        self._step, self._last = 0.0, None

    def see(self, tick: int) -> None:
        """The next datagram that came; ticks are of 32 bits."""
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


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise LinkLost(f"{host}: {error.strerror}") from error


def _bound(local_port: int) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sender.bind(("", local_port))
    except OSError as error:
        sender.close()
        raise LinkLost(f"port {local_port} of this computer: {error.strerror}; does another program talk to the robot?"
                       ) from error
    sender.setblocking(False)
    return sender
