"""What the coordinator decides, without sockets: totals over restarts, arming, relayed orders, reward by minute."""

import json

import pytest

from services.coordinator.arming import LONGEST, WELL, Arming, Condition
from services.coordinator.ledger import Ledger
from services.coordinator.recent import Recent, Sample
from services.coordinator.relay import PATIENCE, Relay
from services.coordinator.status import BINS
from services.coordinator.summary import Minutes
from services.coordinator.totals import Totals
from services.wire.messages import OrderDone, Telemetry


def report(boot, kind="robot", name="robot-0", histograms=None, **values):
    return Telemetry(kind, name, boot.ljust(16).encode(), 0, values, histograms or {})


def test_a_restarted_service_does_not_lower_a_total():
    totals = Totals()
    totals.take(report("a", robot_steps_total=100, histograms={"robot_control_period_seconds": {-150: 7}}))
    totals.take(report("b", robot_steps_total=5, histograms={"robot_control_period_seconds": {-150: 1}}))
    assert totals.value("robot", "robot_steps_total") == 105
    assert totals.histogram("robot", "robot_control_period_seconds").total == 8


def test_a_repeated_report_adds_nothing_and_a_late_one_of_a_former_boot_changes_nothing():
    totals = Totals()
    for boot, steps in (("a", 10), ("a", 10), ("b", 1), ("a", 11), ("b", 2)):
        totals.take(report(boot, robot_steps_total=steps))
    assert totals.value("robot", "robot_steps_total") == 12


def test_a_gauge_is_what_was_heard_last_also_before_the_new_boot_sets_it():
    totals = Totals()
    totals.take(report("a", "learner", "learner", learner_updates=50))
    totals.take(report("b", "learner", "learner"))
    assert totals.value("learner", "learner_updates") == 50
    totals.take(report("b", "learner", "learner", learner_updates=51))
    assert totals.value("learner", "learner_updates") == 51


def test_figures_nobody_declared_and_figures_that_are_no_numbers_are_left_out():
    totals = Totals()
    totals.take(report("a", "learner", "learner", invented=1, learner_updates=float("nan")))
    assert totals.gauge("learner", "learner_updates") is None
    json.dumps(totals.to_json(), allow_nan=False)


def test_totals_survive_being_written_and_read():
    totals = Totals()
    totals.take(report("a", robot_steps_total=100, histograms={"robot_control_period_seconds": {-150: 7}}))
    totals.take(report("b", robot_steps_total=5))
    again = Totals.from_json(json.loads(json.dumps(totals.to_json())))
    again.take(report("b", robot_steps_total=6))
    assert again.value("robot", "robot_steps_total") == 106
    assert again.histogram("robot", "robot_control_period_seconds").counts == {-150: 7}


def ledger_with(steps, reward, now, ledger=None):
    ledger = ledger or Ledger(began=0.0)
    ledger.take(report("a", robot_steps_total=steps, robot_reward_sum=reward))
    ledger.tick(now)
    return ledger


def test_the_reward_by_minute_is_that_of_the_steps_of_each_minute():
    ledger = ledger_with(0, 0, 1)
    for now, steps, reward in ((30, 600, 600), (60, 1200, 1200), (90, 1800, 3000), (121, 2400, 4800)):
        ledger_with(steps, reward, now, ledger)
    figures = ledger.summary(121)["reward_per_step"]
    assert figures["by_minute"] == [1.0, 3.0]
    assert figures["first_minute"] == 1.0
    assert figures["last_minute"] == 3.0


def test_a_robot_that_comes_late_has_no_reward_in_the_minutes_before():
    minutes, totals = Minutes(), Totals()
    totals.take(report("a", name="robot-0", robot_steps_total=10, robot_reward_sum=10))
    for seconds in (1, 61):
        minutes.mark(totals, seconds)
    totals.take(report("b", name="robot-1", robot_steps_total=5, robot_reward_sum=20))
    minutes.mark(totals, 62)
    minutes.mark(totals, 121)
    assert minutes.by_minute("robot-1") == [None, 4.0]
    assert minutes.by_minute() == [1.0, 4.0]


def test_a_ledger_goes_on_after_a_kill_and_does_not_count_the_night_between_two_runs(tmp_path):
    path = tmp_path / "coordinator.json"
    ledger_with(100, 50, 70, ledger_with(0, 0, 1)).save(path, wall=1000, now=70, ended=False)
    assert Ledger.load(path, wall=1003, now=5).seconds(6) == pytest.approx(70 + 3 + 1)
    ledger_with(100, 50, 70, ledger_with(0, 0, 1)).save(path, wall=1000, now=70, ended=True)
    again = Ledger.load(path, wall=40000, now=5)
    assert again.seconds(5) == 70
    assert again.summary(5)["steps"] == 100
    assert again.summary(5)["reward_per_step"]["by_minute"] == [.5]


def test_a_torn_file_is_set_aside_and_ends_nothing(tmp_path):
    path = tmp_path / "coordinator.json"
    path.write_text('{"ended": tr')
    assert Ledger.load(path, wall=0, now=0).seconds(0) == 0
    assert path.with_suffix(".bad").exists()


def test_a_summary_has_the_promised_figures():
    summary = ledger_with(100, 50, 1).summary(1)
    assert set(summary) == {"steps", "episodes", "robot_seconds", "control_period_seconds", "deadline_misses",
                            "fallback_actions", "policy_round_trip_seconds", "replay", "learner",
                            "weights_age_seconds", "reward_per_step", "restarts", "seconds", "robots"}
    assert set(summary["control_period_seconds"]) == {"p50", "p99", "max"}
    assert set(summary["replay"]) == {"inserted", "acknowledged", "duplicates_dropped", "corrupt"}
    assert set(summary["learner"]) == {"updates", "updates_per_second", "train_ratio_wanted", "train_ratio_achieved"}
    assert set(summary["reward_per_step"]) == {"first_minute", "last_minute", "by_minute"}
    json.dumps(summary, allow_nan=False)


def learner_reports(ledger, boot, updates_at):
    for seconds, updates in updates_at.items():
        report = Telemetry("learner", "learner", boot * 16, int(seconds * 1e9),
                           {"learner_updates": updates, "learner_updates_per_second": 99.0})
        ledger.take(report)


def test_updates_per_second_are_those_of_the_time_in_which_the_learner_learned(tmp_path):
    ledger, path = Ledger(began=0.0), tmp_path / "coordinator.json"
    learner_reports(ledger, b"a", {0: 0, 50: 0})
    assert ledger.summary(50)["learner"]["updates_per_second"] is None
    learner_reports(ledger, b"a", {100: 4, 102: 12, 103: 12, 104: 20})  # the wait for the first batch is no training
    assert ledger.summary(104)["learner"]["updates_per_second"] == 4.0
    ledger.save(path, wall=0, now=104, ended=False)
    ledger = Ledger.load(path, wall=0, now=0)
    learner_reports(ledger, b"a", {106: 28})  # a coordinator that starts anew goes on
    learner_reports(ledger, b"b", {0: 10, 2: 11, 6: 19})  # as does a learner, from its checkpoint
    learner_reports(ledger, b"b", {906: 20, 908: 28})  # the robots were paused
    assert ledger.summary(0)["learner"]["updates_per_second"] == pytest.approx((16 + 8 + 8 + 8) / (4 + 2 + 4 + 2))


def test_several_robots_have_figures_of_their_own_and_together():
    ledger = ledger_with(100, 50, 1)
    ledger.take(report("c", name="robot-1", robot_steps_total=20, robot_reward_sum=100))
    ledger.take(Telemetry("supervisor", "supervisor", b"s" * 16, 0, {"restarts_total:learner": 2}))
    ledger.tick(2)
    summary = ledger.summary(2)
    assert summary["steps"] == 120
    assert {name: robot["steps"] for name, robot in summary["robots"].items()} == {"robot-0": 100, "robot-1": 20}
    assert summary["restarts"] == {"learner": 2}


def test_the_sparkline_covers_one_minute_and_has_gaps_where_nothing_happened():
    recent = Recent()
    for second in range(0, 121):
        steps = 20 * min(second, 90)
        recent.add(Sample(second, steps, 2 * steps, 20 * second, 1000 + second))
    assert len(recent.history()) == BINS
    assert recent.history()[0] == 2 and recent.history()[-1] is None
    assert recent.reward_per_step() == 2
    assert recent.rate() == 20


def condition(**other):
    return Condition(**({"state": "disarmed", "detail": "", "heartbeat_age": .1, "paused": False, "stopping": False,
                         "storable": True} | other))


@pytest.mark.parametrize("wrong", [
    {"state": "fault"}, {"state": "armed"}, {"state": "starting"}, {"state": "paused"}, {"paused": True},
    {"stopping": True},
    {"heartbeat_age": 2.0}, {"detail": "no new reading for 1.0 s"}, {"storable": False}])
def test_a_robot_that_fails_a_check_is_not_armed(wrong):
    assert not Arming().wanted("robot-0", condition(**wrong), 10.0)


def test_arming_backs_off_and_forgets_once_the_robot_has_stayed_armed():
    arming = Arming()
    tries = [now for now in range(0, 200) if arming.wanted("robot-0", condition(), float(now))]
    gaps = [b - a for a, b in zip(tries, tries[1:])]
    assert gaps[:4] == [1, 2, 4, 8] and max(gaps) == LONGEST
    arming.wanted("robot-0", condition(state="armed"), 200.0)
    arming.wanted("robot-0", condition(state="armed"), 200.0 + WELL)
    assert arming.wanted("robot-0", condition(), 201.0 + WELL)


def test_a_robot_that_somebody_looked_at_is_not_waited_for():
    arming = Arming()
    last = [now for now in range(0, 200) if arming.wanted("robot-0", condition(), float(now))][-1]
    assert not arming.wanted("robot-0", condition(), last + 0.9)
    arming.anew("robot-0")
    assert arming.wanted("robot-0", condition(), last + 0.9)


def test_an_order_is_repeated_under_its_number_until_it_is_answered():
    relay = Relay(first_number=100)
    number = relay.order("pause", ["robot-0", "robot-1"], 0.0, "ann", asker=b"ann")
    assert [(robot, order.number) for robot, order in relay.due(0.0)] == [("robot-0", number), ("robot-1", number)]
    relay.on_done("robot-0", OrderDone(number, True, "paused"))
    assert [robot for robot, _ in relay.due(1.0)] == ["robot-1"]
    assert relay.finished(1.0) == []
    relay.on_done("robot-1", OrderDone(number, False, "fault"))
    [(asker, answer)] = relay.finished(1.0)
    assert asker == b"ann" and not answer.ok and answer.text == "robot-0: paused; robot-1: fault"


def test_a_robot_that_does_not_answer_is_named():
    relay = Relay(first_number=0)
    relay.order("estop", ["robot-0"], 0.0, asker=b"ann")
    [(_, answer)] = relay.finished(PATIENCE)
    assert not answer.ok and "robot-0: no answer" in answer.text
    assert relay.due(PATIENCE + 1) == []
