"""The newest picture in memory that processes share, and what there is to say about it.

The memory is a file without a name: it is handed on by its descriptor and is gone with the last process that has it,
however that ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import NamedTuple

import numpy as np

from robots.shared_memory import Mailbox, Packing, folder

_TEXT = 4096


class SharedFrame(NamedTuple):
    """Arrays are of our own memory; `time` is monotonic [ns]; `number` grows with each frame."""

    number: int
    image: np.ndarray
    depth: np.ndarray | None
    time: int


class SharedFrames:
    """One process writes frames and words, others read the newest. `size`: height and width; `depth`: its dtype."""

    def __init__(self, descriptor: int, size: tuple[int, int], depth: np.dtype) -> None:
        """Memory that `create` made for the same size and depth. Raises ValueError where it is another."""
        self._packing = _packing(size, depth)
        memory = memoryview(mmap.mmap(descriptor, _room(self._packing)))
        self._frames = Mailbox(memory, self._packing.size)
        self._words = Mailbox(memory[Mailbox.room(self._packing.size) :], _TEXT)
        self._blank = np.zeros(size, depth)

    @staticmethod
    def create(size: tuple[int, int], depth: np.dtype) -> int:
        """A descriptor of new memory, which its owner closes."""
        with tempfile.TemporaryFile(dir=folder(), buffering=0) as file:
            os.ftruncate(file.fileno(), _room(_packing(size, depth)))
            return os.dup(file.fileno())

    def write(self, image: np.ndarray, depth: np.ndarray | None, time: int) -> None:
        """The next frame: uint8 [H, W, 3] and, where it has one, depth [H, W]."""
        self._frames.write(self._packing.pack({"time": time, "has_depth": depth is not None, "image": image,
                                               "depth": self._blank if depth is None else depth}))

    def read(self) -> SharedFrame | None:
        """The newest frame; None before the first, and where a writer died while it wrote that."""
        message = _newest(self._frames)
        if message is None:
            return None
        values = self._packing.unpack(message[1])
        return SharedFrame(message[0], values["image"], values["depth"] if values["has_depth"] else None,
                           int(values["time"]))

    @property
    def number(self) -> int:
        """That of the newest frame; 0 before the first."""
        return self._frames.number

    def say(self, words: str) -> None:
        """Leave word for the readers, in place of what was said before."""
        self._words.write(words.encode()[:_TEXT])

    def said(self) -> str:
        """What was said last; empty where nothing was."""
        message = _newest(self._words)
        return "" if message is None else message[1].decode(errors="ignore")


def _newest(box: Mailbox) -> tuple[int, bytes] | None:
    try:
        return box.read()
    except BlockingIOError:  # only the very first message can be torn with none beside it
        return None


def _packing(size: tuple[int, int], depth: np.dtype) -> Packing:
    return Packing({"time": (np.dtype(np.int64), ()), "has_depth": (np.dtype(np.uint8), ()),
                    "image": (np.dtype(np.uint8), (*size, 3)), "depth": (depth, size)})


def _room(packing: Packing) -> int:
    return Mailbox.room(packing.size) + Mailbox.room(_TEXT)
