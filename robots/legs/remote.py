"""The wireless remote, as the 40 bytes of it in every LowState say: which buttons are held, where the sticks are.

Two bytes of a head, sixteen bits of buttons, five floats; the last sixteen bytes are unused. The layout is that of the
vendor's public header, which its example programs read. All zero while the remote is off.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

_LAYOUT = struct.Struct("<2xH5f16x")


class Button(enum.IntFlag):
    """Held buttons."""

    NONE = 0
    R1 = 1 << 0
    L1 = 1 << 1
    START = 1 << 2
    SELECT = 1 << 3
    R2 = 1 << 4
    L2 = 1 << 5
    F1 = 1 << 6
    F2 = 1 << 7
    A = 1 << 8
    B = 1 << 9
    X = 1 << 10
    Y = 1 << 11
    UP = 1 << 12
    RIGHT = 1 << 13
    DOWN = 1 << 14
    LEFT = 1 << 15


DEADMAN = Button.R1  # with `deadman: remote` the robot moves only while it is held
STOP = Button.L2 | Button.B  # damps the robot in the vendor's own controller too


class Remote(NamedTuple):
    """Sticks in [-1, 1] by the vendor's word; they are not checked."""

    buttons: Button = Button.NONE
    lx: float = 0.0
    rx: float = 0.0
    ry: float = 0.0
    l2: float = 0.0
    ly: float = 0.0

    def holds(self, buttons: Button) -> bool:
        """Whether all of these are held."""
        return self.buttons & buttons == buttons


def decode(data: bytes) -> Remote:
    """Of 40 bytes."""
    buttons, *sticks = _LAYOUT.unpack(data)
    return Remote(Button(buttons), *sticks)


def encode(remote: Remote) -> bytes:
    """40 bytes."""
    return _LAYOUT.pack(*remote)
