"""The way to an A1: LowCmd out and LowState in, as datagrams on one non-blocking socket."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robots.driver import LinkLost
from robots.legs import guard
from robots.legs.network import Guard, NetworkLink
from robots.unitree_a1.anatomy import A1
from robots.unitree_a1.wire import A1_CODEC

CLIENT_PORT = 8080  # the vendor's library sends from it
QUEUE = 256  # datagrams looked at in one exchange; the system keeps fewer for us


class UdpLink(NetworkLink):
    """See NetworkLink. To the robot at `host` and `port`, from `local_port`; 0: any."""

    anatomy = A1
    packets = A1_CODEC
    double_module = "robots.unitree_a1.udp_double"

    def __init__(self, host: str = "", port: int = 0, *, local_port: int = 0, deadman: bool = False,
                 double: Mapping[str, Any] | None = None) -> None:
        super().__init__(deadman=deadman, double=double)
        self._given, self._local_port = (host, port), local_port
        self._socket: socket.socket | None = None

    def _dial(self, timeout: float) -> None:
        host, port = self._given if self.double is None else ("127.0.0.1", self.double.said["port"])
        self._robot = (_resolved(host), port)
        self._socket = _bound(self._local_port)

    def _new_guard(self) -> Guard:
        descriptor = self._socket.fileno()
        return Guard([sys.executable, "-I", "-S", str(Path(guard.__file__)), str(descriptor), self._robot[0],
                      str(self._robot[1]), self._damp.hex()], pass_fds=(descriptor,))

    def _write(self, packet: bytes) -> None:
        self._socket.sendto(packet, self._robot)

    def _arrived(self) -> Iterator[bytes]:
        for _ in range(QUEUE):
            try:
                packet, (host, _) = self._socket.recvfrom(2048)
            except OSError:
                return
            if host == self._robot[0]:
                yield packet

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _far_end(self) -> str:
        return f"{self._robot[0]}:{self._robot[1]}"


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise LinkLost(f"{host}: {error.strerror}") from error


def _bound(local_port: int) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sender.bind(("", local_port))
    except OSError as error:
        sender.close()
        raise LinkLost(f"port {local_port} of this computer: {error.strerror}; does another program talk to the robot?"
                       ) from error
    sender.setblocking(False)
    return sender
