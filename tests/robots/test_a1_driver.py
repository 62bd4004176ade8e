from dataclasses import fields

import numpy as np
import pytest

from robots.driver import Clip, FaultLatched, Mode, NotConnected, StaleState, Stop
from robots.legs.filter import LowPass
from robots.legs.link import LowCommand
from robots.monitors import Monitors
from robots.unitree_a1.anatomy import A1, NOMINAL
from robots.unitree_a1.driver import A1Driver, A1Options

STAND = A1.stand_action.astype(np.float32)


@pytest.fixture
def standing():
    driver = A1Driver(A1Options(pose="stand"))
    driver.connect()
    driver.arm()
    yield driver
    driver.stop(Stop.DAMP)
    driver.disconnect()


def periods(driver, count, action=None):
    """Control periods in virtual time; yields the signals after each."""
    for _ in range(count):
        if action is not None:
            driver.command(action)
        for _ in range(50):
            driver.tick()
        yield driver.read().values


def last(items):
    *_, item = items
    return item


def test_it_stands_under_the_standing_action(standing):
    for values in periods(standing, 200, STAND):
        assert values["up"][2] > 0.99
    assert values["foot_contacts"].all()


def test_actions_reach_exactly_the_range_used_and_back():
    assert np.allclose(A1.to_angles(np.full(12, -1)), A1.reaches["range"][0])
    assert np.allclose(A1.to_angles(np.full(12, 1)), A1.reaches["range"][1])
    action = np.random.default_rng(0).uniform(-1, 1, 12)
    assert np.allclose(A1.to_action(A1.to_angles(action)), action)


def test_arming_moves_nothing(standing):
    standing.stop(Stop.DAMP)
    before = last(periods(standing, 40))["joint_angles"]
    standing.arm()
    assert np.array_equal(standing.read().values["setpoint"], before)
    standing.tick()
    assert np.abs(standing.read().values["torques"]).max() < 1.0


def test_the_setpoint_is_a_line_through_filtered_actions(standing):
    reference = LowPass(1.5, 20)
    reference.start(standing.read().values["setpoint"])
    target = STAND + np.tile([0.1, 0.02, -0.05], 4).astype(np.float32)
    wanted = [reference(A1.to_angles(target)) for _ in range(5)]
    start = standing.read().values["setpoint"]
    for end in wanted:
        standing.command(target)
        for tick in range(1, 51):
            standing.tick()
            if tick in (25, 50):
                assert np.allclose(standing.read().values["setpoint"], start + (end - start) * tick / 50, atol=1e-3)
        start = end


def test_the_setpoint_stays_within_a_fifth_of_a_radian_of_the_measured_angle(standing):
    rng = np.random.default_rng(0)
    met = Clip.NONE
    for _ in range(40):
        met |= standing.command(rng.choice([-1.0, 1.0], 12)).clip
        for _ in range(50):
            measured = standing.read().values["joint_angles"]
            standing.tick()
            assert np.abs(standing.read().values["setpoint"] - measured).max() <= A1.window + 1e-5
    assert met & Clip.TORQUE


def test_without_commands_it_holds_then_damps(standing):
    last(periods(standing, 20, STAND))
    values = list(periods(standing, 18))
    assert standing.health().mode == Mode.ARMED and values[-1]["up"][2] > 0.99
    assert np.array_equal(values[5]["setpoint"], values[-1]["setpoint"])
    last(periods(standing, 4))
    assert standing.health().mode == Mode.DISARMED
    assert standing.command(STAND).clip & Clip.DISARMED


def test_without_states_it_holds_then_damps_whatever_is_commanded(standing):
    last(periods(standing, 20, STAND))
    state, exchange = standing._state, standing.link.exchange
    standing.link.exchange = lambda command: (exchange(command), state)[1]
    values = list(periods(standing, 18, -STAND))
    assert standing.health().mode == Mode.ARMED
    assert np.allclose(values[5]["setpoint"], values[-1]["setpoint"], atol=1e-3)
    last(periods(standing, 4, -STAND))
    assert standing.health().mode == Mode.DISARMED


def test_hold_freezes_a_motion_until_the_next_command(standing):
    standing.command(np.ones(12))
    for _ in range(25):
        standing.tick()
    standing.stop(Stop.HOLD)
    standing.tick()
    frozen = standing.read().values["setpoint"]
    last(periods(standing, 3))
    assert np.abs(standing.read().values["setpoint"] - frozen).max() < 0.02
    assert standing.health().mode == Mode.ARMED
    assert not standing.command(STAND).clip & Clip.DISARMED


def test_after_a_silence_nothing_is_left_of_the_motion_before_it(standing):
    last(periods(standing, 20, STAND))
    last(periods(standing, 2, STAND - np.tile([0, 0, 1], 4)))
    frozen = last(periods(standing, 12))["setpoint"]  # longer than commands live
    for values in periods(standing, 5, A1.to_action(frozen)):
        assert np.abs(values["setpoint"] - frozen).max() < 1e-3  # the old target's inertia would move it 0.14 rad


def test_a_command_that_is_not_finite_after_a_hold_goes_on_holding(standing):
    last(periods(standing, 5, STAND - np.tile([0, 0, 1], 4)))
    standing.stop(Stop.HOLD)
    standing.tick()
    frozen = standing.read().values["setpoint"]
    assert np.allclose(standing.command(np.full(12, np.nan)).action, A1.to_action(frozen), atol=1e-3)
    for values in periods(standing, 5, np.full(12, np.nan)):
        assert np.abs(values["setpoint"] - frozen).max() < 1e-3


def test_the_first_reading_after_a_new_connection_is_new():
    driver = A1Driver(A1Options(pose="stand"), control_hz=40.0)
    driver.connect()
    for _ in range(25):  # one period; estimates are made every tenth tick
        driver.tick()
    driver.stop(Stop.DAMP)
    driver.disconnect()
    driver.link._pose = "back"
    driver.connect()
    assert driver.read().values["up"][2] == pytest.approx(-1)


def glitch(driver, **values):
    """The fifth state from now, and only that one, has these values. Returns the commands sent from now on."""
    sent, exchange = [], driver.link.exchange

    def once(command):
        sent.append(command)
        state = exchange(command)
        return state._replace(**values) if len(sent) == 5 else state

    driver.link.exchange = once
    return sent


def test_one_reading_that_is_not_finite_is_a_fault_and_leaves_nothing_behind(standing):
    glitch(standing, acceleration=np.full(3, np.nan))
    values = last(periods(standing, 1, STAND))
    assert "not finite" in standing.health().fault
    assert all(np.isfinite(value).all() for value in values.values())


def test_a_damped_motor_is_not_sent_what_is_not_finite(standing):
    standing.stop(Stop.DAMP)
    sent = glitch(standing, q=np.full(12, np.nan))
    last(periods(standing, 1))
    assert all(np.isfinite(command.q).all() for command in sent)


def test_a_state_that_is_not_finite_ends_in_a_fault_that_damps(standing):
    standing.link.data.qvel[10] = np.nan
    last(periods(standing, 1, STAND))
    assert standing.health().mode == Mode.FAULT and "not finite" in standing.health().fault
    with pytest.raises(FaultLatched, match="not finite"):
        standing.arm()


def test_a_motor_beyond_its_trip_ends_in_a_fault(standing):
    glitch(standing, tau=np.full(12, 43.0))  # for a single millisecond
    last(periods(standing, 1, STAND))
    assert "42 N m" in standing.health().fault


def test_a_stale_state_cannot_be_armed(standing):
    standing.stop(Stop.DAMP)
    now = standing.link.now
    standing.link.now = lambda: now() + 200_000_000
    with pytest.raises(StaleState, match="0.20 s"):
        standing.arm()


def test_disconnecting_lays_a_standing_robot_on_its_belly():
    driver = A1Driver(A1Options(pose="stand"))
    driver.connect()
    driver.arm()
    last(periods(driver, 10, STAND))
    double, fastest = driver.link, []
    exchange = double.exchange
    double.exchange = lambda command: fastest.append(abs(double.data.qvel[2])) or exchange(command)
    driver.disconnect()
    assert double.data.qpos[2] < 0.12 and double.data.xmat[1][8] > 0.98
    assert max(fastest) < 0.5  # m/s: it is laid down, not dropped
    with pytest.raises(NotConnected):
        driver.read()


def test_an_emergency_stop_while_parking_damps_at_once():
    driver = A1Driver(A1Options(pose="stand"))
    driver.connect()
    driver.arm()
    ticks, exchange, gains = [0], driver.link.exchange, []

    def stopped_at_100(command):
        ticks[0] += 1
        if ticks[0] == 100:
            driver.stop(Stop.ESTOP)
        gains.append(command.kp.max())
        return exchange(command)

    driver.link.exchange = stopped_at_100
    driver.disconnect()
    assert max(gains[:100]) == 80 and max(gains[101:]) == 0
    assert driver.health().mode == Mode.FAULT


@pytest.mark.parametrize("event", ["silent", "fallen"])
def test_parking_ends_damped_where_it_is_no_longer_safe(standing, event):
    last(periods(standing, 10, STAND))
    ticks, state, gains, exchange = [0], standing._state, [], standing.link.exchange

    def from_500_on(command):
        ticks[0] += 1
        gains.append(command.kp.max())
        new = exchange(command)
        if ticks[0] < 500:
            return new
        return state if event == "silent" else new._replace(quaternion=np.array([0.0, 1, 0, 0]))

    standing.link.exchange = from_500_on
    standing.disconnect()
    assert gains[400] == 80 and max(gains[620:]) == 0


def test_a_robot_on_its_back_is_not_folded():
    driver = A1Driver(A1Options(pose="back"))
    driver.connect()
    driver.arm()
    gains, exchange = [], driver.link.exchange
    driver.link.exchange = lambda command: gains.append(command.kp.max()) or exchange(command)
    driver.disconnect()
    assert not any(gains)


@pytest.mark.parametrize("options", [
    {"pose": "handstand"}, {"camera": "front"}, {"noise": -1.0}, {"latency": 1.0}, {"filter_hz": -1.0},
    {"payload": 50.0}, {"turn_every": 0.5}, {"push_every": -1.0}, {"push": 2000.0}, {"lift_after": 0.01},
    {"actions": "all"}, {"link": "radio"}, {"deadman": "foot"}, {"deadman": "remote"}, {"contact_force": 0.0}])
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        A1Options(**options)


@pytest.mark.parametrize("address", ["", " ", "192.168.123.10:", "192.168.123.10:port", ":8007", "a1:70000"])
def test_hardware_needs_an_address(address):
    with pytest.raises(ValueError, match="address.*192.168.123.10"):
        A1Options(link="hardware", address=address)


def test_over_the_network_the_inner_loop_runs_at_half_the_rate_and_nobody_renders():
    assert A1Driver().spec.inner_hz == 1000
    assert A1Driver(A1Options(link="protocol")).spec.inner_hz == 500
    with pytest.raises(ValueError, match="camera"):
        A1Options(link="protocol", camera="chase")
    with pytest.raises(ValueError, match="real time"):
        A1Driver(A1Options(link="protocol")).keep_pace(2.0)


def test_the_camera_shows_the_robot_and_how_far_it_is():
    driver = A1Driver(A1Options(pose="stand", camera="chase"))
    driver.connect()
    values = driver.read().values
    assert driver.spec.signals.contains(values)
    assert values["image"].std() > 10
    centre, edge = values["depth"][30:34, 30:34, 0].mean() * 0.02, values["depth"][-1, :, 0].mean() * 0.02
    assert 0.8 < centre < 1.6 and 0 < edge < centre + 0.5  # the camera is 1.4 m away, over the floor
    first = values["image"]
    driver.link.set_pose("back")
    assert np.abs(driver.read().values["image"].astype(int) - first).mean() > 3
    driver.disconnect()


def test_the_filter_is_a_second_order_butterworth():
    """Gain 1 at rest, 1/sqrt(2) at the cutoff, falling with the square of the frequency above."""
    def gain(hz):
        low_pass = LowPass(1.5, 200.0)
        low_pass.start(np.zeros(1))
        t = np.arange(4000) / 200
        out = np.array([low_pass(np.sin(2 * np.pi * hz * x) * np.ones(1))[0] for x in t])
        return out[2000:].std() * np.sqrt(2)

    assert gain(0.3) == pytest.approx(1, abs=0.01)
    assert gain(1.5) == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert gain(6.0) == pytest.approx(1 / 16, rel=0.1)
    low_pass = LowPass(1.5, 20)
    low_pass.start(np.full(3, 7.0))
    assert np.allclose(low_pass(np.full(3, 7.0)), 7)


def test_what_is_left_in_the_filter_tells_where_it_will_go():
    """Of two filters with different pasts and the same output, the next outputs differ as `ahead` says they will."""
    rng = np.random.default_rng(0)
    low_pass = LowPass(1.5, 20)
    low_pass.start(rng.normal(size=3))
    for _ in range(5):
        here = low_pass(rng.normal(size=3))
    ahead = low_pass.ahead(here)
    assert np.allclose(here + ahead, [low_pass(here), low_pass(here)])
    assert np.abs(ahead).min() > 1e-3
    low_pass.start(here)
    assert np.allclose(low_pass.ahead(here), 0)
    assert not LowPass(0, 20).ahead(here).any()


def test_the_signals_say_where_the_filter_takes_the_setpoint(standing):
    last(periods(standing, 3, STAND + np.tile([0.1, 0.02, -0.05], 4)))
    values = standing.read().values
    first = values["setpoint"] + values["filter_ahead"][:12]
    after = last(periods(standing, 1, A1.to_action(values["setpoint"])))
    assert np.abs(values["filter_ahead"]).max() > 0.01
    assert np.allclose(after["setpoint"], first, atol=2e-3)


def test_being_turned_in_the_middle_of_a_motion_is_no_fault_and_is_counted():
    driver = A1Driver(A1Options(pose="stand", turn_every=1.01, push_every=1.5))
    driver.connect()
    driver.arm()
    trace = list(periods(driver, 60, STAND))
    counts = np.array([values["disturbances"] for values in trace])
    assert counts[-1].tolist() == [2, 2, 0]
    turned = 1 + np.flatnonzero(np.diff(counts[:, 0]))
    assert all(trace[t]["up"][2] < -0.9 for t in turned)
    health = driver.health()
    assert health.mode == Mode.ARMED and not health.fault
    for values in trace:
        assert np.abs(values["setpoint"] - values["joint_angles"]).max() < 2 * A1.window


def test_a_run_that_began_on_the_double_can_go_on_on_the_robot():
    """Its replay has the same columns, and what changes with the way to the robot may change on resume."""
    for options in ({"link": "protocol"}, {"link": "hardware", "address": "192.168.123.10", "deadman": "remote"}):
        assert A1Driver(A1Options(**options)).spec.signals == A1Driver().spec.signals
        assert all(field.metadata["resume"] for field in fields(A1Options) if field.name in options)


def test_nominal_actions_reach_a_little_around_standing():
    driver = A1Driver(A1Options(pose="stand", actions="nominal", filter_hz=0.0))
    driver.connect()
    driver.arm()
    assert np.abs(driver.read().values["setpoint"] - A1.stand).max() < 1e-6
    values = last(periods(driver, 20, np.zeros(12)))
    assert np.allclose(values["setpoint"], NOMINAL, atol=1e-6)
    values = last(periods(driver, 20, np.tile([0.0, 0.5, -0.5], 4)))
    assert np.allclose(values["setpoint"], NOMINAL + np.tile([0, 0.2, -0.2], 4), atol=1e-6)


def test_a_motor_that_does_not_do_what_it_is_told_shows_and_one_that_does_shows_little(standing):
    def residual():
        return standing.health().gauges["torque_residual_newton_metres"]

    rng = np.random.default_rng(0)
    shown = [residual() for _ in range(20) for _ in periods(standing, 1, rng.uniform(-1, 1, 12))]
    assert max(shown) < 1  # N m, under random actions: 0.4
    exchange = standing.link.exchange

    def limp(command):
        works = np.arange(12) != 5
        return exchange(LowCommand(command.q, works * command.kp, works * command.kd))

    standing.link.exchange = limp
    assert max(residual() for _ in range(40) for _ in periods(standing, 1, STAND)) > 15
    assert "torque_residual" in Monitors(standing.thresholds).look({"torque_residual_newton_metres": residual()})[0][0]
