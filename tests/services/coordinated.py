"""A real coordinator on free ports of loopback, in a thread, and patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import zmq

from services import config as configs
from services.coordinator.service import CoordinatorService
from services.run_folder import RunFolder
from services.wire import sockets
from services.wire.messages import LIMITS

PATIENCE = 15.0  # seconds; many times what any of this takes, so that a busy machine fails no test


def config(**robot):
    """A run of a CartPole as a robot."""
    values = {"driver": "gym", "task": "env", "options": {"id": "CartPole-v1"}, "control_hz": 20.0} | robot
    return configs.from_mapping({"name": "test", "robot": values, "network": {"port": 0}})



def run_folder(path: Path) -> RunFolder:
    folder = RunFolder(path / "test")
    folder.path.mkdir(exist_ok=True)
    return folder


def until(true: Callable[[], object], what: str):
    """Waits for something to become true, and returns it."""
    deadline = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.01)
    return value


@contextmanager
def running(service):
    """A service in a thread; leaving stops it and raises what it raised."""
    stop, failures = threading.Event(), []

    def work():
        try:
            service.run(stop)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def coordinator(config, folder):
    """Yields the coordinator once it is bound."""
    with running(CoordinatorService(config, folder)) as service:
        assert service.ready.wait(PATIENCE)
        yield service


@contextmanager
def client(address, security=None):
    """A bare control client."""
    with zmq.Context() as context:
        dealer = sockets.Client(context, address, limit=LIMITS["control"], security=security)
        try:
            dealer.wait_connected(PATIENCE)
            yield dealer
        finally:
            dealer.close()


def ask(dealer, message, kind, patience=PATIENCE):
    """Send a message and return the first answer of a kind."""
    assert dealer.send(message)
    return hear(dealer, kind, patience)


def hear(dealer, kind, patience=PATIENCE):
    """The next message of a kind."""
    deadline = time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0:
        message = dealer.receive(left)
        if isinstance(message, kind):
            return message
    raise AssertionError(f"no {kind.__name__} within {patience} s")
