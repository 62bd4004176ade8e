"""Tables for commands that answer once: settings and where they come from, figures by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from services import config as configs
from services.config import Resolved


def settings_table(resolved: Resolved) -> Table:
    """Every setting, its value and its origin; defaults are dim."""
    table = _table("setting", "value", "from")
    for key, value in configs.leaves(configs.to_mapping(resolved.config)):
        origin = resolved.origins.get(key, "default")
        table.add_row(key, Text(json.dumps(value)), origin, style="dim" if origin == "default" else "")
    return table


def figures_table(figures: Mapping[str, Any]) -> Table:
    """Names and figures; lists are one entry per line."""
    table = _table("", "")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), Text(_figure(value)))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim", show_header=any(headings))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _figure(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "\n".join(map(str, value)) or "none"
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
