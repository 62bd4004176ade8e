"""RealSense cameras through Intel's SDK: a camera, a recording, or a software device that shows a double's pictures.

All three end in the same pipeline of the SDK, and in the same alignment and decoding. `pyrealsense2` is imported when a
source is opened. `python -m robots.cameras.realsense` lists the cameras that are connected.
"""

from __future__ import annotations

import contextlib
import os
import time
from abc import abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from robots.cameras.shared import SharedFrames
from robots.cameras.software_device import SoftwareDevice
from robots.cameras.source import Raw, Source, SourceLost, on_our_clock, require, wall_age

APPEAR = 5.0  # s that a camera may take to show up on the bus
VANISH = 2.0  # s after a reset until it has left the bus
POLL = 0.001


def sdk() -> ModuleType:
    """pyrealsense2, or SourceLost that says what to install."""
    try:
        import pyrealsense2
    except ImportError as error:
        raise SourceLost(f"pyrealsense2: {error}; install it with `pip install daydreamer[realsense]`, and the "
                         "system's libusb (`apt install libusb-1.0-0`)", final=True) from error
    return pyrealsense2


def devices() -> list[dict[str, str]]:
    """The cameras on this computer: `name`, `serial`, `usb` (the type it is connected with) and `firmware` of each.
    Raises SourceLost without the SDK."""
    rs = sdk()
    infos = {"name": rs.camera_info.name, "serial": rs.camera_info.serial_number,
             "usb": rs.camera_info.usb_type_descriptor, "firmware": rs.camera_info.firmware_version}
    return [{key: device.get_info(info) if device.supports(info) else "" for key, info in infos.items()}
            for device in rs.context().query_devices()]


class Piped(Source):
    """What the three have in common: a pipeline of the SDK."""

    check = ("that it is on a USB 3 port and cable, that no other program uses it, and that "
             "`python -m robots.cameras.realsense` (or Intel's `rs-enumerate-devices`) lists it")

    _pipeline: Any = None
    _align: Any = None

    @abstractmethod
    def prepare(self, rs: ModuleType, pipeline: Any) -> Any:
        """The configuration to start the pipeline with. Raises SourceLost."""

    def open(self) -> None:
        """See Source."""
        rs = sdk()
        pipeline = rs.pipeline()
        config = self.prepare(rs, pipeline)
        try:
            profile = pipeline.start(config)
        except RuntimeError as error:
            raise SourceLost(f"the pipeline does not start: {error}") from error
        self._pipeline, self._align, self._unit = pipeline, None, 0.0
        kinds = {stream.stream_type(): stream for stream in profile.get_streams()}
        if rs.stream.color not in kinds:
            raise SourceLost(f"no colour among the streams ({', '.join(kind.name for kind in kinds)})", final=True)
        if rs.stream.depth in kinds:
            self._align = rs.align(rs.stream.color)
            self._unit = profile.get_device().first_depth_sensor().get_depth_scale()
        self._apart = 1000 / kinds[rs.stream.color].fps()

    def wait(self, timeout: float) -> Raw | None:
        """Frames of which a part is missing, or older than the other by a whole period, are passed over."""
        try:
            came, frames = self._pipeline.try_wait_for_frames(max(1, round(timeout * 1000)))
        except RuntimeError as error:
            raise SourceLost(f"the camera failed: {error}") from error
        return self._raw(frames) if came else None

    def close(self) -> None:
        """See Source. The SDK may hang here."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            with contextlib.suppress(RuntimeError):  # it has stopped by itself
                pipeline.stop()

    def captured(self, color: Any) -> int:
        """When a frame that has just arrived was captured, monotonic [ns]. Two of the SDK's clocks follow this host's
        wall clock; the camera's own says nothing to us."""
        arrived, domain = time.monotonic_ns(), color.get_frame_timestamp_domain()
        ours = domain.name in ("system_time", "global_time")
        return on_our_clock(wall_age(color.get_timestamp()) if ours else 0.0, arrived)

    def _raw(self, frames: Any) -> Raw | None:
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not color:
            return None
        number, stamp, captured = color.get_frame_number(), color.get_timestamp(), self.captured(color)
        if self._align is None:
            return Raw(np.asanyarray(color.get_data()), None, 0.0, captured, number, stamp)
        if not depth or self._are_apart(color, depth):
            return None
        aligned = self._align.process(frames)
        image, counts = (np.asanyarray(frame.get_data()) for frame in (aligned.get_color_frame(),
                                                                       aligned.get_depth_frame()))
        return Raw(image, counts, self._unit, captured, number, stamp)

    def _are_apart(self, color: Any, depth: Any) -> bool:
        same = color.get_frame_timestamp_domain() == depth.get_frame_timestamp_domain()
        return same and abs(color.get_timestamp() - depth.get_timestamp()) > self._apart


@dataclass
class Pipeline(Piped):
    """A camera: the one with this `serial`, or, without, the only one. Colour, and `depth`, of `width` x `height`
    pixels, `fps` times a second."""

    serial: str = ""
    width: int = 640
    height: int = 480
    fps: int = 30
    depth: bool = True

    def __post_init__(self) -> None:
        _check_mode(self.width, self.height, self.fps)

    def prepare(self, rs: ModuleType, pipeline: Any) -> Any:
        """See Piped."""
        camera, config = self._found(APPEAR), rs.config()
        config.enable_device(camera["serial"])
        enable(rs, config, self)
        if not config.can_resolve(rs.pipeline_wrapper(pipeline)):  # `start` would wait for 15 s
            raise SourceLost(f"{_list([camera])} does not give {self.width}x{self.height} at {self.fps} Hz, or another "
                             "program has it; on USB 2 few modes are left")
        return config

    def reset(self) -> None:
        """Resets this one camera, and waits until it has left the bus and is back; others are left alone."""
        serial = self._found(APPEAR)["serial"]
        for device in sdk().context().query_devices():
            if device.get_info(sdk().camera_info.serial_number) == serial:
                device.hardware_reset()
        deadline = time.monotonic() + VANISH
        while time.monotonic() < deadline and any(found["serial"] == serial for found in devices()):
            time.sleep(0.1)

    def _found(self, timeout: float) -> dict[str, str]:
        """The camera meant, once it is on the bus."""
        deadline = time.monotonic() + timeout
        while True:
            there = devices()
            wanted = [camera for camera in there if self.serial in ("", camera["serial"])]
            if len(wanted) == 1:
                return wanted[0]
            if len(wanted) > 1:
                raise SourceLost(f"there are {len(there)} cameras: set `serial` to one of {_list(there)}", final=True)
            if time.monotonic() > deadline:
                named = f"no RealSense camera with serial {self.serial}" if self.serial else "no RealSense camera"
                raise SourceLost(f"{named} is connected; there is {_list(there) or 'none'}")
            time.sleep(0.2)


@dataclass
class Recorded(Piped):
    """A recording `path` (.db3) of a camera, played at the pace it was taken, once or in a `loop`. Older .bag files
    are converted with the SDK's `context.convert_bag_to_db3`."""

    path: str
    loop: bool = True

    check = "that the recording holds colour (and depth)"

    def __post_init__(self) -> None:
        require(self.path.endswith(".db3"), "path", self.path, "a recording, .db3")

    def prepare(self, rs: ModuleType, pipeline: Any) -> Any:
        """See Piped."""
        if not os.path.exists(self.path):
            raise SourceLost(f"{self.path}: no such recording", final=True)
        config = rs.config()
        rs.config.enable_device_from_file(config, self.path, self.loop)
        return config

    def wait(self, timeout: float) -> Raw | None:
        """See Source. The end of a recording that is played once is final."""
        raw = super().wait(timeout)
        if raw is None and not self.loop and self._ended():
            raise SourceLost(f"{self.path}: the recording ended", final=True)
        return raw

    def captured(self, color: Any) -> int:
        """Now: what was recorded has the times of then."""
        return time.monotonic_ns()

    def _ended(self) -> bool:
        playback = self._pipeline.get_active_profile().get_device().as_playback()
        return playback.current_status() == sdk().playback_status.stopped


@dataclass
class Software(Piped):
    """The SDK's software device, fed with the pictures that a double's process leaves in shared memory: what
    `RenderedRealSense.address` says of them."""

    memory: str
    width: int
    height: int
    fps: int
    fovy: float

    check = "that the double's process lives"

    def __post_init__(self) -> None:
        _check_mode(self.width, self.height, self.fps)
        require(0 < self.fovy < 180, "fovy", self.fovy, "above 0, below 180 degrees")

    def prepare(self, rs: ModuleType, pipeline: Any) -> Any:
        """See Piped."""
        try:
            descriptor = os.open(self.memory, os.O_RDWR)
        except OSError as error:
            raise SourceLost(f"the double's pictures are gone: {error}") from error
        try:
            self._shown = SharedFrames(descriptor, (self.height, self.width), np.dtype(np.uint16))
        finally:
            os.close(descriptor)
        self._device = SoftwareDevice(rs, self.width, self.height, self.fps, self.fovy)
        newest = self._shown.read()
        self._fed = 0 if newest is None else newest.number  # what stands there may be old
        pipeline.set_device(self._device.device)
        config = rs.config()
        enable(rs, config, self)
        return config

    def wait(self, timeout: float) -> Raw | None:
        """See Source."""
        deadline = time.monotonic() + timeout
        while (frame := self._shown.read()) is None or frame.number == self._fed:
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL)
        self._fed = frame.number
        age = (time.monotonic_ns() - frame.time) * 1e-9
        self._device.feed(frame.image, frame.depth, frame.number, (time.time() - age) * 1e3)
        return super().wait(max(0.0, deadline - time.monotonic()))


def enable(rs: ModuleType, config: Any, mode: Pipeline | Software) -> None:
    """Ask for colour as RGB, and for depth unless the mode goes without."""
    config.enable_stream(rs.stream.color, mode.width, mode.height, rs.format.rgb8, mode.fps)
    if getattr(mode, "depth", True):
        config.enable_stream(rs.stream.depth, mode.width, mode.height, rs.format.z16, mode.fps)


def _check_mode(width: int, height: int, fps: int) -> None:
    require(16 <= width <= 4096 and 16 <= height <= 4096, "width and height", (width, height), "16 to 4096 pixels")
    require(1 <= fps <= 300, "fps", fps, "1 to 300")


def _list(there: list[dict[str, str]]) -> str:
    return ", ".join(f"{camera['serial']} ({camera['name']}, USB {camera['usb'] or 'unknown'})" for camera in there)


if __name__ == "__main__":
    print(_list(devices()) or "no RealSense camera is connected")
