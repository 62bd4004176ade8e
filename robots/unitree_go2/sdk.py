"""Unitree's SDK for Python, unitree_sdk2py, as far as it is used here: DDS, messages that stay bytes, and the services
that say who moves the robot.

The SDK speaks DDS through one participant for the whole process: whoever joined a domain over one network interface
cannot join another. It prints where it should raise: what it returns is checked. Its channels call Python from threads
of DDS, which stand still while a writer that holds Python's lock waits for them; commands and states, 500 a second, go
through Cyclone DDS itself and are asked for. Both packages are imported when they are needed first.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from robots.driver import CommandRejected, LinkLost

COMMANDS, STATES = "rt/lowcmd", "rt/lowstate"
KINDS = {COMMANDS: "LowCmd_", STATES: "LowState_"}  # names in the vendor's IDL
LOOPBACK = "lo"
DOMAINS = range(1, 101)  # for doubles; a robot's is 0
ANSWER = 1.0  # s for one call
LIES_DOWN = 3.0  # s that the robot's own controller takes for it
PAUSE = 0.2  # s
QUEUE = 64  # messages that wait to be looked at

_joined: tuple[int, str] | None = None  # domain and interface
_participant: Any = None
_claim: tuple[int, socket.socket] | None = None  # the domain of this process's doubles, and what holds it
_lock = threading.Lock()


def _module(name: str) -> Any:
    """Of the SDK. Raises ImportError, which names the extra."""
    try:
        return importlib.import_module(f"unitree_sdk2py.{name}")
    except ImportError as error:
        raise ImportError(f"a Go2 needs the vendor's SDK ({error}): pip install 'daydreamer[go2]'") from error


def _cyclone(name: str) -> Any:
    return importlib.import_module(f"cyclonedds.{name}")


def join(domain: int, interface: str) -> None:
    """Speak DDS in this domain over this interface from now on. Raises LinkLost, ImportError."""
    global _joined, _participant
    with _lock:
        if _joined == (domain, interface):
            return
        if _joined is not None:
            raise LinkLost(f"this process speaks to robots over {_joined[1]} (domain {_joined[0]}), and the SDK cannot "
                           f"change that: reach the one over {interface} from another process")
        channel, interfaces = _module("core.channel"), [name for _, name in socket.if_nameindex()]
        if interface not in interfaces:
            raise LinkLost(f"{interface}: there is no such network interface, but {', '.join(interfaces)}")
        try:
            channel.ChannelFactoryInitialize(domain, interface)
            _participant = _cyclone("domain").DomainParticipant(domain)
        except Exception as error:  # it raises nothing narrower
            raise LinkLost(f"DDS does not start over {interface}: {error}") from error
        _joined = domain, interface


def double_domain() -> int:
    """The domain for the doubles of this process, which no other process of this computer has."""
    global _claim
    with _lock:
        if _joined is not None and _joined[1] == LOOPBACK:
            return _joined[0]
        if _claim is not None:
            return _claim[0]
        for domain in DOMAINS:
            claim = socket.socket()
            try:
                claim.bind(("127.0.0.1", 7400 + 250 * domain))  # DDS itself has the same port of UDP
            except OSError:
                claim.close()
                continue
            _claim = domain, claim
            return domain
    raise LinkLost(f"{len(DOMAINS)} processes of this computer have doubles already")


class Writer:
    """Sends bytes on a topic, from any thread."""

    def __init__(self, topic: str) -> None:
        self._topic, self._kind = topic, _carrier(topic)
        self._writer = _cyclone("pub").DataWriter(_participant, _on(topic, self._kind))

    def write(self, packet: bytes) -> None:
        """Raises OSError where DDS does not take it."""
        try:
            self._writer.write(self._kind(packet))
        except Exception as error:  # what DDS raises is an Exception, and nothing narrower
            raise OSError(errno.EIO, f"DDS does not take it ({error})") from error

    def reach(self, packet: bytes, seconds: float) -> None:
        """Send as soon as somebody listens. Raises LinkLost."""
        deadline = time.monotonic() + seconds
        while not self._writer.get_matched_subscriptions():
            if time.monotonic() > deadline:
                raise LinkLost(f"nobody listens on {self._topic} within {seconds:g} s")
            time.sleep(0.01)
        self.write(packet)


class Reader:
    """Takes the bytes of messages on a topic."""

    def __init__(self, topic: str) -> None:
        qos = _cyclone("qos")
        kept = qos.Qos(qos.Policy.History.KeepLast(QUEUE))
        self._reader = _cyclone("sub").DataReader(_participant, _on(topic, _carrier(topic)), kept)

    def arrived(self) -> list[bytes]:
        """What came since the last look, oldest first; never blocks. That a writer has gone is a message, too, but an
        empty one."""
        return [message.packet for message in self._reader.take(QUEUE) if hasattr(message, "packet")]


def take_control(release: bool, deadline: float) -> None:
    """See to it that no controller of the robot's own moves it, until `deadline` on the monotonic clock: with `release`
    the one that does lays the robot down and is switched off. Raises LinkLost, CommandRejected."""
    client = _client("comm.motion_switcher.motion_switcher_client", "MotionSwitcherClient")
    name = _controller(client, deadline)
    if name and not release:
        raise CommandRejected(f"the robot is moved by its own controller ({name}): lay it down and end that in the "
                              "app, or let us do both when connecting (options.release: true)")
    if not name:
        return
    code = _call(_client("go2.sport.sport_client", "SportClient").StandDown)
    if code:
        raise CommandRejected(f"the robot's own controller ({name}) does not lie down (code {code}); do it by remote")
    time.sleep(LIES_DOWN)
    while name:
        _call(client.ReleaseMode)
        time.sleep(PAUSE)
        name = _controller(client, deadline)
        if name and time.monotonic() > deadline:
            raise LinkLost(f"the robot's own controller ({name}) does not end")


def serve(name: str, version: str, handlers: Mapping[int, Callable[[str], tuple[int, str]]]) -> Any:
    """A service of the robot's, for a double: each handler takes a call's parameters and returns code and data, as
    JSON, on a thread of the SDK."""
    with _quiet():
        server = _module("rpc.server").Server(name)
        server._SetApiVersion(version)
        for number, handler in handlers.items():
            server._RegistHandler(number, handler, False)
        server.Start(False)
    return server


def _controller(client: Any, deadline: float) -> str:
    """The name of the controller that moves the robot; empty: none."""
    while True:
        try:
            code, found = _call(client.CheckMode)
        except (ValueError, TypeError) as error:
            raise LinkLost(f"the robot's motion switcher answers what is no JSON: {error}") from error
        if code == 0:
            name = found.get("name") if isinstance(found, dict) else None
            if not isinstance(name, str):
                raise LinkLost(f"the robot's motion switcher answers {found!r}: want a name")
            return name
        if time.monotonic() > deadline:
            raise LinkLost(f"the robot's motion switcher does not answer over {_joined[1]} (code {code}); is the robot "
                           "on, and its cable in this interface?")
        time.sleep(PAUSE)


def _client(module: str, name: str) -> Any:
    with _quiet():
        client = getattr(_module(module), name)()
        client.SetTimeout(ANSWER)
        client.Init()
    return client


def _call(method: Callable[[], Any]) -> Any:
    with _quiet():
        return method()


def _quiet() -> contextlib.AbstractContextManager:
    """What the SDK prints, its codes say too."""
    return contextlib.redirect_stdout(io.StringIO())


def _carrier(topic: str) -> type:
    """A class that DDS takes for the topic's, whose messages stay bytes."""
    kind = getattr(_module("idl.unitree_go.msg.dds_"), KINDS[topic])

    class Message:
        """What pub and sub of Cyclone DDS ask of a message."""

        __idl__, __idl_typename__ = kind.__idl__, kind.__idl_typename__

        def __init__(self, packet: bytes) -> None:
            self.packet = packet

        def serialize(self, use_version_2: bool | None = None) -> bytes:
            return self.packet

        @classmethod
        def deserialize(cls, packet: bytes) -> Message:
            return cls(packet)

        deserialize_key = deserialize

    return Message


def _on(topic: str, kind: type) -> Any:
    return _cyclone("topic").Topic(_participant, topic, kind)
