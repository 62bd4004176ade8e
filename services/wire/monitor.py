"""What becomes of a connection: libzmq's events about one connecting socket, read in the socket's own thread."""

from __future__ import annotations

import math
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from services.wire.errors import Unreachable

_EVENTS = (zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
           | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
_FATAL = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_TRY_AGAIN = 1.0  # seconds


class Link:
    """Up or not, and why not. `keys`: the name our keys have, empty without keys."""

    def __init__(self, socket: zmq.Socket, address: str, keys: str, trouble: str = "") -> None:
        self.up = False
        self.trouble = trouble or f"{address}: no answer yet; is the service running there?"
        self.monitor = socket.get_monitor_socket(_EVENTS)
        self._address = address
        self._keys = keys
        self._give_up_at = math.inf

    def update(self) -> float:
        """Take in what happened; seconds until the socket must be replaced, since libzmq does not try again by itself
        after some refusals."""
        while self.monitor.poll(0):
            self._on_event(recv_monitor_message(self.monitor)["event"])
        return self._give_up_at - time.monotonic()

    def wait(self, timeout_s: float) -> None:
        """Until something happens, `timeout_s` passed, or the socket must be replaced."""
        left = min(timeout_s, self.update())
        if not self.up:  # else what was waited for has just been taken in
            self.monitor.poll(math.ceil(max(0.0, left) * 1000))

    def unreachable(self) -> Unreachable:
        """The trouble as an error."""
        return Unreachable(self.trouble)

    def _on_event(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.up, self.trouble = True, ""
        elif event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
            if self.up or event == zmq.EVENT_CLOSED:
                self.trouble = (f"{self._address}: nobody listens there now; is the service running, are host and port "
                                "right?")
            self.up = False
        else:
            self.up, self.trouble = False, f"{self._address}: {self._refusal(event)}"
            if event in _FATAL:
                self._give_up_at = time.monotonic() + _TRY_AGAIN

    def _refusal(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return (f"our keys ({self._keys}) are not allowed there; copy {self._keys}.key into the service's "
                    "keys/allowed")
        if not self._keys:
            return ("the service wants keys; make them there (`daydreamer keys new NAME`), name them with network.keys "
                    "or --keys")
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return "the service runs without keys; set its network.keys, or leave ours empty"
        return "the service did not accept our keys; server.key beside them must be that service's own"
