"""`python -m robots.sphero.look --camera 0`: what the overhead camera sees and where the tracker finds the ball, as a
picture with the arena's outline, to set `corners` and `colour` by."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from robots.cameras.camera import Frame
from robots.cameras.capture import CaptureProcess
from robots.cameras.decode import View
from robots.cameras.webcam import Webcam
from robots.sphero.link import PICTURE
from robots.sphero.options import SpheroOptions
from robots.sphero.tracker import Tracker

OPENING = 15.0  # s


def seen(options: SpheroOptions) -> Frame:
    """One picture of the options' camera. Raises CameraLost."""
    camera = CaptureProcess(Webcam(options.camera, width=0, height=0, fps=0), View(size=PICTURE))
    try:
        return camera.open(OPENING)
    finally:
        camera.close()


def marked(image: np.ndarray, options: SpheroOptions) -> tuple[np.ndarray, str]:
    """The picture with the arena's outline and the ball's place, and what there is to say about it."""
    height, width = image.shape[:2]
    position = Tracker(options.corners, options.colour).find(image)
    corners = np.float32(options.corners).reshape(4, 2) * [width, height]
    out = cv2.polylines(image.copy(), [np.round(corners).astype(np.int32)], True, (0, 255, 0))
    middle = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[height // 2, width // 2]
    said = f"hue, saturation and value in the middle of the picture: {', '.join(map(str, middle))}"
    if position is None:
        return out, f"no ball is seen; {said}"
    to_picture = cv2.getPerspectiveTransform(np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]), np.float32(corners))
    place = cv2.perspectiveTransform(position.reshape(1, 1, 2), to_picture).ravel()
    cv2.circle(out, np.round(place).astype(int).tolist(), 12, (255, 0, 0))
    return out, f"the ball is at {position[0]:.3f}, {position[1]:.3f}; {said}"


def main(arguments: list[str] | None = None) -> None:
    """Look once, say what was seen, and leave the picture in a file."""
    defaults = SpheroOptions()
    parser = argparse.ArgumentParser(prog="python -m robots.sphero.look", description=__doc__)
    parser.add_argument("--camera", default=defaults.camera, help="a number, a stream's URL or a film")
    parser.add_argument("--corners", type=float, nargs=8, default=defaults.corners)
    parser.add_argument("--colour", type=float, nargs=6, default=defaults.colour)
    parser.add_argument("--out", type=Path, default=Path("arena.png"))
    given = parser.parse_args(arguments)
    options = SpheroOptions(camera=given.camera, corners=given.corners, colour=given.colour)
    picture, said = marked(seen(options).image, options)
    cv2.imwrite(str(given.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    print(f"{said}; see {given.out}")


if __name__ == "__main__":
    main()
