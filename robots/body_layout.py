"""What the control process and the body process both know: the files, the words and the mailboxes between them; and the
fault that outlives both of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robots.driver import CommandRejected, FaultLatched, RobotSpec
from robots.shared_memory import Packing, Region, folder

# Words. The body writes the first six, the control process the others; the stop of level n stands at STOPS + n.
# SPEED is that of the robot's clock, in millionths; 0: as the body was started.
READY, BODY_PID, BODY_TIME, MODE, CLIP, BUSY = range(6)
CONTROL_TIME, STOPS, SPEED = 8, 8, 12

_STAMP = struct.Struct("<qq")
_TRIES, _MOMENT = 10, 0.002  # looks at a lock that seems taken, s between them
_TEXT = 8192  # bytes of an order, an answer, a health report
_FAULT, _KEPT = 300, 400  # characters of a fault, and of what is kept of it
_WAY_OUT = "`daydreamer clear-fault --token NAME` ends it"

log = logging.getLogger(__name__)


def slug(name: str) -> str:
    """A name as it is written in the names of files."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")


class Files:
    """Paths and locks of the body called `name`. The system frees a lock when the process that holds it dies."""

    def __init__(self, name: str) -> None:
        base = folder() / f"{slug(name)[-40:]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        self.region, self.log = base.with_suffix(".body"), base.with_suffix(".log")
        self.body_lock, self.control_lock = base.with_suffix(".body-lock"), base.with_suffix(".control-lock")
        self.fault = base.with_suffix(".fault")

    def take(self, path: Path) -> int | None:
        """A descriptor of the empty file that holds the lock while it is open; None where another one holds it, and not
        for a moment only to see whether somebody does, as `owner`."""
        tries = 0
        while tries < _TRIES:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            if not _locked(descriptor):
                tries += 1
                time.sleep(_MOMENT)
            elif path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                os.ftruncate(descriptor, 0)  # whoever wrote into it is dead
                return descriptor
            os.close(descriptor)  # taken, or its last holder removed it in the meantime
        return None

    def owner(self) -> tuple[int, str]:
        """Process and settings of the living body; 0 and nothing where there is none."""
        return _holder(self.body_lock)

    def commander(self) -> int:
        """The living control process; 0 where there is none, -1 where it has not said which it is."""
        return _holder(self.control_lock)[0]


def _holder(lock: Path) -> tuple[int, str]:
    """The process that holds a lock, and what else it wrote there; 0 and nothing where nobody does."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0, ""
    try:
        if _locked(descriptor):
            return 0, ""
        pid, _, more = os.pread(descriptor, 256, 0).decode().partition(" ")
        return int(pid or -1), more
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Latch:
    """The fault that outlives its process: `text`, empty where there is none.

    It is a line in a file, which whoever starts that robot next begins with, until an operator clears it. It is written
    beside the file and renamed, so that a process may die at any moment. A file that cannot be read is a fault, too.
    Without a path the fault ends with the process; and with the computer, because the file lies in its memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.text = "" if path is None else _kept(path)
        self._written, self._failed = bool(self.text), False

    def keep(self, fault: str) -> None:
        """Latch it; the first one is kept. Where it cannot be written, that is tried again with each call."""
        self.text = self.text or f"{_plain(fault, _FAULT)} (latched {time.strftime('%Y-%m-%d %H:%M:%S')}; {_WAY_OUT})"
        if self._path is None or self._written:
            return
        try:
            _replace(self._path, self.text)
            self._written = True
        except OSError as error:
            if not self._failed:
                log.error("%s: %s: only this process knows of the fault: %s", self._path, error.strerror, self.text)
            self._failed = True

    def clear(self, token: str) -> None:
        """An operator looked. Raises FaultLatched where nobody did, CommandRejected where the file stays."""
        if not self.text:
            return
        if not token.strip():
            raise FaultLatched(f"{self.text}; clearing it needs the name of the operator who looked")
        try:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise CommandRejected(f"{self._path}: {error.strerror}; remove it, then clear the fault again") from error
        self.text, self._written = "", False


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(f"{path.suffix}-new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    new.replace(path)


def _kept(path: Path) -> str:
    """What such a file says; words, too, where it says nothing that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _unknown(path, error.strerror)
    try:
        text = os.read(descriptor, 4 * _KEPT).decode()
    except (OSError, ValueError) as error:
        return _unknown(path, error)
    finally:
        os.close(descriptor)
    return _plain(text, _KEPT) or _unknown(path, "it is empty")


def _unknown(path: Path, why: object) -> str:
    return f"a fault from before; {path} does not say which ({why}); {_WAY_OUT}"


def _plain(text: str, most: int) -> str:
    """One line that any terminal may show, of at most so many characters."""
    return "".join(c if c.isprintable() else " " for c in text[:most]).strip()


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
