"""Any camera, stream or film that OpenCV opens, as a source of frames without depth."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import cv2

from robots.cameras.source import Raw, Source, SourceLost, on_our_clock, require

FILM_FPS = 30.0  # of a film that does not say


@dataclass
class Webcam(Source):
    """`device`: a number (0: the first camera), a path as /dev/v4l/by-id/..., which means the same camera after a
    reboot, an address of a stream, or a film's file, which is played at its pace, once or in a `loop`. Of `width`,
    `height` and `fps`, zero leaves the choice to the device; a film has its own."""

    device: str = "0"
    width: int = 640
    height: int = 480
    fps: int = 30
    loop: bool = True

    check = "its cable, other programs that use it, and whether `v4l2-ctl --list-devices` shows it"

    def __post_init__(self) -> None:
        for name, most in (("width", 7680), ("height", 4320), ("fps", 300)):
            require(0 <= getattr(self, name) <= most, name, getattr(self, name), f"0 to {most}")
        require(bool(self.device), "device", self.device, "a number, a path or an address")
        self._capture = None

    def open(self) -> None:
        """See Source. A camera that does not give the wanted size is refused."""
        self._film, self._number, self._due = os.path.isfile(self.device), 0, 0.0
        if self.device.startswith("/") and not os.path.exists(self.device):
            raise SourceLost(f"{self.device}: no such device or file")
        capture = cv2.VideoCapture(int(self.device) if self.device.isdecimal() else self.device)
        self._capture = capture
        if not capture.isOpened():
            raise SourceLost("OpenCV cannot open it", final=self._film)
        if not self._film:
            self._ask_for_size()
        self._period = 1 / (capture.get(cv2.CAP_PROP_FPS) or FILM_FPS)

    def wait(self, timeout: float) -> Raw | None:
        """See Source. OpenCV waits as long as it likes; a film's next frame waits until it is due."""
        if self._film and not self._is_due(timeout):
            return None
        came, picture = self._capture.read()
        if not came and self._film and self.loop and self._number:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            came, picture = self._capture.read()
        if not came:
            over = self._film and self._number > 0
            raise SourceLost("the film is over" if over else "it gives no picture", final=self._film)
        arrived = time.monotonic_ns()
        self._number += 1
        captured, stamp = self._stamp(arrived)
        return Raw(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), None, 0.0, captured, self._number, stamp)

    def close(self) -> None:
        """See Source."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _ask_for_size(self) -> None:
        wanted = {cv2.CAP_PROP_FRAME_WIDTH: self.width, cv2.CAP_PROP_FRAME_HEIGHT: self.height}
        for name, value in {**wanted, cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_BUFFERSIZE: 1}.items():
            if value:
                self._capture.set(name, value)
        given = {name: round(self._capture.get(name)) for name in wanted}
        if any(value and value != given[name] for name, value in wanted.items()):
            size = "x".join(map(str, given.values()))
            raise SourceLost(f"it gives pictures of {size}, not {self.width}x{self.height}: set width and height to "
                             "what it has (`v4l2-ctl --list-formats-ext`), or both to 0", final=True)

    def _is_due(self, timeout: float) -> bool:
        """Waits for the film's next frame, at most so long."""
        now = time.monotonic()
        self._due = max(self._due, now)
        time.sleep(min(timeout, self._due - now))
        due = time.monotonic() >= self._due
        self._due += self._period * due
        return due

    def _stamp(self, arrived: int) -> tuple[int, float]:
        """When the picture was captured [ns], and its stamp. Linux's drivers stamp pictures with the monotonic clock;
        where nothing sensible is told, both are of its arrival."""
        milliseconds = 0.0 if self._film else self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if milliseconds <= 0:
            return arrived, float(arrived)
        return on_our_clock(arrived * 1e-9 - milliseconds * 1e-3, arrived), milliseconds
