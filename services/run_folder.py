"""A run is a folder.

    runs/NAME/
      config.yaml       the resolved settings, as of the last start
      run.json          pid and addresses of the `daydreamer run` that owns it
      lock              held by that process; the system lets go of it when the process dies, however it dies
      replay/  checkpoints/  spool/ROBOT/  logs/  tensorboard/
      metrics.jsonl  summary.json
      lockstep/         what `daydreamer train` keeps instead: replay/, checkpoints/, scores.jsonl, metrics.jsonl
      evaluation.mp4    the film of its last evaluation
      coordinator.json  what the coordinator keeps over its restarts

`RunFolder` only knows names, so every process may have one. `claim` makes the folder this process's own to run in.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from daydreamer.replay.errors import LogLocked
from daydreamer.replay.files import FolderLock, create
from services import config as configs
from services.config import Config, ConfigError

HANDOVER = 5.0  # seconds for the services of a run that was killed a moment ago to die, too, and let go of their logs


class RunFolderError(Exception):
    """The run's folder cannot be used; the text says why and the way out."""


@dataclass(frozen=True)
class RunInfo:
    """What `run.json` holds: who runs here and where its services bind, by port name; empty until they start."""

    name: str
    pid: int
    started: float  # wall clock [s]
    addresses: dict[str, str]


@dataclass(frozen=True)
class RunFolder:
    """The places of one run."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def info(self) -> Path:
        return self.path / "run.json"

    @property
    def replay(self) -> Path:
        return self.path / "replay"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def spool(self, robot: str) -> Path:
        return self.path / "spool" / robot


@contextmanager
def claim(home: str | Path, config: Config) -> Iterator[RunFolder]:
    """Create or resume the run's folder and own it while the context lasts.

    Raises RunFolderError when another process runs here or the path is no run, ConfigError when the run was started
    with settings that may not change. Then no data in the folder was touched.
    """
    folder = RunFolder(Path(home) / config.name)
    with _alone(folder):
        lock = _lock(folder)
    try:
        folder.info.unlink(missing_ok=True)  # of a process that was killed; with our lock it would look alive
        with _alone(folder):
            _prepare(folder, config)
        yield folder
        folder.info.unlink(missing_ok=True)
    finally:
        lock.release()


def join(home: str | Path, config: Config) -> RunFolder:
    """The same folder for a single service that was started by hand: prepared and checked as by `claim`, but shared."""
    folder = RunFolder(Path(home) / config.name)
    with _alone(folder):
        _prepare(folder, config)
    return folder


def check_same_run(folder: RunFolder, config: Config) -> None:
    """Raises ConfigError when the run in `folder` was started with settings that cannot become those of `config`."""
    if not folder.config.exists():
        return
    try:
        configs.check_resume(configs.load(folder.config), config)
    except ConfigError as error:
        raise ConfigError(f"{folder.path}: cannot be resumed with this configuration; --name starts another run\n"
                          f"{error}") from error


def announce(folder: RunFolder, addresses: Mapping[str, str]) -> None:
    """Write run.json: this process runs here, with these addresses by port name."""
    info = {"name": folder.name, "pid": os.getpid(), "started": time.time(), "addresses": dict(addresses)}
    write_atomic(folder.info, json.dumps(info, indent=1))


def existing(home: str | Path, name: str) -> RunFolder:
    """The folder of a run that was started at least once; `name` may be a path to it. Raises RunFolderError."""
    for path in (Path(home) / name, Path(name)):
        if (path / "config.yaml").is_file():
            return RunFolder(path)
    runs = ", ".join(folder.name for folder in all_runs(home))
    raise RunFolderError(f"{Path(home) / name}: no such run; {home} holds {runs or 'none'}")


def latest(home: str | Path) -> RunFolder:
    """The run that was started last. Raises RunFolderError where there is none."""
    if not (runs := all_runs(home)):
        raise RunFolderError(f"{home}: holds no runs; --home looks elsewhere")
    return runs[-1]


def running(home: str | Path, name: str = "") -> tuple[RunFolder, RunInfo]:
    """The run that is going on: `name`, or the one started last. Raises RunFolderError when it is not running."""
    folders = [existing(home, name)] if name else all_runs(home)
    found = [(folder, info) for folder in folders if (info := read_info(folder)) is not None]
    if not found:
        raise RunFolderError(f"{home}: {f'{name} is not running' if name else 'no run here'}; --home looks elsewhere")
    return max(found, key=lambda pair: pair[1].started)


def read_info(folder: RunFolder) -> RunInfo | None:
    """Who runs here; None when nobody does, whatever a dead run left behind."""
    try:
        info = RunInfo(**json.loads(folder.info.read_text(encoding="utf-8")))
        with open(folder.path / "lock", encoding="utf-8") as lock:
            return info if _held(lock) else None
    except (OSError, ValueError, TypeError):
        return None


def wait_until_free(folder: RunFolder) -> None:
    """Wait for the process that runs here to end."""
    with open(folder.path / "lock", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def all_runs(home: str | Path) -> list[RunFolder]:
    """Every run under `home`, the one changed last at the end."""
    return [RunFolder(p.parent) for p in sorted(Path(home).glob("*/config.yaml"), key=lambda p: p.stat().st_mtime)]


def write_atomic(path: Path, text: str) -> None:
    """Replace a file; after a crash at any moment the old or the new text stands there, whole. Raises OSError."""
    os.close(create(path, text.encode()))


def _prepare(folder: RunFolder, config: Config) -> None:
    check_same_run(folder, config)
    with _writable(folder):
        for place in (folder.replay, folder.checkpoints, folder.path / "spool", folder.logs, folder.tensorboard):
            place.mkdir(exist_ok=True)
        write_atomic(folder.config, configs.to_yaml(config))


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Nobody else makes this folder, or judges it half made: services that are started by hand come at once. Makes it,
    where nothing speaks against that."""
    if folder.path.exists() and not folder.path.is_dir():
        raise RunFolderError(f"{folder.path}: is a file, not a run's folder; --name or --home chooses another place")
    with _writable(folder):
        folder.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # of network disks that do not lock folders
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            _check_is_run(folder)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _writable(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{folder.path}: cannot be written ({error.strerror}); "
                             "--home chooses another place") from error


def _check_is_run(folder: RunFolder) -> None:
    if not folder.config.exists() and set(os.listdir(folder.path)) - {"lock"}:
        raise RunFolderError(f"{folder.path}: is not a run's folder (no config.yaml in it); --name chooses another")


def _lock(folder: RunFolder) -> FolderLock:
    try:
        return FolderLock(folder.path)
    except LogLocked as error:
        pid = (folder.path / "lock").read_text(encoding="utf-8").strip()
        raise RunFolderError(f"{folder.path}: already running, as process {pid or 'unknown'}; `daydreamer stop "
                             f"{folder.name}` ends it, --name starts another run") from error


def _held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
