"""The process that owns the radio to a toy. It outlives whoever rolls the ball, for as long as it takes to stop it.

    python -m robots.sphero.pilot_process SETTINGS

A toy goes on with the last powers that it confirmed, and only who holds its connection can end them. So the `Pilot`
runs here, and its owner is somebody else: `PilotProcess`, with the pilot's own face. Wishes come as lines of JSON on
the standard input, with the moment at which they were wished, so that none that waited lives longer; what is known of
the toy goes back the same way. When the input closes, because the owner let go or was killed, both motors get zero and
the toy is let go of. Signals that are meant for the owner end nothing here. Who kills both leaves the toy to itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from robots.sphero.pilot import AT_REST, Pilot, Powers

TELL = 0.02  # s between looks at whether there is something new to tell
LEAVING = 5.0  # s to stop the toy and let go of it, before the process is killed


class PilotProcess:
    """See the module, and `Pilot`. `settings`: `air`, what makes the Ether, as [module:function, argument, ...], and
    the pilot's arguments. Where the process ends by itself the toy is `lost`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(dict(settings))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True, env=os.environ | {"PYTHONPATH": path})
        os.set_blocking(self._process.stdin.fileno(), False)
        self.heard, self.powers, self.trouble, self.lost = 0, AT_REST, "", False
        self.gauges: dict[str, float] = {}
        self._thread = threading.Thread(target=self._listen, name="sphero", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wish(self, powers: Powers) -> None:
        """Never blocks: a process that does not read has the wishes that it has, and they expire."""
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), json.dumps([powers, time.monotonic()]).encode() + b"\n")

    def close(self) -> None:
        """Zero, if the toy still answers; the process has ended. Twice is once."""
        self._process.stdin.close()
        try:
            self._process.wait(LEAVING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._process.stdout.close()

    def _listen(self) -> None:
        for line in self._process.stdout:
            told = json.loads(line)
            self.heard, self.powers, self.gauges = told["heard"], tuple(told["powers"]), told["gauges"]
            self.trouble, self.lost = told["trouble"], told["lost"]
        self.trouble = self.trouble or "the process that talks to it has ended"
        self.lost = True


def main(settings: Mapping[str, Any]) -> None:
    """Until the owner closes our input, or is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    arguments = dict(settings)
    made, *of = arguments.pop("air")
    module, _, function = made.partition(":")
    ether = None
    try:
        ether = getattr(importlib.import_module(module), function)(*of)
        pilot = Pilot(ether=ether, **arguments)
    except ImportError as error:
        return _tell({"heard": 0, "powers": AT_REST, "gauges": {}, "trouble": str(error), "lost": True})
    try:
        with contextlib.suppress(OSError):  # nobody listens any more
            _serve(pilot)
    finally:
        late = threading.Timer(LEAVING, os._exit, (1,))  # a radio that hangs keeps no orphan alive
        late.daemon = True
        late.start()
        pilot.close()
        ether.close()


def _serve(pilot: Pilot) -> None:
    """Of the wishes that came meanwhile the newest counts."""
    unread, before = b"", None
    while True:
        if select.select([0], [], [], TELL)[0]:
            if not (came := os.read(0, 1 << 16)):
                return
            *wishes, unread = (unread + came).split(b"\n")
            if wishes:
                powers, moment = json.loads(wishes[-1])
                pilot.wish(tuple(powers), moment)
        now = {"heard": pilot.heard, "powers": pilot.powers, "gauges": dict(pilot.gauges), "trouble": pilot.trouble,
               "lost": pilot.lost}
        if now != before:
            _tell(now)
            before = now


def _tell(known: Mapping[str, Any]) -> None:
    print(json.dumps(dict(known)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    os._exit(0)  # threads of an SDK may hang
