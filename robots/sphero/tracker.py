"""Where the ball is, from a picture of the arena taken from above: the largest blob of its colour, or nothing.

A ball that cannot be told for sure (hidden, outside, too small, too large, or two of them) is not found: there is no
memory here, and no guess.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SMALLEST, LARGEST = 0.0003, 0.05  # share of the arena that a ball covers
RIVAL = 0.5  # a second blob of this share of the first one's size makes it doubtful which is the ball


class Tracker:
    """`corners` of the arena in the picture, as shares of its width and height: x and y of the upper left, upper right,
    lower right and lower left one. `colour`: hue (0 to 180), saturation and value (0 to 255) from, and then to; a hue
    from above its end goes through red. `pixels`: height and width of the model's picture."""

    def __init__(self, corners: Sequence[float], colour: Sequence[float], pixels: int = 64) -> None:
        self._size = (pixels, pixels)
        self._corners = np.asarray(corners, np.float32).reshape(4, 2)
        low, high = np.asarray(colour, np.float32).reshape(2, 3)
        self._ranges = [(low, high)]
        if low[0] > high[0]:
            self._ranges = [(low, np.float32([180, *high[1:]])), (np.float32([0, *low[1:]]), high)]
        unit = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
        self._share = cv2.contourArea(self._corners)
        self._to_arena = cv2.getPerspectiveTransform(self._corners, unit)

    def find(self, image: np.ndarray) -> np.ndarray | None:
        """The ball's centre in a picture uint8 [H, W, 3] RGB, as float32 [2] in arena units: 0 to 1 from left to right
        and from top to bottom, in the plane of the corners. None where it is not seen for sure."""
        height, width = image.shape[:2]
        count, _, stats, centres = cv2.connectedComponentsWithStats(self._mask(image), connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA] / (self._share * width * height)
        if count == 1 or not SMALLEST <= areas.max() <= LARGEST:
            return None
        largest, *others = np.argsort(-areas)
        if others and areas[others[0]] > RIVAL * areas[largest]:
            return None
        centre = (centres[largest + 1] + 0.5) / [width, height]
        place = cv2.perspectiveTransform(centre.reshape(1, 1, 2), self._to_arena).ravel()
        return np.clip(place, 0, 1).astype(np.float32)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """What the model sees: uint8 [pixels, pixels, 3], the picture cut to the arena."""
        shape = np.array([image.shape[1], image.shape[0]])
        left, top = np.floor(np.clip(self._corners.min(0), 0, 1) * shape).astype(int)
        right, bottom = np.ceil(np.clip(self._corners.max(0), 0, 1) * shape).astype(int)
        return cv2.resize(image[top:bottom, left:right], self._size, interpolation=cv2.INTER_AREA)

    def _mask(self, image: np.ndarray) -> np.ndarray:
        """Where the colour is the ball's and the place is in the arena, without specks: uint8 [H, W]."""
        hsv = cv2.cvtColor(cv2.medianBlur(image, 3), cv2.COLOR_RGB2HSV)
        mask = sum(cv2.inRange(hsv, low, high) for low, high in self._ranges)
        arena = np.zeros_like(mask)
        pixels = np.round(self._corners * [image.shape[1], image.shape[0]]).astype(np.int32)
        cv2.fillConvexPoly(arena, pixels, 255)
        return cv2.bitwise_and(mask, arena)
