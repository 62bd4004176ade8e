"""What a MuJoCo scene looks like to the RealSense SDK: the far end of `realsense.Software`.

The double's process renders and leaves raw colour and depth in shared memory; the capture process hands them to the
SDK's software device, and from there on everything is as with a camera. In a protocol double's process:

    camera = RenderedRealSense(model, "overhead")
    serve({"port": port, "camera": camera.address}, order, tick, HZ)    # `tick` ends with `camera.show(data)`
    camera.close()

and in the link, once the double said where it is:

    source = Software(**said["camera"]) if protocol else Pipeline(serial=options.camera_serial)
    self._camera = CaptureProcess(source, view)
    self._camera.open(timeout)                                          # then `newest()` in `extras`
"""

from __future__ import annotations

import logging
import os
import threading
import time

import mujoco
import numpy as np

from robots.cameras.shared import SharedFrames
from robots.cameras.software_device import MILLIMETRE
from robots.eye import Eye

log = logging.getLogger(__name__)


class RenderedRealSense:
    """Colour uint8 and depth uint16 [mm] of the model's camera `name`, at most `fps` times a second, on a thread of its
    own. `address`: what `realsense.Software` needs to know, plain values for JSON (Linux only)."""

    def __init__(self, model: mujoco.MjModel, name: str, width: int = 128, height: int = 128, fps: int = 20) -> None:
        self._model, self._camera, self._size = model, model.camera(name).id, (height, width)
        self._memory = SharedFrames.create(self._size, np.dtype(np.uint16))
        self._shared = SharedFrames(self._memory, self._size, np.dtype(np.uint16))
        self.address = {"memory": f"/proc/{os.getpid()}/fd/{self._memory}", "width": width, "height": height,
                        "fps": fps, "fovy": float(model.cam_fovy[self._camera])}
        self._period, self._due, self._frozen = 1 / fps, 0.0, 0.0
        self._scene: tuple[int, list[np.ndarray]] | None = None
        self._wanted, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._render_until_closed, name="camera", daemon=True)
        self._thread.start()

    def show(self, data: mujoco.MjData) -> None:
        """The scene as it is now, where a frame is due: called after every step of the physics, on its thread."""
        now = time.monotonic()
        if now < max(self._due, self._frozen):
            return
        self._due = max(self._due + self._period, now)
        self._scene = time.monotonic_ns(), [np.array(part) for part in _parts(data)]
        self._wanted.set()

    def freeze(self, seconds: float) -> None:
        """A fault to play: no new frames for a while."""
        self._frozen = time.monotonic() + seconds

    def close(self) -> None:
        """End the thread; the memory is gone with its last reader."""
        self._closed = True
        self._wanted.set()
        self._thread.join(5)
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _render_until_closed(self) -> None:
        data, eye = mujoco.MjData(self._model), Eye(self._model, *self._size)
        try:
            while self._wanted.wait() and not self._closed:
                self._wanted.clear()
                self._render(eye, data, *self._scene)
        except Exception:
            log.exception("camera: rendering stopped; the camera is frozen from now on")
        finally:
            eye.close()

    def _render(self, eye: Eye, data: mujoco.MjData, captured: int, scene: list[np.ndarray]) -> None:
        for part, value in zip(_parts(data), scene):
            part[:] = value
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        eye.look(data, self._camera)
        depth = np.clip(eye.depth() / MILLIMETRE, 0, 65535).astype(np.uint16)
        self._shared.write(eye.rgb(), depth, captured)


def _parts(data: mujoco.MjData) -> tuple[np.ndarray, ...]:
    """All that moves what is seen."""
    return data.qpos, data.mocap_pos, data.mocap_quat
