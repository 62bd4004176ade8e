"""Every metric of the project, declared once, and the store that one process keeps of them.

A service counts into its `Metrics`; two views read it: `values` and `histograms` travel to the coordinator in
`Telemetry`, and `registry` shows the same numbers to Prometheus as `daydreamer_<name>`. Any thread may call anything
here.

A `counter` grows from zero with each start of a process, a `sum` does too but may fall; the coordinator adds both up
over restarts. A `gauge` is what it was last set to: what a service restores from disk (steps in the log, updates made)
is one. A metric with a `label` is kept per value of that label, in `Telemetry` under the key `name:value`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from services.quantiles import Histogram, middle

PREFIX = "daydreamer_"
BOUNDS = (.001, .002, .005, .01, .02, .03, .04, .045, .05, .055, .06, .08, .1, .2, .5, 1., 2., 5., 10., 30., 60., 120.)


@dataclass(frozen=True)
class Declared:
    """One metric: its name without prefix, what it is, and the one label it may have beside the service's name."""

    name: str
    kind: str  # counter | sum | gauge | histogram
    help: str
    label: str = ""


METRICS = {m.name: m for m in (
    Declared("robot_steps_total", "counter", "Steps recorded."),
    Declared("robot_episodes_total", "counter", "Episodes begun."),
    Declared("robot_reward_sum", "sum", "Reward of all recorded steps together."),
    Declared("robot_control_period_seconds", "histogram", "Time between the starts of consecutive control periods."),
    Declared("robot_deadline_misses_total", "counter", "Control periods that began over 5 ms after they were due."),
    Declared("robot_fallback_actions_total", "counter", "Steps that held, because no answer came in time."),
    Declared("robot_random_actions_total", "counter", "Steps explored at random because there were no weights yet."),
    Declared("robot_clipped_actions_total", "counter", "Steps whose applied action differs from the requested one."),
    Declared("robot_bad_observations_total", "counter", "Readings with NaN or infinity, neither recorded nor sent."),
    Declared("robot_link_losses_total", "counter", "Times the body was lost and connected anew."),
    Declared("robot_dropped_steps_total", "counter", "Steps lost because the spool did not keep up."),
    Declared("robot_action_age_seconds", "histogram", "From an observation to applying the action chosen for it."),
    Declared("robot_policy_round_trip_seconds", "histogram", "From sending an observation to its answer."),
    Declared("robot_policy_refusals_total", "counter", "Observations that the policy server did not act on.", "reason"),
    Declared("robot_weights_version", "gauge", "Version of the weights that chose the newest action; -1: none."),
    Declared("robot_unacknowledged_chunks", "gauge", "Chunks in the spool, not yet known to be in the replay."),
    Declared("robot_spool_bytes", "gauge", "Size of the spool on disk."),
    Declared("robot_inner_overruns", "gauge", "Late periods of the body's inner loop since the body started."),
    Declared("robot_body", "gauge", "Health of the body by name of the reading, in base units.", "reading"),
    Declared("clock_offset_seconds", "gauge", "The coordinator's monotonic clock minus this one's."),
    Declared("control_round_trip_seconds", "histogram", "From a heartbeat to its answer."),
    Declared("bad_frames_total", "counter", "Messages that were not ours or not well formed, by port.", "port"),
    Declared("replay_steps", "gauge", "Steps held now."),
    Declared("replay_inserted_steps", "gauge", "Steps ever stored, over all starts."),
    Declared("replay_acknowledged_chunks", "gauge", "Chunks on disk and acknowledged, over all starts."),
    Declared("replay_acknowledged_steps", "gauge", "Steps on disk and acknowledged, over all starts."),
    Declared("replay_duplicates_dropped_total", "counter", "Chunks that arrived again and were dropped."),
    Declared("replay_corrupt_chunks", "gauge", "Chunks quarantined in the log or refused as bad."),
    Declared("replay_sampled_steps_total", "counter", "Steps handed to learners."),
    Declared("replay_limiter_waits_total", "counter", "Sample requests put off, by why.", "why"),
    Declared("replay_sync_seconds", "histogram", "Duration of a group fsync."),
    Declared("replay_sample_seconds", "histogram", "Duration of drawing one batch."),
    Declared("learner_updates", "gauge", "Updates made, over all starts."),
    Declared("learner_updates_per_second", "gauge", "Updates per second lately."),
    Declared("learner_step_seconds", "histogram", "Duration of one update."),
    Declared("learner_skipped_updates_total", "counter", "Updates skipped because a loss was not finite."),
    Declared("learner_replayed_steps", "gauge", "Steps replayed, over all starts."),
    Declared("learner_train_ratio_wanted", "gauge", "Replayed steps per collected step, as set."),
    Declared("learner_train_ratio_achieved", "gauge", "Replayed steps per collected step, as happened."),
    Declared("learner_weights_version", "gauge", "Newest published version of the weights; -1: none."),
    Declared("learner_checkpoints_total", "counter", "Checkpoints written."),
    Declared("learner_metric", "gauge", "Losses and other figures of the newest update, by name.", "metric"),
    Declared("policy_requests_total", "counter", "Requests for an action."),
    Declared("policy_batch_robots", "histogram", "Robots answered together."),
    Declared("policy_act_seconds", "histogram", "Duration of choosing actions for one batch."),
    Declared("policy_weights_version", "gauge", "Version of the weights in use; -1: none."),
    Declared("policy_weights_age_seconds", "histogram", "Age of the weights in use, seen at each batch."),
    Declared("policy_refused_weights_total", "counter", "Versions that did not fit or did not match their digest."),
    Declared("policy_rebuilt_carries_total", "counter", "Carries rebuilt from the last steps of a robot."),
    Declared("restarts_total", "counter", "Restarts by the supervisor, by service.", "service"),
)}


class Metrics:
    """The numbers of one service. Names are those of `METRICS`; another name is a KeyError."""

    def __init__(self, kind: str, name: str) -> None:
        self._labels = {"kind": kind, "name": name}
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}
        self._histograms: dict[str, Histogram] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def count(self, name: str, n: float = 1, label: str = "") -> None:
        """Add `n` to a counter or sum."""
        key = _key(name, label, "counter", "sum")
        with self._lock:
            self._values[key] = self._values.get(key, 0) + n

    def gauge(self, name: str, value: float, label: str = "") -> None:
        """Set a gauge."""
        key = _key(name, label, "gauge")
        with self._lock:
            self._values[key] = float(value)

    def observe(self, name: str, value: float) -> None:
        """Count a value into a histogram."""
        key = _key(name, "", "histogram")
        with self._lock:
            self._histograms.setdefault(key, Histogram()).observe(value)

    def values(self) -> dict[str, float]:
        """Counters, sums and gauges now, as in `Telemetry.values`."""
        with self._lock:
            return dict(self._values)

    def histograms(self) -> dict[str, dict[int, int]]:
        """Sparse counts now, as in `Telemetry.histograms`."""
        with self._lock:
            return {name: dict(histogram.counts) for name, histogram in self._histograms.items()}

    def serve(self, port: int, host: str = "127.0.0.1") -> int:
        """Show everything at http://host:port/metrics until the process ends. Returns the port (0: a free one)."""
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        return server.server_port

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: Prometheus asks this when the store registers itself."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The Prometheus view (prometheus_client's collector protocol)."""
        families: dict[str, Metric] = {}
        for key, value in self.values().items():
            declared, label = METRICS[key.partition(":")[0]], key.partition(":")[2]
            family = families.setdefault(declared.name, _family(declared, list(self._labels)))
            family.add_metric([*self._labels.values(), *([label] if declared.label else [])], value)
        yield from families.values()
        for name, counts in self.histograms().items():
            family = HistogramMetricFamily(PREFIX + name, METRICS[name].help, labels=list(self._labels))
            family.add_metric(list(self._labels.values()), *_cumulative(counts))
            yield family


def _key(name: str, label: str, *kinds: str) -> str:
    declared = METRICS[name]
    if declared.kind not in kinds or bool(label) != bool(declared.label):
        raise KeyError(f"{name} is a {declared.kind} {'with' if declared.label else 'without'} a label")
    return f"{name}:{label}" if label else name


def _family(declared: Declared, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    labels = [*labels, declared.label] if declared.label else labels
    kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    return kind(PREFIX + declared.name, declared.help, labels=labels)


def _cumulative(counts: dict[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Prometheus buckets (upper bound, values up to it) and the sum of all values."""
    values = [(middle(bucket), n) for bucket, n in counts.items()]
    buckets = [(str(bound), float(sum(n for value, n in values if value <= bound))) for bound in BOUNDS]
    return [*buckets, ("+Inf", float(sum(counts.values())))], sum(value * n for value, n in values)
