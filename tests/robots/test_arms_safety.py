"""What an arm's driver sends, whatever it is told and told back. The arm here is a wire without physics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.arms.link import ArmLink, ArmState
from robots.arms.seeing import SeeingLink
from robots.cameras.camera import Camera, CameraLost, Frame
from robots.driver import Clip, CommandRejected, FaultLatched, Mode, StaleState, Stop
from robots.ur5e.anatomy import LOWER, UPPER, UR5E
from robots.ur5e.driver import UR5eDriver, UR5eOptions

HZ, PERIOD = 25.0, 1 / 125
bounds = settings(max_examples=15, derandomize=True)
anything = st.floats(allow_nan=True, allow_infinity=True, width=32)
full = st.sampled_from([-1.0, 1.0])
OPTIONS = {"joints": {"actions": "joints", "bins": False}, "tool": {"actions": "tool", "bins": False},
           "bins": {"actions": "tool"}, "moves": {"actions": "moves"}}


class Wire(ArmLink):
    """An arm that is where it was told to be, a period later. Keeps what was sent; `answer` may change what it says."""

    def __init__(self, q=UR5E.home):
        self.q, self.ticks, self.sent, self.recovered = np.array(q, float), 0, [], 0
        self.answer = lambda state: state

    def open(self, timeout):
        return self.state()

    def exchange(self, command):
        self.ticks += 1
        self.sent.append(command)
        if command is not None:
            self.q = command.q.copy()
        return self.state()

    def state(self):
        return self.answer(ArmState(self.now(), self.q.copy(), np.zeros(6), np.zeros(6), 1.0, False))

    def now(self):
        return round(self.ticks * PERIOD * 1e9)

    def close(self):
        pass

    def recover(self):
        self.recovered += 1


def armed(kind="tool", q=UR5E.home, **options):
    wire = Wire(q)
    driver = UR5eDriver(UR5eOptions(**OPTIONS[kind] | options), HZ, link=lambda: wire)
    driver.connect()
    driver.arm()
    return driver, wire


def periods(driver, count, action=None):
    for _ in range(count):
        if action is not None:
            driver.command(action)
        for _ in range(5):
            driver.tick()


def outside(q):
    place, (low, high) = UR5E.chain.position(q), UR5E.workspace
    return np.maximum(0, np.maximum(low - place, place - high))


def hand(q):
    """The height of the lowest corner of the open fingers above the table."""
    pose = UR5E.chain.pose(q)
    corners = np.array([(x, y, 0.01) for x in (-0.0525, 0.0525) for y in (-0.011, 0.011)])
    return pose[2, 3] + (corners @ pose[2, :3]).min() - UR5E.table


def assert_safe(start, sent):
    """Finite, in range, no faster and no more sudden than allowed, and the tool inside."""
    before, moved = start, np.zeros(6)
    for command in sent:
        if command is None:
            moved = np.zeros(6)
            continue
        step = command.q - before
        assert np.isfinite(command.q).all() and np.isfinite(command.dq).all()
        assert (LOWER - 1e-9 <= command.q).all() and (command.q <= UPPER + 1e-9).all()
        assert np.abs(step).max() <= UR5E.velocity * PERIOD + 1e-9
        assert np.abs(step - moved).max() <= UR5E.acceleration * PERIOD**2 + 1e-9
        assert outside(command.q).max() < 5e-4 and hand(command.q) > 0.001
        assert command.gripper is None or 0 <= command.gripper <= 1
        before, moved = command.q, step


def actions(kind):
    if kind == "moves":
        return st.integers(-3, 12)
    size = 7 if kind == "joints" else 4
    return st.lists(st.one_of(full, full, anything), min_size=size, max_size=size)


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_whatever_is_commanded_what_is_sent_is_safe(kind):
    event = st.tuples(actions(kind), st.sampled_from([1, 3, 12, "hold", "silence", "pause"]))

    @bounds
    @given(st.lists(event, min_size=1, max_size=25))
    def holds(events):
        driver, wire = armed(kind)
        start = wire.q.copy()
        for action, what in events:
            if what == "hold":
                driver.stop(Stop.HOLD)
            elif what == "pause":
                driver.stop(Stop.DAMP)
                periods(driver, 2)
                driver.arm()
            else:
                repeats = 1 if what == "silence" else what
                for _ in range(repeats):
                    applied = driver.command(np.array(action, np.int64 if kind == "moves" else np.float32))
                    assert driver.spec.action_space.contains(applied.action)
                    periods(driver, 8 if what == "silence" else 1)
        assert driver.health().fault == ""
        assert_safe(start, wire.sent)

    holds()


@bounds
@given(st.lists(st.tuples(st.lists(full, min_size=7, max_size=7), st.integers(2, 20)), min_size=1, max_size=8))
def test_joints_at_full_speed_do_not_carry_the_tool_out(pushes):
    driver, wire = armed("joints")
    for action, count in pushes:
        periods(driver, count, np.array(action, np.float32))
    assert_safe(UR5E.home, wire.sent)


def test_a_hand_that_leans_over_at_the_bottom_of_the_workspace_does_not_touch_the_table():
    driver, wire = armed("joints")
    periods(driver, 30, np.array([0, 0, 0, 0, 1, 1, 0], np.float32))
    periods(driver, 90, np.array([0, 0.2, 0.1, 0, 0, 0, 0], np.float32))
    tool = UR5E.chain.position(wire.q)[2]
    assert_safe(UR5E.home, wire.sent)
    assert hand(wire.q) < 0.01 < tool - UR5E.workspace[0][2]  # it was the hand that stopped it, not the tool


@bounds
@given(st.tuples(st.floats(-0.6, 1.6), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-0.8, 0.8)),
       st.lists(st.lists(full, min_size=7, max_size=7), min_size=4, max_size=10), st.sampled_from(["joints", "tool"]))
def test_from_outside_the_workspace_the_tool_only_comes_back(away, pushes, kind):
    q = np.clip(UR5E.home + np.array([*away, 0, 0]), LOWER, UPPER)
    driver, wire = armed(kind, q)
    least = outside(q)
    assert np.array_equal(driver.read().values["setpoint"], q.astype(np.float32))
    for action in pushes:
        periods(driver, 4, np.array(action[:driver.spec.action_space.shape[0]], np.float32))
    for command in wire.sent:
        assert (outside(command.q) <= least + 5e-4).all()
        least = np.minimum(least, outside(command.q))


def test_a_tool_that_is_told_nothing_comes_back_into_the_workspace_by_itself():
    driver, wire = armed("tool", UR5E.home + np.array([0, 0.4, -0.1, 0, 0, 0]))
    assert outside(wire.q).max() > 0.04
    periods(driver, 75, np.zeros(4, np.float32))
    assert outside(wire.q).max() == 0


@bounds
@given(st.lists(st.lists(anything, min_size=6, max_size=6), min_size=1, max_size=6))
def test_an_arm_that_lies_about_where_it_is_gets_nothing_that_is_not_finite(lies):
    driver, wire = armed()
    for lie in lies:
        wire.answer = lambda state, q=lie: state._replace(q=np.array(q, float))
        periods(driver, 1, np.ones(4, np.float32))
        driver.read()
    before = UR5E.home
    for command in filter(None, wire.sent):
        assert (LOWER - 1e-9 <= command.q).all() and (command.q <= UPPER + 1e-9).all()
        assert np.abs(command.q - before).max() <= 2 * UR5E.velocity * PERIOD + 1e-9
        before = command.q
    assert all(np.isfinite(value).all() for value in driver.read().values.values())
    if not np.isfinite(lies).all():
        assert "not finite" in driver.health().fault


def test_an_arm_that_says_it_is_where_no_setpoint_leads_is_a_fault_and_stands():
    driver, wire = armed()
    wire.answer = lambda state: state._replace(q=state.q + 3.0)
    periods(driver, 8, np.zeros(4, np.float32))
    assert "no setpoint satisfies the limits" in driver.health().fault and wire.sent[-1] is None


def test_the_setpoint_waits_for_an_arm_that_does_not_move():
    driver, wire = armed("joints")
    wire.answer = lambda state: state._replace(q=UR5E.home.copy())
    met = Clip.NONE
    for _ in range(30):
        met |= driver.command(np.array([1, 0, 0, 0, 0, 0, 0], np.float32)).clip
        periods(driver, 1)
    assert met & Clip.TORQUE
    assert np.abs(wire.sent[-1].q - UR5E.home).max() <= 0.25 + 1e-9


def test_without_commands_it_brakes_holds_and_then_stands():
    driver, wire = armed("joints")
    periods(driver, 10, np.array([0.5, 0, 0, 0, 0, 0, 0], np.float32))
    periods(driver, 12)  # commands live 0.2 s, braking takes less than 0.3 s
    held = wire.sent[-1].q
    periods(driver, 5)
    assert driver.health().mode == Mode.ARMED and np.array_equal(wire.sent[-1].q, held)
    periods(driver, 10)
    assert driver.health().mode == Mode.DISARMED and wire.sent[-1] is None


def test_what_the_controller_says_is_wrong_is_the_fault_and_clearing_it_recovers_the_controller():
    driver, wire = armed()
    wire.answer = lambda state: state._replace(trouble="protective stop C153")
    periods(driver, 1, np.zeros(4, np.float32))
    assert driver.health().fault == "protective stop C153" and wire.sent[-1] is None
    with pytest.raises(FaultLatched):
        driver.clear_fault(" ")
    assert wire.recovered == 0
    driver.clear_fault("Ada")
    assert wire.recovered == 1 and driver.health().mode == Mode.DISARMED
    periods(driver, 1)
    assert driver.health().fault == "protective stop C153"  # it still says so
    wire.answer = lambda state: state
    driver.clear_fault("Ada")
    driver.arm()


def test_a_controller_that_needs_somebody_at_the_robot_keeps_the_fault():
    driver, wire = armed()
    driver.stop(Stop.ESTOP)

    def refuse():
        raise CommandRejected("turn the red button")

    wire.recover = refuse
    with pytest.raises(CommandRejected):
        driver.clear_fault("Ada")
    assert driver.health().fault == "turn the red button"


def test_an_arm_whose_camera_is_given_up_stands_until_the_camera_is_back():
    wire, lost = Wire(), []

    class Eye(Camera):
        def open(self, timeout):
            if len(lost) > 1:
                raise CameraLost("unplugged for good")
            lost.clear()
            return self.newest()

        def newest(self):
            if lost:
                raise CameraLost(lost[0])
            return Frame(np.full((64, 64, 3), 7, np.uint8), np.full((64, 64), 0.5, np.float32), wire.now(), 1)

        def close(self):
            pass

    driver = UR5eDriver(UR5eOptions(camera="front"), HZ, link=lambda: SeeingLink(wire, Eye))
    driver.connect()
    driver.arm()
    values = driver.read().values
    assert driver.spec.signals.contains(values) and (values["depth"] == 25).all() and (values["image"] == 7).all()
    lost += ["camera: no new frame in time", "again"]
    periods(driver, 1, np.zeros(4, np.float32))
    assert driver.health().fault == "camera: no new frame in time" and wire.sent[-1] is None
    with pytest.raises(CommandRejected, match="for good"):
        driver.clear_fault("Ada")
    assert driver.health().mode == Mode.FAULT and driver.spec.signals.contains(driver.read().values)
    lost.pop()
    driver.clear_fault("Ada")
    driver.arm()
    periods(driver, 1, np.zeros(4, np.float32))
    assert driver.health().mode == Mode.ARMED


def test_an_arm_does_not_act_on_a_picture_that_has_frozen():
    wire, shown = Wire(), []

    class Eye(Camera):
        def open(self, timeout):
            return self.newest()

        def newest(self):
            frame = Frame(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32), wire.now(), wire.ticks)
            return shown[0] if shown else frame

        def close(self):
            pass

    driver = UR5eDriver(UR5eOptions(camera="front"), HZ, link=lambda: SeeingLink(wire, Eye))
    driver.connect()
    driver.arm()
    north = np.array([0, 0.2, 0, 0], np.float32)
    shown.append(driver.link._camera.newest())
    periods(driver, 12, north)  # half a second: as old as a picture may be
    assert driver.health().link_age < 0.05 and np.abs(wire.sent[-1].dq).max() > 0
    last = driver.read().sequence
    periods(driver, 12, north)
    assert np.abs(wire.sent[-1].dq).max() < 1e-6 and driver.health().mode == Mode.ARMED  # it holds
    assert driver.command(north).clip & Clip.STALE and driver.read().sequence < last + 10
    periods(driver, 25, north)
    assert driver.health().mode == Mode.DISARMED and wire.sent[-1] is None
    with pytest.raises(StaleState):
        driver.arm()
    shown.clear()
    periods(driver, 1)
    driver.arm()


def test_an_old_state_cannot_be_armed():
    driver, wire = armed()
    driver.stop(Stop.DAMP)
    wire.ticks += 20
    with pytest.raises(StaleState):
        driver.arm()


def test_disconnecting_takes_the_tool_up_and_home_slowly():
    driver, wire = armed("tool")
    periods(driver, 30, np.array([1, 1, -1, 0], np.float32))
    parked = len(wire.sent)
    low = UR5E.chain.position(wire.q)
    driver.disconnect()
    assert np.allclose(wire.q, UR5E.home, atol=2e-3) and wire.sent[-1] is None
    heights = [UR5E.chain.position(command.q)[2] for command in wire.sent[parked:-1]]
    sideways = [np.linalg.norm(UR5E.chain.position(command.q)[:2] - low[:2]) for command in wire.sent[parked:-1]]
    assert all(far < 0.02 or height > UR5E.hover - 0.01 for far, height in zip(sideways, heights))
    assert max(np.abs(command.dq).max() for command in wire.sent[parked:-1]) < 1.3


def test_an_emergency_stop_in_the_middle_of_parking_ends_it():
    driver, wire = armed("tool")
    periods(driver, 30, np.array([1, 1, -1, 0], np.float32))
    parked, exchange = len(wire.sent), wire.exchange

    def stopped_at_50(command):
        if len(wire.sent) == parked + 50:
            driver.stop(Stop.ESTOP)
        return exchange(command)

    wire.exchange = stopped_at_50
    driver.disconnect()
    assert len(wire.sent) == parked + 52 and wire.sent[-1] is None


@pytest.mark.parametrize("options", [
    {"link": "telepathy"}, {"actions": "dance"}, {"noise": -1.0}, {"latency": 1.0}, {"objects": 11},
    {"camera": "back"}, {"camera_crop": (0.6, 0, 0, 0)}, {"target_every": 0.1}, {"reset_after": 1.0}, {"touch": 1.0},
    {"return_after": 0.5}, {"model": "ur20"}])
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        UR5eOptions(**options)


def test_options_that_contradict_one_another_are_refused():
    with pytest.raises(ValueError, match="address"):
        UR5eOptions(link="hardware")
    with pytest.raises(ValueError, match="bins"):
        UR5eOptions(actions="joints")
    with pytest.raises(ValueError, match="bins"):
        UR5eOptions(actions="moves", bins=False)
