"""`summary.json`: what a run amounts to, in a handful of figures, for people and for scripts that compare runs.

    steps episodes robot_seconds control_period_seconds{p50 p99 max} deadline_misses fallback_actions
    policy_round_trip_seconds{p50 p99} replay{inserted acknowledged duplicates_dropped corrupt} learner{updates
    updates_per_second train_ratio_wanted train_ratio_achieved} weights_age_seconds{p50 max}
    reward_per_step{first_minute last_minute by_minute} restarts{service: n} seconds robots{name: the figures of one
    robot}

Everything is over all starts of the run. Figures that nobody reported are null. The figures of one robot stand at the
top and, with several robots, per robot under `robots` too, where the top has them together.

`robot_seconds`: by the robots' own clocks, while their control loops ran; `seconds` are the wall's.
`updates_per_second`: while the learner had something to train on, see `Training`; the live status shows the rate of
the last seconds instead. `train_ratio_achieved`: steps replayed per step in the replay, those of the prefill included.
`weights_age_seconds`: since the learner published them, of the weights in use, seen whenever actions are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

from services.coordinator.recent import Sample, reward_per_step
from services.coordinator.totals import Totals
from services.coordinator.training import Training
from services.quantiles import Histogram

MINUTE = 60.0


class Minutes:
    """The course of the reward: totals of each robot at the end of every full minute of the run."""

    def __init__(self, marks: dict[str, list[Sample]] | None = None) -> None:
        self.marks = marks or {}

    def mark(self, totals: Totals, seconds: float) -> None:
        """Note the totals where a minute is full. A robot that came late has nothing in the minutes before it."""
        minute = int(seconds // MINUTE)
        for robot in totals.names("robot"):
            marks = self.marks.setdefault(robot, [Sample(0, 0, 0, 0, 0)] * (minute + 1))
            while len(marks) <= minute:
                marks.append(sample(totals, seconds, robot))

    def by_minute(self, robot: str = "") -> list[float | None]:
        """Reward per step of each full minute, of one robot or of all together."""
        series = [marks for name, marks in self.marks.items() if robot in ("", name)]
        added = [together(samples) for samples in zip(*series)]
        return [reward_per_step(a, b) for a, b in zip(added, added[1:])]


def together(samples: Iterable[Sample]) -> Sample:
    """Samples of several robots at one moment, as one."""
    return Sample(*map(sum, zip(*map(astuple, samples))))


def sample(totals: Totals, time: float, robot: str = "") -> Sample:
    """The totals of a robot, or of all, as one sample."""
    periods = totals.histogram("robot", "robot_control_period_seconds", robot).total
    return Sample(time, totals.value("robot", "robot_steps_total", robot),
                  totals.value("robot", "robot_reward_sum", robot), periods, totals.reported("robot", robot))


def summary(totals: Totals, minutes: Minutes, last_minute: dict[str, float | None], training: Training,
            seconds: float) -> dict[str, Any]:
    """The content of summary.json. `last_minute`: reward per step in the last minute by robot, "" for all of them."""
    robots = totals.names("robot")
    figures = {name: robot_figures(totals, minutes, last_minute, name) for name in robots} if len(robots) > 1 else {}
    return robot_figures(totals, minutes, last_minute, "") | {
        "replay": replay_figures(totals), "learner": learner_figures(totals) | {"updates_per_second": training.rate},
        "weights_age_seconds": quantiles(totals.histogram("policy", "policy_weights_age_seconds"), p50=.5, max=1),
        "restarts": restarts(totals), "seconds": round(seconds, 3), "robots": figures}


def robot_figures(totals: Totals, minutes: Minutes, last_minute: dict[str, float | None], robot: str) -> dict[str, Any]:
    """The figures of one robot, or of all together for ""."""
    by_minute = minutes.by_minute(robot)
    last = last_minute.get(robot)
    return {"steps": int(totals.value("robot", "robot_steps_total", robot)),
            "episodes": int(totals.value("robot", "robot_episodes_total", robot)),
            "robot_seconds": round(totals.value("robot", "robot_clock_seconds_total", robot), 3),
            "control_period_seconds": quantiles(totals.histogram("robot", "robot_control_period_seconds", robot),
                                                p50=.5, p99=.99, max=1),
            "deadline_misses": int(totals.value("robot", "robot_deadline_misses_total", robot)),
            "fallback_actions": int(totals.value("robot", "robot_fallback_actions_total", robot)),
            "policy_round_trip_seconds": quantiles(totals.histogram("robot", "robot_policy_round_trip_seconds", robot),
                                                   p50=.5, p99=.99),
            "reward_per_step": {"first_minute": by_minute[0] if by_minute else last,
                                "last_minute": last if last is not None or not by_minute else by_minute[-1],
                                "by_minute": by_minute}}


def replay_figures(totals: Totals) -> dict[str, int]:
    """Steps inserted and acknowledged; chunks dropped as duplicates or found corrupt."""
    figures = {"inserted": "replay_inserted_steps", "acknowledged": "replay_acknowledged_steps",
               "duplicates_dropped": "replay_duplicates_dropped_total", "corrupt": "replay_corrupt_chunks"}
    return {name: int(totals.value("replay", key)) for name, key in figures.items()}


def learner_figures(totals: Totals) -> dict[str, float | int | None]:
    """Updates over all starts, how fast they are made lately, and how much is replayed."""
    return {"updates": int(totals.value("learner", "learner_updates"))} | {
        name: totals.gauge("learner", f"learner_{name}")
        for name in ("updates_per_second", "train_ratio_wanted", "train_ratio_achieved")}


def restarts(totals: Totals) -> dict[str, int]:
    """How often the supervisor started each service again."""
    return {service: int(n) for service, n in totals.labels("supervisor", "restarts_total").items()}


def quantiles(histogram: Histogram, **wanted: float) -> dict[str, float | None]:
    """Named quantiles of a histogram, rounded to five digits; null without values."""
    found = {name: histogram.quantile(q) for name, q in wanted.items()}
    return {name: value if value is None else float(f"{value:.5g}") for name, value in found.items()}
