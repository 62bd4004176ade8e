"""The figures of a run, added up over every start of every service.

Telemetry is cumulative since the boot of its sender, so a lost report costs nothing and a repeated one adds nothing.
When a sender starts anew, what its last boot had counted is kept and the new boot is added to it: no total ever falls
because something was killed. Gauges are what was heard last.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from services.metrics import METRICS
from services.quantiles import Histogram
from services.wire.messages import Telemetry

FORMER = 16  # boots remembered per sender, so that a late report of a former one is not taken for a new boot

Counts = dict[int, int]


@dataclass
class Account:
    """One sender: `former` boots, what they counted (`before`), and what the present boot reports (`now`)."""

    boot: str = ""
    time: float = 0.0  # of the last report, seconds of the sender's clock
    former: list[str] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    histograms_before: dict[str, Counts] = field(default_factory=dict)
    histograms_now: dict[str, Counts] = field(default_factory=dict)

    def take(self, report: Telemetry) -> None:
        """Replace what the present boot reports; begin a new boot where the report is of one."""
        boot = report.boot.hex()
        if boot in self.former:
            return
        if boot != self.boot:
            self._retire()
            self.boot = boot
        self.time = report.time / 1e9
        self.now = {key: value for key, value in report.values.items() if _known(key) and math.isfinite(value)}
        self.histograms_now = {key: counts for key, counts in report.histograms.items() if _known(key)}

    def value(self, key: str) -> float | None:
        """A counter or sum over all boots, or a gauge; None where it was never reported."""
        if key not in self.now and key not in self.before:
            return None
        if METRICS[key.partition(":")[0]].kind == "gauge":
            return self.now.get(key, self.before.get(key))
        return self.before.get(key, 0) + self.now.get(key, 0)

    def histogram(self, key: str) -> Histogram:
        """All boots merged."""
        merged = Histogram(self.histograms_before.get(key))
        merged.merge(self.histograms_now.get(key, {}))
        return merged

    def _retire(self) -> None:
        self.before = {key: self.value(key) for key in self.before | self.now}
        self.histograms_before = {
            key: self.histogram(key).counts for key in self.histograms_before | self.histograms_now}
        self.former = [*self.former, self.boot][-FORMER:] if self.boot else []
        self.now, self.histograms_now = {}, {}


class Totals:
    """The accounts of all senders, by kind and name."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], Account] = {}

    def take(self, report: Telemetry) -> None:
        """Enter a report."""
        self._accounts.setdefault((report.kind, report.name), Account()).take(report)

    def names(self, kind: str) -> list[str]:
        """Who of this kind ever reported."""
        return sorted(name for of, name in self._accounts if of == kind)

    def value(self, kind: str, key: str, name: str = "") -> float:
        """The total of one sender, or of all of a kind together; 0 where nothing was reported."""
        return sum(account.value(key) or 0 for account in self._of(kind, name))

    def gauge(self, kind: str, key: str, name: str = "") -> float | None:
        """A figure of one sender, or that only one of a kind has; None where it was not reported."""
        found = [value for account in self._of(kind, name) if (value := account.value(key)) is not None]
        return found[-1] if found else None

    def histogram(self, kind: str, key: str, name: str = "") -> Histogram:
        """The merged histogram of one sender, or of all of a kind."""
        merged = Histogram()
        for account in self._of(kind, name):
            merged.merge(account.histogram(key).counts)
        return merged

    def reported(self, kind: str, name: str) -> float:
        """When a sender reported last [s of its own clock]; 0 where it never did."""
        return max((account.time for account in self._of(kind, name)), default=0.0)

    def readings(self, kind: str, metric: str, name: str) -> dict[str, float]:
        """A gauge with a label as the present boot of one sender reported it last, by label; those that are finite."""
        return {key.partition(":")[2]: value for account in self._of(kind, name)
                for key, value in account.now.items() if key.partition(":")[0] == metric}

    def labels(self, kind: str, metric: str) -> dict[str, float]:
        """The totals of a metric with a label, by label."""
        keys = {key for account in self._of(kind, "") for key in account.before | account.now
                if key.startswith(metric + ":")}
        return {key.partition(":")[2]: self.value(kind, key) for key in sorted(keys)}

    def to_json(self) -> list[dict]:
        """Plain values that `from_json` takes back."""
        return [{"kind": kind, "name": name} | asdict(account) for (kind, name), account in self._accounts.items()]

    @classmethod
    def from_json(cls, values: list[dict]) -> Totals:
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError, AttributeError for anything else."""
        totals = cls()
        for entry in values:
            entry = dict(entry)
            for part in ("histograms_before", "histograms_now"):
                entry[part] = {key: {int(i): int(n) for i, n in counts.items()} for key, counts in entry[part].items()}
            who = entry.pop("kind"), entry.pop("name")
            totals._accounts[who] = Account(**entry)
        return totals

    def _of(self, kind: str, name: str) -> list[Account]:
        return [account for (of, who), account in self._accounts.items() if of == kind and name in ("", who)]


def _known(key: str) -> bool:
    return key.partition(":")[0] in METRICS
