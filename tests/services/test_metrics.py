"""Metrics: declared once, the same numbers for the coordinator and for Prometheus."""

from collections import Counter

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
    assert f'{PREFIX}process_resident_memory_bytes{{kind="robot",name="robot-0"}}' in text


def test_control_periods_are_told_apart_around_the_period_of_the_robot():
    metrics = Metrics("robot", "robot-0", period=.1)
    for seconds in (.05, .1, .1, .109, .3):
        metrics.observe("robot_control_period_seconds", seconds)
    assert buckets(metrics, "robot_control_period_seconds") == {
        "0.05": 1, "0.08": 1, "0.09": 1, "0.095": 1, "0.098": 1, "0.102": 3, "0.105": 3, "0.11": 4, "0.12": 4,
        "0.15": 4, "0.2": 4, "0.3": 5, "0.5": 5, "1": 5, "2": 5, "+Inf": 5}


def test_a_value_that_is_a_bound_counts_as_within_it():
    metrics = Metrics("policy", "policy")
    for robots in (1, 2, 3, 4):
        metrics.observe("policy_batch_robots", robots)
    assert [buckets(metrics, "policy_batch_robots")[bound] for bound in ("1", "2", "4", "64")] == [1, 2, 4, 4]


def test_every_histogram_has_buckets_that_rise_and_nothing_else_has():
    for name, metric in METRICS.items():
        assert bool(metric.buckets) == (metric.kind == "histogram"), name
        assert list(metric.buckets) == sorted(set(metric.buckets)), name


def test_a_process_is_in_one_state_at_a_time():
    metrics = Metrics("robot", "robot-0")
    metrics.state("armed")
    metrics.state("fault")
    assert {key for key, value in metrics.values().items() if value} == {"state:fault"}


def test_a_counter_may_follow_what_somebody_else_counts():
    metrics, refused = Metrics("replay", "replay"), Counter()
    metrics.follow("bad_frames_total", refused.total, "experience")
    refused["Malformed"] += 2
    assert metrics.values() == {"bad_frames_total:experience": 2}


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


def buckets(metrics: Metrics, name: str) -> dict[str, float]:
    """Values up to each bound, as Prometheus sees them."""
    (family,) = [family for family in metrics.collect() if family.name == PREFIX + name]
    return {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}
