"""How the C library keeps memory: the one setting of a process that costs a CPU learner time."""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt(3)
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; whether the C library can. To be called once, before training on a CPU.

    By default glibc returns large blocks to the system as soon as they are free, and a training step, which frees and
    takes the same megabytes over and over, meets a page fault every 4 KiB: a tenth of its time, and more with larger
    batches. Kept, the process stays as large as its largest step was.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, NEVER) == 1 for name in (TRIM_THRESHOLD, MMAP_THRESHOLD))
