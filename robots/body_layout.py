"""What the control process and the body process both know: the files, the words and the mailboxes between them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robots.driver import RobotSpec
from robots.shared_memory import Packing, Region, folder

# Words. The body writes the first six, the control process the others; the stop of level n stands at STOPS + n.
# SPEED is that of the robot's clock, in millionths; 0: as the body was started.
READY, BODY_PID, BODY_TIME, MODE, CLIP, BUSY = range(6)
CONTROL_TIME, STOPS, SPEED = 8, 8, 12

_STAMP = struct.Struct("<qq")
_TRIES, _MOMENT = 10, 0.002  # looks at a lock that seems taken, s between them
_TEXT = 8192  # bytes of an order, an answer, a health report


def slug(name: str) -> str:
    """A name as it is written in the names of files."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")


class Files:
    """Paths and locks of the body called `name`. The system frees a lock when the process that holds it dies."""

    def __init__(self, name: str) -> None:
        base = folder() / f"{slug(name)[-40:]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        self.region, self.log = base.with_suffix(".body"), base.with_suffix(".log")
        self.body_lock, self.control_lock = base.with_suffix(".body-lock"), base.with_suffix(".control-lock")

    def take(self, path: Path) -> int | None:
        """A descriptor that holds the lock while it is open; None where another one holds it, and not for a moment only
        to see whether somebody does, as `owner`."""
        tries = 0
        while tries < _TRIES:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            if not _locked(descriptor):
                tries += 1
                time.sleep(_MOMENT)
            elif path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
            os.close(descriptor)  # taken, or its last holder removed it in the meantime
        return None

    def owner(self) -> tuple[int, str]:
        """Process and settings of the living body; 0 and nothing where there is none."""
        try:
            descriptor = os.open(self.body_lock, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return 0, ""
        try:
            if _locked(descriptor):
                return 0, ""
            pid, _, settings = os.pread(descriptor, 256, 0).decode().partition(" ")
            return int(pid or -1), settings
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Layout:
    """The mailboxes of a robot with this spec, and how what is in them becomes bytes."""

    def __init__(self, spec: RobotSpec) -> None:
        fields = {name: (np.dtype(space.dtype), space.shape) for name, space in spec.signals.items()}
        self.vectors = Packing({name: field for name, field in fields.items() if len(field[1]) < 3})
        self.images = Packing({name: field for name, field in fields.items() if len(field[1]) >= 3})
        self.action = Packing({"action": (np.dtype(spec.action_space.dtype), spec.action_space.shape)})
        command = _STAMP.size + self.action.size
        self._sizes = {"order": _TEXT, "answer": _TEXT, "health": _TEXT, "command": command, "applied": command,
                       "vectors": _STAMP.size + self.vectors.size, "images": self.images.size}

    def digest(self, settings: Mapping[str, Any]) -> str:
        """Names what a body was started with, to tell whether a living one is the one wanted."""
        return hashlib.sha256(json.dumps([settings, self._sizes], sort_keys=True).encode()).hexdigest()

    def open(self, files: Files, create: bool) -> Region:
        """As Region."""
        return Region(files.region, self._sizes, create)


def stamp(time: int, sequence: int, data: bytes) -> bytes:
    """A time [ns] and a sequence number before some bytes."""
    return _STAMP.pack(time, sequence) + data


def unstamp(message: bytes) -> tuple[int, int, bytes]:
    """The inverse of `stamp`."""
    return *_STAMP.unpack_from(message), message[_STAMP.size :]


def text(**fields: Any) -> bytes:
    """Plain values as bytes for a mailbox of text."""
    return json.dumps(fields).encode()
