"""The process that owns one camera: waits for frames, decodes them, leaves the newest in shared memory.

It does nothing about trouble but to say what it is and to end; `capture.CaptureProcess` starts it anew. It also ends
with its parent, even where the SDK hangs. Nothing heavy is imported, so that a restart is short.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from robots.cameras.decode import View, decode
from robots.cameras.shared import SharedFrames
from robots.cameras.source import Raw, Source, SourceLost, build

WAIT = 0.2  # s of a wait for a frame: so soon it is seen that the parent ended
GRACE = 1.0  # s to stop the camera in order before the process ends all the same
REPEATED = 0.002  # s until a camera that repeats its last frame is asked again


class Freshness:
    """Tells new frames from repeated ones, and gives them times that never run backwards."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._stamp, self._time = 0.0, 0

    def time_of(self, raw: Raw) -> int | None:
        """When it was captured [ns], later than any before; None: the frame from before again."""
        if raw.number == self._number or self._number is not None and raw.stamp == self._stamp:
            return None
        self._number, self._stamp = raw.number, raw.stamp
        self._time = max(raw.time, self._time + 1)
        return self._time


def capture(source: Source, view: View, shared: SharedFrames, ending: threading.Event) -> None:
    """Frames of an open source into shared memory, until it is to end. Raises SourceLost, ValueError (the view)."""
    freshness = Freshness()
    while not ending.is_set():
        raw = source.wait(WAIT)
        if raw is None:
            continue
        if (captured := freshness.time_of(raw)) is None:
            time.sleep(REPEATED)
        else:
            shared.write(*decode(raw, view), captured)
        raw = None  # the SDK has few frames to lend


def main(settings: Mapping[str, Any]) -> None:
    """Capture as the settings of a CaptureProcess say, until the parent closes our input, or ends."""
    view = View(**{name: tuple(value) if isinstance(value, list) else value
                   for name, value in settings["view"].items()})
    shared = SharedFrames(settings["memory"], view.size, np.dtype(np.float32))
    ending = threading.Event()
    threading.Thread(target=_end_with, args=(settings["parent"], ending), daemon=True).start()
    cv2.setNumThreads(1)
    source = None
    try:
        source = build(settings["source"])
        if settings["reset"]:
            source.reset()
        source.open()
        capture(source, view, shared, ending)
    except SourceLost as error:
        _leave_word(shared, str(error), error.final)
    except (ImportError, ValueError, TypeError) as error:
        _leave_word(shared, str(error), final=True)
    except Exception as error:
        _leave_word(shared, f"{type(error).__name__}: {error}", final=False)
    try:
        if source is not None:
            source.close()
    finally:
        os._exit(0)  # threads of an SDK may hang


def _end_with(parent: int, ending: threading.Event) -> None:
    """Returns when the parent ended, or wants an end; a while later this process ends however it hangs."""
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    ending.set()
    time.sleep(WAIT + GRACE)
    os._exit(1)


def _leave_word(shared: SharedFrames, why: str, final: bool) -> None:
    shared.say(json.dumps({"why": why, "final": final}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
