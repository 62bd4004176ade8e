"""The control loop, period by period, with a puppet for a body and the clock in our hand."""

import numpy as np
import pytest
from gymnasium import spaces

from daydreamer.exploration import Explorer
from robots.driver import Applied, Clip, Driver, FaultLatched, Health, LinkLost, Mode, RobotSpec, Signals, Stop
from robots.task import Outcome, Task
from services.metrics import Metrics
from services.robot.control import BLIND, EXPLORED, HELD, Control
from services.robot.conversation import Decision
from services.wire.messages import Order

PERIOD = 50_000_000


class Puppet(Driver):
    """Does what it is told and remembers it."""

    def __init__(self, noop=None):
        action = spaces.Box(-1, 1, (2,), np.float32) if noop is None else spaces.Discrete(3)
        signals = spaces.Dict({"joints": spaces.Box(-3, 3, (3,), np.float32)})
        self.spec = RobotSpec("puppet", signals, {"joints": "rad"}, action, 20.0, 1000.0, noop=noop)
        self.mode, self.fault, self.link_age, self.lost = Mode.DISARMED, "", 0.0, False
        self.value, self.reads, self.commands, self.stops = 0.0, 0, [], []

    def connect(self, timeout=10.0):
        if self.lost:
            raise LinkLost("no puppet")

    def disconnect(self):
        self.stops.append("parked")

    def read(self):
        if self.lost:
            raise LinkLost("the strings are cut")
        self.reads += 1
        return Signals({"joints": np.full(3, self.value, np.float32)}, self.reads * PERIOD, self.reads)

    def command(self, action):
        self.commands.append(np.array(action))
        clip = Clip.ACTION_SPACE if np.abs(action).max() > 1 and self.spec.noop is None else Clip.NONE
        return Applied(np.clip(action, -1, 1).astype(action.dtype), clip)

    def tick(self):
        pass

    def arm(self):
        if self.mode == Mode.FAULT:
            raise FaultLatched(self.fault)
        self.mode = Mode.ARMED

    def stop(self, level):
        self.stops.append(level)
        if level == Stop.ESTOP:
            self.mode, self.fault = Mode.FAULT, "stopped"

    def clear_fault(self, token):
        if not token:
            raise FaultLatched("who looked?")
        self.mode, self.fault = Mode.DISARMED, ""

    def health(self):
        return Health(self.mode, self.fault, self.link_age, gauges={"tilt_radians": .1})


class Score(Task):
    """Reward one; the episode ends where `last` says so."""

    last = False

    def reset(self):
        pass

    def score(self, signals):
        return Outcome(1.0, self.last, False)


class Oracle:
    """A policy that answers what the test says: a number for the action, or None."""

    def __init__(self, space):
        self.space, self.says, self.weights_seen = space, None, False
        self.asked, self.deadlines, self.streams = [], [], []

    def begin(self, stream):
        self.streams.append(stream)

    def ask(self, tick, arrays, time):
        self.asked.append((tick, arrays, time))

    def answer(self, tick, deadline):
        self.deadlines.append(deadline)
        if self.says is None:
            return None
        self.weights_seen = True
        return Decision(np.full(self.space.shape, self.says, self.space.dtype), 7, self.asked[-1][2])


class Shelf:
    def __init__(self):
        self.trouble, self.steps = "", []

    def put(self, stream, step):
        self.steps.append((stream, step))
        return True


class Desk:
    """The node's part that the loop sees."""

    def __init__(self):
        of = Metrics("robot", "robot-0")
        self.count, self.gauge, self.observe, self.values = of.count, of.gauge, of.observe, of.values
        self.state, self.detail, self.done = "", "", []

    def order_done(self, number, ok, detail=""):
        self.done.append((number, ok, detail))


class Stage:
    """Everything around one control loop. `run` lets periods pass."""

    def __init__(self, noop=None, armed=True):
        self.body, self.task, self.shelf, self.desk, self.now = Puppet(noop), Score(), Shelf(), Desk(), 1_000_000_000
        self.policy = Oracle(self.body.spec.action_space)
        self.control = Control(self.body, self.task, self.policy, self.shelf, self.desk,
                               Explorer(self.body.spec.action_space, 12, seed=3), keys=["joints"], deadline=.03,
                               now=lambda: self.now)
        assert self.control.connect()
        if armed:
            self.order("arm")
        self.number = 0

    def order(self, order, token=""):
        self.control.order(Order(order, 1, token))

    def run(self, periods=1):
        for _ in range(periods):
            alive = self.control.tick()
            self.now += PERIOD
        return alive

    @property
    def steps(self):
        """The recorded steps, the one still held back included."""
        pending = self.control._pending
        return [step for _, step in self.shelf.steps] + ([pending] if pending else [])

    def column(self, name):
        return [step[name].item() for step in self.steps]

    def total(self, name):
        return self.desk.values().get(name, 0)


def test_a_robot_that_is_not_armed_reads_and_reports_but_records_nothing():
    stage = Stage(armed=False)
    stage.run(3)
    assert stage.body.reads == 3 and stage.steps == [] and stage.body.commands == []
    assert stage.desk.state == "disarmed" and stage.desk.values()["robot_body:tilt_radians"] == .1


def test_before_there_are_weights_it_explores_holding_each_action_for_a_while():
    stage = Stage()
    stage.run(40)
    assert set(stage.column("weights_version")) == {EXPLORED}
    actions = np.array(stage.body.commands)
    changes = np.flatnonzero(np.any(actions[1:] != actions[:-1], axis=1)) + 1
    assert changes.tolist() == [12 * i for i in (1, 2, 3)]
    assert np.abs(actions).mean() > .55  # uniform actions are .5 from the middle, these 2/pi
    assert stage.total("robot_random_actions_total") == 40


def test_a_step_holds_what_was_seen_and_the_action_that_entered_the_body():
    stage = Stage()
    stage.policy.says, stage.body.value = 1.5, .25
    stage.run(2)
    step = stage.steps[0]
    assert step["joints"].tolist() == [.25] * 3
    assert step["action"].tolist() == [1, 1] and step["action_requested"].tolist() == [1.5, 1.5]
    assert step["clip"] == Clip.ACTION_SPACE and step["weights_version"] == 7 and step["reward"] == 1
    assert stage.column("is_first") == [True, False]
    (_, first, _), (_, second, _) = stage.policy.asked
    assert first["prev_action"].tolist() == [0, 0] and first["is_first"]
    assert second["prev_action"].tolist() == [1, 1] and not second["is_first"]


def test_an_answer_that_is_missing_repeats_the_last_action_and_is_counted():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.policy.says = None
    stage.run(3)
    assert [c[0] for c in stage.body.commands] == [.5] * 5
    assert stage.column("weights_version") == [7, 7, HELD, HELD, HELD]
    assert stage.column("action_age") == pytest.approx([0, 0, .05, .1, .15])
    assert stage.total("robot_fallback_actions_total") == 3


def test_a_silent_policy_is_repeated_no_longer_than_a_command_lives():
    stage = Stage()
    stage.policy.says = .5
    stage.run()
    stage.policy.says = None
    stage.run(10)
    lives = round(stage.body.spec.command_ttl / .05)
    assert len(stage.body.commands) == 1 + lives and stage.body.stops == [Stop.HOLD] * (10 - lives)
    assert stage.total("robot_fallback_actions_total") == lives
    assert stage.desk.state == "waiting" and "policy server" in stage.desk.detail
    assert stage.steps[-1]["is_last"]
    stage.policy.says = .5
    stage.run()
    assert stage.desk.state == "armed" and stage.steps[-1]["is_first"]


def test_a_no_op_may_be_repeated_for_ever():
    stage = Stage(noop=0)
    stage.policy.says = 2
    stage.run()
    stage.policy.says = None
    stage.run(10)
    assert [int(c) for c in stage.body.commands] == [2] + [0] * 10


def test_the_policy_is_waited_for_until_the_deadline_and_no_longer():
    stage = Stage()
    stage.run()
    assert stage.policy.deadlines == [pytest.approx(1.03)]


def test_seconds_are_those_of_the_robots_clock_however_fast_it_runs():
    stage = Stage()
    stage.control.speed = .1
    stage.policy.says = .5
    stage.run()
    assert stage.policy.deadlines[-1] == pytest.approx(1.0 + .3)
    stage.policy.says = None
    stage.now += 1_500_000_000  # 0.15 s of the robot's
    stage.run()
    assert stage.column("weights_version") == [7, HELD]
    stage.now += 1_000_000_000  # what is repeated is too old by now
    stage.run()
    assert stage.column("weights_version") == [7, HELD] and stage.desk.state == "waiting"


def test_a_policy_is_not_waited_for_as_long_as_the_slowest_clock_would_allow():
    stage = Stage()
    stage.control.speed = .001
    stage.run()
    assert stage.policy.deadlines == [pytest.approx(2.0)]


def test_between_two_periods_far_apart_orders_are_done_faults_told_and_a_lost_body_noticed():
    stage = Stage()
    stage.policy.says = .5
    stage.run()
    stage.order("pause")
    assert stage.control.attend() and len(stage.steps) == 1 and stage.desk.done[-1] == (1, True, "pause")
    reads = stage.body.reads
    assert stage.control.attend() and stage.body.reads == reads + 1  # the body's sign that we live
    stage.body.mode, stage.body.fault = Mode.FAULT, "a motor is hot"
    assert stage.control.attend() and (stage.desk.state, stage.desk.detail) == ("fault", "a motor is hot")
    assert stage.column("is_last") == [True]
    stage.body.lost = True
    assert not stage.control.attend() and stage.desk.state == "starting"


def test_a_discrete_robot_does_nothing_where_a_continuous_one_repeats():
    stage = Stage(noop=0)
    stage.policy.says = 2
    stage.run()
    stage.policy.says = None
    stage.run()
    assert [int(c) for c in stage.body.commands] == [2, 0]


def test_an_episode_does_not_begin_without_an_action():
    stage = Stage()
    stage.policy.weights_seen = True
    stage.run(2)
    assert stage.steps == [] and stage.body.commands == [] and stage.body.stops == [Stop.HOLD, Stop.HOLD]
    stage.policy.says = .5
    stage.run()
    assert stage.column("is_first") == [True]


def test_a_paused_robot_records_nothing_and_begins_a_new_episode_when_resumed():
    stage = Stage()
    stage.policy.says = .5
    stage.run(3)
    stage.order("pause", "ann")
    stage.run(4)
    assert stage.desk.state == "paused" and "ann" in stage.desk.detail
    assert len(stage.steps) == 3 and stage.column("is_last") == [False, False, True]
    assert stage.body.stops[-4:] == [Stop.HOLD] * 4
    stage.order("resume")
    stage.run(2)
    assert stage.column("is_first") == [True, False, False, True, False]
    assert stage.total("robot_episodes_total") == 2


def test_a_lost_body_closes_the_episode_and_a_new_boot_is_a_new_stream():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.body.lost = True
    assert not stage.run()
    assert not stage.control.connect() and stage.desk.state == "starting"
    stage.body.lost, stage.body.mode = False, Mode.DISARMED
    assert stage.control.connect()
    stage.run()
    assert stage.desk.state == "disarmed"
    stage.order("arm")
    stage.run(2)
    stage.control.finish()
    assert [s.hex() for s, _ in stage.shelf.steps] == [stage.policy.streams[i].hex() for i in (0, 0, 1, 1)]
    assert stage.column("is_last") == [False, True, False, True]
    assert stage.column("is_first") == [True, False, True, False]


def test_an_observation_with_nan_is_neither_sent_nor_recorded_and_a_second_of_it_stops_the_robot():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.body.value = float("nan")
    stage.run(2)
    assert len(stage.steps) == 2 == len(stage.policy.asked)
    assert stage.desk.state == "waiting" and "joints" in stage.desk.detail and stage.body.stops[-1] == Stop.HOLD
    assert stage.total("robot_bad_observations_total") == 2
    stage.run(round(BLIND * 20) + 1)
    assert stage.desk.state == "fault" and Stop.ESTOP in stage.body.stops


def test_a_reading_that_recovers_within_a_second_goes_on_with_a_new_episode():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.body.value = float("inf")
    stage.run()
    stage.body.value = 0.0
    stage.run(2)
    assert stage.column("is_first") == [True, False, True, False] and Stop.ESTOP not in stage.body.stops


def test_a_robot_that_is_not_heard_is_held():
    stage = Stage()
    stage.policy.says = .5
    stage.run(1)
    stage.body.link_age = 1.0
    stage.run(1)
    assert stage.desk.state == "waiting" and "not heard" in stage.desk.detail and len(stage.steps) == 1


def test_a_full_spool_holds_the_robot_and_says_so():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.shelf.trouble = "spool is full"
    stage.run(2)
    assert len(stage.steps) == 2 and stage.desk.detail == "spool is full" and stage.body.stops[-1] == Stop.HOLD


def test_the_end_of_an_episode_is_recorded_and_the_next_step_begins_one():
    stage = Stage()
    stage.policy.says = .5
    stage.run(1)
    stage.task.last = True
    stage.run(1)
    stage.task.last = False
    stage.run(1)
    assert stage.column("is_last") == [False, True, False] and stage.column("is_first") == [True, False, True]
    assert len(stage.body.commands) == 3


def test_an_order_that_fails_is_answered_with_the_reason():
    stage = Stage(armed=False)
    stage.body.mode, stage.body.fault = Mode.FAULT, "stopped"
    stage.order("arm")
    stage.order("clear_fault")
    stage.order("dance")
    stage.order("clear_fault", "ann")
    stage.run()
    assert [(ok, detail) for _, ok, detail in stage.desk.done[:2]] == [(False, "stopped"), (False, "who looked?")]
    assert stage.desk.done[2][1] is False and "dance" in stage.desk.done[2][2]
    assert stage.desk.done[3][1] is True and stage.body.mode == Mode.DISARMED


def test_a_faulted_robot_records_nothing_and_says_why():
    stage = Stage()
    stage.body.mode, stage.body.fault = Mode.FAULT, "a motor passed 40 N m"
    stage.run()
    assert stage.desk.state == "fault" and stage.desk.detail == "a motor passed 40 N m" and stage.steps == []


def test_finishing_holds_parks_and_closes_the_episode():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.control.finish()
    assert stage.body.stops == [Stop.HOLD, "parked"]
    assert [step["is_last"].item() for _, step in stage.shelf.steps] == [False, True]


def test_an_emergency_stop_does_not_wait_for_the_loop_latches_and_needs_the_operators_name():
    stage = Stage()
    stage.policy.says = .5
    stage.run(2)
    stage.order("estop")
    assert stage.body.mode == Mode.FAULT and stage.desk.done[-1][1]
    stage.run()
    assert len(stage.steps) == 2 and stage.column("is_last") == [False, True]
    for order, token, mode in (("arm", "", Mode.FAULT), ("clear_fault", "", Mode.FAULT),
                               ("clear_fault", "ann", Mode.DISARMED)):
        stage.order(order, token)
        stage.run()
        assert stage.body.mode == mode


def test_an_emergency_stop_overtakes_what_was_ordered_before_it():
    stage = Stage()
    stage.order("estop")
    for order in ("clear_fault", "arm", "pause"):
        stage.order(order, "ann")
    stage.order("estop")
    stage.run()
    assert stage.body.mode == Mode.FAULT
    assert [ok for _, ok, _ in stage.desk.done[-3:]] == [False, False, True]
    stage.order("clear_fault", "ann")
    stage.run()
    assert stage.body.mode == Mode.DISARMED and stage.desk.state == "paused"


def test_a_reward_that_is_no_number_is_not_recorded():
    stage = Stage()
    stage.policy.says = .5
    stage.task.score = lambda signals: Outcome(float("nan"))
    stage.run()
    assert stage.steps == [] and "reward" in stage.desk.detail and stage.body.commands == []


@pytest.mark.parametrize(("times", "cut"), [(0.9, False), (1.1, True)])
def test_a_period_that_began_after_the_last_command_expired_begins_an_episode(times, cut):
    """Till then the robot held by itself: what came is not what the last action led to."""
    stage = Stage()
    stage.run(5)
    stage.control.elapsed = times * stage.body.spec.command_ttl
    stage.run()
    stage.control.elapsed = PERIOD / 1e9
    stage.run(2)
    assert stage.column("is_first") == [True, *4 * [False], cut, False, False]
    assert stage.column("is_last")[:5] == [*4 * [False], cut]
    assert not any(stage.column("is_terminal"))
