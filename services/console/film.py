"""An environment that is filmed while it is played in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import gymnasium

FPS = 25  # at most: more would cost more than it shows

log = logging.getLogger(__name__)


class Filmed(gymnasium.Wrapper):
    """Leaves each episode that was played to its end at `path`, an mp4, in place of the one before.

    `env` must render as `rgb_array`. Where it turns out that this machine cannot, that is logged, and nothing filmed.
    """

    def __init__(self, env: gymnasium.Env, path: Path) -> None:
        super().__init__(env)
        self._path, self._draft = path, path.with_name(f".{path.name}")
        hz = float(env.metadata.get("render_fps") or FPS)
        self._every = max(1, round(hz / FPS))
        self._fps = hz / self._every
        self._writer: cv2.VideoWriter | None = None
        self._step = 0
        self._broken = False

    def reset(self, **options: Any) -> tuple[Any, dict]:
        """Begins a new film."""
        shown = self.env.reset(**options)
        self._cut()
        self._step = 0
        self._shoot()
        return shown

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """The last step of an episode ends its film."""
        result = self.env.step(action)
        self._step += 1
        if self._step % self._every == 0:
            self._shoot()
        if result[2] or result[3]:
            self._cut()
            if self._draft.exists():
                self._draft.replace(self._path)
        return result

    def close(self) -> None:
        """A film that is not finished is dropped."""
        self._cut()
        self._draft.unlink(missing_ok=True)
        self.env.close()

    def _shoot(self) -> None:
        if self._broken:
            return
        try:
            frame = self.env.render()
        except Exception as error:  # OpenGL that is missing shows itself in many ways, and none is worth a run
            self._broken = True
            log.warning("no video, this environment cannot be drawn here: %s", error)
            return
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._draft), codec, self._fps, (frame.shape[1], frame.shape[0]))
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def _cut(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
