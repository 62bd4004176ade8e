"""The A1's double behind its protocol; see robots.legs.network_double. It answers on UDP, whoever sent the last sound
LowCmd, and after a `reconnect` knows nobody until it is spoken to."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from robots.legs.network_double import HZ, NetworkDouble
from robots.protocol import serve
from robots.unitree_a1.anatomy import A1
from robots.unitree_a1.wire import A1_CODEC


class UdpDouble(NetworkDouble):
    """See NetworkDouble."""

    anatomy = A1
    packets = A1_CODEC
    too_hot = 60.0

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._client: tuple[str, int] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._socket.getsockname()[1]

    def _heard(self) -> Iterator[bytes]:
        while True:
            try:
                packet, self._sender = self._socket.recvfrom(2048)
            except OSError:
                return
            yield packet

    def _obeyed(self) -> None:
        self._client = self._sender

    def _vanish(self) -> None:
        self._client = None

    def _say(self, packet: bytes) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):  # its queue is full, or it has gone
                self._socket.sendto(packet, self._client)


def main(settings: Mapping[str, Any]) -> None:
    """Until the parent closes our input."""
    double = UdpDouble(settings)
    serve({"port": double.port}, double.order, double.tick, HZ)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
