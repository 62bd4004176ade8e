"""What a Sphero makes of the packets it receives: the double's inside, sans-IO.

It knows the commands that a driver needs: unlocking, waking, stabilization, raw motors, lights, the battery and, in
version 1, its own watchdog over motion. Everything else it answers with the error for an unknown command, as the toy
does. Locked or asleep it answers nothing.

Raw motors run until the next command. A toy of version 1 stops them by itself after its motion timeout (2 s, or what
it is told) where the option for that is set. One of version 2 is not known to do so, and here it does not.
"""

from __future__ import annotations

from robots.sphero.packets import V1, V2, Request

OFF, FORWARD, REVERSE = 0, 1, 2
MOTION_TIMEOUT_OPTION = 0x10
BATTERY = 7.8  # volts
# (device, command) of what is acknowledged and changes nothing here: lights
LIGHTS = {V1: {(2, 32), (2, 33)}, V2: {(26, 14), (26, 26), (26, 28), (26, 47)}}


class Firmware:
    """A toy of packet version `V1` or `V2`. `powers`: what its motors get, left and right, -255 to 255; `sleeping`
    until it is woken; `stabilized` as it wakes."""

    def __init__(self, version: type[V1] | type[V2]) -> None:
        self.version, self.powers, self.stabilized = version, (0, 0), True
        self.sleeping, self._locked, self._buffer = True, True, bytearray()
        self._options, self._timeout, self._moved = 0, 2.0, 0.0
        motors, stabilization = ((2, 51), (2, 2)) if version is V1 else ((22, 1), (22, 12))
        self._known = {motors: self._motors, stabilization: self._stabilize}
        if version is V1:
            self._known |= {(0, 32): self._power_state, (2, 52): self._motion_timeout, (2, 54): self._persistent,
                            (2, 55): self._temporary}
        else:
            self._known |= {(19, 3): self._voltage, (19, 13): self._wake}

    def connected(self) -> None:
        """Somebody connected: locked until the word is said, and as awake as it was."""
        self._locked, self._buffer = True, bytearray()

    def receive(self, characteristic: str, data: bytes, now: float) -> list[bytes]:
        """Bytes written to a characteristic at `now` [s]; the answers."""
        version = self.version
        if (characteristic, data) == version.UNLOCK:
            self._locked = False
        if self._locked:
            return []
        if (characteristic, data) == version.WAKE:
            self.sleeping = False
        if characteristic != version.COMMANDS:
            return []
        self._buffer += data
        return [answer for request in version.requests(self._buffer) for answer in self._obey(request, now)]

    def tick(self, now: float) -> None:
        """Its own watchdog over motion."""
        if self._options & MOTION_TIMEOUT_OPTION and now - self._moved > self._timeout:
            self.powers = (0, 0)

    def _obey(self, request: Request, now: float) -> list[bytes]:
        what = request.device, request.command
        if self.sleeping and what != (19, 13):
            return []
        if what in LIGHTS[self.version]:
            return [self.version.answer(request)]
        if what not in self._known:
            return [self.version.answer(request, self.version.UNKNOWN)]
        told = self._known[what](request.data, now)
        return [self.version.answer(request, self.version.INVALID if told is None else 0, told or b"")]

    def _motors(self, data: bytes, now: float) -> bytes | None:
        if len(data) != 4 or data[0] > REVERSE or data[2] > REVERSE:
            return None
        self.stabilized, self._moved = False, now
        sign = {OFF: 0, FORWARD: 1, REVERSE: -1}
        self.powers = sign[data[0]] * data[1], sign[data[2]] * data[3]
        return b""

    def _stabilize(self, data: bytes, _: float) -> bytes | None:
        if len(data) != 1:
            return None
        self.stabilized = bool(data[0])
        return b""

    def _motion_timeout(self, data: bytes, _: float) -> bytes | None:
        if len(data) != 2:
            return None
        self._timeout = int.from_bytes(data, "big") / 1000
        return b""

    def _persistent(self, _: bytes, __: float) -> bytes:
        return bytes(4)

    def _temporary(self, data: bytes, _: float) -> bytes | None:
        if len(data) != 4:
            return None
        self._options = int.from_bytes(data, "big")
        return b""

    def _wake(self, _: bytes, __: float) -> bytes:
        self.sleeping = False
        return b""

    def _power_state(self, _: bytes, __: float) -> bytes:
        """Record version, state (2: ok), hundredths of a volt, charges, seconds since the last one."""
        return bytes([1, 2]) + round(BATTERY * 100).to_bytes(2, "big") + bytes(4)

    def _voltage(self, _: bytes, __: float) -> bytes:
        return round(BATTERY * 100).to_bytes(2, "big")
