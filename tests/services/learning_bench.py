"""What tests of the learning services share: a config of the toy robot, an address book, services as threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import zmq

from daydreamer.replay.chunk import Chunk, Schema
from services import config as configs
from services.config import Config
from services.crew import Crew
from services.embodiment import robot_spec
from services.run_folder import RunFolder
from services.wire import sockets
from services.wire.messages import LIMITS, Heartbeat, HeartbeatReply, Hello, Welcome
from services.wire.security import Security

PATIENCE = 20.0  # seconds; many times what any of this takes, so that a busy machine fails no test


def toy_config(**changes: Mapping[str, object]) -> Config:
    """A run of the toy robot at debug size, on free ports; `changes` by section."""
    values = {
        "name": "toy",
        "robot": {"driver": "toy_robot:ToyDriver", "task": "still", "options": {}},
        "agent": {"size": "debug", "horizon": 3, "imagine_starts": 8},
        "replay": {"batch": 4, "length": 8, "burn_in": 2, "prefill": 32, "sync_seconds": 0.01},
        "learner": {"train_ratio": 8.0, "threads": 1, "nice": 0, "publish_seconds": 0.05, "checkpoint_seconds": 600.0,
                    "device": "cpu"},
        "policy": {"poll_seconds": 0.05},
        "network": {"port": 0},
    }
    return configs.from_mapping({name: {**value, **changes.get(name, {})} if isinstance(value, dict) else value
                                 for name, value in values.items()})


def run_folder(path: Path) -> RunFolder:
    """A run's folder with its places, without a `daydreamer run` around it."""
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    folder.replay.mkdir(exist_ok=True)
    return folder


def schema(config: Config) -> Schema:
    spec = robot_spec(config)
    return Schema.of_spaces(spec.signals, spec.action_space)


def chunk(wanted: Schema, stream: bytes, sequence: int, steps: int = 16) -> Chunk:
    """Experience that depends on nothing but its place in the stream."""
    random = np.random.default_rng([sequence, *stream[:4]])
    columns = {c.name: (random.random((steps, *c.shape)) * 0.5).astype(c.dtype) for c in wanted.columns}
    columns["is_first"][:] = False
    columns["is_first"][0] = sequence == 0
    columns["is_last"][:] = columns["is_terminal"][:] = False
    return Chunk(stream, sequence, sequence * steps, columns)


class Switchboard:
    """The coordinator's address book and nothing else."""

    def __init__(self, security: Security | None = None) -> None:
        self.context = zmq.Context()
        self.server = sockets.Server(self.context, "tcp://127.0.0.1:0", limit=LIMITS["control"], security=security)
        self.control = self.server.address
        self.addresses: dict[str, str] = {}
        self.states: dict[str, str] = {}  # as last heard, with their detail
        self.known: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.server.close()
        self.context.destroy()

    def address(self, port: str) -> str:
        """Where a service bound, once it said so."""
        wait_until(lambda: port in self.addresses, f"{port} was bound")
        return self.addresses[port]

    def _work(self) -> None:
        while not self._over.is_set():
            match self.server.receive(0.05):
                case sockets.Received(peer, _, Hello() as hello):
                    self.known.add(hello.name)
                    self.addresses |= hello.addresses
                    self.server.send(peer, Welcome(hello.run, self.addresses))
                case sockets.Received(peer, _, Heartbeat() as beat):
                    self.states[beat.name] = f"{beat.state} {beat.detail}".strip()
                    self.server.send(peer, HeartbeatReply(beat.time, time.monotonic_ns(), beat.name in self.known,
                                                            self.addresses))


@contextmanager
def running(service: object) -> Iterator[Crew]:
    """Run a service in a thread; leaving stops it and raises what it raised."""
    stop = threading.Event()
    with Crew(stop) as crew:
        crew.start(type(service).__name__, lambda: service.run(stop))
        try:
            yield crew
        finally:
            stop.set()


@contextmanager
def client(address: str, port: str, security: Security | None = None) -> Iterator[sockets.Client]:
    """A connected client of a service's port."""
    with zmq.Context() as context:
        found = sockets.Client(context, address, limit=LIMITS[port], security=security)
        found.wait_connected(PATIENCE)
        try:
            yield found
        finally:
            found.close()


def ask(link: sockets.Client, message: object) -> object:
    """The answer to one message."""
    assert link.send(message)
    answer = link.receive(PATIENCE)
    assert answer is not None, f"no answer to {message}"
    return answer


def wait_until(true: Callable[[], object], what: str) -> None:
    """Return once `true()`; fails the test, saying what did not happen, after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE} s in vain until {what}"
        time.sleep(0.01)
