"""Made-up experience for the replay's tests: every value says which stream and step it belongs to."""

import shutil
from pathlib import Path

import numpy as np

from daydreamer.replay.chunk import Chunk, Schema
from daydreamer.replay.chunk_log import ChunkLog

SCHEMA = Schema.of({
    "action": ("<f4", (2,)),
    "image": ("|u1", (2, 3)),
    "is_first": ("|b1", ()),
    "reward": ("<f8", ()),
    "time": ("<i8", ()),
})
A, B, C = (bytes([letter]) * 16 for letter in b"abc")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a folder in memory: its fsync does not wait for a disk
EPISODE = 17  # steps; shares no factor with the chunk lengths below, so that episodes begin anywhere in a chunk


def chunk(stream: bytes, sequence: int, steps: int = 5, first: int | None = None) -> Chunk:
    """Chunk `sequence` of a stream whose chunks have `steps` steps, or one that starts at the step `first`."""
    step = np.arange(steps) + (sequence * steps if first is None else first)
    return Chunk(stream, sequence, int(step[0]), {
        "action": np.stack([step + 1, np.full(steps, stream[0])], 1).astype("<f4"),
        "image": np.broadcast_to((step % 251).astype("|u1")[:, None, None], (steps, 2, 3)).copy(),
        "is_first": step % EPISODE == 0,
        "reward": step / 7,
        "time": step * 50_000_000,
    })


def fill(log: ChunkLog, stream: bytes, chunks: int, steps: int = 5) -> None:
    """Append the next `chunks` chunks of `stream`, not synced."""
    start = sum(entry.stream == stream for entry in log.entries)
    for sequence in range(start, start + chunks):
        log.append(chunk(stream, sequence, steps))


def contents(log: ChunkLog) -> list[tuple[bytes, int, int, dict[str, list]]]:
    """Everything that can be read from a log, as plain values."""
    chunks = [log.read(entry) for entry in log.entries]
    return [(c.stream, c.sequence, c.first_step, {n: a.tolist() for n, a in c.columns.items()}) for c in chunks]


def plain(chunks: list[Chunk]) -> list[tuple[bytes, int, int, dict[str, list]]]:
    """`contents` of a log that holds these."""
    return [(c.stream, c.sequence, c.first_step, {n: a.tolist() for n, a in c.columns.items()}) for c in chunks]


def crashed_copy(folder: Path, to: Path) -> Path:
    """The log as another process would find it if its writer died now."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))


def newest(folder: Path) -> Path:
    """The newest segment file."""
    return max(folder.glob("*.chunks"))
