"""A Robotiq 2F-85 on a UR controller: the text protocol of its URCap on TCP 63352.

`GET POS` is answered with `POS 123`, `SET POS 255 GTO 1` with `ack`; an answer may or may not end its line. Variables
are 0 to 255, or `?` where the gripper does not answer its controller. POS 0 is open and 255 closed; what is measured at
the ends lies some units inside. It moves only after an activation, in which the fingers go to both ends.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import NamedTuple

PORT = 63352
OPEN, CLOSED = 3, 230  # what POS measures at the ends
FULL = 255
ACTIVE = 3  # STA
ON_OBJECT = 2  # OBJ: the fingers stopped on something while closing
SILENT = 2.0  # s without an answer that are trouble
POLL = 0.02  # s between turns; a turn on a robot takes about as long by itself
ANSWER, ACTIVATION, AGAIN = 0.5, 8.0, 0.1  # s: to answer a line, to activate, between attempts to connect
NOTHING_HELD = 0.02  # opening below which fingers are closed on nothing

FAULTS = {5: "it must be activated before it moves", 7: "it is not activated", 8: "it is too hot",
          9: "it heard nothing", 10: "its voltage is too low", 11: "it is being released", 12: "internal fault",
          13: "its activation failed", 14: "overcurrent", 15: "it was released"}
_ANSWER = re.compile(rb"([A-Z]{3}) (\?|\d{1,3})\s*")


class GripperError(Exception):
    """No gripper that moves; the text says what to do."""


class Garbled(ValueError):
    """An answer that is none."""


class Grip(NamedTuple):
    """What the gripper measures. `time`: when it answered, monotonic ns; `opening`: 0 closed to 1 open; `holding`: its
    fingers closed on something; `trouble`: why it does not move."""

    time: int
    opening: float
    holding: bool
    trouble: str = ""


class Robotiq:
    """Fingers that follow the newest wish, on a thread of their own.

    `activate`: whether an inactive gripper may be activated, which moves its fingers.
    """

    def __init__(self, host: str, activate: bool) -> None:
        self._host, self._activate = host, activate
        self._wish: int | None = None
        self._grip = Grip(0, 1.0, False)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Connected and active. Raises GripperError."""
        try:
            connection = socket.create_connection((self._host, PORT), ANSWER)
        except OSError as error:
            raise GripperError(f"no gripper answers on {self._host}:{PORT} ({error}); is Robotiq's URCap installed? "
                               "For an arm without one set fingers: none") from error
        connection.settimeout(ANSWER)
        try:
            self._make_active(connection)
            self._grip = self._look(connection)
        except (OSError, Garbled, GripperError) as error:
            connection.close()
            raise GripperError(f"gripper: {error}") from error
        self._ended.clear()
        self._thread = threading.Thread(target=self._live, args=(connection,), name="robotiq", daemon=True)
        self._thread.start()

    def wish(self, opening: float) -> None:
        """Go to this opening, 0 closed to 1 open; what was wished before is forgotten."""
        self._wish = to_position(opening)

    def grip(self) -> Grip:
        """The newest measurement, without waiting."""
        grip = self._grip
        age = (time.monotonic_ns() - grip.time) * 1e-9
        if age > SILENT:
            return grip._replace(trouble=f"the gripper has been silent for {age:.1f} s; check its cable and URCap")
        return grip

    def close(self) -> None:
        """The fingers stay as they are; the thread has ended."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _make_active(self, connection: socket.socket) -> None:
        """Raises GripperError. One without power is left alone: the arm's trouble comes first."""
        if ask(connection, "STA") in (ACTIVE, None):
            return
        if not self._activate:
            raise GripperError("it is not activated, as after power on. Its fingers move when it is: keep hands away "
                               "and set activate_gripper, or activate it at the pendant")
        tell(connection, "ACT 0")
        tell(connection, "ACT 1")
        deadline = time.monotonic() + ACTIVATION
        while ask(connection, "STA") != ACTIVE:
            if time.monotonic() > deadline:
                raise GripperError("its activation did not end in time; look at its light")
            time.sleep(0.05)

    def _live(self, connection: socket.socket) -> None:
        told: int | None = None
        while not self._ended.wait(POLL):
            try:
                if self._wish not in (None, told):
                    wish = self._wish
                    tell(connection, f"POS {wish} SPE 255 FOR 100 GTO 1")
                    told = wish
                self._grip = self._look(connection, told)
            except (OSError, Garbled):
                connection.close()
                told, connection = None, self._connect_again() or connection
        connection.close()

    def _connect_again(self) -> socket.socket | None:
        while not self._ended.wait(AGAIN):
            try:
                return socket.create_connection((self._host, PORT), ANSWER)
            except OSError:
                continue
        return None

    def _look(self, connection: socket.socket, told: int | None = None) -> Grip:
        position, fault, status = (ask(connection, name) for name in ("POS", "FLT", "STA"))
        heard = told is None or ask(connection, "PRE") == told  # until then OBJ speaks of the wish before
        held = heard and ask(connection, "OBJ") == ON_OBJECT
        if position is None or fault is None:
            return Grip(time.monotonic_ns(), self._grip.opening, False, "the gripper has no power")
        opening, trouble = to_opening(position), ""
        if fault:
            trouble = f"gripper fault {fault}: {FAULTS.get(fault, 'see its manual')}"
        elif status != ACTIVE:
            trouble = "the gripper is not active: activate it at the pendant, or start anew with activate_gripper"
        return Grip(time.monotonic_ns(), opening, held and opening > NOTHING_HELD, trouble)


def to_position(opening: float) -> int:
    """POS of an opening; the ends are pressed."""
    if opening <= 0 or opening >= 1:
        return FULL if opening <= 0 else 0
    return round(CLOSED - opening * (CLOSED - OPEN))


def to_opening(position: int) -> float:
    """The opening, 0 to 1, of a measured POS."""
    return min(1.0, max(0.0, (CLOSED - position) / (CLOSED - OPEN)))


def ask(connection: socket.socket, name: str) -> int | None:
    """A variable; None where the gripper does not answer its controller. Raises OSError, Garbled."""
    connection.sendall(f"GET {name}\n".encode())
    return parse(name, _receive(connection))


def tell(connection: socket.socket, values: str) -> None:
    """Set variables, as in `POS 255 GTO 1`. Raises OSError, Garbled."""
    connection.sendall(f"SET {values}\n".encode())
    if (answer := _receive(connection)).strip() != b"ack":
        raise Garbled(f"SET {values}: answered {answer[:40]!r}")


def parse(name: str, answer: bytes) -> int | None:
    """The value in an answer to `GET name`; None for `?`. Raises Garbled."""
    match = _ANSWER.fullmatch(answer)
    if match is None or match[1].decode() != name or match[2] != b"?" and int(match[2]) > FULL:
        raise Garbled(f"GET {name}: answered {answer[:40]!r}")
    return None if match[2] == b"?" else int(match[2])


def _receive(connection: socket.socket) -> bytes:
    answer = connection.recv(1024)
    if not answer:
        raise OSError("the gripper's server closed the connection")
    return answer
