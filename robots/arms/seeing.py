"""A camera beside an arm: its pictures are signals of the link, and an arm whose camera is given up stands."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from robots.arms.link import ArmCommand, ArmLink, ArmState
from robots.arms.options import ArmOptions
from robots.cameras.camera import Camera, CameraLost
from robots.cameras.capture import CaptureProcess
from robots.cameras.decode import View, to_counts
from robots.cameras.realsense import Pipeline, Software
from robots.driver import CommandRejected

log = logging.getLogger(__name__)

DEPTH_UNIT = 0.02  # m per count, as of the doubles' cameras
OLD = 500_000_000  # ns; an arm that sees acts on no state that is so much newer than its picture
AGAIN = 1.5  # s that a camera has to come back in when a fault is cleared


class SeeingLink(ArmLink):
    """`link` with a camera, made anew with each `open`, once the link is open. While its pictures are old its states
    are, so that the arm holds and is then disarmed; a camera that is given up is trouble, as a controller's own stop
    is, and `recover` tries it again."""

    def __init__(self, link: ArmLink, camera: Callable[[], Camera]) -> None:
        self.link, self._make_camera = link, camera
        self._camera: Camera | None = None
        self._pictures: dict[str, np.ndarray] = {}
        self._blind, self._seen = "", 0  # why there are no pictures any more; when the newest was taken [ns]

    def open(self, timeout: float) -> ArmState:
        """The first state, and a first picture. Raises LinkLost, CameraLost."""
        deadline = time.monotonic() + timeout
        state = self.link.open(timeout)
        try:
            self._camera, self._blind = self._make_camera(), ""
            self._camera.open(max(0.1, deadline - time.monotonic()))
            self._look()
        except BaseException:
            self.close()
            raise
        return self._as_seen(state)

    def exchange(self, command: ArmCommand | None) -> ArmState:
        """See Link."""
        state = self.link.exchange(command)
        self._look()
        return self._as_seen(state)

    def now(self) -> int:
        """See Link."""
        return self.link.now()

    def close(self) -> None:
        """See Link."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        self.link.close()

    def recover(self) -> None:
        """See Link; the camera is opened again if it was given up."""
        if self._blind:
            try:
                self._camera.open(AGAIN)
            except CameraLost as error:
                raise CommandRejected(str(error)) from error
            self._blind = ""
        self.link.recover()

    def extras(self) -> dict[str, np.ndarray]:
        """The newest `image` and `depth`, beside what the link has."""
        return self.link.extras() | self._pictures

    def gauges(self) -> dict[str, float]:
        """Those of the link and of the camera."""
        return self.link.gauges() | ({} if self._camera is None else self._camera.gauges())

    def truth(self) -> dict[str, np.ndarray]:
        """See Link."""
        return dict(self.link.truth())

    def keep_pace(self, speed: float = 1.0) -> None:
        """See Link."""
        self.link.keep_pace(speed)

    def reseed(self, seed: int) -> None:
        """See Link."""
        self.link.reseed(seed)

    def _look(self) -> None:
        if self._blind:
            return
        try:
            frame = self._camera.newest()
        except CameraLost as error:
            log.error("%s", error)
            self._blind = str(error)
            return
        self._seen = frame.time
        self._pictures = {"image": frame.image, "depth": to_counts(frame.depth, DEPTH_UNIT)}

    def _as_seen(self, state: ArmState) -> ArmState:
        return state._replace(time=min(state.time, self._seen + OLD), trouble=state.trouble or self._blind)


def with_camera(link: ArmLink, options: ArmOptions) -> SeeingLink:
    """On hardware the RealSense on this computer; of a protocol double what its process renders, through the same
    SDK."""
    if options.link == "hardware":
        source, view = Pipeline(options.camera_serial), View(crop=tuple(options.camera_crop))
        return SeeingLink(link, lambda: CaptureProcess(source, view))
    # its pictures are square already
    return SeeingLink(link, lambda: CaptureProcess(Software(**link.double.said["camera"]), View()))
