"""Pictures of a MuJoCo state, drawn as cheaply as they can be."""

from __future__ import annotations

import atexit
import threading

import mujoco
import numpy as np

COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
_unreachable: list[mujoco.Renderer] = []  # forgotten, and collected on a thread that is not theirs


class Eye:
    """A renderer of one size without shadows, reflections and multisampling, which take most of the time on a CPU.

    Its OpenGL context belongs to the thread that makes it. MuJoCo frees a renderer's pictures in whatever context is
    current, which may be another renderer's: that one would be blind from then on. So this one turns to its own first.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        self._renderer: mujoco.Renderer | None = None
        self._thread = threading.get_ident()
        model.vis.quality.offsamples = 0
        self._renderer = mujoco.Renderer(model, height, width)

    def look(self, data: mujoco.MjData, camera: str | int) -> None:
        """Turn to the state in `data`, which must be up to date, as this camera of the model sees it."""
        self._renderer.update_scene(data, camera)
        for flag in COSTLY:
            self._renderer.scene.flags[flag] = False

    def rgb(self) -> np.ndarray:
        """uint8 [height, width, 3]."""
        return self._renderer.render().copy()

    def depth(self) -> np.ndarray:
        """Metres along the optical axis, float32 [height, width]."""
        self._renderer.enable_depth_rendering()
        depth = self._renderer.render().copy()
        self._renderer.disable_depth_rendering()
        return depth

    def close(self) -> None:
        """Release the context, on the thread that made it."""
        renderer, self._renderer = self._renderer, None
        if renderer is not None:
            renderer.render()  # makes its context the current one
            renderer.close()

    def __del__(self) -> None:
        if self._renderer is not None and self._thread != threading.get_ident():
            if not _unreachable:
                atexit.register(_unreachable.clear)  # before MuJoCo's own, which ends OpenGL
            _unreachable.append(self._renderer)
        else:
            self.close()
