"""What can be wrong between two processes, as types. Every text names the thing, the value and the way out."""

from __future__ import annotations


class WireError(Exception):
    """Bytes of a peer that we do not accept. `code` is what `messages.Refused` says of it."""

    code = "malformed"


class Malformed(WireError):
    """Not our framing: the envelope cannot be read, or the frames are not those it announces."""


class WrongVersion(WireError):
    """The peer speaks another major version of the protocol."""

    code = "version"


class UnknownMessage(WireError):
    """A message type this side does not know."""


class TooLarge(WireError):
    """More bytes, frames or arrays than this socket takes."""


class BadField(WireError):
    """A field or an array is missing, unknown, of the wrong type, or out of range."""


class SocketError(Exception):
    """A socket cannot do what was asked of it."""


class PortInUse(SocketError):
    """Another process holds the port."""


class NotLoopback(SocketError):
    """A service without keys may only be reached from its own machine."""


class Unreachable(SocketError):
    """No connection came about; the text names the likely cause."""


class SecurityError(Exception):
    """Keys that are missing, unreadable, readable by others, or already there."""
