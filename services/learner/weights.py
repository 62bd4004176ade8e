"""How weights travel: immutable numbered versions, safetensors bytes in parts, with a digest.

The learner puts versions on a `Shelf`; a policy server asks with a `Fetcher`, which is sans-IO: the caller moves its
messages. A version number never stands for two different weights, see `Versions`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from services.run_folder import write_atomic
from services.wire.messages import NoNewWeights, WeightsPart, WeightsRequest

PART_BYTES = 2**20
HEADER_SLACK = 2**20  # safetensors' own header, beside the tensors


class BadWeights(Exception):
    """Bytes that are not the weights this agent acts with; nothing was changed."""


@dataclass(frozen=True)
class Weights:
    """One version as it travels. `created`: wall clock [s]; `updates`: learner updates behind it."""

    version: int
    updates: int
    created: float
    digest: str
    data: bytes


def pack(tensors: Mapping[str, Tensor], version: int, updates: int) -> Weights:
    """Freeze tensors (contiguous, on the CPU) as a version."""
    data = save(dict(tensors))
    return Weights(version, updates, time.time(), hashlib.sha256(data).hexdigest(), data)


def unpack(weights: Weights, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a version, checked against the names, shapes and dtypes of `like`. Raises BadWeights."""
    if hashlib.sha256(weights.data).hexdigest() != weights.digest:
        raise BadWeights(f"weights {weights.version}: the bytes do not have the digest that came with them")
    try:
        tensors = load(weights.data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadWeights(f"weights {weights.version}: not safetensors ({error})") from error
    odd = sorted(set(tensors) ^ set(like))
    if odd:
        raise BadWeights(f"weights {weights.version}: {', '.join(odd[:3])}: missing, or not in this agent; "
                         "do learner and policy server have the same settings?")
    for name, tensor in tensors.items():
        if tensor.shape != like[name].shape or tensor.dtype != like[name].dtype:
            raise BadWeights(f"weights {weights.version}: {name}: got {tensor.dtype} {tuple(tensor.shape)}, "
                             f"want {like[name].dtype} {tuple(like[name].shape)}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadWeights(f"weights {weights.version}: {name} is not finite")
    return tensors


class Versions:
    """Numbers that grow over all boots of a run's learner, so that one number never names two weights.

    Numbers are reserved in blocks: the file holds the first that was never reserved, and is durable before any of the
    block is used. A crash skips the rest of its block.
    """

    def __init__(self, file: Path, block: int = 1000) -> None:
        self._file, self._block = file, block
        self._next = self._end = int(file.read_text()) if file.exists() else 0

    def take(self) -> int:
        """The next number."""
        if self._next == self._end:
            self._reserve()
        self._next += 1
        return self._next - 1

    def _reserve(self) -> None:
        self._end += self._block
        write_atomic(self._file, str(self._end))


class Shelf:
    """The learner's side: the newest two versions, so that who is fetching the older one can finish. Any thread."""

    def __init__(self, part_bytes: int = PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self._held: list[Weights] = []
        self._lock = threading.Lock()

    def put(self, weights: Weights) -> None:
        """Offer a new version, and forget all but the one before."""
        with self._lock:
            self._held = [*self._held, weights][-2:]

    def answer(self, request: WeightsRequest) -> WeightsPart | NoNewWeights:
        """The part asked for; the first part of the newest where that version is gone; or that nothing is newer."""
        with self._lock:
            held = list(self._held)
        if not held:
            return NoNewWeights(-1)
        for weights in held:
            if weights.version == request.version and 0 < request.part < self._parts(weights):
                return self._part(weights, request.part)
        return NoNewWeights(held[-1].version) if held[-1].version <= request.have else self._part(held[-1], 0)

    def _parts(self, weights: Weights) -> int:
        return max(1, -(-len(weights.data) // self._part_bytes))

    def _part(self, weights: Weights, part: int) -> WeightsPart:
        data = np.frombuffer(weights.data, np.uint8)[part * self._part_bytes:(part + 1) * self._part_bytes]
        return WeightsPart(weights.version, part, self._parts(weights), weights.digest, weights.created,
                           weights.updates, {"data": data})


class Fetcher:
    """The policy server's side, sans-IO: send what `due` returns, give it what arrives.

    A poll that stays unanswered is repeated after `timeout` seconds. A version that turns out bad is not asked for
    again: `have` has moved past it. A learner whose newest is older than what we have is another one: all of its
    weights are news. `limit`: bytes above which a version is refused.
    """

    def __init__(self, poll: float, limit: int, timeout: float = 2.0) -> None:
        self.have = -1
        self._poll, self._limit, self._timeout = poll, limit, timeout
        self._parts: list[bytes] = []
        self._head: WeightsPart | None = None
        self._next_request = 0.0

    def due(self, now: float) -> WeightsRequest | None:
        """The request to send now, if any."""
        if now < self._next_request:
            return None
        self._next_request = now + self._timeout
        if self._head is None:
            return WeightsRequest(self.have)
        return WeightsRequest(self.have, self._head.version, len(self._parts))

    def wait(self, now: float) -> float:
        """Seconds until `due` has something to say."""
        return max(0.0, self._next_request - now)

    def receive(self, message: WeightsPart | NoNewWeights, now: float) -> Weights | None:
        """Take in an answer; the whole version when it completes one. Raises BadWeights for one that is too large."""
        if isinstance(message, NoNewWeights):
            self._head, self._parts = None, []
            self._next_request = now + self._poll
            if -1 < message.version < self.have:
                self.have = -1
            return None
        if message.part == 0:
            self._head, self._parts = message, []
        elif self._head is None or (message.version, message.digest) != (self._head.version, self._head.digest):
            return None
        if message.part != len(self._parts):
            return None
        data = message.arrays.get("data")
        if data is None or sum(map(len, self._parts)) + data.nbytes > self._limit:
            self._finish(now)
            raise BadWeights(f"weights {message.version}: a part without data, or more than {self._limit} bytes")
        self._parts.append(data.tobytes())
        if len(self._parts) < self._head.parts:
            self._next_request = now
            return None
        return self._finish(now)

    def _finish(self, now: float) -> Weights:
        head, data = self._head, b"".join(self._parts)
        assert head is not None
        self._head, self._parts, self.have = None, [], head.version
        self._next_request = now + self._poll
        return Weights(head.version, head.updates, head.created, head.digest, data)
