"""What a process logs goes into a file of its run, `logs/NAME.log`, which rotates."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

BYTES, KEPT = 4 << 20, 3
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def into(file: Path) -> logging.Handler:
    """Send this process's logging, from INFO up, into `file`. `leave` undoes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(file, maxBytes=BYTES, backupCount=KEPT, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler


def leave(handler: logging.Handler) -> None:
    """Log no longer there."""
    logging.getLogger().removeHandler(handler)
    handler.close()
