"""Addresses, ports and limits of libzmq sockets: what `sockets.py` sets up before a message flows."""

from __future__ import annotations

import errno
import ipaddress
import random
import re
import socket
import time
from collections.abc import Iterable
from contextlib import closing

import zmq

from services.wire.errors import NotLoopback, PortInUse, SocketError
from services.wire.security import Security

# Below what systems hand out by themselves (32768 up on Linux, 49152 elsewhere): an outgoing connection could else take
# the port of a service that starts anew.
FREE = range(20000, 32000)


def free_ports(host: str, count: int) -> int:
    """The first of `count` consecutive TCP ports that nobody holds now. Raises PortInUse."""
    for first in random.SystemRandom().sample(FREE, 100):
        if all(_is_free(host, port) for port in range(first, first + count)):
            return first
    raise PortInUse(f"{host}: no {count} consecutive free ports; set network.port")


def _is_free(host: str, port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(context: zmq.Context, addresses: Iterable[str], security: Security | None,
                 seconds: float = 5.0) -> None:
    """Raises PortInUse where one of them is not free within `seconds`, NotLoopback, SocketError where
    this computer has none such. libzmq lets go of them a moment later: who binds them next tries again, as `bind`."""
    for address in addresses:
        check_loopback(address, security)
        with context.socket(zmq.ROUTER) as probe:
            bind(probe, address, seconds)


def configured(socket: zmq.Socket, limit: int, queue: int) -> zmq.Socket:
    """`socket`, bounded: `limit` bytes per frame, `queue` messages per peer and direction."""
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = queue
    socket.maxmsgsize = limit  # per frame; the sum is bounded where frames are taken
    socket.handshake_ivl = 5000
    socket.tcp_keepalive, socket.tcp_keepalive_idle, socket.tcp_keepalive_intvl, socket.tcp_keepalive_cnt = 1, 10, 5, 3
    return socket


def check_loopback(address: str, security: Security | None) -> None:
    """Raises NotLoopback where strangers could reach a socket without keys, SocketError for what is no address."""
    if _is_loopback(host_of(address)) or security:
        return
    raise NotLoopback(f"{address}: without keys a service may only bind to loopback; set network.host=127.0.0.1, or "
                      "make keys (`daydreamer keys new NAME`) and set network.keys")


def host_of(address: str) -> str:
    """The host of tcp://HOST:PORT; raises SocketError for anything else."""
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:/]+):(\d{1,5})", address)
    if not match or int(match[2]) > 65535:
        raise SocketError(f"{address}: not an address; want tcp://HOST:PORT")
    return match[1]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bind(socket: zmq.Socket, address: str, seconds: float) -> str:
    """Bind, waiting for a port that a killed predecessor has not let go of yet; returns the real address."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.bind(address)
            return socket.last_endpoint.decode()
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE:
                raise SocketError(f"{address}: cannot bind there: {error.strerror}; "
                                  "check network.host and network.port") from error
            if time.monotonic() >= deadline:
                raise PortInUse(f"{address}: another process holds this port; end it, or choose others with "
                                f"`--set network.port=...` (0: free ones)") from error
        time.sleep(0.05)  # there is no event for a port that becomes free
