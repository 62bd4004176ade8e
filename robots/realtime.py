"""Lets a thread that keeps time run when its time has come, whatever else the machine has to do."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

PRIORITY = 1  # of 1 to 99: before all ordinary threads, behind everything else that is real time

log = logging.getLogger(__name__)


@contextmanager
def real_time() -> Iterator[bool]:
    """The calling thread is in the system's real-time class; threads and processes that it starts are ordinary.

    Yields False, and it is as before, where the system lacks that or does not allow it (systemd: `LimitRTPRIO`). Either
    way Python's garbage collector leaves alone for good what this process has allocated until now: to look through it
    would stop all threads, for a body 35 ms on a slow core.
    """
    gc.collect()
    gc.freeze()
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except (AttributeError, OSError) as error:
        log.info("no real-time priority (%s): a busy machine will delay control periods", error)
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
