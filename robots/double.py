"""What the MuJoCo doubles share: the model, a delay, and a camera that renders without a screen.

A double holds to the order of its clock alone: whoever ticks it decides whether that is real time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from typing import TypeVar

import mujoco
import numpy as np

from robots.eye import Eye

log = logging.getLogger(__name__)
T = TypeVar("T")
SIZE = 64
DEPTH_UNIT = 0.02  # metres per count of a depth image
FRAME = (SIZE, SIZE)


def load(path: Path) -> mujoco.MjModel:
    """The model of an MJCF file. What MuJoCo warns of goes to the log, not to a file in the working directory."""
    mujoco.set_mju_user_warning(log.warning)
    return mujoco.MjModel.from_xml_path(str(path))


class Delay:
    """Hands on what was put in `steps` calls ago; until then the first."""

    def __init__(self, steps: int) -> None:
        self._waiting: deque = deque(maxlen=steps + 1)

    def __call__(self, value: T) -> T:
        self._waiting.append(value)
        return self._waiting[0]


class Camera:
    """RGB uint8 [64, 64, 3] and depth uint8 [64, 64, 1] (counts of 0.02 m, 255 and beyond: far) of a named camera, or
    pictures of another `shape`, and without `depth`.

    It renders a copy of the state, on the caller's thread or, after `keep_pace`, on its own, so that the physics never
    waits for it. An OpenGL context belongs to the thread that made it: do not mix.
    """

    def __init__(self, model: mujoco.MjModel, name: str, hz: float, shape: tuple[int, int] = FRAME,
                 depth: bool = True) -> None:
        self._model, self._name, self._hz, self._shape, self._depth = model, name, hz, shape, depth
        self._pause = 1 / hz
        self._data = mujoco.MjData(model)
        self._eye: Eye | None = None
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closed = False
        self._pose: np.ndarray | None = None
        channels = {"image": 3} | ({"depth": 1} if depth else {})
        self._frame = {name: np.zeros((*shape, count), np.uint8) for name, count in channels.items()}

    def keep_pace(self, speed: float = 1.0) -> None:
        """From now on frames are rendered on a thread of their own, at most `hz` of them a second of the robot's clock,
        or of the wall's where that is the faster one."""
        self._pause = 1 / (self._hz * max(1.0, speed))
        if self._thread is None:
            self._thread = threading.Thread(target=self._render_until_closed, name="camera", daemon=True)
            self._thread.start()

    def frame(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        """`image` and `depth` of this state; with a thread the newest finished ones (at first black), while these are
        asked for."""
        if self._thread is None:
            return self._render(qpos)
        self._pose = np.array(qpos)
        self._wanted.set()
        return self._frame

    def close(self) -> None:
        """Release the context on the thread that made it."""
        self._closed = True
        if self._thread is None:
            self._release()
        else:
            self._wanted.set()
            self._thread.join(5)

    def _render_until_closed(self) -> None:
        pause = threading.Event()
        try:
            while self._wanted.wait() and not self._closed:
                self._wanted.clear()
                self._frame = self._render(self._pose)
                pause.wait(self._pause)
        except Exception:
            log.exception("camera %s: rendering stopped; the last frame stays", self._name)
        finally:
            self._release()

    def _render(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        if self._eye is None:
            self._eye = Eye(self._model, *self._shape)
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._eye.look(self._data, self._name)
        if not self._depth:
            return {"image": self._eye.rgb()}
        depth = np.clip(self._eye.depth() / DEPTH_UNIT, 0, 255).astype(np.uint8)[..., None]
        return {"image": self._eye.rgb(), "depth": depth}

    def _release(self) -> None:
        if self._eye is not None:
            self._eye.close()
            self._eye = None
