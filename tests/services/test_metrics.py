"""Metrics: declared once, the same numbers for the coordinator and for Prometheus."""

import urllib.request

import pytest
from prometheus_client import generate_latest

from services.metrics import METRICS, PREFIX, Metrics


def test_every_name_follows_the_conventions_of_prometheus():
    for name, metric in METRICS.items():
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert metric.kind in ("counter", "sum", "gauge", "histogram"), name
        assert metric.help.endswith("."), name


def test_prometheus_sees_what_was_counted_under_the_declared_names():
    metrics = Metrics("robot", "robot-0")
    metrics.count("robot_steps_total", 3)
    metrics.count("robot_reward_sum", -1.5)
    metrics.gauge("robot_body", .2, "tilt_radians")
    metrics.observe("robot_control_period_seconds", .05)
    text = generate_latest(metrics.registry).decode()
    assert f'{PREFIX}robot_steps_total{{kind="robot",name="robot-0"}} 3.0' in text
    assert f'{PREFIX}robot_reward_sum{{kind="robot",name="robot-0"}} -1.5' in text
    assert 'reading="tilt_radians"} 0.2' in text
    assert f'{PREFIX}robot_control_period_seconds_count{{kind="robot",name="robot-0"}} 1.0' in text
    assert f'{PREFIX}robot_control_period_seconds_bucket{{kind="robot",le="0.03",name="robot-0"}} 0.0' in text


def test_telemetry_sees_the_same_numbers_under_short_names():
    metrics = Metrics("robot", "robot-0")
    metrics.count("robot_steps_total")
    metrics.count("robot_steps_total")
    metrics.count("restarts_total", label="learner")
    metrics.observe("robot_action_age_seconds", .01)
    assert metrics.values() == {"robot_steps_total": 2, "restarts_total:learner": 1}
    assert sum(metrics.histograms()["robot_action_age_seconds"].values()) == 1


@pytest.mark.parametrize("use", [
    lambda m: m.count("robot_stps_total"), lambda m: m.gauge("robot_steps_total", 1),
    lambda m: m.count("restarts_total"),
    lambda m: m.count("robot_steps_total", label="x"), lambda m: m.observe("robot_steps_total", 1)])
def test_a_metric_that_is_not_declared_so_is_a_mistake(use):
    with pytest.raises(KeyError):
        use(Metrics("robot", "robot-0"))


def test_a_store_never_touched_shows_nothing_and_serves_over_http():
    metrics = Metrics("robot", "robot-0")
    port = metrics.serve(0)
    metrics.count("robot_steps_total")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        assert f"{PREFIX}robot_steps_total" in page.read().decode()
