"""What a run looks like at one moment: the answer to `status`, for the live view and for scripts.

`Answer.text` of `Ask("status")` is the JSON of a `Status`; figures that nobody has reported yet are null. Times are
seconds, rewards are per step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

BINS = 30  # of the sparkline, over one minute


@dataclass(frozen=True)
class ServiceStatus:
    """One service or robot. `state` and `detail` are those of its last heartbeat; `alive`: alive | suspect | dead."""

    kind: str
    name: str
    state: str
    detail: str
    alive: str
    heartbeat_age: float
    pid: int
    restarts: int


@dataclass(frozen=True)
class RobotStatus(ServiceStatus):
    """`control_hz`: rate of the control loop over the last seconds, `speed`: of the robot's clock, times real time; the
    other figures are those of the whole run.
    `reward_per_step`: over the last minute; `reward_history`: in `BINS` bins, oldest first, null without steps.
    `gauges`: of its health, by name, the `value` now and what it `warns` and `stops` at, null where it does not."""

    control_hz: float | None = None
    speed: float | None = None
    control_period_seconds: dict[str, float | None] = field(default_factory=dict)  # p50 p99 max
    deadline_misses: int = 0
    fallback_actions: int = 0
    steps: int = 0
    episodes: int = 0
    action_age_seconds: dict[str, float | None] = field(default_factory=dict)  # p50 p99
    policy_round_trip_seconds: dict[str, float | None] = field(default_factory=dict)  # p50 p99
    unacknowledged_chunks: int = 0
    spool_bytes: int = 0
    weights_version: int = -1
    reward_per_step: float | None = None
    reward_history: list[float | None] = field(default_factory=list)
    gauges: dict[str, dict[str, float | None]] = field(default_factory=dict)  # value warns stops


@dataclass(frozen=True)
class ReplayStatus:
    """Steps held, inserted and acknowledged over all starts; chunks dropped as duplicates or found corrupt; chunks that
    robots hold and nobody acknowledged yet."""

    steps: int = 0
    inserted: int = 0
    acknowledged: int = 0
    duplicates_dropped: int = 0
    corrupt: int = 0
    unacknowledged_chunks: int = 0


@dataclass(frozen=True)
class LearnerStatus:
    """`weights_version`: newest published; `weights_age_seconds`: of the weights that choose actions."""

    updates: int = 0
    updates_per_second: float | None = None
    train_ratio_wanted: float | None = None
    train_ratio_achieved: float | None = None
    weights_version: int = -1
    weights_age_seconds: dict[str, float | None] = field(default_factory=dict)  # p50 max


@dataclass(frozen=True)
class Status:
    """`state`: running | stopping; `seconds`: how long the run has run, over all starts; `steps` of all robots.
    `services`: all but the robots, in the order coordinator, replay, learner, policy, others. `reward_*` and
    `policy_round_trip_seconds` are over all robots."""

    run: str
    state: str
    seconds: float
    steps: int
    services: list[ServiceStatus]
    robots: list[RobotStatus]
    replay: ReplayStatus
    learner: LearnerStatus
    policy_round_trip_seconds: dict[str, float | None]
    reward_per_step: float | None
    reward_history: list[float | None]

    def to_json(self) -> str:
        """Plain JSON of all of it."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Status:
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {
            "services": [ServiceStatus(**service) for service in values["services"]],
            "robots": [RobotStatus(**robot) for robot in values["robots"]],
            "replay": ReplayStatus(**values["replay"]), "learner": LearnerStatus(**values["learner"])})
