"""Tables for commands that answer once: settings and where they come from, what a log holds."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daydreamer.replay.stats import LogStats
from services import config as configs
from services.config import Resolved
from services.console.doctor import Finding
from services.console.jog import Change
from services.console.live import duration


def settings_table(resolved: Resolved) -> Table:
    """Every setting, its value and its origin; defaults are dim."""
    table = _table("setting", "value", "from")
    for key, value in configs.leaves(configs.to_mapping(resolved.config)):
        origin = resolved.origins.get(key, "default")
        table.add_row(key, Text(json.dumps(value)), origin, style="dim" if origin == "default" else "")
    return table


def log_table(found: LogStats, verified: bool) -> Table:
    """What a chunk log holds, and whether it is sound: fully read where `verified`."""
    table = _table("", "")
    damage = [f"segment {d.segment}, byte {d.offset}: {d.reason}" for d in found.corrupt]
    figures = {
        "folder": str(found.folder),
        "steps": f"{found.steps:,} of {found.inserted:,} ever inserted",
        "episodes": f"{found.episodes:,}", "recorded": f"within {duration(found.seconds)}",
        "streams": f"{len(found.streams):,}", "chunks": f"{found.chunks:,}",
        "segments": f"{found.segments:,} files, {found.bytes / 2**20:,.1f} MiB",
        "schema": f"{found.schema.digest}: {', '.join(column.name for column in found.schema.columns)}",
        "unfinished": f"{found.unfinished:,} bytes" + ", cut off at the next start" * bool(found.unfinished),
        "gaps": str(found.gaps), "duplicates": str(found.duplicates), "corrupt": "\n".join(damage) or "0",
        "verdict": ("every byte is as it was written" if verified else "the headers are sound") if found.sound
        else "damaged, see above; the other chunks stay readable"}
    for name, figure in figures.items():
        table.add_row(name, Text(figure, style="red" if name == "verdict" and not found.sound else ""))
    return table


def print_finding(console: Console, finding: Finding) -> None:
    """One line of the doctor's."""
    colour = {"ok": "green", "look": "yellow", "wrong": "red"}[finding.grade]
    words = Text.assemble(("● ", colour), (f"{finding.what:<20} ", "bold"))
    console.print(words.append(finding.told, "" if colour == "green" else colour), highlight=False, soft_wrap=True)


def changes_table(changes: list[Change]) -> Table:
    """What moved while a robot was jogged."""
    table = _table("signal", "before", "moved", "after", "")
    for change in changes:
        table.add_row(change.signal, f"{change.before:.4f}", f"{change.moved:.4f}", f"{change.after:.4f}", change.unit)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table

