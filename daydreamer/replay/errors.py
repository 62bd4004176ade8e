"""What can go wrong with a chunk log. `SchemaError` stands beside the schema, in `chunk.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daydreamer.replay.record import Entry


class LogError(Exception):
    """A chunk log cannot do what was asked."""


class LogLocked(LogError):
    """Another process has the folder open for writing."""


class LogCorrupt(LogError):
    """Bytes on disk are not what was written. `entry`: the chunk that cannot be read, if it is known which."""

    def __init__(self, message: str, entry: Entry | None = None):
        super().__init__(message)
        self.entry = entry


class LogDropped(LogError):
    """The chunk `entry` lay in a segment that retention has removed."""

    def __init__(self, message: str, entry: Entry):
        super().__init__(message)
        self.entry = entry


class DiskFull(LogError):
    """There was no room. What could not be stored is undone; the log stays whole, and takes more once there is room."""


class OutOfOrder(LogError):
    """A chunk was appended that is not the next one of its stream."""


class NotEnough(Exception):
    """No window of the wanted length can be drawn yet."""
