"""What the coordinator keeps about a run: totals over all starts, the course of the reward, who is paused, for how long
it runs.

`load` goes on where a former coordinator stopped or was killed. Times named `now` are seconds of the monotonic clock,
`wall` of the wall clock.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from services.coordinator.recent import Recent, Sample
from services.coordinator.summary import Minutes, sample, summary
from services.coordinator.totals import Totals
from services.coordinator.training import Training
from services.run_folder import write_atomic
from services.wire.messages import Telemetry

LONGEST_GAP = 60.0  # seconds that count as running while a killed coordinator was away
ALL = ""  # the key under which all robots together are kept

log = logging.getLogger(__name__)


@dataclass
class Ledger:
    """`before`: seconds the run had run when this coordinator began, at `began`; `paused`: robot -> who paused it."""

    began: float
    before: float = 0.0
    totals: Totals = field(default_factory=Totals)
    minutes: Minutes = field(default_factory=Minutes)
    training: Training = field(default_factory=Training)
    paused: dict[str, str] = field(default_factory=dict)
    recent: dict[str, Recent] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, wall: float, now: float) -> Ledger:
        """From the file of a former coordinator, a new one where there is none; what is not ours is set aside."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            gap = 0.0 if kept["ended"] else min(max(wall - kept["wall"], 0.0), LONGEST_GAP)
            minutes = Minutes({robot: [Sample(*mark) for mark in marks] for robot, marks in kept["minutes"].items()})
            return cls(now, kept["seconds"] + gap, Totals.from_json(kept["totals"]), minutes,
                       Training(**kept["training"]), dict(kept["paused"]))
        except FileNotFoundError:
            return cls(now)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = path.with_suffix(".bad")
            path.replace(aside)
            log.error("%s: not a coordinator's file (%s), kept as %s; former figures are lost", path, error, aside)
            return cls(now)

    def save(self, path: Path, wall: float, now: float, ended: bool) -> None:
        """Write it all, atomically. `ended`: the run ends here, rather than goes on without us."""
        minutes = {robot: [astuple(mark) for mark in marks] for robot, marks in self.minutes.marks.items()}
        write_atomic(path, json.dumps({
            "wall": wall, "seconds": self.seconds(now), "ended": ended, "paused": self.paused, "minutes": minutes,
            "training": asdict(self.training), "totals": self.totals.to_json()}))

    def seconds(self, now: float) -> float:
        """How long the run has run, over all starts."""
        return self.before + now - self.began

    def take(self, report: Telemetry) -> None:
        """Enter what a service reports."""
        self.totals.take(report)
        if report.kind == "learner":
            self.training.take(report)

    def tick(self, now: float) -> None:
        """Note where things stand; about once a second."""
        self.minutes.mark(self.totals, self.seconds(now))
        for robot in (ALL, *self.totals.names("robot")):
            self.recent.setdefault(robot, Recent()).add(sample(self.totals, now, robot))

    def summary(self, now: float) -> dict[str, Any]:
        """The content of summary.json."""
        last_minute = {robot: recent.reward_per_step() for robot, recent in self.recent.items()}
        return summary(self.totals, self.minutes, last_minute, self.training, self.seconds(now))
