import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.driver import Clip, CommandRejected, FaultLatched, Mode, Stop
from robots.safety import Gate, Interlock, Limits, Trust, Watchdog

LOWER, UPPER, PERIOD = np.array([-1.0, -0.5]), np.array([1.0, 2.0]), 0.01
anything = st.floats(allow_nan=True, allow_infinity=True, width=32)
angle = st.floats(-3, 3, width=32)
bounds = settings(max_examples=150, derandomize=True)


def walk(limits, targets, measured):
    """Advance through targets; yields (setpoint before, setpoint, clip)."""
    for target, at in zip(targets, measured, strict=True):
        before = limits.setpoint
        after, clip = limits.advance(np.array(target, float), np.array(at, float))
        yield before, after, clip


@bounds
@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=20), st.tuples(angle, angle))
def test_every_setpoint_is_finite_and_moves_no_faster_than_allowed(targets, start):
    limits = Limits(LOWER, UPPER, PERIOD, velocity=3.0, step=0.5)
    limits.start(np.array(start))
    for before, after, clip in walk(limits, targets, [start] * len(targets)):
        assert np.isfinite(after).all()
        assert (np.abs(after - before) <= 3.0 * PERIOD + 1e-9).all(), clip


@bounds
@given(st.lists(st.tuples(angle, angle), min_size=1, max_size=30), st.tuples(angle, angle))
def test_from_outside_its_range_a_joint_comes_back_and_never_goes_farther_out(targets, start):
    limits = Limits(LOWER, UPPER, PERIOD, velocity=5.0)
    limits.start(np.array(start))
    outside = lambda q: np.maximum(0, np.maximum(LOWER - q, q - UPPER))  # noqa: E731
    for before, after, _ in walk(limits, targets, [start] * len(targets)):
        assert (outside(after) <= outside(before) + 1e-9).all()


@bounds
@given(st.tuples(angle, angle), st.tuples(angle, angle))
def test_a_joint_outside_its_range_is_back_after_the_time_its_speed_needs(start, target):
    limits = Limits(LOWER, UPPER, PERIOD, velocity=5.0)
    limits.start(np.array(start))
    steps = int(6 / (5.0 * PERIOD)) + 2  # angles here are at most 6 rad apart
    for _, _, clip in walk(limits, [target] * steps, [start] * steps):
        assert not clip & Clip.EMPTY
    assert np.allclose(limits.setpoint, np.clip(target, LOWER, UPPER))


@bounds
@given(st.lists(st.tuples(angle, angle), min_size=1, max_size=40), st.sampled_from([1.0, 20.0, 500.0]))
def test_acceleration_is_bounded_and_always_leaves_room_to_brake(targets, acceleration):
    limits = Limits(LOWER, UPPER, PERIOD, velocity=3.0, acceleration=acceleration)
    limits.start(np.array([0.9, 1.9]))
    moved = np.zeros(2)
    for before, after, clip in walk(limits, targets, [[0, 0]] * len(targets)):
        assert not clip & Clip.EMPTY
        assert (np.abs(after - before - moved) <= acceleration * PERIOD**2 + 1e-9).all()
        assert (LOWER - 1e-9 <= after).all() and (after <= UPPER + 1e-9).all()
        moved = after - before


@bounds
@given(st.lists(st.tuples(st.tuples(angle, angle), st.tuples(st.floats(-1, 1), st.floats(-1, 1))), max_size=60))
def test_the_setpoint_never_leaves_the_torque_window_however_the_robot_is_pushed(pairs):
    limits, measured = Limits(LOWER, UPPER, PERIOD, velocity=3.0, window=0.2), np.zeros(2)
    limits.start(measured)
    for target, push in pairs:
        measured = np.clip(measured + 2 * 3.0 * PERIOD * np.array(push), LOWER - 0.2, UPPER + 0.2)
        after, clip = limits.advance(np.array(target), measured)
        assert (np.abs(after - measured) <= 0.2 + 1e-9).all() and not clip & Clip.EMPTY


@bounds
@given(st.lists(st.tuples(st.tuples(anything, anything), st.tuples(anything, anything)), max_size=40),
       st.tuples(angle, angle), st.sampled_from([np.inf, 20.0]))
def test_whatever_is_wanted_and_whatever_is_measured_steps_are_bounded_and_lead_into_the_range(pairs, start, braking):
    limits = Limits(LOWER, UPPER, PERIOD, velocity=3.0, acceleration=braking, step=0.05, window=0.2)
    limits.start(np.array(start))
    outside = lambda q: np.maximum(0, np.maximum(LOWER - q, q - UPPER))  # noqa: E731
    for target, measured in pairs:
        before = limits.setpoint
        after, clip = limits.advance(np.array(target, float), np.array(measured, float))
        assert np.isfinite(after).all() and (outside(after) <= outside(before) + 1e-9).all()
        assert (np.abs(after - before) <= 2 * 3.0 * PERIOD + 1e-9).all()
        if clip & (Clip.EMPTY | Clip.NOT_FINITE):
            assert np.array_equal(after, before)


@pytest.mark.parametrize("lie", [100.0, -100.0, 2.5])
def test_a_measured_position_that_no_setpoint_comes_near_is_a_contradiction(lie):
    limits, clips = Limits(LOWER, UPPER, PERIOD, velocity=3.0, acceleration=20.0, window=0.2), []
    limits.start(np.zeros(2))
    for _ in range(60):
        after, clip = limits.advance(np.zeros(2), np.array([lie, 0.0]))
        clips.append(clip)
    assert not clips[10] & Clip.EMPTY and clips[-1] & Clip.EMPTY  # one odd state alone stops nobody
    assert LOWER[0] <= after[0] <= UPPER[0]


@bounds
@given(st.lists(st.tuples(angle, angle), min_size=1, max_size=40), st.tuples(angle, angle))
def test_from_outside_a_following_robot_comes_back_with_all_limits_on(targets, start):
    limits, measured = Limits(LOWER, UPPER, PERIOD, velocity=3.0, acceleration=20.0, window=0.2), np.array(start)
    limits.start(measured)
    outside = lambda q: np.maximum(0, np.maximum(LOWER - q, q - UPPER))  # noqa: E731
    for target in targets:
        before = limits.setpoint
        measured, clip = limits.advance(np.array(target), measured)  # where it was told to be, a period later
        assert not clip & Clip.EMPTY and (outside(measured) <= outside(before) + 1e-9).all()


@bounds
@given(st.tuples(angle, angle))
def test_a_target_within_all_limits_is_followed_exactly(target):
    inside = np.clip(target, LOWER, UPPER)
    limits = Limits(LOWER, UPPER, PERIOD, velocity=1000.0, step=10, window=10)
    limits.start(np.zeros(2))
    after, clip = limits.advance(inside, np.zeros(2))
    assert np.array_equal(after, inside) and clip == Clip.NONE


@pytest.mark.parametrize("settings, target, reason", [
    ({}, [5.0, 0.0], Clip.POSITION),
    ({"velocity": 1.0}, [0.5, 0.0], Clip.VELOCITY),
    ({"step": 0.1}, [0.5, 0.0], Clip.RELATIVE_STEP),
    ({"window": 0.1}, [0.5, 0.0], Clip.TORQUE),
    ({"acceleration": 10.0}, [0.5, 0.0], Clip.ACCELERATION),
    ({}, [np.nan, 0.0], Clip.NOT_FINITE),
])
def test_the_mask_names_the_limit_that_cut_the_target(settings, target, reason):
    limits = Limits(LOWER, UPPER, PERIOD, **settings)
    limits.start(np.zeros(2))
    assert limits.advance(np.array(target), np.zeros(2))[1] == reason


def test_contradicting_limits_hold_and_say_so():
    limits = Limits(LOWER, UPPER, PERIOD, velocity=1.0, acceleration=1.0)
    limits.start(np.zeros(2))
    limits._moved = np.array([0.5, 0.0])  # as if it had come at 50 rad/s: neither the speed nor the braking allows it
    after, clip = limits.advance(np.array([0.9, 0.0]), np.zeros(2))
    assert clip & Clip.EMPTY and np.array_equal(after, np.zeros(2))


@pytest.mark.parametrize("broken", [{"velocity": 0.0}, {"window": -1.0}])
def test_limits_that_make_no_sense_are_refused(broken):
    with pytest.raises(ValueError, match="limits"):
        Limits(LOWER, UPPER, PERIOD, **broken)
    with pytest.raises(ValueError, match="limits"):
        Limits(UPPER, LOWER, PERIOD)


@bounds
@given(st.lists(anything, min_size=3, max_size=3))
def test_whatever_is_commanded_what_enters_is_in_the_action_space(action):
    space = spaces.Box(-1, 1, (3,), np.float32)
    applied = Gate(space).admit(np.array(action, np.float32))
    assert space.contains(applied.action)
    assert bool(applied.clip & Clip.NOT_FINITE) == (not np.isfinite(action).all())


def test_a_command_that_is_not_finite_repeats_the_one_before():
    gate = Gate(spaces.Box(-1, 1, (2,), np.float32))
    gate.admit(np.array([0.5, -0.5]))
    assert np.allclose(gate.admit(np.array([np.nan, 1.0])).action, [0.5, -0.5])


@pytest.mark.parametrize("action", [np.zeros(3), 0.5, "left", [[0, 0]]])
def test_a_command_of_another_shape_is_rejected(action):
    with pytest.raises(CommandRejected):
        Gate(spaces.Box(-1, 1, (2,), np.float32)).admit(action)


def test_discrete_commands_outside_the_space_become_the_noop():
    gate = Gate(spaces.Discrete(3), noop=2)
    assert gate.admit(7).action == 2 and gate.admit(7).clip == Clip.ACTION_SPACE
    assert gate.admit(1).action == 1 and gate.admit(7).action == 2  # not once more what was before
    with pytest.raises(CommandRejected):
        gate.admit(0.5)


def test_the_watchdog_trusts_then_holds_then_damps():
    dog = Watchdog(ttl=0.2, damp_after=1.0)
    assert dog.trust(0) == Trust.DAMP  # nothing was ever commanded
    dog.feed(0)
    assert [dog.trust(int(t * 1e9)) for t in (0.1, 0.2, 0.3, 1.0, 1.1)] == [
        Trust.FRESH, Trust.FRESH, Trust.HOLD, Trust.HOLD, Trust.DAMP]


def test_a_fault_keeps_its_first_cause_and_leaves_only_with_a_name():
    lock = Interlock()
    lock.arm()
    lock.stop(Stop.HOLD)
    assert lock.mode == Mode.ARMED
    lock.trip("torque")
    lock.stop(Stop.ESTOP)
    lock.stop(Stop.DAMP)
    assert (lock.mode, lock.fault) == (Mode.FAULT, "torque")
    with pytest.raises(FaultLatched, match="torque"):
        lock.arm()
    with pytest.raises(FaultLatched):
        lock.clear(" ")
    lock.clear("Ada")
    assert (lock.mode, lock.fault) == (Mode.DISARMED, "")
