"""A client socket that follows its service: the coordinator says where a port is, and may say so anew."""

from __future__ import annotations

import zmq

from services.node import Node
from services.wire import sockets
from services.wire.messages import LIMITS
from services.wire.security import Security


class Link:
    """Messages to the service behind `port`, wherever it is now. Belongs to one thread."""

    def __init__(self, context: zmq.Context, node: Node, port: str, security: Security | None = None) -> None:
        self._context, self._node, self._port, self._security = context, node, port, security
        self._client: sockets.Client | None = None

    def client(self) -> sockets.Client | None:
        """The socket to where the service is now; None while nobody knows."""
        address = self._node.address(self._port)
        if self._client is not None and address:
            self._client.connect_to(address)
        elif address:
            self._client = sockets.Client(self._context, address, limit=LIMITS[self._port], security=self._security)
        return self._client

    def send(self, message: object) -> bool:
        """Whether the message could be handed to the network; never blocks."""
        client = self.client()
        return client is not None and client.send(message)

    def close(self) -> None:
        """Let go of the socket."""
        if self._client is not None:
            self._client.close()
            self._client = None
