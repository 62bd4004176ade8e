"""The rules that a robot of one's own gets from BasicDriver, on the example that the README shows."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from robots.driver import Clip, Mode, Stop
from robots.gym import RobotEnv
from robots.registry import make

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def cart(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    cart, _ = make("own_robot:Cart", "centre", {"strength": 1})
    cart.connect()
    cart.arm()
    return cart


def speeds(cart, seconds):
    """The cart's speed after each tick."""
    for _ in range(round(seconds * cart.spec.inner_hz)):
        cart.tick()
        yield float(cart.read().values["speed"][0])


def test_the_example_is_as_short_as_it_claims_and_runs(monkeypatch):
    source = (EXAMPLES / "own_robot.py").read_text()
    shown = source[source.index("class Centre") : source.index("if __name__")]
    assert len([line for line in shown.splitlines() if line.strip()]) <= 40
    monkeypatch.syspath_prepend(str(EXAMPLES))
    own = importlib.import_module("own_robot")
    env = RobotEnv(own.Cart(own.CartOptions()), own.Centre())
    env.reset()
    _, reward, *_ = env.step(np.zeros(1, np.float32))
    assert reward == pytest.approx(0.5)


def test_an_action_is_followed_while_it_is_fresh_and_no_longer(cart):
    cart.command(np.ones(1))
    gained = list(speeds(cart, cart.spec.command_ttl))
    assert (np.diff(gained) > 0).all()
    rested = list(speeds(cart, 0.5))
    assert cart.health().mode == Mode.ARMED and (np.diff(rested)[1:] < 0).all()
    list(speeds(cart, 1.0))
    assert cart.health().mode == Mode.DISARMED


def test_hold_rests_until_the_next_command(cart):
    cart.command(np.ones(1))
    list(speeds(cart, 0.05))
    cart.stop(Stop.HOLD)
    assert (np.diff(list(speeds(cart, 0.05))) < 0).all()
    cart.command(np.ones(1))
    assert (np.diff(list(speeds(cart, 0.05))) > 0).all()


def test_a_first_command_that_is_not_finite_moves_nothing(cart):
    assert cart.command(np.full(1, np.nan)).clip == Clip.NOT_FINITE
    assert not any(speeds(cart, 0.1))


def test_a_sensor_that_is_not_finite_is_a_fault_that_rests(cart):
    cart.speed = np.nan
    cart.tick()
    assert cart.health().mode == Mode.FAULT and "speed" in cart.health().fault


def test_whatever_fails_at_the_end_the_connection_is_closed_and_nobody_knows_whether_it_rests(cart, monkeypatch):
    closed = []
    monkeypatch.setattr(cart, "drive", lambda action: 1 / 0)
    monkeypatch.setattr(cart, "close", lambda: closed.append(True))
    with pytest.raises(ZeroDivisionError):
        cart.disconnect()
    cart.disconnect()
    assert closed == [True] and "nobody knows whether the robot rests: division" in cart.health().fault


def test_whatever_fails_while_parking_the_joints_are_damped_and_the_link_closed(monkeypatch):
    driver, _ = make("unitree_a1", "walk", {"pose": "stand"})
    driver.connect()
    driver.arm()
    told, exchange = [], driver.link.exchange
    monkeypatch.setattr(driver.link, "exchange", lambda command: (told.append(command.kp.any()), exchange(command))[1])
    monkeypatch.setattr(driver.link, "close", lambda: told.append("closed"))
    monkeypatch.setattr(driver, "_park", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        driver.disconnect()
    driver.disconnect()
    *damped, last = told
    assert damped and not any(damped) and last == "closed" and driver.health().mode == Mode.DISARMED
