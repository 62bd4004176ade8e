"""A RealSense made of software: what the SDK takes for a camera, and we show pictures to."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

MILLIMETRE = 0.001  # metres per count, as a D435 is delivered
OFF_CENTRE = 0.01  # pixels; between lenses that are exactly alike, the SDK's alignment rounds holes into the depth


class SoftwareDevice:
    """A D435 of software: colour and depth seen from the same place, without distortion. `device` is the SDK's."""

    def __init__(self, rs: ModuleType, width: int, height: int, fps: int, fovy: float) -> None:
        self._rs, self.device = rs, rs.software_device()
        self.device.register_info(rs.camera_info.name, "RealSense double")
        self.device.register_info(rs.camera_info.serial_number, "double")
        self._depth, depth = self._sensor("Depth", rs.stream.depth, 1, rs.format.z16, 2, (width, height, fps, fovy))
        self._color, color = self._sensor("Color", rs.stream.color, 2, rs.format.rgb8, 3, (width, height, fps, fovy))
        self._depth.add_read_only_option(rs.option.depth_units, MILLIMETRE)
        same_place = rs.extrinsics()
        same_place.rotation, same_place.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
        depth.register_extrinsics_to(color, same_place)
        color.register_extrinsics_to(depth, same_place)
        self._profiles = depth, color

    def feed(self, image: np.ndarray, depth: np.ndarray, number: int, milliseconds: float,
             depth_milliseconds: float | None = None) -> None:
        """Show RGB uint8 [H, W, 3] and depth uint16 [H, W] in millimetres as frame `number`, captured at this time of
        the wall clock; the depth at another one, where that is given."""
        late = milliseconds if depth_milliseconds is None else depth_milliseconds
        self._depth.on_video_frame(self._frame(depth, 2, self._profiles[0], number, late))
        self._color.on_video_frame(self._frame(image, 3, self._profiles[1], number, milliseconds))

    def _sensor(self, name: str, kind: Any, uid: int, form: Any, bytes_each: int,
                mode: tuple[int, int, int, float]) -> tuple[Any, Any]:
        width, height, fps, fovy = mode
        stream, sensor = self._rs.video_stream(), self.device.add_sensor(name)
        stream.type, stream.index, stream.uid, stream.fmt = kind, 0, uid, form
        stream.width, stream.height, stream.fps, stream.bpp = width, height, fps, bytes_each
        stream.intrinsics = self._intrinsics(width, height, fovy, OFF_CENTRE if bytes_each == 2 else 0.0)
        return sensor, self._rs.video_stream_profile(sensor.add_video_stream(stream))

    def _intrinsics(self, width: int, height: int, fovy: float, off: float) -> Any:
        lens = self._rs.intrinsics()
        lens.width, lens.height, lens.ppx, lens.ppy = width, height, width / 2 - off, height / 2 - off
        lens.fx = lens.fy = height / 2 / math.tan(math.radians(fovy) / 2)
        lens.model, lens.coeffs = self._rs.distortion.none, [0.0] * 5
        return lens

    def _frame(self, picture: np.ndarray, bytes_each: int, profile: Any, number: int, milliseconds: float) -> Any:
        frame = self._rs.software_video_frame()
        frame.pixels, frame.bpp, frame.stride = np.ascontiguousarray(picture), bytes_each, picture.shape[1] * bytes_each
        frame.timestamp, frame.domain = milliseconds, self._rs.timestamp_domain.system_time
        frame.frame_number, frame.profile = number, profile
        if bytes_each == 2:
            frame.depth_units = MILLIMETRE
        return frame
