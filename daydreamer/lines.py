"""What a run in lockstep tells of itself as it goes: lines that are appended, and cut back to its checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daydreamer.replay import files


class Lines:
    """A file of one run, a JSON object per line; each has the `steps` at which it was written. One process writes."""

    def __init__(self, path: Path) -> None:
        """Reads what is there, if anything; a last line that is not whole does not count."""
        self._path = path
        text = path.read_text() if path.exists() else ""
        self.lines: list[dict[str, Any]] = [
            json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        self.lines.append(dict(line))
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def cut(self, steps: int) -> None:
        """Forget what came after `steps`: a run that was killed plays that again, from its checkpoint."""
        self.lines = [line for line in self.lines if line["steps"] <= steps]
        if self._path.exists():
            os.close(files.create(self._path, "".join(json.dumps(line) + "\n" for line in self.lines).encode()))
