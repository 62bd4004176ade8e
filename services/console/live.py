"""The live view: a run's status, drawn for a terminal of 80 columns or more.

`view` and `line` are pure: the same status gives the same picture. A dot says how something is (green: well, yellow:
look, red: act), figures keep their columns, and what nobody knows yet is a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from robots.monitors import Threshold
from services.coordinator.status import RobotStatus, ServiceStatus, Status

BARS = "▁▂▃▄▅▆▇█"
WELL = ("running", "armed")
ACT = ("fault", "dead")
UNKNOWN = "–"
SLIGHT = 0.1
WIDTH = 88  # columns; wider would only pull apart what belongs together
UNITS = {  # by the end of a gauge's name: what stands in its place, and how its values are written
    "_celsius": (" °C", ".1f"), "_newton_metres": (" N m", ".1f"), "_radians": (" rad", ".2f"),
    "_seconds": (" s", ".2f"), "_volts": (" V", ".2f"), "_ratio": ("", ".2f"),
}


def view(status: Status, remaining: float | None = None, note: str = "") -> RenderableType:
    """The whole picture. `remaining`: seconds until the run ends by itself; `note`: one more line, of what goes on."""
    parts = [_title(status, remaining), _members([*status.services, *status.robots]),
             *([_robots(status.robots)] if status.robots else []), *_gauges(status.robots),
             _figures(status), *([Text(note, style="bold")] if note else [])]
    spaced = [part for each in parts for part in (each, "")]
    return Constrain(Padding(Group(*spaced[:-1]), (1, 0)), WIDTH)


def line(status: Status) -> str:
    """The same in one line, for logs."""
    robots = [f"{r.name} {_state(r)}{f' ({r.detail})' if r.detail else ''} "
              f"{_number(r.control_hz, '.1f')} Hz speed {_number(r.speed, '.2f')} "
              f"p99 {_ms(r.control_period_seconds.get('p99'))} "
              f"missed {r.deadline_misses} unsent {r.unacknowledged_chunks}" for r in status.robots]
    troubled = [f"{s.name} {_state(s)}" for s in status.services if _colour(s) != "green"]
    learner = status.learner
    parts = [
        f"{duration(status.seconds)} {status.run}", *robots, f"steps {status.steps}",
        f"round trip {_ms(status.policy_round_trip_seconds.get('p99'))}",
        f"updates {learner.updates} {_number(learner.updates_per_second, '.1f')}/s ratio {_ratio(status)} "
        f"weights {_seconds(learner.weights_age_seconds.get('p50'))}",
        f"reward {_number(status.reward_per_step, '.3f')}/step", *troubled]
    return " | ".join(parts)


def sparkline(values: Sequence[float | None]) -> str:
    """One character per value, from the lowest to the highest of them; a space where there is none.

    Values that differ by less than `SLIGHT` of their size do not fill the height: noise is no mountain."""
    known = [v for v in values if v is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = max(high - low, SLIGHT * max(abs(low), abs(high))) or 1.0
    return "".join(" " if v is None else BARS[round((v - low) / span * (len(BARS) - 1))] for v in values)


def duration(seconds: float) -> str:
    """As 0:12:05."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _title(status: Status, remaining: float | None) -> RenderableType:
    title = Table.grid(expand=True)
    title.add_column()
    title.add_column(justify="right")
    clock = duration(status.seconds) + (f", {duration(remaining)} to go" if remaining is not None else "")
    state = "" if status.state == "running" else f" {status.state}"
    title.add_row(Text.assemble((status.run, "bold"), (state, "yellow")), Text(clock, style="dim"))
    return title


def _members(members: Sequence[ServiceStatus]) -> RenderableType:
    """Who is well has nothing to tell; the others say in their row what is the matter."""
    table = _table({"": 1, "service": 13, "state": 8, " ": 20}, {"heartbeat s": 11, "restarts": 8})
    for member in members:
        colour = _colour(member)
        table.add_row(
            Text("●", colour), member.name, _state(member), Text(member.detail, colour),
            f"{member.heartbeat_age:.1f}", Text(str(member.restarts), "yellow" if member.restarts else "dim"))
    return table


def _robots(robots: Sequence[RobotStatus]) -> RenderableType:
    table = _table({"robot": 15}, {"Hz": 5, "speed": 5, "p99 ms": 6, "late %": 6, "steps": 7, "action ms": 9,
                                   "unsent": 6})
    for robot in robots:
        table.add_row(
            robot.name, _number(robot.control_hz, ".1f"), _number(robot.speed, ".2f"),
            _number(_milli(robot.control_period_seconds.get("p99")), ".1f"), _late(robot), _count(robot.steps),
            _number(_milli(robot.action_age_seconds.get("p50")), ".1f"), str(robot.unacknowledged_chunks))
    return table


def _gauges(robots: Sequence[RobotStatus]) -> list[RenderableType]:
    """What is watched of robots, beside what warns of it and what stops them: one table for all that are watched
    alike."""
    alike: dict[tuple, list[RobotStatus]] = {}
    for robot in robots:
        watched = tuple((name, gauge["warns"], gauge["stops"]) for name, gauge in robot.gauges.items()
                        if gauge["warns"] is not None)
        alike.setdefault(watched, []).append(robot)
    return [_gauge_table(watched, of) for watched, of in alike.items() if watched]


def _gauge_table(watched: Sequence[tuple], robots: Sequence[RobotStatus]) -> RenderableType:
    table = _table({"gauges": 0}, {})
    table.columns[0].width = max(len("warns at"), *(len(robot.name) for robot in robots))  # headings may take two lines
    for name, *_ in watched:
        table.add_column(_heading(name), justify="right", vertical="bottom")
    for robot in robots:
        table.add_row(robot.name, *(_reading(name, robot) for name, *_ in watched))
    for title, limits in (("warns at", [warns for _, warns, _ in watched]),
                          ("stops at", [stops for _, _, stops in watched])):
        table.add_row(title, *(_number(limit, "g") for limit in limits), style="dim")
    return table


def _heading(gauge: str) -> str:
    end = next((end for end in UNITS if gauge.endswith(end)), "")
    return gauge.removesuffix(end).replace("_", " ") + UNITS.get(end, ("",))[0]


def _reading(gauge: str, robot: RobotStatus) -> Text:
    """Coloured by its limits; where it only warns, by whether the robot says so."""
    value, warns, stops = (robot.gauges[gauge][key] for key in ("value", "warns", "stops"))
    style = next((style for end, (_, style) in UNITS.items() if gauge.endswith(end)), ".4g")
    if stops in (None, warns):
        return Text(format(value, style), "yellow" if gauge in robot.detail else "")
    limits = Threshold(warns, stops)
    return Text(format(value, style), "red" if limits.stops(value) else "yellow" if limits.warns(value) else "")


def _figures(status: Status) -> RenderableType:
    learner, trip = status.learner, status.policy_round_trip_seconds
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("policy", f"round trip {_ms(trip.get('p50'))}, p99 {_ms(trip.get('p99'))}")
    grid.add_row("replay", f"{_count(status.replay.steps)} steps, "
                           f"{status.replay.unacknowledged_chunks} chunks unacknowledged")
    grid.add_row("learner", f"{_number(learner.updates_per_second, '.1f')} updates/s, train ratio {_ratio(status)}, "
                            f"weights {_seconds(learner.weights_age_seconds.get('p50'))} old")
    reward = Text(f"{_number(status.reward_per_step, '.3f')} per step over the last minute  ")
    grid.add_row("reward", reward.append(sparkline(status.reward_history), style="cyan"))
    return grid


def _table(left: Mapping[str, int], right: Mapping[str, int]) -> Table:
    """Columns of words, the last of which takes what room there is, then of figures; each at least this wide."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True, padding=(0, 1))
    for name, width in left.items():
        last = name == [*left][-1]
        table.add_column(name, min_width=width, ratio=1 if last else None, overflow="fold", no_wrap=not last)
    for name, width in right.items():
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    return table


def _state(service: ServiceStatus) -> str:
    """Who said that it ends is not missed afterwards."""
    return "dead" if service.alive == "dead" and service.state != "stopped" else service.state


def _colour(service: ServiceStatus) -> str:
    if _state(service) in ACT:
        return "red"
    return "green" if service.alive == "alive" and service.state in WELL and not service.detail else "yellow"


def _late(robot: RobotStatus) -> str:
    return f"{100 * robot.deadline_misses / robot.steps:.2f}" if robot.steps else UNKNOWN


def _ratio(status: Status) -> str:
    learner = status.learner
    return f"{_number(learner.train_ratio_achieved, '.1f')} of {_number(learner.train_ratio_wanted, 'g')}"


def _number(value: float | None, style: str) -> str:
    return UNKNOWN if value is None else format(value, style)


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _ms(seconds: float | None) -> str:
    return f"{_number(_milli(seconds), '.1f')} ms"


def _seconds(seconds: float | None) -> str:
    return f"{_number(seconds, '.1f')} s"


def _count(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10**6 else f"{count:,}".replace(",", " ")
