"""A quadruped's double behind the robot's own protocol: a process that answers in packets from the physics of
`double.py`.

Physics run at 1 kHz in real time, a state goes out every 2 ms. As on the robot there is no watchdog: without commands
the motors go on with the last one. A wanted speed or torque is not simulated; a command that has one is not obeyed.
Orders, one of them at a time of each kind:

- `loss` (`ratio`, `seconds`): so many packets are lost, both ways
- `corrupt` (`ratio`, `seconds`): so many states have one byte changed
- `stall` (`seconds`): nothing is sent or looked at; then of what was queued the newest counts
- `disconnect`, `reconnect`: it hears and says nothing; then it is there again
- `cmd_lost`: the motors go limp, until the next command
- `clock` (`seconds`): the ticks jump
- `temperature` (`celsius`, `motor`): of one motor, by its index; too hot, it is switched off
- `charge` (`ratio`): of the battery
- `remote` (`buttons`): names of those that are held from now on, see remote.py
- `blind`: the next state has an angle that is not finite
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from robots.legs import remote
from robots.legs.anatomy import Anatomy
from robots.legs.double import PERIOD, LegsDouble
from robots.legs.link import ROOM, LowCommand, LowState
from robots.legs.packets import MOTORS, BadPacket, Packets, WireCommand, WireState

HZ = round(1e9 / PERIOD)
SEND_EVERY = 2  # ticks
TICK_UNIT = 1_000_000  # ns: milliseconds, as code that talks to robots reads them
LIMP = LowCommand(*np.zeros((3, MOTORS)))


class NetworkDouble(ABC):
    """`settings`: arguments of LegsDouble. `tick` every millisecond; all on one thread. A subclass says how packets
    travel, and whose they are."""

    anatomy: ClassVar[Anatomy]
    packets: ClassVar[Packets]
    too_hot: ClassVar[float]  # °C

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._double = LegsDouble(self.anatomy, **settings)
        self._state = self._double.open()
        self._random = np.random.default_rng(settings.get("seed", 0))
        self._command, self._temperature, self._charge = LIMP, np.full(MOTORS, ROOM), 1.0
        self._remote, self._clock, self._there, self._blind = remote.Remote(), 0, True, False
        self._until = {"loss": 0, "corrupt": 0, "stall": 0}  # ns of the double's clock
        self._ratio = {"loss": 0.0, "corrupt": 0.0}

    @abstractmethod
    def _heard(self) -> Iterable[bytes]:
        """The packets that came since the last look, oldest first."""

    @abstractmethod
    def _obeyed(self) -> None:
        """The packet that was heard last was sound."""

    @abstractmethod
    def _say(self, packet: bytes) -> None:
        """To whoever listens; may be lost."""

    def _vanish(self) -> None:
        """It forgets whom it knew."""

    def tick(self) -> None:
        """One millisecond."""
        if not self._plays("stall"):
            self._hear()
        self._state = self._double.exchange(self._command)
        if self._there and self._double.now() // PERIOD % SEND_EVERY == 0 and not self._plays("stall"):
            self._tell()

    def order(self, order: Mapping[str, Any]) -> None:
        """Begin to play a fault."""
        fault, now = order["fault"], self._double.now()
        if fault in self._until:
            self._until[fault] = now + round(order["seconds"] * 1e9)
            self._ratio[fault] = order.get("ratio", 1.0)
        elif fault in ("disconnect", "reconnect"):
            self._there = fault == "reconnect"
            self._vanish()
        elif fault == "cmd_lost":
            self._command = LIMP
        elif fault == "clock":
            self._clock += round(order["seconds"] * 1e9)
        elif fault == "temperature":
            self._temperature[order.get("motor", 0)] = order["celsius"]
        elif fault == "charge":
            self._charge = order["ratio"]
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
        for packet in self._heard():
            if not self._there or self._hit("loss"):
                continue
            try:
                told = self.packets.decode_command(packet)
            except BadPacket:
                continue
            if not (told.dq * told.kd).any() and not told.tau.any():
                self._obeyed()
                self._obey(told)

    def _obey(self, told: WireCommand) -> None:
        on = told.on & (self._temperature < self.too_hot)
        self._command = LowCommand(np.where(on, told.q, 0), on * told.kp, on * told.kd)

    def _tell(self) -> None:
        packet = self.packets.encode_state(self._wire_state(self._state))
        if self._hit("loss"):
            return
        self._say(self._corrupted(packet) if self._hit("corrupt") else packet)

    def _wire_state(self, state: LowState) -> WireState:
        q = state.q
        if self._blind:
            self._blind, q = False, np.full(MOTORS, np.nan)
        return WireState(q, state.dq, state.tau, state.quaternion, state.gyro, state.acceleration, state.foot_force,
                         self._temperature, (state.time + self._clock) // TICK_UNIT, remote.encode(self._remote),
                         self._temperature >= self.too_hot, self._charge)

    def _corrupted(self, packet: bytes) -> bytes:
        changed = bytearray(packet)
        changed[self._random.integers(len(packet) - 16)] ^= int(self._random.integers(1, 256))
        return bytes(changed)
