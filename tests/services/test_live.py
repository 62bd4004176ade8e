"""What somebody sees who watches a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from services.console import live
from services.console.screen import screen
from services.coordinator.status import LearnerStatus, ReplayStatus, RobotStatus, ServiceStatus, Status


def _service(name: str, state: str = "running", alive: str = "alive", detail: str = "",
             restarts: int = 0) -> ServiceStatus:
    return ServiceStatus(name, name, state, detail, alive, 0.3, 4711, restarts)


def _robot(name: str = "a1_walk-0", state: str = "armed", **figures) -> RobotStatus:
    return RobotStatus("robot", name, state, figures.pop("detail", ""), "alive", 0.2, 4712, 0, **figures)


ROBOT = _robot(control_hz=20.01, speed=0.8412, control_period_seconds={"p50": 0.05, "p99": 0.0512, "max": 0.06},
               deadline_misses=3, steps=15234, action_age_seconds={"p50": 0.0062, "p99": 0.012},
               unacknowledged_chunks=7)
STATUS = Status(
    "a1_walk", "running", 761.2, 15234,
    [_service("replay"), _service("learner", restarts=2), _service("policy"), _service("coordinator")], [ROBOT],
    ReplayStatus(steps=15000, inserted=15000, acknowledged=15000, unacknowledged_chunks=7),
    LearnerStatus(2855, 3.74, 96.0, 95.8, 17, {"p50": 2.3, "max": 5.0}),
    {"p50": 0.0049, "p99": 0.0112}, 7.931, [5.0, None, 6.0, 8.0])
EMPTY = Status("a1_walk", "running", 0.4, 0, [], [], ReplayStatus(), LearnerStatus(), {}, None, [])


def _drawn(status: Status, width: int = 80, **more) -> str:
    console = Console(width=width, force_terminal=True, record=True, file=open("/dev/null", "w"))
    with console.file:
        console.print(live.view(status, **more))
        return console.export_text()


def test_the_view_shows_every_figure_that_matters():
    drawn = _drawn(STATUS, remaining=1039.0)
    for figure in ("a1_walk", "0:12:41", "0:17:19 to go", "learner", "running", "0.3", "armed", "20.0", "0.84", "51.2",
                   "0.02", "15 234", "6.2", "7 chunks unacknowledged", "round trip 4.9 ms, p99 11.2 ms",
                   "3.7 updates/s", "train ratio 95.8 of 96", "weights 2.3 s old", "7.931 per step", "▁ ▃█"):
        assert figure in drawn


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("robots", [0, 1, 4])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_cut(width, robots):
    status = replace(STATUS, robots=[replace(ROBOT, name=f"a1_walk-{n}", steps=9_999_999) for n in range(robots)])
    drawn = _drawn(status, width, remaining=5000.0, note="stopping")
    assert max(map(cell_len, drawn.splitlines())) <= width
    assert "…" not in drawn and all(f"a1_walk-{n}" in drawn for n in range(robots))


def test_what_nobody_knows_yet_is_a_dash():
    assert "round trip – ms, p99 – ms" in _drawn(EMPTY)
    assert "reward –/step" in live.line(EMPTY)


def test_the_view_does_not_jump_while_only_figures_change():
    later = replace(STATUS, seconds=762.2, robots=[replace(ROBOT, steps=15254, control_hz=19.99)])
    shapes = [[len(line.rstrip()) for line in _drawn(status).splitlines()] for status in (STATUS, later)]
    assert shapes[0] == shapes[1]


def _gauge(value: float, warns: float | None = None, stops: float | None = None) -> dict[str, float | None]:
    return {"value": value, "warns": warns, "stops": stops}


ARM = {"effort_ratio": _gauge(0.412, 0.9), "torque_residual_ratio": _gauge(0.05, 0.6), "speed_ratio": _gauge(1.0),
       "temperature_celsius": _gauge(32.0, 60.0, 75.0), "camera_age_seconds": _gauge(0.033, 0.3),
       "link_age_seconds": _gauge(0.004, 0.1), "overrun_ratio": _gauge(0.0, 0.05)}


@pytest.mark.parametrize("width", [80, 100])
def test_what_is_watched_of_robots_stands_beside_what_warns_and_what_stops(width):
    robots = [replace(ROBOT, name=f"ur5e-{n}", gauges=ARM | {"temperature_celsius": _gauge(32.04 + n, 60.0, 75.0)})
              for n in range(2)]
    drawn = _drawn(replace(STATUS, robots=robots), width)
    rows = {row.split("  ")[0]: row.split()[-6:] for row in drawn.splitlines() if "0.41" in row or " at " in row}
    assert rows == {"ur5e-0": ["0.41", "0.05", "32.0", "0.03", "0.00", "0.00"],
                    "ur5e-1": ["0.41", "0.05", "33.0", "0.03", "0.00", "0.00"],
                    "warns at": ["0.9", "0.6", "60", "0.3", "0.1", "0.05"],
                    "stops at": ["–", "–", "75", "–", "–", "–"]}
    assert "effort" in drawn and "°C" in drawn and "speed ratio" not in drawn  # nobody watches the last
    assert max(map(cell_len, drawn.splitlines())) <= width


def test_robots_that_are_watched_unlike_each_other_stand_apart():
    robots = [replace(ROBOT, name="near", gauges={"tilt_radians": _gauge(0.2, 0.6, 1.0)}),
              replace(ROBOT, name="far", gauges={"battery_ratio": _gauge(0.5, 0.3, 0.1)})]
    drawn = _drawn(replace(STATUS, robots=robots))
    assert drawn.count("stops at") == 2 and drawn.index("tilt rad") < drawn.index("battery\n")
    assert "warns at" not in _drawn(STATUS)


@pytest.mark.parametrize(("gauge", "told", "colour"), [
    (_gauge(0.25, 0.3, 0.1), "", "33"), (_gauge(0.05, 0.3, 0.1), "", "31"), (_gauge(0.5, 0.3, 0.1), "", ""),
    (_gauge(0.5, 0.3), "", ""), (_gauge(0.5, 0.3, 0.3), "", ""),
    (_gauge(0.25, 0.3), "battery_ratio 0.25 (warns at 0.3)", "33")])
def test_a_gauge_is_yellow_where_it_warns_and_red_where_it_stops(gauge, told, colour):
    """A battery; of one that only warns nobody but the robot knows which way it is watched."""
    status = replace(STATUS, robots=[replace(ROBOT, detail=told, gauges={"battery_ratio": gauge})])
    console = Console(width=80, force_terminal=True, color_system="standard", record=True, file=open("/dev/null", "w"))
    with console.file:
        console.print(live.view(status))
        [row] = [row for row in console.export_text(styles=True).splitlines() if f"{gauge['value']:.2f}" in row
                 and "warns" not in row]
    assert (f"\x1b[{colour}m" in row) == bool(colour)


def test_a_service_in_trouble_says_why():
    faulty = replace(STATUS, robots=[replace(ROBOT, state="fault", detail="tilt of 1.4 rad")],
                     services=[_service("learner", alive="dead", detail="heard last in Rome")])
    drawn = _drawn(faulty)
    assert "tilt of 1.4 rad" in drawn and "dead      heard last in Rome" in drawn
    assert "learner dead" in live.line(faulty) and "a1_walk-0 fault (tilt of 1.4 rad)" in live.line(faulty)


def test_who_said_that_it_ends_is_not_called_dead_when_it_is_silent():
    left = replace(STATUS, robots=[replace(ROBOT, state="stopped", alive="dead")])
    assert "a1_walk-0 stopped" in live.line(left) and "dead" not in _drawn(left)


def test_a_service_that_runs_and_has_something_to_tell_is_worth_a_look():
    told = replace(STATUS, services=[_service("learner", detail="no metrics: the port is taken")])
    assert "running   no metrics: the port is taken" in _drawn(told)
    assert "learner running" in live.line(told) and "learner" not in live.line(STATUS)


def test_the_line_says_in_one_line_how_it_goes():
    line = live.line(STATUS)
    assert "\n" not in line
    for figure in ("0:12:41 a1_walk", "a1_walk-0 armed 20.0 Hz speed 0.84 p99 51.2 ms missed 3 unsent 7", "steps 15234",
                   "updates 2855 3.7/s ratio 95.8 of 96", "reward 7.931/step"):
        assert figure in line


def test_a_sparkline_spans_from_the_lowest_to_the_highest_and_leaves_gaps():
    assert live.sparkline([0.0, None, 3.5, 7.0]) == "▁ ▅█"
    assert live.sparkline([2.0, 2.0]) == live.sparkline([0.0, 0.0]) == "▁▁"


def test_a_sparkline_does_not_make_mountains_of_noise():
    assert live.sparkline([5.01, 5.02, 5.01]) == "▁▁▁"
    assert live.sparkline([5.0, 9.0]) == "▁█"


def test_a_sparkline_of_nothing_is_empty():
    assert live.sparkline([None, None]) == live.sparkline([]) == ""


def test_output_that_is_no_terminal_gets_lines(capsys):
    with screen(Console(), plain=False) as shown:
        shown.show(STATUS)
        shown.show(STATUS)  # at once again: one line every few seconds is enough
    assert capsys.readouterr().out.count("a1_walk-0 armed") == 1
