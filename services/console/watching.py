"""Watching a run until somebody has seen enough, and ending one that runs in another process."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services import run_folder
from services.console.operator import Operator, OperatorError
from services.console.screen import Screen
from services.run_folder import RunFolder, RunInfo

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


def watch(operator: Operator, screen: Screen, stop: threading.Event, *, seconds: float | None = None,
          check: Callable[[], None] = lambda: None) -> None:
    """Show the status until `stop`, until `seconds` have passed, or until the run says that it ends.

    What `check` raises ends it, too."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    while not stop.is_set() and (begun := time.monotonic()) < end:
        check()
        try:
            status = operator.status(patience=LOOK)
        except OperatorError:
            continue  # the coordinator begins, or begins anew: the robots go on without it
        screen.show(status, None if seconds is None else end - begun)
        if status.state == "stopping":
            return
        stop.wait(max(0.0, begun + LOOK - time.monotonic()))


def end(folder: RunFolder, info: RunInfo) -> None:
    """Ask the process that owns a run to end it in order, and wait until it has."""
    os.kill(info.pid, signal.SIGTERM)
    run_folder.wait_until_free(folder)
