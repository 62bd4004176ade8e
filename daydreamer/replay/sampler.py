"""Draws training batches from a chunk log: windows of consecutive steps, gathered into arrays.

Three ways of drawing are mixed: evenly over all windows, with exponentially fading age, and online: every stretch of
fresh experience exactly once, soon after it came. Windows may cross episodes (`is_first` says where), never streams.

Threads: `add` and `sample` may be called from different threads, beside one that appends to the log. A lock guards the
index; the copying of data happens outside it, from read-only views that stay valid whatever happens to the log. What
retention drops and what turns out damaged is left out from then on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.errors import LogCorrupt, LogDropped, NotEnough
from daydreamer.replay.index import Index, Plan
from daydreamer.replay.online import OnlineQueue
from daydreamer.replay.record import Entry
from daydreamer.replay.settings import ReplaySettings

log = logging.getLogger(__name__)


class Sampler:
    """What is in the log at construction counts as old; what is added later is fresh: the online draw gives it once."""

    def __init__(self, log: ChunkLog, settings: ReplaySettings, seed: int):
        self._log = log
        self._settings = settings
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._oldest = log.oldest
        self._index = Index(log.entries)
        self._online = OnlineQueue(settings.online_steps)
        self._columns = {c.name: c for c in log.schema.columns}

    @property
    def steps(self) -> int:
        """Steps that can be drawn."""
        return self._index.steps

    @property
    def online_dropped(self) -> int:
        """Fresh steps that the online draw gave up because too many were waiting."""
        return self._online.dropped

    def add(self, entry: Entry) -> None:
        """A chunk has become durable. Chunks of a stream are added in order."""
        with self._lock:
            self._index.add(entry)
            self._online.add(entry)

    def sample(
        self, batch: int, length: int, burn_in: int, columns: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """`columns` (None: all) and `prev_action`: new arrays [batch, burn_in + length, ...] that the caller owns.

        `prev_action` is the action of the step before, also for a window's first step; zero where `is_first`. The first
        step of a stream counts as `is_first`. So that it can be scored too, windows reach up to `burn_in` steps before
        it: those repeat the first step, `is_first` set. Raises NotEnough, and KeyError for an unknown column.
        """
        names = [*self._columns] if columns is None else [*columns]
        needed = {n: self._columns[n] for n in dict.fromkeys([*names, "action", "is_first"])}
        shape = (batch, burn_in + length)
        out = {n: np.empty((*shape, *c.shape), c.dtype) for n, c in needed.items()}
        out["prev_action"] = np.empty_like(out["action"])
        for row, plan in enumerate(self._draw(batch, length, burn_in)):
            rows = {n: array[row] for n, array in out.items()}
            while not self._fill(rows, plan):
                (plan,) = self._draw(1, length, burn_in)
        return {n: out[n] for n in [*names, "prev_action"]}

    def state_dict(self) -> dict[str, Any]:
        """The random state and the place of the online draw, as plain values: with them and the log, sampling continues
        exactly where it was."""
        with self._lock:
            return {"random": self._random.bit_generator.state, "online": self._online.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        with self._lock:
            self._random.bit_generator.state = state["random"]
            self._online.load_state_dict(state["online"])

    def _draw(self, batch: int, length: int, burn_in: int) -> list[Plan]:
        with self._lock:
            self._follow_retention()
            count = self._index.count(length, burn_in)
            if not count:
                raise NotEnough(f"no stream has {length} steps in a row yet, of {self._index.steps} stored")
            recent, online = self._shares(batch)
            windows = self._online.take(self._index, online, length, burn_in)
            numbers = np.concatenate([
                self._recent(recent, count),
                self._random.integers(count, size=batch - recent - len(windows)),
            ])
            windows += [self._index.window(int(number), length, burn_in) for number in numbers]
            return [self._index.plan(window) for window in windows]

    def _shares(self, batch: int) -> tuple[int, int]:
        """How many windows of a batch are drawn by recency and online: by chance, so that shares hold on average."""
        shares = np.array([self._settings.uniform, self._settings.recency, self._settings.online])
        _, recent, online = self._random.multinomial(batch, shares / shares.sum())
        return int(recent), int(online)

    def _recent(self, n: int, count: int) -> np.ndarray:
        """`n` window numbers below `count`: their age from the newest is exponential, cut off at the oldest."""
        mean = self._settings.recency_steps
        inside = -np.expm1(-count / mean)  # the share of the whole exponential that is younger than the oldest window
        ages = -mean * np.log1p(-inside * self._random.random(n))
        return count - 1 - np.minimum(ages.astype(np.int64), count - 1)

    def _fill(self, rows: dict[str, np.ndarray], plan: Plan) -> bool:
        """Copy one window into `rows` [T, ...]. False where a chunk of it is gone or damaged; it is not drawn again."""
        try:
            self._copy(rows, plan)
        except (LogCorrupt, LogDropped) as error:
            log.warning("a chunk is left out of sampling: %s", error)
            with self._lock:
                self._index = self._index.without(error.entry)
            return False
        return True

    def _copy(self, rows: dict[str, np.ndarray], plan: Plan) -> None:
        names = [n for n in rows if n != "prev_action"]
        at = plan.padding
        for entry, low, high in plan.pieces:
            columns = self._log.columns(entry, names)
            for name in names:
                rows[name][at:at + high - low] = columns[name][low:high]
            at += high - low
        if plan.padding:
            for name in names:
                rows[name][:plan.padding] = rows[name][plan.padding]
        if plan.begins:
            rows["is_first"][:plan.padding + 1] = True
        previous = rows["prev_action"]
        previous[1:] = rows["action"][:-1]
        if plan.before:
            previous[0] = self._log.columns(plan.before.entry, ["action"])["action"][plan.before.low]
        previous[rows["is_first"]] = 0

    def _follow_retention(self) -> None:
        if self._oldest != (oldest := self._log.oldest):
            self._oldest = oldest
            self._index = self._index.since(oldest)
