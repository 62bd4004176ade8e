"""From what a camera gives to what a model sees: crop, then scale. Pure functions, the same on hardware and doubles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from robots.cameras.source import Raw, require

KNOWN_SHARE = 0.5  # of an output pixel's area that must have a depth


@dataclass(frozen=True)
class View:
    """What is kept of a picture. `size`: height and width, pixels. `crop`: how much is cut off at the top, bottom, left
    and right, as shares of the whole, so that it holds at every resolution. Depth below `near` [m] is unknown (cameras
    are wrong there), depth beyond `far` counts as `far`."""

    size: tuple[int, int] = (64, 64)
    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    near: float = 0.05
    far: float = 5.0

    def __post_init__(self) -> None:
        top, bottom, left, right = self.crop
        whole = all(isinstance(side, int) and 1 <= side <= 4096 for side in self.size) and len(self.size) == 2
        require(whole, "size", self.size, "a height and a width of 1 to 4096 pixels")
        require(min(self.crop) >= 0 and top + bottom < 1 and left + right < 1, "crop", self.crop,
                "shares from 0, which together leave something of height and width")
        require(0 < self.near < self.far < 1000, "near and far", (self.near, self.far), "0 < near < far < 1000 m")


def decode(raw: Raw, view: View) -> tuple[np.ndarray, np.ndarray | None]:
    """The image uint8 [h, w, 3] and its depth float32 [h, w] in metres, 0 where unknown (None: no depth), in memory of
    our own. Raises ValueError where the crop leaves less than the wanted size, or depth and image differ in theirs."""
    if raw.depth is not None and raw.depth.shape != raw.image.shape[:2]:
        raise ValueError(f"camera: depth of {raw.depth.shape} is not aligned to an image of {raw.image.shape[:2]}")
    image = shrink(crop(raw.image, view.crop), view.size)
    if raw.depth is None:
        return image, None
    depth = metres(crop(raw.depth, view.crop), raw.unit, view.near, view.far)
    return image, shrink_depth(depth, view.size)


def crop(picture: np.ndarray, shares: tuple[float, float, float, float]) -> np.ndarray:
    """A view [h, w, ...] of a picture [H, W, ...], without these shares at its top, bottom, left and right."""
    height, width = picture.shape[:2]
    top, bottom, left, right = shares
    return picture[round(top * height) : height - round(bottom * height),
                   round(left * width) : width - round(right * width)]


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel [h, w, ...] is the mean over its area of the image [H, W, ...]. Raises ValueError if that is
    smaller."""
    height, width = image.shape[:2]
    if height < size[0] or width < size[1]:
        raise ValueError(f"camera: {height}x{width} pixels are left after the crop: at least {size[0]}x{size[1]} are "
                         "needed; crop less, or choose a higher resolution")
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=cv2.INTER_AREA)


def shrink_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As `shrink`, of metres float32 [H, W], over what is known: the unknown (0) is never mixed in. Where it is more
    than half of a pixel's area, that stays unknown."""
    known = shrink((depth > 0).astype(np.float32), size)
    total = shrink(depth, size)
    return np.divide(total, known, out=np.zeros(size, np.float32), where=known >= KNOWN_SHARE)


def metres(counts: np.ndarray, unit: float, near: float, far: float) -> np.ndarray:
    """Depth counts as float32 metres of the same shape: 0 (unknown) below `near`, at most `far`."""
    depth = np.minimum(counts * np.float32(unit), np.float32(far))
    return np.where(depth < np.float32(near), np.float32(0), depth)


def to_counts(depth: np.ndarray, unit: float) -> np.ndarray:
    """Metres [h, w] as the uint8 [h, w, 1] counts of `unit` metres that signals carry: 255 and beyond is far, 0
    unknown, and nothing else is 0."""
    counts = np.clip(depth / unit, 0, 255).astype(np.uint8)
    return np.maximum(counts, depth > 0)[..., None]
