"""The emergency stop that needs nobody: it reaches every robot's body on this computer through shared memory.

It works with the coordinator, the control process and every service dead, as long as the process that owns the robot
lives. It is no safety function: a stop button within reach is.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import numpy as np

from robots.body_layout import STOPS, slug
from robots.driver import Stop
from robots.shared_memory import WORDS, folder


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


def _tell(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        with mmap.mmap(descriptor, WORDS * 8) as memory:
            words = np.frombuffer(memory, np.uint64, WORDS)
            words[STOPS + Stop.ESTOP] = time.monotonic_ns()
            del words  # or the memory could not be closed
    finally:
        os.close(descriptor)
