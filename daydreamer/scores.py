"""`scores.jsonl`: what a run in lockstep earned, a line per training episode and per evaluation.

    {"frames": 2000, "steps": 1000, "episodes": 2, "updates": 0, "seconds": 3.1, "training_return": 87.8}
    {"frames": 2000, "steps": 1000, ..., "evaluation_return": 91.5, "evaluation_returns": [90.0, 93.0]}

`frames` are steps times the environment's action repeat; `seconds` are those of collecting and training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daydreamer.replay import files


class Scores:
    """The `lines` of one run, in order. One process writes."""

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
