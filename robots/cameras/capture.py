"""A camera whose frames are captured in a process of its own, so that nobody waits for it and it can be killed.

Vendor SDKs block, leak and hang, `pipeline.stop` among the first. So a restart of the camera is a restart of its
process, and whatever happens to it (no frames, a frozen picture, an exception, a crash, a hang, kill -9) is answered in
the same way, by `ladder.Ladder`. One thread here looks after the process; frames come through shared memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np

from robots.cameras.camera import Camera, CameraLost, Frame
from robots.cameras.decode import View
from robots.cameras.ladder import Ladder, Patience, Step
from robots.cameras.shared import SharedFrames
from robots.cameras.source import Source, describe

log = logging.getLogger(__name__)

LOOK = 0.02  # s between looks at the process
GRACE, DEATH = 1.5, 5.0  # s for the process to end in order, and to be gone after it was killed
_DEPTH = np.dtype(np.float32)


class CaptureProcess(Camera):
    """Frames of `source`, as `view` wants them. `patience`: when to restart the camera, reset it and give it up."""

    def __init__(self, source: Source, view: View = View(), patience: Patience = Patience()) -> None:
        self._source, self._view, self._patience = source, view, patience
        self._child: subprocess.Popen | None = None
        self._watch: threading.Thread | None = None
        self._closing = threading.Event()
        self._memory, self._restarts = -1, 0
        self._why = self._lost = ""
        self._frame: Frame | None = None

    @property
    def pid(self) -> int:
        """The capture process; 0 while there is none."""
        child = self._child
        return 0 if child is None else child.pid

    def open(self, timeout: float) -> Frame:
        """See Camera. An open camera is closed first: what was given up is tried anew."""
        self.close()
        self._closing.clear()
        self._restarts, self._why, self._lost, self._frame = 0, "", "", None
        self._memory = SharedFrames.create(self._view.size, _DEPTH)
        self._shared = SharedFrames(self._memory, self._view.size, _DEPTH)
        self._start(reset=False)
        self._watch = threading.Thread(target=self._look_after, name="capture", daemon=True)
        self._watch.start()
        deadline = time.monotonic() + timeout
        try:
            while not (self._refresh() or self._lost):
                if time.monotonic() > deadline:
                    raise CameraLost(self._story(self._why or f"no frame within {timeout:g} s"))
                time.sleep(LOOK / 4)
            return self.newest()
        except BaseException:
            self.close()
            raise

    def newest(self) -> Frame:
        """See Camera."""
        if self._lost:
            raise CameraLost(self._lost)
        if self._watch is None:
            raise CameraLost(f"{self._source}: open the camera first")
        self._refresh()
        return self._frame

    def close(self) -> None:
        """See Camera. The process has ended when this returns."""
        self._closing.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        self._stop()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def gauges(self) -> dict[str, float]:
        """`camera_age_seconds` of the frame that was asked for last, and `camera_restarts` since it was opened."""
        restarts = {"camera_restarts": float(self._restarts)}
        if self._frame is None:
            return restarts
        return restarts | {"camera_age_seconds": (time.monotonic_ns() - self._frame.time) * 1e-9}

    def _refresh(self) -> bool:
        """Takes the newest frame out of shared memory; whether there is any."""
        if self._frame is None or self._frame.sequence != self._shared.number:
            if (shared := self._shared.read()) is not None:
                self._frame = Frame(shared.image, shared.depth, shared.time, shared.number)
        return self._frame is not None

    def _look_after(self) -> None:
        try:
            self._watch_over_process()
        except Exception as error:  # as where the system has no room for another process
            log.exception("camera")
            self._lost = self._story(f"{type(error).__name__}: {error}")

    def _watch_over_process(self) -> None:
        ladder = Ladder(self._patience, time.monotonic())
        while not self._lost and not self._closing.wait(LOOK):
            said = json.loads(self._shared.said() or "{}")
            ended = self._child.poll()
            step = ladder.look(time.monotonic(), self._shared.number, alive=ended is None and not said)
            if step != Step.WAIT:
                silent = "no new frame in time" if ended is None else f"its process ended with {ended}"
                self._why = said.get("why", silent)
                self._take(Step.GIVE_UP if said.get("final") else step)

    def _take(self, step: Step) -> None:
        """Do as the ladder says."""
        if not self._stop():
            self._why, step = "its process does not end, not even when killed; unplug the camera", Step.GIVE_UP
        if step == Step.GIVE_UP:
            self._lost = self._story(self._why)
            return log.error("%s", self._lost)
        log.warning("camera: %s: %s", self._why, "reset" if step == Step.RESET else "restarted")
        self._restarts += 1
        self._start(reset=step == Step.RESET)

    def _story(self, why: str) -> str:
        tried = f" ({self._restarts} restarts)" if self._restarts else ""
        return f"{self._source}: {why}{tried}; check {self._source.check}"

    def _start(self, reset: bool) -> None:
        SharedFrames(self._memory, self._view.size, _DEPTH).say("")
        settings = {"source": describe(self._source), "view": dataclasses.asdict(self._view), "reset": reset,
                    "memory": self._memory, "parent": os.getpid()}
        path = os.pathsep.join(filter(None, sys.path))
        self._child = subprocess.Popen(
            [sys.executable, "-m", "robots.cameras.capture_process", json.dumps(settings)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, pass_fds=(self._memory,), start_new_session=True,
            env=os.environ | {"PYTHONPATH": path})

    def _stop(self) -> bool:
        """Whether the process is gone: it is asked first, then killed."""
        child, self._child = self._child, None
        if child is None:
            return True
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        for patience in (GRACE, DEATH):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience)
                return True
            child.kill()
        return False
