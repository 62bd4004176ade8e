"""How fast the replay takes, finds again and gives out experience.

    python tools/bench_replay.py [--steps 1000000] [--folder DISK] [--out docs/results/replay.csv]

Three tables: appending with fsync (a chunk each, and groups of 20 as when several robots send), opening a log after a
crash, and drawing batches from the page cache. `--folder` chooses the disk; the logs in it are removed at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gymnasium import spaces
from measurement import Row, quantiles, report

from daydreamer.replay.chunk import Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog
from daydreamer.replay.sampler import Sampler
from daydreamer.replay.settings import ReplaySettings

STEPS_PER_CHUNK = 20  # one second at 20 Hz
BATCHES = ((16, 32), (16, 64))


def schema(image: bool) -> Schema:
    """A quadruped's step, with a 64x64 colour image if `image`."""
    signals = {name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in
               {"joint_angles": 12, "joint_velocities": 12, "imu": 8, "contacts": 4, "base_velocity": 3}.items()}
    if image:
        signals["image"] = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    return Schema.of_spaces(spaces.Dict(signals), spaces.Box(-1, 1, (12,), np.float32))


def experience(columns: Schema, chunks: int) -> Iterator[Chunk]:
    """The first `chunks` chunks of one stream. Their contents repeat: nothing below compresses."""
    random = np.random.default_rng(0)
    body = {c.name: random.integers(0, 2, (STEPS_PER_CHUNK, *c.shape)).astype(c.dtype) for c in columns.columns}
    for sequence in range(chunks):
        yield Chunk(b"s" * 16, sequence, sequence * STEPS_PER_CHUNK, body)


def fill(folder: Path, columns: Schema, steps: int) -> ChunkLog:
    """A log of `steps` steps, left unclosed."""
    log = ChunkLog.open(folder, columns)
    for chunk in experience(columns, steps // STEPS_PER_CHUNK):
        log.append(chunk)
    log.sync()
    return log


def measure_appending(folder: Path, image: bool, group: int, chunks: int = 400) -> Row:
    """Append `chunks` chunks, syncing after each `group`."""
    columns, seconds = schema(image), []
    with ChunkLog.open(folder, columns) as log:
        first, *following = experience(columns, chunks + 1)
        log.append(first)  # so that the segment is there
        log.sync()
        start, size = time.perf_counter(), log.bytes
        for at in range(0, chunks, group):
            begun = time.perf_counter()
            for chunk in following[at:at + group]:
                log.append(chunk)
            log.sync()
            seconds.append(time.perf_counter() - begun)
        took = time.perf_counter() - start
        return {
            "append": "image" if image else "proprio", "chunks per sync": group,
            "MB/s": (log.bytes - size) / took / 1e6, "steps/s": chunks * STEPS_PER_CHUNK / took,
            **{f"{q} [ms]": v for q, v in quantiles(seconds).items()},
        }


def measure_opening(folder: Path, steps: int) -> Row:
    """Open a log of `steps` steps, and build what a sampler needs."""
    columns = schema(image=False)
    fill(folder, columns, steps).close()
    start = time.perf_counter()
    with ChunkLog.open(folder, columns) as log:
        opened = time.perf_counter()
        Sampler(log, ReplaySettings(), seed=0).sample(1, 32, 4)
        ready = time.perf_counter()
        return {"open": "proprio", "steps": log.steps, "GB": log.bytes / 1e9, "recovered [s]": opened - start,
                "first batch [s]": ready - start}


def measure_sampling(folder: Path, image: bool, steps: int, seconds: float = 2.0) -> Iterator[Row]:
    """Draw batches for `seconds` from a log of `steps` steps; the first, which verify checksums, apart."""
    with fill(folder, schema(image), steps) as log:
        for batch, length in BATCHES:
            sampler = Sampler(log, ReplaySettings(), seed=0)
            drawn = [sampler.sample(batch, length, 4) for _ in range(200)][0]
            size, took = sum(array.nbytes for array in drawn.values()), []
            while sum(took) < seconds:
                begun = time.perf_counter()
                sampler.sample(batch, length, 4)
                took.append(time.perf_counter() - begun)
            rate = len(took) / sum(took)
            yield {"sample": "image" if image else "proprio", "batch": f"{batch}x{length}", "sequences/s": batch * rate,
                   "MB/s": size * rate / 1e6, **{f"{q} [ms]": v for q, v in quantiles(took).items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the log that is opened again")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--out", type=Path, help="append the figures to this CSV file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        report([measure_appending(root / f"append-{image}-{group}", image, group)
                for image in (False, True) for group in (1, 20)], options.out)
        report([measure_opening(root / "open", options.steps)], options.out)
        report([row for image in (False, True)
                for row in measure_sampling(root / f"sample-{image}", image, 20_000)], options.out)


if __name__ == "__main__":
    main()
