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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from services.quantiles import Histogram, bucket_of, middle

PREFIX = "daydreamer_"

# Upper bounds of what Prometheus sees of a histogram, where answers to questions about it lie.
PERIODS = (.5, .8, .9, .95, .98, 1.02, 1.05, 1.1, 1.2, 1.5, 2., 3., 5., 10., 20.)  # in control periods
ANSWER = (.001, .002, .005, .01, .015, .02, .025, .03, .04, .05, .075, .1, .2, .5, 1., 2.)
DISK = (.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1., 2., 5.)
UPDATE = (.005, .01, .02, .05, .1, .2, .3, .5, .75, 1., 2., 5., 10., 30.)
AGE = (1., 2., 3., 5., 10., 20., 30., 60., 120., 300., 600.)
ROBOTS = (1., 2., 4., 8., 16., 32., 64.)
ITERATIONS = (.5, 1., 2., 4., 6., 8., 16., 32.)

STATES = ("starting", "waiting", "running", "armed", "disarmed", "paused", "stopping", "stopped", "fault")


@dataclass(frozen=True)
class Declared:
    """One metric: its name without prefix, what it is, the one label it may have beside the service's kind and name,
    and the upper bounds of a histogram's buckets."""

    name: str
    kind: str  # counter | sum | gauge | histogram
    help: str
    label: str = ""
    buckets: tuple[float, ...] = ()


METRICS = {m.name: m for m in (
    Declared("robot_steps_total", "counter", "Steps recorded."),
    Declared("robot_episodes_total", "counter", "Episodes begun."),
    Declared("robot_reward_sum", "sum", "Reward of all recorded steps together."),
    Declared("robot_control_period_seconds", "histogram", "Time between the starts of consecutive control periods.",
             buckets=PERIODS),
    Declared("robot_deadline_misses_total", "counter", "Control periods that began over 5 ms after they were due."),
    Declared("robot_fallback_actions_total", "counter", "Steps that held, because no answer came in time."),
    Declared("robot_random_actions_total", "counter", "Steps explored at random because there were no weights yet."),
    Declared("robot_clipped_actions_total", "counter", "Steps whose applied action differs from the requested one."),
    Declared("robot_bad_observations_total", "counter", "Readings with NaN or infinity, neither recorded nor sent."),
    Declared("robot_link_losses_total", "counter", "Times the body was lost and connected anew."),
    Declared("robot_dropped_steps_total", "counter", "Steps lost because the spool did not keep up."),
    Declared("robot_action_age_seconds", "histogram", "From an observation to applying the action chosen for it.",
             buckets=ANSWER),
    Declared("robot_policy_round_trip_seconds", "histogram", "From sending an observation to its answer.",
             buckets=ANSWER),
    Declared("robot_policy_refusals_total", "counter", "Observations that the policy server did not act on.", "reason"),
    Declared("robot_speed", "gauge", "How many times as fast as real time the robot's clock runs."),
    Declared("robot_clock_seconds_total", "counter", "Time of the robot's own clock that its control loop ran."),
    Declared("robot_weights_version", "gauge", "Version of the weights that chose the newest action; -1: none."),
    Declared("robot_unacknowledged_chunks", "gauge", "Chunks in the spool, not yet known to be in the replay."),
    Declared("robot_spool_bytes", "gauge", "Size of the spool on disk."),
    Declared("robot_inner_overruns", "gauge", "Late periods of the body's inner loop since the body started."),
    Declared("robot_body", "gauge", "Health of the body by name of the reading, in base units.", "reading"),
    Declared("robot_body_warns", "gauge", "From which value on a reading of the body is warned of.", "reading"),
    Declared("robot_body_stops", "gauge", "From which value on a reading of the body stops the robot.", "reading"),
    Declared("state", "gauge", "1 for the state that a process is in, 0 for the others.", "state"),
    Declared("coordinator_members", "gauge", "Services and robots that have not left in order, by whether they live.",
             "alive"),
    Declared("clock_offset_seconds", "gauge", "The coordinator's monotonic clock minus this one's."),
    Declared("control_round_trip_seconds", "histogram", "From a heartbeat to its answer.", buckets=ANSWER),
    Declared("bad_frames_total", "counter", "Messages that were not ours or not well formed, by port.", "port"),
    Declared("replay_steps", "gauge", "Steps held now."),
    Declared("replay_inserted_steps", "gauge", "Steps ever stored, over all starts."),
    Declared("replay_acknowledged_chunks", "gauge", "Chunks on disk and acknowledged, over all starts."),
    Declared("replay_acknowledged_steps", "gauge", "Steps on disk and acknowledged, over all starts."),
    Declared("replay_lead_steps", "gauge", "Steps collected that learners have yet to replay as often as wanted."),
    Declared("replay_wanted_steps_per_second", "gauge", "Steps that robots should collect, at speed auto."),
    Declared("replay_duplicates_dropped_total", "counter", "Chunks that arrived again and were dropped."),
    Declared("replay_corrupt_chunks", "gauge", "Chunks quarantined in the log or refused as bad."),
    Declared("replay_sampled_steps_total", "counter", "Steps handed to learners."),
    Declared("replay_limiter_waits_total", "counter", "Sample requests put off, by why.", "why"),
    Declared("replay_sync_seconds", "histogram", "Duration of a group fsync.", buckets=DISK),
    Declared("replay_sample_seconds", "histogram", "Duration of drawing one batch.", buckets=DISK),
    Declared("learner_updates", "gauge", "Updates made, over all starts."),
    Declared("learner_updates_per_second", "gauge", "Updates per second lately."),
    Declared("learner_step_seconds", "histogram", "Duration of one update.", buckets=UPDATE),
    Declared("learner_skipped_updates_total", "counter", "Updates skipped because a loss was not finite."),
    Declared("learner_replayed_steps", "gauge", "Steps replayed, over all starts."),
    Declared("learner_train_ratio_wanted", "gauge", "Replayed steps per collected step, as set."),
    Declared("learner_train_ratio_achieved", "gauge", "Replayed steps per collected step, as happened."),
    Declared("learner_weights_version", "gauge", "Newest published version of the weights; -1: none."),
    Declared("learner_checkpoints_total", "counter", "Checkpoints written."),
    Declared("learner_metric", "gauge", "Losses and other figures of the newest update, by name.", "metric"),
    Declared("policy_requests_total", "counter", "Requests for an action."),
    Declared("policy_batch_robots", "histogram", "Robots answered together.", buckets=ROBOTS),
    Declared("policy_act_seconds", "histogram", "Duration of choosing actions for one batch.",
             buckets=ANSWER),
    Declared("policy_plan_seconds", "histogram", "Duration of planning for one batch, where the behaviour plans.",
             buckets=ANSWER),
    Declared("policy_plan_iterations", "histogram", "Iterations of the planner that fitted before the deadline.",
             buckets=ITERATIONS),
    Declared("policy_weights_version", "gauge", "Version of the weights in use; -1: none."),
    Declared("policy_weights_age_seconds", "histogram", "Age of the weights in use, seen at each batch.",
             buckets=AGE),
    Declared("policy_refused_weights_total", "counter", "Versions that did not fit or did not match their digest."),
    Declared("policy_rebuilt_carries_total", "counter", "Carries rebuilt from the last steps of a robot."),
    Declared("restarts_total", "counter", "Restarts by the supervisor, by service.", "service"),
)}


class Metrics:
    """The numbers of one service. Names are those of `METRICS`; another name is a KeyError. `period`: seconds between
    a robot's control steps."""

    def __init__(self, kind: str, name: str, period: float = 0.05) -> None:
        self._labels, self._period = {"kind": kind, "name": name}, period
        self._process = ProcessCollector(namespace=PREFIX.rstrip("_"), registry=None)
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}
        self._followed: dict[str, Callable[[], float]] = {}
        self._histograms: dict[str, Histogram] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def count(self, name: str, n: float = 1, label: str = "") -> None:
        """Add `n` to a counter or sum."""
        key = _key(name, label, "counter", "sum")
        with self._lock:
            self._values[key] = self._values.get(key, 0) + n

    def follow(self, name: str, total: Callable[[], float], label: str = "") -> None:
        """A counter is what somebody else counted since the process began; any thread may ask `total`."""
        key = _key(name, label, "counter")
        with self._lock:
            self._followed[key] = total

    def state(self, state: str) -> None:
        """The state that the process is in, one of `STATES`."""
        for other in STATES:
            self.gauge("state", other == state, other)

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
            return self._values | {key: float(total()) for key, total in self._followed.items()}

    def histograms(self) -> dict[str, dict[int, int]]:
        """Sparse counts now, as in `Telemetry.histograms`."""
        with self._lock:
            return {name: dict(histogram.counts) for name, histogram in self._histograms.items()}

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
            family.add_metric(list(self._labels.values()), *_cumulative(counts, self._bounds(name)))
            yield family
        for family in self._process.collect():  # memory, processor time, open files
            family.samples = [sample._replace(labels=self._labels) for sample in family.samples]
            yield family

    def _bounds(self, name: str) -> list[float]:
        buckets = METRICS[name].buckets
        return [bound * self._period for bound in buckets] if buckets is PERIODS else list(buckets)


def _key(name: str, label: str, *kinds: str) -> str:
    declared = METRICS[name]
    if declared.kind not in kinds or bool(label) != bool(declared.label):
        raise KeyError(f"{name} is a {declared.kind} {'with' if declared.label else 'without'} a label")
    return f"{name}:{label}" if label else name


def _family(declared: Declared, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    labels = [*labels, declared.label] if declared.label else labels
    kind = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    return kind(PREFIX + declared.name, declared.help, labels=labels)


def _cumulative(counts: dict[int, int], bounds: list[float]) -> tuple[list[tuple[str, float]], float]:
    """Prometheus buckets (upper bound, values up to it) and the sum of all values, both within two per cent.

    A bucket of ours that a bound lies in counts as below it, so that 2 is among the values up to 2."""
    buckets = []
    for bound in bounds:
        highest = bucket_of(bound)
        buckets.append((f"{bound:.6g}", float(sum(n for bucket, n in counts.items() if bucket <= highest))))
    total = sum(middle(bucket) * n for bucket, n in counts.items())
    return [*buckets, ("+Inf", float(sum(counts.values())))], total
