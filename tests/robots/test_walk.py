"""The tasks by the numbers that their rewards give, and the estimate they rely on."""

import numpy as np
import pytest

from robots.legs.tasks import Run
from robots.registry import make
from robots.unitree_a1.anatomy import A1, NOMINAL
from robots.unitree_a1.driver import A1Walk as Walk

UP, DOWN = np.array([0, 0, 1.0]), np.array([0, 0, -1.0])


def reward(angles, up=UP, velocity=(0, 0, 0)):
    return Walk().score({"joint_angles": angles, "up": np.array(up), "base_velocity": np.array(velocity, float)}).reward


@pytest.mark.parametrize("earned, angles, up, velocity", [
    (5.0, A1.stand, DOWN, (0.3, 0, 0)),
    (7.9, A1.folded, UP, (0.3, 0, 0)),
    (9.0, A1.stand, UP, (0, 0, 0)),
    (9.0, A1.stand, UP, (-0.3, 0, 0)),
    (14.0, A1.stand, UP, (0.3, 0, 0)),
    (14.0, A1.stand, UP, (0.6, 0, 0)),
    (11.5, A1.stand, UP, (0.15, 0, 0)),
    (9 + 5 / np.sqrt(2), A1.stand, UP, (0.3, 0.3, 0)),
    (9.0, A1.stand, UP, (0, 0.3, 0)),
])
def test_each_stage_earns_what_it_should(earned, angles, up, velocity):
    assert reward(angles, up, velocity) == pytest.approx(earned, abs=0.02)


def test_later_stages_count_only_after_the_ones_before():
    splayed = A1.stand + np.tile([0.8, 0, 0], 4)  # hips off: standing thighs and calves earn nothing
    assert reward(splayed) == pytest.approx(6 + 1 - 0.8 / 0.787, abs=0.05)


def test_forwards_is_along_the_horizontal_heading():
    pitched = np.array([-np.sin(0.3), 0, np.cos(0.3)])
    level = np.array([np.cos(0.3), 0, np.sin(0.3)]) * 0.3  # moving horizontally, seen from the pitched body
    assert reward(A1.stand, pitched, level) == pytest.approx(14 - 0.022 - 5 * (1 - np.cos(0.3)) * 2, abs=0.25)


def test_it_never_ends_an_episode():
    outcome = Walk().score({"joint_angles": A1.folded, "up": DOWN, "base_velocity": np.zeros(3)})
    assert not outcome.is_last and not outcome.is_terminal


@pytest.mark.parametrize("pose, expected", [("back", 5.0), ("belly", 7.9), ("stand", 9.0)])
def test_the_double_earns_it_too(pose, expected):
    driver, task = make("unitree_a1", "walk", {"pose": pose})
    driver.connect()
    driver.arm()
    rewards = []
    for _ in range(20):
        driver.command(A1.to_action(driver.read().values["setpoint"]))
        for _ in range(50):
            driver.tick()
        rewards.append(task.score(driver.read().values).reward)
    assert np.mean(rewards) == pytest.approx(expected, abs=0.15)


def held(driver, action):
    """The signals after one control period of an action."""
    driver.command(action)
    for _ in range(50):
        driver.tick()
    return driver.read().values


# Two poses of 0.6 s each that a search found; FR, FL, RR, RL.
ROLL = np.array([[[-.7, .4, -.2], [-.4, .8, .8], [0, .2, .8], [-.2, .8, -.3]],
                 [[.7, .5, .6], [-.4, -.2, -.2], [-.9, .2, .1], [-.2, .2, -.2]]])


@pytest.mark.parametrize("world", [{}, {"noise": 1.0, "friction": 0.6}])
def test_walking_is_learnable_a_few_poses_roll_it_from_its_back_onto_its_feet(world):
    driver, task = make("unitree_a1", "walk", {"pose": "back"} | world)
    driver.connect()
    driver.arm()
    rewards, upright = [], []
    for pose in np.repeat([*ROLL.reshape(2, 12), *[A1.stand_action] * 3], 12, axis=0):
        values = held(driver, pose)
        rewards.append(task.score(values).reward)
        upright.append(values["up"][2])
    assert np.argmax(np.array(upright) > 0.9) < 30  # 1.2 s measured
    assert min(rewards[-20:]) > 8.5  # 8.9 measured, from 1.4 s on


def test_the_estimated_velocity_follows_the_truth_of_a_trotting_robot_with_noise():
    driver, _ = make("unitree_a1", "walk", {"pose": "stand", "noise": 1.0, "filter_hz": 0.0})
    driver.connect()
    driver.arm()
    truth, estimate = [], []
    for period in range(160):
        estimate.append(held(driver, trot(period / 20))["base_velocity"])
        truth.append(driver.link.true_velocity())
    truth, error = np.array(truth[40:]), np.array(estimate[40:]) - truth[40:]
    assert truth[:, 0].mean() > 0.1  # it really goes somewhere
    assert np.sqrt((error[:, 0] ** 2).mean()) < 0.04  # m/s; 0.02 measured
    assert abs(error[:, 0].mean()) < 0.05
    last = np.linalg.norm(estimate[-1] - truth[-1])
    assert driver.health().gauges["velocity_error_metres_per_second"] == pytest.approx(last, abs=1e-5)


def run(speed=0.0, turning=0.0, roll=0.0, pitch=0.0):
    return Run().score({"tilt": np.array([roll, pitch]), "base_velocity": np.array([speed, 0.3, 0.1]),
                        "angular_velocity": np.array([9.0, 9.0, turning])})


@pytest.mark.parametrize("earned, motion", [
    (5.0, {}),  # standing still
    (10.0, {"speed": 0.5}), (10.0, {"speed": 1.0}), (7.0, {"speed": 0.2}), (0.0, {"speed": -0.5}),
    (0.0, {"speed": -2.0}), (8.0, {"speed": 1.2}), (4.0, {"turning": 1.0}), (4.0, {"turning": -1.0}),
    (10 * (0.5 + 0.4 * np.cos(0.3)), {"speed": 0.4, "pitch": 0.3}),
])
def test_running_earns_for_speed_and_pays_for_turning(earned, motion):
    assert run(**motion).reward == pytest.approx(earned)


@pytest.mark.parametrize("roll, pitch, fallen", [(29, 0, False), (0, -29, False), (31, 0, True), (0, -31, True)])
def test_a_run_ends_at_thirty_degrees(roll, pitch, fallen):
    outcome = run(roll=np.radians(roll), pitch=np.radians(pitch))
    assert outcome.is_last == outcome.is_terminal == fallen


def test_a_run_is_learnable_a_plain_trot_runs_where_standing_still_does_not():
    def mean_of(choose):
        driver, task = make("unitree_a1", "run", {"pose": "stand", "actions": "nominal", "filter_hz": 0.0})
        driver.connect()
        driver.arm()
        rewards, speeds = [], []
        for period in range(100):
            outcome = task.score(held(driver, choose(period / 20)))
            assert not outcome.is_terminal
            rewards.append(outcome.reward)
            speeds.append(driver.link.true_velocity()[0])
        return np.mean(rewards[20:]), np.mean(speeds[20:])

    nominal = NOMINAL * np.tile([0, 1, 1], 4), "nominal"
    still, slow = mean_of(lambda _: A1.to_action(*nominal))
    running, fast = mean_of(lambda seconds: trot(seconds, 2.5, 0.35, 0.25, *nominal))
    assert still == pytest.approx(5, abs=0.1) and abs(slow) < 0.02
    assert running > 8.5 and fast > 0.5  # 9.3 and 0.8 m/s measured


def trot(seconds, frequency=2.0, stride=0.12, lift=0.25, around=A1.stand, reach="range"):
    """A trot in the joint angles: diagonal legs swing together. An action [12]."""
    angles = around.reshape(4, 3).copy()
    for leg, offset in enumerate((0.0, 0.5, 0.5, 0.0)):
        phase = 2 * np.pi * (seconds * frequency + offset)
        swing = max(0.0, np.cos(phase))
        angles[leg, 1] += -stride * np.sin(phase) + lift * swing
        angles[leg, 2] += -2 * lift * swing
    return np.clip(A1.to_action(angles.ravel(), reach), -1, 1)
