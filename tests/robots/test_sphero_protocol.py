"""The driver through the vendor's SDK to a double in a process of its own, in real time; faults that it plays."""

import os
import signal
import time

import numpy as np
import pytest

from robots.cameras.camera import CameraLost
from robots.driver import Clip, CommandRejected, FaultLatched, LinkLost, Mode, StaleState, Stop
from robots.sphero import link as links
from robots.sphero.driver import SpheroDriver
from robots.sphero.options import SpheroOptions

pytest.importorskip("spherov2")
AHEAD, BACK, REST = np.ones(2, np.float32), -np.ones(2, np.float32), np.zeros(2, np.float32)


CONTROL_HZ = 4.0  # commands live 0.75 s, and after 1.5 s of trouble it is disarmed


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """While this file is there, the SDK raises."""
    return tmp_path_factory.mktemp("sphero") / "odd"


@pytest.fixture(scope="module")
def toy(odd):
    with pytest.MonkeyPatch.context() as world:
        world.setenv("ODD_SPHERO", str(odd))
        world.setattr(links, "LOOPBACK", "odd_sphero:air")
        driver = SpheroDriver(SpheroOptions(start="centre", link="protocol"), CONTROL_HZ)
        driver.connect(30)
        yield driver
        driver.disconnect()


def hasty(driver, monkeypatch):
    """Give the toy up after half a second."""
    driver.disconnect()
    monkeypatch.setattr(links, "GIVE_UP", 0.5)
    driver.connect(30)
    driver.arm()


@pytest.fixture
def driver(toy):
    """Armed, heard and seen, whatever was played before."""
    pumped(toy, lambda: toy.health().link_age < 0.5, 20)
    toy.stop(Stop.DAMP)
    toy.clear_fault("Ada")
    toy.arm()
    yield toy
    toy.stop(Stop.DAMP)


def pumped(driver, until, seconds=10.0, action=None):
    """Tick at the pace of the clock, with a command each period, until something holds."""
    deadline, next_command = time.monotonic() + seconds, 0.0
    while not until():
        assert time.monotonic() < deadline, f"it did not come about: {driver.health()}"
        if action is not None and time.monotonic() > next_command:
            driver.command(action)
            next_command = time.monotonic() + 1 / CONTROL_HZ
        driver.tick()
        time.sleep(0.02)


def for_a_while(driver, seconds, action=None):
    end = time.monotonic() + seconds
    pumped(driver, lambda: time.monotonic() >= end, seconds + 10, action)
    return driver.read().values


def powers(driver):
    return driver.read().values["motor_powers"]


def test_the_same_powers_move_the_ball_as_far_as_in_the_direct_double(toy):
    """Within 0.08 arena units (6 cm) after a second at half power and a rest: commands take a while through the air."""
    direct = SpheroDriver(SpheroOptions(start="centre"), CONTROL_HZ)
    direct.connect()
    direct.arm()
    for action in 4 * [AHEAD / 2] + 4 * [REST]:
        direct.command(action)
        for _ in range(5):
            direct.tick()
    wanted = direct.read().values["ball_position"]
    direct.disconnect()
    for attempt in range(3):  # a busy machine's clock is not the ball's
        if attempt:
            toy.disconnect()
            toy.connect(30)
        pumped(toy, lambda: toy.health().link_age < 0.5)
        toy.arm()
        for_a_while(toy, 1.0, AHEAD / 2)
        came = for_a_while(toy, 1.0, REST)["ball_position"]
        if np.abs(came - wanted).max() < 0.08:
            break
    assert np.abs(came - wanted).max() < 0.08, (came, wanted)
    assert 0.65 < wanted[0] < 0.9  # well on its way, and not at the wall


def test_it_is_a_driver_like_any_other(driver):
    first = driver.read()
    assert driver.spec.signals.contains(first.values) and not first.values["ball_lost"]
    pumped(driver, lambda: np.allclose(powers(driver), 70 / 255), action=AHEAD)
    assert driver.read().sequence > first.sequence and driver.read().time > first.time
    with pytest.raises(CommandRejected):
        driver.command(np.zeros(3))
    assert driver.command(np.full(2, np.nan)).clip & Clip.NOT_FINITE
    began = time.monotonic()
    for _ in range(20):
        driver.tick(), driver.command(REST), driver.read(), driver.health()
    assert time.monotonic() - began < 2  # nothing waits for the air, which takes 20 ms and more for each answer
    pumped(driver, lambda: not powers(driver).any(), action=REST)
    driver.command(AHEAD)
    driver.stop(Stop.ESTOP)
    pumped(driver, lambda: driver.health().mode == Mode.FAULT and not powers(driver).any())
    with pytest.raises(FaultLatched):
        driver.arm()


def test_when_commands_stop_the_motors_stop_and_when_ticks_stop_too(driver):
    pumped(driver, lambda: powers(driver).any(), action=AHEAD)
    pumped(driver, lambda: not powers(driver).any())
    driver.arm()
    pumped(driver, lambda: powers(driver).any(), action=BACK)
    deadline = time.monotonic() + 5
    while driver.link._pilot.powers != (0, 0):  # nobody ticks: the link's own time to live
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fifth_of_the_packets_lost_and_a_stall_of_200_ms_only_slow_it_down(driver):
    driver.link.double.order("loss", seconds=1.5, share=0.2)
    for action in (AHEAD, BACK, AHEAD):
        pumped(driver, lambda action=action: np.allclose(powers(driver), 70 / 255 * action), action=action)
    driver.link.double.order("stall", seconds=0.2)
    pumped(driver, lambda: np.allclose(powers(driver), -70 / 255), action=BACK)
    assert driver.health().mode == Mode.ARMED and not driver.health().fault


@pytest.mark.parametrize("fault", ["drop", "corrupt", "raise"])
def test_a_toy_that_is_lost_for_a_while_rests_and_then_goes_on(driver, odd, fault):
    """Also where nothing is wrong but that the SDK raises."""
    pumped(driver, lambda: powers(driver).any(), action=AHEAD)
    before = driver.health().gauges["toy_reconnects"]
    if fault == "raise":
        odd.touch()
        pumped(driver, lambda: "out of order" in driver.link._pilot.trouble, action=AHEAD)
    else:
        driver.link.double.order(fault, seconds=0.8)
    pumped(driver, lambda: driver.health().link_age > driver.spec.command_ttl, action=AHEAD)
    odd.unlink(missing_ok=True)
    assert driver.command(AHEAD).clip & (Clip.STALE | Clip.DISARMED)
    assert driver.spec.signals.contains(driver.read().values) and not driver.read().values["ball_lost"]
    pumped(driver, lambda: driver.health().link_age < 0.5, 20)
    assert driver.health().gauges["toy_reconnects"] > before
    driver.arm()
    pumped(driver, lambda: np.allclose(powers(driver), -70 / 255), action=BACK)


def test_a_call_of_the_sdk_that_raises_again_and_again_is_in_the_end_a_lost_link_that_says_so(driver, odd, monkeypatch):
    with monkeypatch.context() as patience:
        hasty(driver, patience)
        odd.touch()
        with pytest.raises(LinkLost, match="out of order"):
            for_a_while(driver, 15.0, AHEAD)
    odd.unlink()
    driver.disconnect()
    driver.connect(30)


def test_a_hidden_ball_rests_and_a_frozen_camera_is_started_anew(driver):
    driver.link.double.order("hide", seconds=1.5)
    pumped(driver, lambda: driver.read().values["ball_lost"], action=AHEAD)
    assert (driver.read().values["ball_position"] == -1).all()
    pumped(driver, lambda: not powers(driver).any(), action=AHEAD)
    with pytest.raises(StaleState, match="put it into the arena"):
        driver.arm()
    pumped(driver, lambda: not driver.read().values["ball_lost"])
    driver.arm()
    driver.link.double.order("freeze", seconds=2.0)
    pumped(driver, lambda: driver.health().mode == Mode.DISARMED, action=AHEAD)
    pumped(driver, lambda: driver.health().gauges["camera_restarts"] >= 1)
    pumped(driver, lambda: driver.health().link_age < 0.5, 20)


def test_the_process_that_can_stop_the_toy_ends_with_its_owner_and_not_by_signals_that_are_meant_for_all(driver):
    pumped(driver, lambda: powers(driver).any(), action=AHEAD)
    os.kill(driver.link.pid, signal.SIGTERM)  # as systemd sends it to every process of a service
    os.kill(driver.link.pid, signal.SIGINT)
    pumped(driver, lambda: np.allclose(powers(driver), -70 / 255), action=BACK)
    os.kill(driver.link.pid, signal.SIGKILL)
    with pytest.raises(LinkLost, match="the process that talks to it has ended"):
        for_a_while(driver, 5.0, AHEAD)
    driver.disconnect()
    driver.connect(30)
    assert not powers(driver).any()


def test_a_killed_double_is_lost_without_holding_anybody_up(driver, monkeypatch):
    hasty(driver, monkeypatch)
    for_a_while(driver, 0.3, AHEAD)
    os.kill(driver.link.double.pid, signal.SIGKILL)
    with pytest.raises((LinkLost, CameraLost)):  # whichever is given up first: both end with the double
        for_a_while(driver, 15.0, AHEAD)
    began = time.monotonic()
    driver.disconnect()
    assert time.monotonic() - began < 8
    assert driver.health().mode == Mode.FAULT and "rests" in driver.health().fault
