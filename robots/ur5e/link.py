"""A UR arm over ur-rtde: setpoints for servoJ, the controller's watchdog, states with their age, a way back from stops.

The SDK runs in a process of its own (robots.ur5e.sdk says why), so that nothing that it does can hold up a tick: an
exchange leaves the newest command in a socket and takes the newest state out of another. When that process ends, as it
does with its connection, the link starts another one and the arm is in trouble until an operator recovers it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.driver import CommandRejected, LinkLost
from robots.protocol import ProtocolDouble
from robots.ur5e.status import PLAYING, trouble

SILENT = 4.0  # s without a state until the SDK's process is given up: it notices a lost connection after 2.5 s
CONNECTING = 15.0  # s that it may take to connect
AGAIN = 1.0  # s between attempts
RECOVERY = 1.6  # s to wait for the controller's way back; who asked for it waits 2 s
LEAVING = 3.0  # s to brake and end


class RtdeLink(ArmLink):
    """To the controller at `address`, or to `double`, which is started with each `open`. `period` [s] between
    exchanges; `gripper`: whether there is one; `activate`: an inactive one may be activated, which moves its fingers.
    """

    def __init__(self, period: float, address: str = "", double: ProtocolDouble | None = None, *, gripper: bool = True,
                 activate: bool = False) -> None:
        self.double, self._address = double, address
        self._settings = {"period": period, "gripper": gripper, "activate": activate}
        self._sdk: SdkProcess | None = None
        self._state: ArmState | None = None
        self._gauges: dict[str, float] = {}

    @property
    def pid(self) -> int:
        """The process with the SDK; 0 while there is none."""
        return 0 if self._sdk is None else self._sdk.pid

    def open(self, timeout: float) -> ArmState:
        """The first state of a controller that is reachable. In a stop or without power it is in trouble, which
        `recover` ends."""
        deadline = time.monotonic() + timeout
        if self.double is not None:
            self._address = self.double.start(timeout)["address"]
        self._garbled = self._losses = 0
        self._lost = ""
        try:
            return self._first_state(deadline)
        except LinkLost:
            self.close()
            raise

    def exchange(self, command: ArmCommand | None) -> ArmState:
        """Never waits; the state is the newest one, which may be an old one."""
        self._take_in()
        self._keep_connected()
        if command is None:
            self._sdk.send(brake=True)
        else:
            self._sdk.send(servo=command.q.tolist(), gripper=command.gripper)
        return self._state._replace(trouble=self._lost or self._state.trouble)

    def now(self) -> int:
        """Monotonic; the SDK's process reads the same clock."""
        return time.monotonic_ns()

    def close(self) -> None:
        """The arm brakes and the script ends; both processes have ended."""
        if self._sdk is not None:
            self._sdk.end()
            self._sdk = None
        if self.double is not None:
            self.double.stop()

    def recover(self) -> None:
        """Unlocks a protective stop, which the controller allows 5 s after it at the earliest, and starts the script
        again. It never powers on."""
        if not self._sdk.ready:
            raise CommandRejected(self._lost or "not connected yet; clear the fault again in some seconds")
        self._sdk.send(recover=True)
        deadline = time.monotonic() + RECOVERY
        while self._sdk.recovered is None:
            if time.monotonic() > deadline or self._sdk.ended:
                raise CommandRejected("the controller has not come back yet; see its pendant, then clear again")
            time.sleep(0.01)
            self._take_in()
        text, self._sdk.recovered = self._sdk.recovered, None
        if text:
            raise CommandRejected(text)
        self._lost = ""
        self._await_health(deadline)

    def gauges(self) -> dict[str, float]:
        """`temperature_celsius` of the hottest joint; `speed_ratio`: what the pendant's slider and the controller leave
        of the speed; `garbled_states` and `connections_lost` since it was opened."""
        return self._gauges | {"garbled_states": float(self._garbled), "connections_lost": float(self._losses)}

    def _first_state(self, deadline: float) -> ArmState:
        """Tries again what an SDK's constructor fails in, as it does after stops, but not what it was refused."""
        while True:
            self._start()
            self._state = None
            while self._state is None or not self._sdk.ready:
                if time.monotonic() > deadline:
                    raise LinkLost(self._lost or f"the controller at {self._address} did not answer in time")
                if self._sdk.ended:
                    self._take_in()
                    break
                time.sleep(0.005)
                self._take_in()
            else:
                return self._state
            if self._sdk.final or time.monotonic() + AGAIN > deadline:
                raise LinkLost(self._sdk.why)
            time.sleep(AGAIN)

    def _start(self, again: bool = False) -> None:
        if self._sdk is not None:
            self._sdk.end()
        self._sdk = SdkProcess(self._settings | {"host": self._address, "again": again})

    def _keep_connected(self) -> None:
        """Starts another process in place of one that ended or hangs."""
        sdk, now = self._sdk, time.monotonic()
        if not sdk.ended and now - sdk.heard > (SILENT if sdk.ready else CONNECTING):
            sdk.kill()
        if not sdk.ended:
            return
        self._lost = f"lost the controller ({sdk.why}) and connect again; look at the arm, then clear the fault"
        if now - sdk.started > AGAIN:
            self._losses += sdk.ready
            self._start(again=True)

    def _take_in(self) -> None:
        for state, received in self._sdk.states():
            if state["plausible"]:
                self._state = self._read(state, received)
            else:
                self._garbled += 1

    def _read(self, state: Mapping[str, Any], received: int) -> ArmState:
        self._gauges = {"temperature_celsius": state["celsius"], "speed_ratio": state["speed"]}
        why = trouble(state["robot_mode"], state["safety_mode"], state["runtime_state"] == PLAYING)
        return ArmState(received, np.array(state["q"]), np.array(state["dq"]), np.array(state["effort"]),
                        state.get("opening", 1.0), state.get("holding", False), why or state.get("gripper_trouble", ""))

    def _await_health(self, deadline: float) -> None:
        """Until a state says that the arm can move: the one before does not."""
        while self._state.trouble:
            if time.monotonic() > deadline:
                raise CommandRejected(self._state.trouble)
            time.sleep(0.01)
            self._take_in()


class SdkProcess:
    """A process with the SDK in it, and the socket to it. `ready`: it is connected; `why`: it ended; `final`: trying
    again is in vain; `recovered`: its answer to the last `recover`; `started`, `heard`: when [s], monotonic."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(True)  # the process at the other end knows nothing of this one's default timeout
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robots.ur5e.sdk", json.dumps({**settings, "fd": theirs.fileno()})],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path})
        theirs.close()
        ours.setblocking(False)
        self._socket, self._pending, self._unsent = ours, b"", b""
        self.started = self.heard = time.monotonic()
        self.ready, self.final, self._error = False, False, ""
        self.recovered: str | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    @property
    def why(self) -> str:
        """What it said before it ended."""
        return self._error or "its connection ended"

    def send(self, **fields: Any) -> None:
        """Never waits: what a process that does not read cannot take is left out, and the watchdog stops the arm."""
        if len(self._unsent) > 4096:
            return
        self._unsent += json.dumps(fields).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._unsent = self._unsent[self._socket.send(self._unsent):]

    def states(self) -> list[tuple[dict[str, Any], int]]:
        """What came since the last call: each state and when it was read [ns]."""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        states = []
        for message in map(json.loads, lines):
            self.heard = time.monotonic()
            if "state" in message:
                states.append((message["state"], message["time"]))
            elif "error" in message:
                self._error, self.final = message["error"], message["final"]
            elif "recovered" in message:
                self.recovered = message["recovered"]
            else:
                self.ready = True
        return states

    def kill(self) -> None:
        """It hangs."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """It brakes, stops the script and ends; where it does not, it is killed. Twice is once."""
        self._socket.close()
        try:
            self._process.wait(LEAVING)
        except subprocess.TimeoutExpired:
            self.kill()
