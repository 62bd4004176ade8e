"""Pictures of a MuJoCo state, drawn as cheaply as they can be."""

from __future__ import annotations

import mujoco
import numpy as np

COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)


class Eye:
    """A renderer of one size without shadows, reflections and multisampling, which take most of the time on a CPU.

    Its OpenGL context belongs to the thread that looks first.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
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
        self._renderer.close()
