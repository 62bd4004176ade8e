"""Watching a run until somebody has seen enough, and ending one that runs in another process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services import run_folder
from services.operator import Operator, OperatorError
from services.run_folder import RunFolder, RunInfo
from services.screen import Screen

LOOK = 0.5  # seconds between two looks at how it goes


@contextmanager
def ended_by_signals(stop: threading.Event, again: Callable[[], None] = lambda: None) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a further one calls `again`."""
    def on_signal(number: int, frame: object) -> None:
        again() if stop.is_set() else stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(operator: Operator, screen: Screen, stop: threading.Event,
          remaining: Callable[[], float | None] = lambda: None) -> None:
    """Show the status until `stop`, until no time remains, or until the run says that it ends."""
    while not stop.is_set() and ((left := remaining()) is None or left > 0):
        begun = time.monotonic()
        try:
            status = operator.status(patience=LOOK)
        except OperatorError:
            continue  # the coordinator is being restarted, or busy: the robots go on without it
        screen.show(status, left)
        if status.state == "stopping":
            return
        stop.wait(max(0.0, LOOK - (time.monotonic() - begun)))


def end(folder: RunFolder, info: RunInfo) -> None:
    """Ask the process that owns a run to end it in order, and wait until it has."""
    os.kill(info.pid, signal.SIGTERM)
    run_folder.wait_until_free(folder)
