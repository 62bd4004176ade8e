"""Ports of a double that several clients connect to, served by one thread that never waits, and where they are: SDKs
cannot always be told of other ports than their vendor's, so each double takes a loopback address of its own."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from typing import Protocol


class Service(Protocol):
    """The far end of one connection. `greeting` is sent first."""

    greeting: bytes

    def feed(self, data: bytes) -> bytes:
        """The answer to these bytes. Raises ValueError where they make no sense: the connection ends."""


class Ports:
    """Listens on `host`; `services` makes the far end of each new connection, by port."""

    def __init__(self, host: str, services: Mapping[int, Callable[[], Service]]) -> None:
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, Service] = {}
        for port, make in services.items():
            listener = socket.create_server((host, port))
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, make)

    def poll(self) -> None:
        """Accept who waits, answer what came."""
        for key, _ in self._selector.select(0):
            if key.fileobj in self._clients:
                self._answer(key.fileobj)
            else:
                self._accept(key.fileobj, key.data)

    def clients(self, kind: type[Service]) -> list[tuple[socket.socket, Service]]:
        """The connections whose far end is of this kind."""
        return [(client, service) for client, service in self._clients.items() if isinstance(service, kind)]

    def send(self, client: socket.socket, data: bytes) -> None:
        """All of it, or the client is let go: it does not read."""
        try:
            sent = client.send(data)
        except OSError:
            sent = -1
        if sent != len(data):
            self.drop(client)

    def drop(self, client: socket.socket) -> None:
        """End one connection; twice is once."""
        if self._clients.pop(client, None) is not None:
            self._selector.unregister(client)
            client.close()

    def drop_all(self) -> None:
        """End all connections; new ones are welcome."""
        for client in list(self._clients):
            self.drop(client)

    def close(self) -> None:
        """Nobody answers any more."""
        self.drop_all()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _accept(self, listener: socket.socket, make: Callable[[], Service]) -> None:
        with contextlib.suppress(OSError):  # it went away again
            client, _ = listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            service = self._clients[client] = make()
            self._selector.register(client, selectors.EVENT_READ)
            if service.greeting:
                self.send(client, service.greeting)

    def _answer(self, client: socket.socket) -> None:
        try:
            data = client.recv(65536)
            answer = self._clients[client].feed(data) if data else None
        except (OSError, ValueError):
            answer = None
        if answer is None:
            self.drop(client)
        elif answer:
            self.send(client, answer)


def address() -> str:
    """A loopback address that no other living process takes by the same rule."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 16) % 128}.{pid >> 8 & 255}.{pid & 255}"
