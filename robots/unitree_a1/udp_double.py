"""The A1's double behind the robot's own protocol: a process that answers on UDP from the physics of `double.py`.

Physics run at 1 kHz in real time, a LowState goes every 2 ms to whoever sent the last sound LowCmd. As on the robot
there is no watchdog: without commands the motors go on with the last one. A wanted speed or torque is not simulated; a
LowCmd that has one is not obeyed. Orders, one of them at a time of each kind:

- `loss` (`ratio`, `seconds`): so many datagrams are lost, both ways
- `corrupt` (`ratio`, `seconds`): so many states have one byte changed
- `stall` (`seconds`): nothing is sent or looked at; then of what was queued the newest counts
- `disconnect`, `reconnect`: it hears and says nothing; then it is there again, and knows nobody until it is spoken to
- `cmd_lost`: the motors go limp, until the next command
- `clock` (`seconds`): the ticks jump
- `temperature` (`celsius`, `motor`): of one motor, by its index; from 60 on it is switched off
- `remote` (`buttons`): names of those that are held from now on, see remote.py
- `blind`: the next state has an angle that is not finite
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from robots.protocol import serve
from robots.unitree_a1 import remote
from robots.unitree_a1.double import PERIOD, A1Double
from robots.unitree_a1.link import ROOM, LowCommand, LowState
from robots.unitree_a1.wire import A1, MOTORS, OFF, OVERHEATED, SERVO, BadPacket, WireCommand, WireState

HZ = round(1e9 / PERIOD)
SEND_EVERY = 2  # ticks
TICK_UNIT = 1_000_000  # ns: milliseconds, as code that talks to robots reads them
TOO_HOT = 60.0  # °C
LIMP = LowCommand(*np.zeros((3, MOTORS)))


class UdpDouble:
    """`settings`: arguments of A1Double. `tick` every millisecond; all on one thread."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._double = A1Double(**settings)
        self._state = self._double.open()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._random = np.random.default_rng(settings.get("seed", 0))
        self._client: tuple[str, int] | None = None
        self._command, self._mode = LIMP, np.full(MOTORS, OFF, np.uint8)
        self._temperature = np.full(MOTORS, ROOM)
        self._remote, self._clock, self._there, self._blind = remote.Remote(), 0, True, False
        self._until = {"loss": 0, "corrupt": 0, "stall": 0}  # ns of the double's clock
        self._ratio = {"loss": 0.0, "corrupt": 0.0}

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._socket.getsockname()[1]

    def tick(self) -> None:
        """One millisecond."""
        if not self._plays("stall"):
            self._hear()
        self._state = self._double.exchange(self._command)
        if self._double.now() // PERIOD % SEND_EVERY == 0 and not self._plays("stall"):
            self._tell()

    def order(self, order: Mapping[str, Any]) -> None:
        """Begin to play a fault."""
        fault, now = order["fault"], self._double.now()
        if fault in self._until:
            self._until[fault] = now + round(order["seconds"] * 1e9)
            self._ratio[fault] = order.get("ratio", 1.0)
        elif fault in ("disconnect", "reconnect"):
            self._there, self._client = fault == "reconnect", None
        elif fault == "cmd_lost":
            self._command, self._mode = LIMP, np.full(MOTORS, OFF, np.uint8)
        elif fault == "clock":
            self._clock += round(order["seconds"] * 1e9)
        elif fault == "temperature":
            self._temperature[order.get("motor", 0)] = order["celsius"]
        elif fault == "remote":
            held = (remote.Button[name] for name in order["buttons"])
            self._remote = remote.Remote(sum(held, remote.Button.NONE))
        elif fault == "blind":
            self._blind = True
        else:
            raise ValueError(f"fault: {fault}: unknown, see {__name__}")

    def _plays(self, fault: str) -> bool:
        return self._double.now() < self._until[fault]

    def _hit(self, fault: str) -> bool:
        return self._plays(fault) and self._random.random() < self._ratio[fault]

    def _hear(self) -> None:
        """The newest sound command counts."""
        while True:
            try:
                packet, sender = self._socket.recvfrom(2048)
                if not self._there or self._hit("loss"):
                    continue
                told = A1.decode_command(packet)
            except OSError:
                return
            except BadPacket:
                continue
            if not (told.dq * told.kd).any() and not told.tau.any():
                self._client = sender
                self._obey(told)

    def _obey(self, told: WireCommand) -> None:
        hot = self._temperature >= TOO_HOT
        on = (told.mode == SERVO) & ~hot
        self._command = LowCommand(np.where(on, told.q, 0), on * told.kp, on * told.kd)
        self._mode = np.where(hot, OVERHEATED, told.mode)

    def _tell(self) -> None:
        packet = A1.encode_state(self._wire_state(self._state))
        if self._client is None or self._hit("loss"):
            return
        if self._hit("corrupt"):
            packet = self._corrupted(packet)
        try:
            self._socket.sendto(packet, self._client)
        except OSError:
            pass  # its queue is full, or it has gone

    def _wire_state(self, state: LowState) -> WireState:
        q = state.q
        if self._blind:
            self._blind, q = False, np.full(MOTORS, np.nan)
        return WireState(q, state.dq, state.tau, state.quaternion, state.gyro, state.acceleration, state.foot_force,
                         self._temperature, self._mode, (state.time + self._clock) // TICK_UNIT,
                         remote.encode(self._remote))

    def _corrupted(self, packet: bytes) -> bytes:
        changed = bytearray(packet)
        changed[self._random.integers(len(packet) - 16)] ^= int(self._random.integers(1, 256))
        return bytes(changed)


def main(settings: Mapping[str, Any]) -> None:
    """Until the parent closes our input."""
    double = UdpDouble(settings)
    serve({"port": double.port}, double.order, double.tick, HZ)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
