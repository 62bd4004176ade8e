"""Are the doubles the robots that the figures describe? Physics alone, in virtual time."""

import mujoco
import numpy as np
import pytest

from robots.legs.anatomy import LEGS
from robots.legs.double import LegsDouble
from robots.legs.link import LowCommand
from robots.unitree_a1.anatomy import A1
from robots.unitree_go2.anatomy import GO2

LIMP = LowCommand(np.zeros(12), np.zeros(12), np.zeros(12))


MASS = {"unitree_a1": 12.45, "unitree_go2": 15.21}  # kg
HEIGHTS = {"unitree_a1": {"stand": 0.28, "belly": 0.10, "back": 0.06, "side": 0.13},
           "unitree_go2": {"stand": 0.31, "belly": 0.11, "back": 0.06}}  # m


def hold(angles, body=A1):
    return LowCommand(np.asarray(angles, float), body.kp, body.kd)


def settle(double, command, seconds):
    for _ in range(round(seconds * 1000)):
        state = double.exchange(command)
    return state


def energy(double):
    mujoco.mj_energyPos(double.model, double.data)
    mujoco.mj_energyVel(double.model, double.data)
    return double.data.energy.sum()


@pytest.fixture(scope="module", params=[A1, GO2], ids=lambda body: body.name)
def double(request):
    return LegsDouble(request.param, "stand")


def test_masses_ranges_and_gravity_are_those_of_the_robot(double):
    body = double.anatomy
    assert double.model.body_mass.sum() == pytest.approx(MASS[body.name], abs=0.01)
    assert np.allclose(double.model.jnt_range[1:], np.stack([body.lower, body.upper], 1))
    assert np.allclose(double.model.actuator_forcerange[:, 1], body.torque)
    assert double.model.dof_damping.max() <= 0.1
    assert double.model.opt.timestep == 0.001


def test_it_stands_on_its_own_position_loop_for_a_minute_or_a_quarter(double):
    body = double.anatomy
    double.open()
    state = settle(double, hold(body.stand, body), 60 if body is A1 else 15)
    assert 0.62 < double.data.qpos[2] / (body.thigh + body.calf) < 0.76  # knees bent
    assert np.abs(state.q - body.stand).max() < 0.1  # it sags into the springs of Kp 80 or 60, not more
    assert state.foot_force.sum() == pytest.approx(MASS[body.name] * 9.81, rel=0.1)
    assert np.abs(state.dq).max() < 0.01 and np.hypot(*double.data.qpos[:2]) < 0.05


def test_it_falls_like_a_stone(double):
    double.open()
    double.data.qpos[2] = 10.0
    state = settle(double, LIMP, 0.5)
    assert double.data.qvel[2] == pytest.approx(-9.81 * 0.5, rel=0.02)
    assert np.linalg.norm(state.acceleration) < 0.5  # weightless


def test_nothing_but_the_motors_brings_energy_in(double):
    double.open()
    double.data.qvel[6:] = np.random.default_rng(0).normal(0, 3, 12)
    levels = []
    for _ in range(2000):
        double.exchange(LIMP)
        levels.append(energy(double))
    most = 0.004 * MASS[double.anatomy.name]  # joules; contact springs give back at most what they took
    assert max(np.diff(levels)) < most
    assert levels[-1] < levels[0]


def test_torque_and_speed_limits_hold_under_an_impossible_command(double):
    body = double.anatomy
    double.open()
    double.data.qpos[2] = 10.0
    rng = np.random.default_rng(0)
    fastest, before = 0.0, np.zeros(12)
    for tick in range(2000):
        if tick % 100 == 0:
            wanted = rng.uniform(-10, 10, 12)
        state = double.exchange(hold(wanted, body))
        assert (np.abs(state.tau) <= body.torque).all()
        beyond = np.abs(before) > body.speed
        assert (state.tau * before <= 0)[beyond].all()  # faster than the motor turns, it only brakes
        fastest, before = max(fastest, np.abs(state.dq).max()), state.dq
    assert fastest > body.speed  # else nothing was tested


@pytest.mark.parametrize("body, pose", [(body, pose) for body in (A1, GO2) for pose in HEIGHTS[body.name]],
                         ids=lambda value: getattr(value, "name", value))
def test_a_pose_is_put_down_on_the_floor_and_stays(body, pose):
    double = LegsDouble(body, pose)
    start = double.open()
    state = settle(double, hold(start.q, body), 3)
    assert double.data.qpos[2] == pytest.approx(HEIGHTS[body.name][pose], abs=0.03)
    assert np.abs(double.data.qvel).max() < 0.05
    before, after = (np.array(s.quaternion) for s in (start, state))
    if pose != "side":  # a robot on its side may lean on its legs
        assert abs(before @ after) > 0.98


def test_random_poses_depend_on_the_seed_alone_and_never_start_in_the_floor():
    double = LegsDouble(A1, "random", seed=1)
    poses = [double.open().q for _ in range(10)]
    double.reseed(1)
    assert all(np.array_equal(double.open().q, pose) for pose in poses)
    for _ in range(10):
        double.open()
        assert not [c for c in double.data.contact if c.dist < -0.003 and 0 in (c.geom1, c.geom2)]


def test_a_push_moves_it_and_ends(double):
    stand = hold(double.anatomy.stand, double.anatomy)
    double.open()
    settle(double, stand, 1)
    double.push(np.array([0, 60.0, 0]), 0.2)
    settle(double, stand, 0.2)
    assert double.true_velocity()[1] > 0.1
    settle(double, stand, 2)
    assert not double.data.xfrc_applied.any() and np.abs(double.true_velocity()).max() < 0.05


def disturbed(seed):
    """Five seconds with a robot that is turned every 2 s and pushed every 0.8 s: what was done when, and the pushes."""
    double = LegsDouble(A1, "stand", seed=seed, turn_every=2.0, push_every=0.8, force=40.0)
    double.open()
    counts, forces, upright = [], [], []
    for _ in range(5000):
        double.exchange(hold(A1.stand))
        counts.append(double.extras()["disturbances"])
        forces.append(double.data.xfrc_applied[1, :3].copy())
        upright.append(double.data.xmat[1][8])
    done = np.diff(counts, axis=0, prepend=0)
    return [1 + np.flatnonzero(column) for column in done.T[:2]], np.array(forces), np.array(upright)


def test_every_so_often_somebody_lays_it_on_its_back_and_pushes_it():
    (turned, pushed), forces, upright = disturbed(0)
    assert turned.tolist() == [2000, 4000] and pushed.tolist() == [800, 1600, 2400, 3200, 4000, 4800]
    assert (upright[turned - 1] < -0.99).all() and upright[500] > 0.99
    strength = np.linalg.norm(forces, axis=1)
    assert np.allclose(strength[strength > 0], 40) and (strength > 0).sum() == 6 * 200  # ms
    assert not forces[:, 2].any() and len(set(forces[strength > 0, 0])) == 6  # level, each from another side


def test_one_that_fell_is_put_back_on_its_feet_once_it_has_lain_for_a_while():
    double = LegsDouble(A1, "stand", lift_after=0.2)
    double.open()
    settle(double, hold(A1.stand), 1)
    assert not double.extras()["disturbances"].any()
    double.set_pose("side")
    settle(double, hold(A1.folded), 0.199)
    assert double.data.xmat[1][8] < 0.5 and not double.extras()["disturbances"].any()
    settle(double, hold(A1.stand), 0.5)
    assert double.data.xmat[1][8] > 0.99 and double.extras()["disturbances"].tolist() == [0, 0, 1]


def test_disturbances_are_the_same_for_the_same_seed_and_there_are_none_unless_asked_for():
    assert np.array_equal(disturbed(0)[1], disturbed(0)[1])
    assert not np.array_equal(disturbed(0)[1], disturbed(1)[1])
    quiet = LegsDouble(A1, "stand")
    quiet.open()
    settle(quiet, hold(A1.stand), 1)
    assert not quiet.extras()["disturbances"].any()


def test_noise_is_as_large_as_asked_and_latency_as_long():
    still = LegsDouble(A1, "belly", noise=1.0, seed=3)
    still.open()
    readings = np.array([still.exchange(hold(A1.folded)).gyro for _ in range(3000)][1000:])
    assert readings.std(0) == pytest.approx(0.02, rel=0.1)
    prompt, late = LegsDouble(A1, "stand"), LegsDouble(A1, "stand", latency=0.02)
    prompt.open(), late.open()
    seen = [(prompt.exchange(LIMP).q, late.exchange(LIMP).q) for _ in range(100)]
    assert np.array_equal(seen[79][0], seen[99][1])


def test_payload_makes_it_sag_and_a_slippery_floor_lets_it_slide():
    light, heavy = LegsDouble(A1, "stand"), LegsDouble(A1, "stand", payload=5)
    for double in (light, heavy):
        double.open()
        settle(double, hold(A1.stand), 2)
    assert heavy.data.qpos[2] < light.data.qpos[2] - 0.003
    slid = []
    for friction in (0.8, 0.05):
        double = LegsDouble(A1, "stand", friction=friction)
        double.open()
        settle(double, hold(A1.stand), 1)
        double.push(np.array([30.0, 0, 0]), 0.3)
        settle(double, hold(A1.stand), 1)
        slid.append(double.data.qpos[0])
    assert slid[1] > slid[0] + 0.05


def test_the_kinematics_are_those_of_the_model(double):
    body = double.anatomy
    double.open()
    rng = np.random.default_rng(0)
    for _ in range(20):
        double.data.qpos[:7] = [0, 0, 1, 1, 0, 0, 0]
        double.data.qpos[7:] = rng.uniform(body.lower, body.upper)
        double.data.qvel[:6], double.data.qvel[6:] = 0, rng.normal(0, 3, 12)
        mujoco.mj_forward(double.model, double.data)
        positions, velocities = body.feet(double.data.qpos[7:], double.data.qvel[6:])
        for leg, name in enumerate(LEGS):
            site = double.model.site(f"{name}_foot").id
            out = np.zeros(6)
            mujoco.mj_objectVelocity(double.model, double.data, mujoco.mjtObj.mjOBJ_SITE, site, out, 0)
            assert np.allclose(positions[leg], double.data.site_xpos[site] - [0, 0, 1], atol=1e-9)
            assert np.allclose(velocities[leg], out[3:], atol=1e-9)
