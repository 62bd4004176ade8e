"""Draws up the status of a run from who is here (roster) and what was counted (ledger). Pure."""

from __future__ import annotations

from services.coordinator.ledger import ALL, Ledger
from services.coordinator.recent import Recent
from services.coordinator.roster import Roster
from services.coordinator.status import LearnerStatus, ReplayStatus, RobotStatus, ServiceStatus, Status
from services.coordinator.summary import learner_figures, quantiles, replay_figures, restarts
from services.coordinator.totals import Totals

ORDER = ("replay", "learner", "policy")  # in which services follow the coordinator; others come last


def overview(roster: Roster, ledger: Ledger, stopping: bool, pid: int, now: float) -> Status:
    """The run at this moment, as the coordinator with process id `pid` sees it."""
    totals, state = ledger.totals, "stopping" if stopping else "running"
    ourselves = ServiceStatus("coordinator", "coordinator", state, "", "alive", 0.0, pid,
                              restarts(totals).get("coordinator", 0))
    everybody = ledger.recent.get(ALL, Recent())
    others = sorted(set(roster.members) - set(roster.of_kind("robot")),
                    key=lambda name: (_rank(roster.members[name].hello.kind), name))
    return Status(
        run=roster.run, state=state, seconds=ledger.seconds(now),
        steps=int(totals.value("robot", "robot_steps_total")),
        services=[ourselves, *(ServiceStatus(**_service(roster, totals, name, now)) for name in others)],
        robots=[_robot(roster, ledger, name, now) for name in roster.of_kind("robot")],
        replay=_replay(totals), learner=_learner(totals),
        policy_round_trip_seconds=quantiles(totals.histogram("robot", "robot_policy_round_trip_seconds"),
                                            p50=.5, p99=.99),
        reward_per_step=everybody.reward_per_step(), reward_history=everybody.history())


def _rank(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


def _service(roster: Roster, totals: Totals, name: str, now: float) -> dict:
    member = roster.members[name]
    return {"kind": member.hello.kind, "name": name, "state": member.state, "detail": member.detail,
            "alive": roster.alive(name, now), "heartbeat_age": now - member.heard, "pid": member.hello.pid,
            "restarts": restarts(totals).get(name, 0)}


def _robot(roster: Roster, ledger: Ledger, name: str, now: float) -> RobotStatus:
    totals, recent = ledger.totals, ledger.recent.get(name, Recent())

    def total(key: str) -> int:
        return int(totals.value("robot", key, name))

    def spread(key: str, **wanted: float) -> dict[str, float | None]:
        return quantiles(totals.histogram("robot", key, name), **wanted)

    return RobotStatus(
        **_service(roster, totals, name, now), control_hz=recent.rate(),
        speed=totals.gauge("robot", "robot_speed", name),
        control_period_seconds=spread("robot_control_period_seconds", p50=.5, p99=.99, max=1),
        deadline_misses=total("robot_deadline_misses_total"), fallback_actions=total("robot_fallback_actions_total"),
        steps=total("robot_steps_total"), episodes=total("robot_episodes_total"),
        action_age_seconds=spread("robot_action_age_seconds", p50=.5, p99=.99),
        policy_round_trip_seconds=spread("robot_policy_round_trip_seconds", p50=.5, p99=.99),
        unacknowledged_chunks=total("robot_unacknowledged_chunks"), spool_bytes=total("robot_spool_bytes"),
        weights_version=total("robot_weights_version"), reward_per_step=recent.reward_per_step(),
        reward_history=recent.history(), gauges=_gauges(totals, name))


def _gauges(totals: Totals, robot: str) -> dict[str, dict[str, float | None]]:
    values, warns, stops = (totals.readings("robot", metric, robot)
                            for metric in ("robot_body", "robot_body_warns", "robot_body_stops"))
    return {gauge: {"value": value, "warns": warns.get(gauge), "stops": stops.get(gauge)}
            for gauge, value in values.items()}


def _replay(totals: Totals) -> ReplayStatus:
    return ReplayStatus(steps=int(totals.value("replay", "replay_steps")), **replay_figures(totals),
                        unacknowledged_chunks=int(totals.value("robot", "robot_unacknowledged_chunks")))


def _learner(totals: Totals) -> LearnerStatus:
    version = totals.gauge("learner", "learner_weights_version")
    age = quantiles(totals.histogram("policy", "policy_weights_age_seconds"), p50=.5, max=1)
    return LearnerStatus(**learner_figures(totals), weights_version=-1 if version is None else int(version),
                         weights_age_seconds=age)
