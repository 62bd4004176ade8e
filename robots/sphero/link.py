"""What a Sphero is told and tells: powers for its motors, what it confirmed of them, and a picture from above.

`SpheroLink` is the way to a toy over Bluetooth and to a webcam, and the same to a double in a process of its own: there
the Bluetooth client writes to a TCP port what it would write into the air, and the camera opens a stream's URL. Either
way the toy is talked to by a process of its own, which stops it when this one dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from robots.cameras.camera import Camera, Frame
from robots.cameras.capture import CaptureProcess
from robots.cameras.decode import View
from robots.cameras.webcam import Webcam
from robots.driver import LinkLost
from robots.link import Link
from robots.protocol import ProtocolDouble
from robots.sphero.options import SpheroOptions
from robots.sphero.pilot import GIVE_UP, Powers
from robots.sphero.pilot_process import PilotProcess

PICTURE = (240, 320)  # pixels of the webcam's picture in which the ball is looked for
DOUBLE = "robots.sphero.protocol_double"
BLUETOOTH, LOOPBACK = "robots.sphero.radio:bluetooth", "robots.sphero.loopback:air"


class BallState(NamedTuple):
    """`powers`: what the motors get, as the toy confirmed last, and `time`: when that was [ns]; the newest frame of the
    camera above, whose time is on the same clock."""

    time: int
    powers: Powers
    frame: Frame


Way = tuple[Sequence, str, Camera]  # what makes the air to the toy (as in PilotProcess), its name, what looks at it


class SpheroLink(Link[Powers, BallState]):
    """A toy of `options` at the end of the `way` that is found when the link is opened; `double`: the process of its
    own that the way leads to, ended with the link.

    A toy that does not answer is looked for again without anybody noticing but by the age of its state; LinkLost is
    raised when that has lasted a minute, CameraLost when the camera is given up.
    """

    def __init__(self, options: SpheroOptions, way: Callable[[float], Way],
                 double: ProtocolDouble | None = None) -> None:
        self._options, self._find_way, self.double = options, way, double
        self._camera: Camera | None = None
        self._pilot: PilotProcess | None = None

    @property
    def pid(self) -> int:
        """The process that talks to the toy; 0 while there is none."""
        return 0 if self._pilot is None else self._pilot.pid

    def open(self, timeout: float) -> BallState:
        """The toy awake, at rest and unstabilized, and a picture. Raises LinkLost, CameraLost."""
        deadline = time.monotonic() + timeout
        try:
            air, name, self._camera = self._find_way(timeout)
            self._pilot = PilotProcess({"air": [*air], "model": self._options.model, "name": name,
                                        "colour": [*self._options.colour], "give_up": GIVE_UP})
            self._camera.open(max(0.1, deadline - time.monotonic()))
            while not self._pilot.heard:
                if self._pilot.lost or time.monotonic() > deadline:
                    raise LinkLost(f"sphero: {self._pilot.trouble or f'not found within {timeout:g} s'}")
                time.sleep(0.01)
            return self._state()
        except BaseException:
            self.close()
            raise

    def exchange(self, command: Powers) -> BallState:
        """Never blocks: the command is sent when the toy takes it."""
        self._pilot.wish(command)
        return self._state()

    def now(self) -> int:
        """Monotonic."""
        return time.monotonic_ns()

    def close(self) -> None:
        """Zero to the toy, if it answers; then let go of it and of the camera."""
        for part in (self._pilot, self._camera):
            if part is not None:
                part.close()
        self._pilot = self._camera = None
        if self.double is not None:
            self.double.stop()

    def gauges(self) -> dict[str, float]:
        """Those of the toy and of the camera."""
        return self._pilot.gauges | self._camera.gauges()

    def _state(self) -> BallState:
        if self._pilot.lost:
            raise LinkLost(f"sphero: {self._pilot.trouble}")
        return BallState(self._pilot.heard, self._pilot.powers, self._camera.newest())


def hardware(options: SpheroOptions) -> SpheroLink:
    """The toy called `options.address`, and the camera above it."""
    camera = CaptureProcess(Webcam(options.camera, width=0, height=0, fps=0), View(size=PICTURE))
    return SpheroLink(options, lambda _: ([BLUETOOTH], options.address, camera))


def protocol(options: SpheroOptions, seed: int) -> SpheroLink:
    """A double in a process of its own, which starts anew with each `open`."""
    double = ProtocolDouble(DOUBLE, {"model": options.model, "start": options.start, "seed": seed})

    def way(timeout: float) -> Way:
        said = double.start(timeout)
        size = tuple(said["size"])
        return [LOOPBACK, said["port"]], said["name"], CaptureProcess(Webcam(said["camera"], 0, 0, 0), View(size=size))

    return SpheroLink(options, way, double)
