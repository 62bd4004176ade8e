"""The driver over its double in virtual time: where the ball rolls, when it rests, what is reported."""

import numpy as np
import pytest

from robots.driver import Clip, Mode, StaleState
from robots.gym import RobotEnv
from robots.sphero.double import SPEED, Arena
from robots.sphero.driver import SpheroDriver
from robots.sphero.options import SpheroOptions
from robots.sphero.tasks import EPISODE, FARTHEST, REACHED, Navigate, distance

AHEAD, REST = np.ones(2, np.float32), np.zeros(2, np.float32)


def rolling(**options):
    driver = SpheroDriver(SpheroOptions(**{"start": "centre"} | options))
    driver.connect()
    driver.arm()
    return driver


@pytest.fixture
def driver():
    driver = rolling()
    yield driver
    driver.disconnect()


def period(driver, action=None):
    """Half a second, of a command or of silence; the signals after it."""
    if action is not None:
        driver.command(action)
    for _ in range(10):
        driver.tick()
    return driver.read().values


def ramped(powers, seconds):
    """The speed that an arena without walls gives under powers that come on within a second and a half."""
    arena, fastest = Arena(), 0.0
    for name in ("east", "west", "north", "south"):
        arena.model.geom(name).contype = arena.model.geom(name).conaffinity = 0
    arena.put(np.array([0.5, 0.5]), 0.0)
    for step in range(round(seconds / 0.05)):
        on = min(1.0, step * 0.05 / 1.5)
        arena.advance(tuple(round(on * power) for power in powers), 0.05)
        fastest = max(fastest, float(np.linalg.norm(arena.velocity)))
    return fastest


def test_at_full_power_it_rolls_at_two_metres_a_second():
    assert ramped((255, 255), 4) == pytest.approx(2.0, abs=0.15)
    assert ramped((70, 70), 4) == pytest.approx(70 / 255 * SPEED, abs=0.15)  # at DayDreamer's power


def test_full_power_from_rest_throws_the_carriage_over_as_the_makers_say():
    arena = Arena()
    arena.put(np.array([0.5, 0.5]), 0.0)
    lowest = 1.0
    for _ in range(20):
        arena.advance((255, 255), 0.02)
        lowest = min(lowest, arena.data.body("carriage").xmat[8])
    assert lowest < 0


def test_both_motors_roll_it_ahead_and_against_each_other_they_turn_it(driver):
    ahead = [period(driver, AHEAD)["ball_position"] for _ in range(2)][-1]
    assert ahead[0] > 0.6 and abs(ahead[1] - 0.5) < 0.02
    for _ in range(4):
        stopped = period(driver, REST)["ball_position"]
    turned = period(driver, np.float32([-0.3, 0.3]))
    assert np.abs(turned["ball_position"] - stopped).max() < 0.03
    assert np.allclose(turned["motor_powers"], [-21 / 255, 21 / 255])
    after = [period(driver, AHEAD)["ball_position"] for _ in range(2)][-1]
    assert abs(after[1] - stopped[1]) > 0.05  # no longer along its first heading


def test_it_stays_in_the_arena_and_is_seen_there_whatever_it_does():
    env, rng = RobotEnv(rolling(start="random"), Navigate()), np.random.default_rng(0)
    env.reset(seed=3)
    for _ in range(40):
        seen, *_ = env.step(rng.choice([-1.0, 1.0], 2).astype(np.float32))
        truth = env.driver.link.truth()["ball_position"]
        assert not seen["ball_lost"] and env.driver.spec.signals.contains(seen)
        assert np.abs(seen["ball_position"] - truth).max() < 0.03
        assert 0.03 < truth.min() and truth.max() < 0.97
    env.close()


def test_a_random_policy_stays_as_far_from_the_goal_as_measured():
    """What learning is held to: 0.56 arena units over 30 episodes, by the camera as by the truth."""
    env, rng, seen, true = RobotEnv(SpheroDriver(), Navigate(), EPISODE), np.random.default_rng(0), [], []
    for seed in range(2):
        env.reset(seed=seed)
        over = False
        while not over:
            signals, reward, _, over, _ = env.step(rng.uniform(-1, 1, 2).astype(np.float32))
            seen.append(-reward)
            true.append(np.linalg.norm(env.driver.link.truth()["ball_position"] - signals["goal"]))
    env.close()
    assert len(seen) == 2 * EPISODE
    assert np.mean(seen) == pytest.approx(np.mean(true), abs=0.02)
    assert 0.4 < np.mean(seen) < 0.8


def test_the_same_seed_starts_in_the_same_place_and_another_elsewhere():
    env = RobotEnv(SpheroDriver(), Navigate(), keys=("ball_position",))
    places = [env.reset(seed=seed)[0]["ball_position"] for seed in (1, 1, 2)]
    env.close()
    assert np.array_equal(places[0], places[1]) and not np.allclose(places[0], places[2], atol=0.05)


def test_without_commands_it_gets_no_power_and_is_disarmed_in_the_end(driver):
    period(driver, AHEAD)
    assert period(driver)["motor_powers"].any()
    period(driver)
    assert not period(driver)["motor_powers"].any()
    assert driver.health().mode == Mode.ARMED
    for _ in range(3):
        period(driver)
    assert driver.health().mode == Mode.DISARMED


def test_an_image_of_several_pictures_shows_where_the_ball_was_a_while_before():
    driver, places = rolling(frames=3), []
    for _ in range(3):
        image = period(driver, AHEAD)["image"]
        places.append([float(np.argmin(image[..., 3 * n].min(0))) for n in range(3)])
    assert driver.spec.signals["image"].shape == image.shape == (64, 64, 9)
    driver.disconnect()
    newest, before, oldest = np.transpose(places)
    assert (newest > before).all() and (before >= oldest).all()
    assert np.abs(oldest[1:] - newest[:-1]).max() <= 1  # half a second: one step of the control loop before


def test_beside_the_pictures_it_says_what_the_powers_were_when_they_were_taken():
    driver = rolling(frames=5)
    actions = np.float32([[1, 1], [0.5, -0.5], [-1, 0.2]])
    shown = [period(driver, action)["powers_before"].reshape(5, 2) for action in actions]
    assert driver.spec.signals["powers_before"].shape == (10,)
    driver.disconnect()
    assert np.allclose(shown[-1][::2], actions[::-1], atol=1 / 70)  # newest first, two pictures to a step
    assert np.allclose(shown[0][2:], 0) and np.allclose(shown[0][0], actions[0])  # it was at rest before


def test_beside_the_pictures_it_says_how_the_ball_moved_between_them():
    driver = rolling(frames=5)
    places = [period(driver, AHEAD)["ball_position"] for _ in range(4)]
    velocities = driver.read().values["ball_velocities"].reshape(4, 2)
    driver.disconnect()
    assert np.allclose(velocities.mean(0), places[-1] - places[-3], atol=0.03)  # over a second
    for half, (before, after) in zip((velocities[2:], velocities[:2]), zip(places[-3:], places[-2:])):
        assert np.allclose(half.mean(0), (after - before) / 0.5, atol=0.06)  # a picture comes every 0.1 s
    assert np.linalg.norm(velocities, axis=1).max() > 0.3 and "ball_velocities" not in rolling().spec.signals.spaces


def test_small_pictures_show_the_same_place():
    driver = rolling(pixels=32)
    image = period(driver, AHEAD)["image"]
    assert image.shape == driver.spec.signals["image"].shape == (32, 32, 3)
    y, x = np.unravel_index(np.argmin(image[..., 0]), (32, 32))
    assert np.abs((np.array([x, y]) + 0.5) / 32 - driver.read().values["ball_position"]).max() < 1 / 32
    driver.disconnect()


def test_a_lost_ball_is_reported_rests_and_is_disarmed_until_it_is_put_back(driver):
    period(driver, AHEAD)
    driver.link.arena.show(False)
    lost = period(driver, AHEAD)
    assert lost["ball_lost"] and (lost["ball_position"] == -1).all()
    assert driver.spec.signals.contains(lost)
    for _ in range(2):
        resting = period(driver, AHEAD)
    assert not resting["motor_powers"].any() and driver.command(AHEAD).clip & Clip.STALE
    assert driver.health().link_age > driver.spec.command_ttl
    for _ in range(3):
        period(driver, AHEAD)
    assert driver.health().mode == Mode.DISARMED
    with pytest.raises(StaleState, match="put it into the arena"):
        driver.arm()
    driver.link.arena.show(True)
    period(driver)
    driver.arm()
    assert not period(driver, AHEAD)["ball_lost"]


def test_a_ball_that_blinks_is_not_lost(driver):
    driver.link.arena.show(False)
    for _ in range(4):  # ticks: 0.2 s
        driver.tick()
        assert not driver.read().values["ball_lost"]
    driver.link.arena.show(True)


def test_when_it_is_scattered_other_powers_are_applied_and_the_step_says_so():
    driver = rolling(scatter_every=10)
    applied = [(driver.command(AHEAD / 2), driver.health().busy, period(driver)) for _ in range(26)]
    busy = [bool(step.clip & Clip.BUSY) for step, *_ in applied]
    assert busy == 10 * [False] + 6 * [True] + 10 * [False]
    assert [told for _, told, _ in applied] == busy
    for (step, _, signals), other in zip(applied, busy):
        assert (np.abs(step.action) == (1.0 if other else 0.5)).all()
        assert np.allclose(signals["motor_powers"], np.round(step.action * 70) / 255)
    driver.disconnect()


def test_navigating_earns_minus_the_distance_and_a_lost_ball_ends_the_episode():
    def signals(x, y, lost=0.0):
        return {"ball_position": np.float32([x, y]), "ball_lost": np.float32([lost]), "goal": np.float32([0.8, 0.2])}

    task = Navigate()
    task.reset()
    assert task.score(signals(0.5, 0.6)).reward == pytest.approx(-0.5)
    assert distance(signals(0.8, 0.11)) < REACHED < distance(signals(0.8, 0.09))
    lost = task.score(signals(-1, -1, 1.0))
    assert lost.reward == -FARTHEST and lost.is_last and not lost.is_terminal
    task.reset()
    ends = [task.score(signals(0.5, 0.6)) for _ in range(EPISODE + 1)]
    assert [end.is_last for end in ends] == EPISODE * [False] + [True] and not ends[-1].is_terminal


@pytest.mark.parametrize("options", [
    {"link": "wifi"}, {"model": "r2d2"}, {"power": 0}, {"power": 256}, {"goal": [0.5]}, {"goal": [0.5, 1.5]},
    {"corners": [0, 0, 1, 1]}, {"corners": [0, 0, 0, 1, 1, 1, 1, 0]}, {"corners": [0.1, 0.1, 1.9, 0.1, 0.9, 0.9, 0, 1]},
    {"colour": [100, 120, 60, 90, 110, 255]}, {"start": "corner"}, {"scatter_every": 3}, {"frames": 0}, {"pixels": 48},
    {"camera": ""}])
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SpheroOptions(**options)


def test_hardware_needs_the_toys_name():
    with pytest.raises(ValueError, match="address.*SK-1234"):
        SpheroOptions(link="hardware")


def test_behind_a_protocol_there_is_no_other_speed_than_that_of_real_time():
    with pytest.raises(ValueError, match="speed"):
        SpheroDriver(SpheroOptions(link="protocol")).keep_pace(2.0)
