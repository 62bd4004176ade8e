"""Cameras that fail as cameras do, for the capture process to be tried with."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from robots.cameras.source import Raw, Source, SourceLost

WHITE = np.full((48, 64, 3), 255, np.uint8)


@dataclass
class OddCamera(Source):
    """Gives a white picture every 10 ms; after `good` of them it is in `trouble`, unless it was opened `heals` times
    before. What is done to it is noted in the file `journal`."""

    journal: str
    trouble: str = ""
    good: int = 3
    heals: int = 99
    check = "the odd camera"

    def open(self):
        opened = self._note("open")
        self._well = opened > self.heals or not self.trouble
        self._number = 100 * opened
        self._end = self._number + self.good
        if self.trouble == "open" and not self._well:
            raise RuntimeError("no frame arrived")

    def wait(self, timeout):
        time.sleep(0.01)
        if self._well or self._number < self._end:
            self._number += 1
            return self._frame(self._number, self._number)
        return getattr(self, f"_{self.trouble}")(timeout)

    def close(self):
        self._note("close")
        if self.trouble == "close":
            signal.pause()

    def reset(self):
        self._note("reset")

    def _silent(self, timeout):
        time.sleep(timeout)

    def _frozen(self, timeout):
        return self._frame(self._number, self._number)

    def _raises(self, timeout):
        raise RuntimeError("device disconnected")

    def _hangs(self, timeout):
        signal.pause()

    def _stops(self, timeout):
        """As one that hangs in the SDK and does not let other threads run."""
        os.kill(os.getpid(), signal.SIGSTOP)

    def _over(self, timeout):
        raise SourceLost("that was all", final=True)

    def _crashes(self, timeout):
        os.kill(os.getpid(), signal.SIGSEGV)

    _close = _silent

    def _frame(self, number, stamp):
        return Raw(WHITE, None, 0.0, time.monotonic_ns(), number, float(stamp))

    def _note(self, what):
        with open(self.journal, "a") as journal:
            journal.write(what + "\n")
        with open(self.journal) as journal:
            return journal.read().split().count(what)
