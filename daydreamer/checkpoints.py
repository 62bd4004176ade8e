"""Checkpoints on disk: folders that are whole or do not count.

    checkpoints/
      000000041/
        tensors.safetensors    model, optimiser, normalisers, RNG
        checkpoint.json        format, counters, the agent's blueprint, sha256 of the tensors
        done                   empty, written last; a folder without it is not a checkpoint
      .new-000000042/          being written; nobody reads it, the next save removes it

A checkpoint is written under a temporary name, fsynced, renamed, and its parent fsynced, so a crash at any moment
leaves the one before in place. It says which agent it is of; loading it into another is an error that names the
difference. One thread writes; any may read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daydreamer.blueprint import Blueprint

FORMAT = 2
Counters = Mapping[str, Any]  # plain values, as in JSON

log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint cannot be used; the text names it and the way out."""


class CheckpointTorn(CheckpointError):
    """It says `done`, but its bytes are not the ones that were written."""


class CheckpointForeign(CheckpointError):
    """It was not written by this program, or by a format it does not know."""


class CheckpointMismatch(CheckpointError):
    """It is of another agent: other settings or other spaces."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: the agent's `state_dict`, and where training stood."""

    tensors: dict[str, Tensor]
    counters: Counters
    blueprint: Blueprint
    folder: Path


def save(root: Path, tensors: Mapping[str, Tensor], counters: Counters, blueprint: Blueprint, keep: int = 3) -> Path:
    """Write one more checkpoint under `root`, keep the newest `keep`, return its folder.

    `tensors` must not share memory with one another. Raises OSError; then nothing that stood before is lost.
    """
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(".new-*"):
        shutil.rmtree(leftover)
    standing = _numbered(root)
    name = f"{int(standing[-1].name) + 1 if standing else 1:09d}"
    fresh = root / f".new-{name}"
    fresh.mkdir()
    _write(fresh, tensors, counters, blueprint)
    folder = fresh.rename(root / name)
    sync_path(root)
    for old in [f for f in standing if (f / "done").exists()][: -keep + 1 or None]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_newest(root: Path, blueprint: Blueprint | None = None) -> Checkpoint | None:
    """The newest whole checkpoint under `root`; None where there is none yet. Without `blueprint`, of whatever agent.

    A torn one is passed over with a warning. Raises CheckpointTorn when all are, CheckpointForeign, CheckpointMismatch.
    """
    torn: CheckpointTorn | None = None
    for folder in reversed([f for f in _numbered(root) if (f / "done").exists()]):
        try:
            return load(folder, blueprint)
        except CheckpointTorn as error:
            log.warning("%s; going back to the one before", error)
            torn = error
    if torn is not None:
        raise torn
    return None


def load_latest(path: Path) -> Checkpoint:
    """The whole checkpoint that was written last, wherever under `path`. Raises CheckpointError where there is none."""
    written = [done for done in path.rglob("done") if done.parent.name.isdecimal()]
    torn: CheckpointTorn | None = None
    for done in sorted(written, key=lambda done: (done.stat().st_mtime_ns, done.parent.name), reverse=True):
        try:
            return load(done.parent)
        except CheckpointTorn as error:
            log.warning("%s; going back to the one before", error)
            torn = error
    raise torn or CheckpointError(f"{path}: holds no checkpoint")


def load(folder: Path, blueprint: Blueprint | None = None) -> Checkpoint:
    """Read one checkpoint. Raises CheckpointTorn, CheckpointForeign, CheckpointMismatch."""
    note = _read_note(folder)
    saved = _blueprint(folder, note["agent"])
    if blueprint is not None:
        _check_identity(folder, saved.identity(), blueprint.identity())
    file = folder / "tensors.safetensors"
    try:
        if _sha256(file) != note["sha256"]:
            raise CheckpointTorn(f"checkpoint {folder}: its tensors are not those that were saved; remove the folder")
        return Checkpoint(load_file(file), note["counters"], saved, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointTorn(f"checkpoint {folder}: cannot read its tensors ({error}); remove the folder") from error


def sync_path(path: Path) -> None:
    """Make what `path` (a file or a folder) holds survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(folder: Path, tensors: Mapping[str, Tensor], counters: Counters, blueprint: Blueprint) -> None:
    file = folder / "tensors.safetensors"
    try:
        save_file(dict(tensors), file)
    except SafetensorError as error:  # a full disk, for one
        raise OSError(f"{file}: {error}") from error
    note = {"format": FORMAT, "counters": dict(counters), "agent": blueprint.to_json(), "sha256": _sha256(file)}
    (folder / "checkpoint.json").write_text(json.dumps(note, indent=1))
    (folder / "done").touch()
    for path in (file, folder / "checkpoint.json", folder / "done", folder):
        sync_path(path)


def _read_note(folder: Path) -> dict:
    try:
        note = json.loads((folder / "checkpoint.json").read_text())
    except (OSError, ValueError) as error:
        problem = f"checkpoint {folder}: cannot read checkpoint.json ({error}); remove the folder"
        raise CheckpointTorn(problem) from error
    wanted = {"format", "counters", "agent", "sha256"}
    if not isinstance(note, dict) or set(note) != wanted or note["format"] != FORMAT:
        raise CheckpointForeign(f"checkpoint {folder}: not a checkpoint of format {FORMAT}; "
                                "start another run with --name, or move the folder away")
    return note


def _blueprint(folder: Path, values: Any) -> Blueprint:
    try:
        return Blueprint.from_json(values)
    except ValueError as error:
        raise CheckpointForeign(f"checkpoint {folder}: {error}; start another run with --name") from error


def _check_identity(folder: Path, saved: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    odd = sorted(k for k in set(saved) | set(wanted) if saved.get(k) != wanted.get(k))
    if odd:
        differences = "; ".join(f"{k}: saved {saved.get(k)!r}, now {wanted.get(k)!r}" for k in odd)
        raise CheckpointMismatch(f"checkpoint {folder} is of another agent: {differences}. "
                                 "Go back to these settings, or start another run with --name")


def _numbered(root: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(f for f in root.glob("*") if f.is_dir() and f.name.isdecimal())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
