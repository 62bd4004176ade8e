"""Watching a run until somebody has seen enough, and ending one that runs in another process."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robots.estop import end_bodies
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


def end_robots(home: Path, name: str = "") -> tuple[RunFolder | None, dict[str, bool]]:
    """Where no process owns the run `name` any more, or with no name any run: end its robots on this computer directly,
    those of the run that was started last and has any. Returns its folder, None where there are none, and which robots
    there were and whether they ended. Raises RunFolderError where there is no such run."""
    folders = [run_folder.existing(home, name)] if name else reversed(run_folder.all_runs(home))
    for folder in folders:
        robots = {f"{folder.path.resolve()}/{spool.name}": spool.name for spool in folder.path.glob("spool/*")}
        if ended := end_bodies(robots):
            return folder, {robots[body]: gone for body, gone in ended.items()}
    return None, {}
