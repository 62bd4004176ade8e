"""What `daydreamer run` does in the terminal: start everything, show how it goes, and end in order.

The end is the same however it is asked for: Ctrl-C, SIGTERM, `daydreamer stop`, the end of `--for`, or a service that
cannot run. Robots come to a safe pose first, then what they collected is flushed, then the learner writes a checkpoint.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from services import run_folder
from services.cluster.cluster import Cluster
from services.config import Config
from services.console.operator import Operator, control_address
from services.console.screen import Screen
from services.console.watching import ended_by_signals, watch
from services.run_folder import RunFolder


def run(config: Config, home: Path, screen: Screen, *, seconds: float | None = None, address: str = "") -> str:
    """Run until somebody ends it; `seconds` limits it, `address` is that of a Ray cluster. Returns what it came to.

    Raises RunFolderError, ConfigError, and what kept a service from starting.
    """
    stop = threading.Event()
    with run_folder.claim(home, config) as folder:
        run_folder.announce(folder, {})
        cluster = Cluster(config, folder, address=address)
        with ended_by_signals(stop, lambda: screen.say(f"still waiting for {_unfinished(cluster)}")), screen:
            try:
                screen.say(f"{folder.path}: starting")
                cluster.start()
                run_folder.announce(folder, cluster.addresses)
                _attend(cluster, screen, stop, seconds)
            finally:
                if cluster.pids():
                    screen.say("ending: robots to a safe pose, their experience to disk, a checkpoint")
                killed = cluster.stop()
        if killed:
            screen.say(f"had to be killed: {', '.join(killed)}; see {folder.logs}")
        return outcome(folder)


def outcome(folder: RunFolder) -> str:
    """What a run came to, in a line."""
    try:
        summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{folder.path}: ended before there was anything to sum up"
    reward = summary["reward_per_step"]["last_minute"]
    told = "" if reward is None else f", {reward:.3f} reward per step in the last minute"
    return f"{folder.path}: {summary['steps']} steps, {summary['learner']['updates']} updates{told}"


def _attend(cluster: Cluster, screen: Screen, stop: threading.Event, seconds: float | None) -> None:
    """Show how it goes until it is to end."""
    def check() -> None:
        if cluster.failure:
            raise cluster.failure

    with Operator(control_address(cluster.addresses["control"]), cluster.config.network.keys) as operator:
        watch(operator, screen, stop, seconds=seconds, check=check)


def _unfinished(cluster: Cluster) -> str:
    return ", ".join(name for name, state in cluster.states().items() if state in ("running", "restarting")) or "Ray"
