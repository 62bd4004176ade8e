"""Second-order Butterworth low-pass, in closed form (bilinear transform with pre-warping)."""

from __future__ import annotations

import math

import numpy as np


class LowPass:
    """`cutoff` and `rate` in Hz; a cutoff of 0, or at and above half the rate, passes everything."""

    def __init__(self, cutoff: float, rate: float) -> None:
        self._passes = cutoff <= 0 or cutoff >= rate / 2
        k = 0.0 if self._passes else math.tan(math.pi * cutoff / rate)
        norm = 1 + math.sqrt(2) * k + k * k
        self._b = k * k / norm
        self._a1 = 2 * (k * k - 1) / norm
        self._a2 = (1 - math.sqrt(2) * k + k * k) / norm

    def start(self, value: np.ndarray) -> None:
        """As if `value` had been the input for ever."""
        value = np.array(value, float)
        self._x1 = self._x2 = self._y1 = self._y2 = value

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """One sample in, one out."""
        if self._passes:
            return np.asarray(value, float)
        out = self._b * (value + 2 * self._x1 + self._x2) - self._a1 * self._y1 - self._a2 * self._y2
        self._x1, self._x2, self._y1, self._y2 = np.array(value, float), self._x1, out, self._y1
        return out

    def ahead(self, here: np.ndarray) -> np.ndarray:
        """What is left in the filter: how far from `here` [n] its next two outputs would lie if the input were `here`
        for ever, [2, n]. Together with `here` this is all of its state; zeros where it passes everything."""
        if self._passes:
            return np.zeros((2, len(here)))
        first = self._b * (here + 2 * self._x1 + self._x2) - self._a1 * self._y1 - self._a2 * self._y2
        second = self._b * (3 * here + self._x1) - self._a1 * first - self._a2 * self._y1
        return np.stack([first, second]) - here
