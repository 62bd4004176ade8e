"""One service of a run in this process, started by hand: on a robot's computer, or to look at it alone."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from services import run_folder
from services.cluster import roles
from services.cluster.roles import Role
from services.config import Config
from services.console.operator import control_address
from services.console.watching import ended_by_signals


def serve(kind: str, config: Config, home: Path, connect: str, index: int = 0) -> None:
    """Run the service until SIGINT or SIGTERM. `connect`: where the coordinator is, "" for where the config says;
    `index`: which of the run's robots. Raises what keeps the service from running."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    role = Role(kind, index)
    service = roles.build(role, config, run_folder.join(home, config), control_address(connect) if connect else "")
    stop = threading.Event()
    say = logging.getLogger(__name__).info
    with ended_by_signals(stop, lambda: say("%s is still ending", role.name(config))):
        service.run(stop)
