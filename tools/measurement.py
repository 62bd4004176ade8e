"""What every benchmark shares: where and on what a figure was measured, a table to read, a CSV to keep.

    rows = [{"what": "append", "p50_ms": 1.2}, ...]
    report(rows, out)          # prints a table; with `out`, adds the rows with date, commit and machine
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, object]


def report(rows: Sequence[Row], out: Path | None = None) -> None:
    """Print `rows` as a table and, if `out` is given, add them to that CSV file."""
    print(f"{machine()}, commit {commit()}")
    print(table(rows))
    if out is not None:
        write_csv(out, rows)


def machine() -> str:
    """Processor, cores this process may use, memory, system and Python, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def processor() -> str:
    """The processor's name as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit that was measured; "+" where files differ from it, "unknown" outside a checkout."""
    found = _git("describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*")
    return found or "unknown"


def quantiles(seconds: Sequence[float], scale: float = 1000.0) -> dict[str, float]:
    """p50, p99 and max of durations, by default in milliseconds."""
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: scale * ordered[min(len(ordered) - 1, int(q * len(ordered)))] for name, q in at.items()}


def table(rows: Sequence[Row]) -> str:
    """Columns under their names, numbers with three significant digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Add `rows` to the file, each with date, commit and machine in front. Rows may have different columns."""
    origin = {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = []
    if path.exists():
        with path.open(newline="") as file:
            earlier = list(csv.DictReader(file))
    lines = earlier + [{**origin, **{name: _text(value) for name, value in row.items()}} for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for line in lines for name in line)))
        writer.writeheader()
        writer.writerows(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}".replace(",", "") if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
