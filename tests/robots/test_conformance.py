"""One contract, every driver: doubles, gymnasium environments, a minimal robot; some of them behind a body, or behind
their vendor's protocol; and on hardware, with

    python -m pytest tests/robots/test_conformance.py -k on_the_robot --robot configs/ur5e_reach.yaml

where the config has an address. It is armed, stopped and expires, and is never told to move.

What happens in virtual time here happens in real time behind a body, a protocol or on a robot; `Bench` hides the
difference.
"""

import itertools
import os
import threading
import time
from pathlib import Path

import numpy as np
import odd_lerobot
import pytest
from gymnasium import spaces

from robots.body import Body
from robots.driver import Clip, CommandRejected, FaultLatched, Mode, NotConnected, Stop
from robots.protocol import ProtocolDouble
from robots.registry import make_driver
from robots.safety import ESTOPPED
from services.console.options import settings_of

EXAMPLES = Path(__file__).parents[2] / "examples"
ROBOTS = {
    "a1": ("unitree_a1", {"pose": "belly"}),
    "go2": ("unitree_go2", {"pose": "belly"}),
    "cartpole": ("gym", {"id": "CartPole-v1"}),
    "pendulum": ("gym", {"id": "Pendulum-v1"}),
    "sphero": ("sphero", {}),
    "ur5e": ("ur5e", {}),
    "xarm": ("xarm", {"model": "xarm7", "actions": "moves"}),
    "own": ("own_robot:Cart", {}),
    "lerobot": ("lerobot", odd_lerobot.OPTIONS),
}
PROTOCOLS = {
    "a1": ("unitree_a1", {"pose": "belly", "link": "protocol"}),
    "go2": ("unitree_go2", {"pose": "belly", "link": "protocol"}),
    "sphero": ("sphero", {"link": "protocol"}),
    "ur5e": ("ur5e", {"link": "protocol", "objects": 0}),
    "xarm": ("xarm", {"link": "protocol", "objects": 0}),
}
numbers = itertools.count()


class Bench:
    """A robot and the means to let its time pass."""

    still = False  # a robot that must not move

    def __init__(self, kind):
        way, _, name = kind.rpartition("-")
        driver, options = (PROTOCOLS if way == "protocol" else ROBOTS)[name]
        self.real_time = bool(way)
        if way == "body":
            self.driver = Body(f"conformance-{os.getpid()}-{next(numbers)}", driver, options)
        else:
            self.driver = make_driver(driver, options)
        self.spec = self.driver.spec
        self.pause = 1 / self.spec.inner_hz if way == "protocol" else 0.002

    @classmethod
    def at_its_address(cls, config):
        """The robot of a config file, in its body as in a run: nothing else may tick it. What moves by itself when it
        is armed, as an arm with `actions: moves` does, gets continuous actions here."""
        robot = settings_of(Path(config), None, which="hardware").robot
        options = dict(robot.options)
        if options.get("actions") == "moves":
            options["actions"] = "tool"
        bench = cls.__new__(cls)
        bench.driver = Body(f"conformance-{os.getpid()}-{next(numbers)}", robot.driver, options, robot.control_hz,
                            monitors=robot.monitors)
        bench.spec, bench.real_time, bench.still, bench.pause = bench.driver.spec, True, True, 0.002
        return bench

    def wait(self, until, seconds=3.0):
        """Time passes until something holds, at most `seconds` of the robot's."""
        deadline = time.monotonic() + seconds
        for ticks in itertools.count():
            if until():
                return
            if self.real_time:
                time.sleep(self.pause)
            self.driver.tick()
            if time.monotonic() > deadline if self.real_time else ticks > seconds * self.spec.inner_hz:
                break
        assert until(), "it did not come about in time"

    def step(self, action):
        """One command, then time until a new reading shows."""
        before = self.driver.read().sequence
        applied = self.driver.command(action)
        self.wait(lambda: self.driver.read().sequence > before)
        return applied

    def fresh(self):
        """Until the robot was just heard, as arming asks for."""
        self.wait(lambda: self.driver.health().link_age < self.spec.command_ttl / 4)

    def mode_is(self, mode):
        self.wait(lambda: self.driver.health().mode == mode)

    def action(self):
        return self.driver.standing(self.driver.read().values) if self.still else self.spec.action_space.sample()


@pytest.fixture(params=[*ROBOTS, "body-a1", "body-own"])
def bench(request, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    bench = Bench(request.param)
    yield bench
    bench.driver.stop(Stop.DAMP)
    bench.driver.disconnect()


@pytest.fixture
def armed(bench):
    bench.driver.connect()
    bench.driver.arm()
    return bench


def test_the_spec_is_complete_before_connecting(bench):
    spec = bench.spec
    assert set(spec.units) == set(spec.signals) and all(isinstance(unit, str) for unit in spec.units.values())
    assert isinstance(spec.action_space, spaces.Discrete) == (spec.noop is not None)
    if isinstance(spec.action_space, spaces.Box):
        assert (spec.action_space.low == -1).all() and (spec.action_space.high == 1).all()
    assert spec.inner_hz >= spec.control_hz and (spec.inner_hz / spec.control_hz) % 1 == 0
    assert 1 / spec.control_hz < spec.command_ttl < spec.damp_after


def test_verbs_before_connecting_say_so_and_stop_and_health_work(bench):
    bench.driver.stop(Stop.HOLD)
    assert bench.driver.health().mode == Mode.DISARMED
    for verb in (bench.driver.read, bench.driver.arm, lambda: bench.driver.command(bench.action())):
        with pytest.raises(NotConnected):
            verb()


def test_readings_fit_the_spec_and_grow(armed):
    first = armed.driver.read()
    assert armed.spec.signals.contains(first.values)
    armed.step(armed.action())
    second = armed.driver.read()
    assert second.sequence > first.sequence and second.time > first.time


def test_it_comes_up_disarmed_and_ignores_commands_until_armed(bench):
    bench.driver.connect()
    bench.driver.connect()
    assert bench.driver.health().mode == Mode.DISARMED
    assert bench.driver.command(bench.action()).clip & Clip.DISARMED
    bench.driver.arm()
    assert not bench.step(bench.action()).clip & Clip.DISARMED


def test_what_is_applied_is_in_the_action_space(armed):
    if isinstance(armed.spec.action_space, spaces.Discrete):
        applied = armed.step(np.int64(99))
        assert applied.action == armed.spec.noop
    else:
        armed.step(np.full(armed.spec.action_space.shape, 0.25))
        held = armed.step(np.full(armed.spec.action_space.shape, np.nan))
        assert held.clip & Clip.NOT_FINITE and np.allclose(held.action, 0.25)
        applied = armed.step(np.full(armed.spec.action_space.shape, 1e9))
    assert applied.clip & Clip.ACTION_SPACE and armed.spec.action_space.contains(applied.action)
    assert armed.driver.health().mode == Mode.ARMED


def test_an_action_of_another_shape_is_rejected_and_changes_nothing(armed):
    with pytest.raises(CommandRejected):
        armed.driver.command(np.zeros(99, np.float32))
    armed.step(armed.action())


def test_neither_reading_nor_commanding_takes_longer_than_a_period(armed):
    took = []
    for _ in range(15):
        action, start = armed.action(), time.perf_counter()
        armed.driver.command(action)
        armed.driver.read()
        took.append(time.perf_counter() - start)
        armed.step(action)
    assert np.median(took) < 1 / armed.spec.control_hz


def test_a_stop_from_another_thread_takes_effect(armed):
    threading.Thread(target=armed.driver.stop, args=(Stop.DAMP,)).start()
    armed.mode_is(Mode.DISARMED)
    assert armed.driver.command(armed.action()).clip & Clip.DISARMED


def test_an_emergency_stop_is_latched_until_an_operator_clears_it(armed):
    threading.Thread(target=armed.driver.stop, args=(Stop.ESTOP,)).start()
    armed.mode_is(Mode.FAULT)
    assert armed.driver.health().fault == ESTOPPED  # no other is cleared here
    with pytest.raises(FaultLatched):
        armed.driver.arm()
    with pytest.raises(FaultLatched):
        armed.driver.clear_fault("")
    armed.driver.clear_fault("Ada")
    armed.mode_is(Mode.DISARMED)
    armed.fresh()
    armed.driver.arm()
    armed.step(armed.action())


def test_hold_stays_armed_for_as_long_as_it_is_said_again(armed):
    tick, hold_for = itertools.count(), 1.5 * armed.spec.damp_after
    period = round(armed.spec.inner_hz / armed.spec.control_hz)
    deadline = time.monotonic() + hold_for

    def held():
        n = next(tick)
        if n % period == 0 or armed.real_time:
            armed.driver.stop(Stop.HOLD)
        assert armed.driver.health().mode == Mode.ARMED
        return time.monotonic() > deadline if armed.real_time else n > hold_for * armed.spec.inner_hz

    armed.wait(held, 10 * hold_for)
    assert not armed.step(armed.action()).clip & Clip.DISARMED


def test_after_a_reconnect_it_is_disarmed(armed):
    armed.driver.stop(Stop.DAMP)
    armed.driver.disconnect()
    armed.driver.disconnect()
    with pytest.raises(NotConnected):
        armed.driver.read()
    armed.driver.connect()
    assert armed.driver.health().mode == Mode.DISARMED
    assert armed.spec.signals.contains(armed.driver.read().values)


def test_a_command_from_before_a_reconnect_is_forgotten(armed):
    if armed.real_time:
        return  # a body parks and ends
    armed.step(armed.action())
    armed.driver.command(armed.action())
    armed.driver.disconnect()
    armed.driver.connect()
    armed.driver.arm()
    before = armed.driver.read().values
    armed.driver.tick()
    after = armed.driver.read().values
    for name in set(before) & {"observation", "setpoint", "position"}:
        assert np.allclose(before[name], after[name], atol=1e-3), name


def test_a_command_expires(armed):
    if armed.spec.name in ("CartPole-v1", "Pendulum-v1"):
        armed.step(armed.action())
        shown = armed.driver.read().sequence
        for _ in range(20):
            armed.driver.tick()
        assert armed.driver.read().sequence == shown  # an environment stands still by itself
    else:
        armed.mode_is(Mode.DISARMED)


def test_what_is_not_finite_is_not_followed(armed):
    if isinstance(armed.spec.action_space, spaces.Discrete):
        return
    held = armed.step(armed.action())
    odd = armed.step(np.full(armed.spec.action_space.shape, np.nan))
    assert odd.clip & Clip.NOT_FINITE and np.allclose(odd.action, held.action)


SAFE = [test_readings_fit_the_spec_and_grow, test_neither_reading_nor_commanding_takes_longer_than_a_period,
        test_what_is_not_finite_is_not_followed,
        test_an_action_of_another_shape_is_rejected_and_changes_nothing,
        test_a_stop_from_another_thread_takes_effect, test_an_emergency_stop_is_latched_until_an_operator_clears_it,
        test_hold_stays_armed_for_as_long_as_it_is_said_again, test_a_command_expires]  # where nothing is to move


def hold(bench, sentences):
    """All of them in one connection, because these robots take a while to start and run in real time."""
    bench.driver.connect(30)
    try:
        for sentence in sentences:
            bench.fresh()
            bench.driver.arm()
            sentence(bench)
    finally:
        bench.driver.stop(Stop.DAMP)
        bench.driver.disconnect()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_contract_holds_behind_the_vendors_protocol(name):
    hold(Bench(f"protocol-{name}"),
         [*SAFE, test_what_is_applied_is_in_the_action_space, test_after_a_reconnect_it_is_disarmed])


def test_the_contract_holds_at_an_address(tmp_path):
    """As on hardware, told to stand: an A1 that answers at a port of this computer."""
    double = ProtocolDouble("robots.unitree_a1.udp_double", {"pose": "belly"})
    config = tmp_path / "a1.yaml"
    try:
        address = f"127.0.0.1:{double.start(30)['port']}"
        config.write_text(f"robot: {{driver: unitree_a1, task: walk, options: {{address: '{address}'}}}}")
        hold(Bench.at_its_address(config), SAFE)
    finally:
        double.stop()


def test_the_contract_holds_on_the_robot(request):
    config = request.config.getoption("--robot")
    if not config:
        pytest.skip("no --robot CONFIG")
    hold(Bench.at_its_address(config), SAFE)
