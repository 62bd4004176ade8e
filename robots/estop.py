"""Stops that need nobody: they reach the bodies of this computer directly, the emergency stop through shared memory.

They work with the coordinator, the control process and every service dead, as long as the process that owns the robot
lives. None is a safety function: a stop button within reach is.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from robots.body_layout import BODY_TIME, STOPS, Files, slug
from robots.driver import Stop
from robots.shared_memory import WORDS, folder

ENDING = 15.0  # s for a robot to park, and for whoever owns it to let go of it
POLL = 0.02


def stop_bodies(robot: str = "") -> list[str]:
    """Tell every body process of this user on this computer to stop, or those of the robots called `robot`; returns who
    was told. A body obeys within milliseconds and latches the fault."""
    told = []
    for path in sorted(folder().glob("*.body")):
        name = path.stem.rpartition("-")[0]  # without the digest
        if not robot or f"-{name}".endswith(f"-{slug(robot)}"):
            _tell(path)
            told.append(name)
    return told


def unheard(region: Path) -> bool:
    """Whether an emergency stop was said to a body that was dead or hung, and so is left to its successor."""
    try:
        words = np.fromfile(region, np.uint64, WORDS)
    except FileNotFoundError:
        return False
    return len(words) == WORDS and words[STOPS + Stop.ESTOP] > words[BODY_TIME]


def end_bodies(names: Iterable[str]) -> dict[str, bool]:
    """End the bodies of these names in order: they park, disconnect and end. Before them whoever still commands one is
    told to end, which does the same; one that does not let go of it is killed, because it would start another body.
    Returns those that were there, and whether they are gone."""
    there = {name: files for name in names if (files := Files(name)).owner()[0] or files.commander()}
    for files in _told_to_end(there.values(), Files.commander):
        _send(files.commander(), signal.SIGKILL)
    left = _told_to_end(there.values(), lambda files: files.owner()[0])
    return {name: files not in left for name, files in there.items()}


def _told_to_end(bodies: Iterable[Files], process: Callable[[Files], int]) -> list[Files]:
    """Whose process, once told to, has not ended in time."""
    told, deadline = dict[Files, int](), time.monotonic() + ENDING
    while left := [files for files in bodies if process(files)]:
        if time.monotonic() > deadline:
            return left
        for files in left:
            if told.get(files) != (pid := process(files)):
                told[files] = pid
                _send(pid, signal.SIGTERM)
        time.sleep(POLL)
    return []


def _send(pid: int, number: int) -> None:
    if pid > 0:  # else it has ended, or does not say who it is
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _tell(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        with mmap.mmap(descriptor, WORDS * 8) as memory:
            words = np.frombuffer(memory, np.uint64, WORDS)
            words[STOPS + Stop.ESTOP] = time.monotonic_ns()
            del words  # or the memory could not be closed
    finally:
        os.close(descriptor)
