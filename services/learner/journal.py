"""What the learner writes to disk, on a thread of its own: checkpoints, `metrics.jsonl`, TensorBoard.

Jobs run in the order they were given. A full disk costs the file that was being written, is logged, and ends nothing.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from daydreamer import checkpoints
from daydreamer.blueprint import Blueprint
from services.run_folder import RunFolder

FLUSH = 10  # seconds after which TensorBoard's file has what was written, for who looks on or after a kill

log = logging.getLogger(__name__)


class Journal:
    """`blueprint`: of the agent, for its checkpoints. Called from one thread; `close` waits for what was given."""

    def __init__(self, folder: RunFolder, blueprint: Blueprint, keep: int) -> None:
        self._folder, self._blueprint, self._keep = folder, blueprint, keep
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._board = None
        self._saving: Future | None = None
        self._failure: Exception | None = None
        self.saved = 0  # checkpoints written

    def metrics(self, updates: int, learner: Mapping[str, float], agent: Mapping[str, float]) -> None:
        """One line of figures after `updates` updates: of the learner's progress, and of the agent's newest update. NaN
        and infinity are left out: JSON has no words for them."""
        self._submit(self._metrics, time.time(), updates, _finite(learner), _finite(agent))

    def checkpoint(self, tensors: Mapping[str, Tensor], counters: checkpoints.Counters) -> bool:
        """Save `tensors`, which must not change any more. False while the save before goes on: then that one counts."""
        if self._saving is not None and not self._saving.done():
            return False
        self._saving = self._submit(self._checkpoint, tensors, counters)
        return True

    def flush(self) -> None:
        """Wait until everything given so far is on disk."""
        self._submit(lambda: None).result()

    def close(self) -> None:
        """Write what is left, then end."""
        self._writer.shutdown(wait=True)
        if self._board is not None:
            self._board.close()

    def _submit(self, job: Callable[..., None], *arguments: object) -> Future:
        """Give a job to the thread. Raises what an earlier one failed with, other than the disk."""
        if self._failure is not None:
            raise self._failure
        return self._writer.submit(self._do, job, *arguments)

    def _do(self, job: Callable[..., None], *arguments: object) -> None:
        try:
            job(*arguments)
        except OSError as error:
            log.error("could not write under %s: %s", self._folder.path, error)
        except Exception as failure:
            self._failure = failure
            raise

    def _checkpoint(self, tensors: Mapping[str, Tensor], counters: checkpoints.Counters) -> None:
        checkpoints.save(self._folder.checkpoints, tensors, counters, self._blueprint, self._keep)
        self.saved += 1

    def _metrics(self, now: float, updates: int, learner: Mapping[str, float], agent: Mapping[str, float]) -> None:
        with self._folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(now, 3), "updates": updates, **learner, **agent}) + "\n")
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # seconds to import: here, where nobody waits

            self._board = SummaryWriter(str(self._folder.tensorboard), purge_step=updates, flush_secs=FLUSH)
        for group, values in {"learner": learner, "agent": agent}.items():
            for name, value in values.items():
                self._board.add_scalar(name if "/" in name else f"{group}/{name}", value, updates, walltime=now)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
