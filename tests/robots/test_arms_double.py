"""Physics of an arm's double, with numbers, on every arm that there is; and what no arm meets."""

import mujoco
import numpy as np
import pytest

from robots.arms.double import SPEED, ArmDouble, Surroundings
from robots.arms.fence import Fence
from robots.arms.link import ArmCommand
from robots.arms.world import ARM, BOTH, GRIP, OBJECT, scene
from robots.ur5e.anatomy import LOWER, UPPER, UR5, UR5E
from robots.xarm.anatomy import XARM6, XARM7

HZ = 125.0
BARE = Surroundings(objects=0, bins=False)
ARMS = {anatomy.name: anatomy for anatomy in (UR5E, UR5, XARM6, XARM7)}
RAISED = {"ur5e": (0, -0.8, -0.4, 0, 0, 0), "ur5": (0, -0.8, -0.4, 0, 0, 0), "xarm6": (0, -0.8, -0.4, 0, 0, 0),
          "xarm7": (0, -0.8, 0, 0.4, 0, 0, 0)}  # rad from home: there each may turn by a radian and meet nothing
MASSES = [3.761, 8.058, 2.846, 1.37, 1.30, 0.365]  # kg, of the UR5e's links, as UR publishes them
ROWS = [(0, 0.1625, np.pi / 2), (-0.425, 0, 0), (-0.3922, 0, 0), (0, 0.1333, np.pi / 2), (0, 0.0997, -np.pi / 2),
        (0, 0.0996, 0)]  # a, d [m], alpha
CENTRES = [(0, -0.02561, 0.00193), (0.2125, 0, 0.11336), (0.15, 0, 0.0265), (0, -0.0018, 0.01634), (0, 0.0018, 0.01634),
           (0, 0, -0.001159)]  # m, in the frames after the links


ANATOMY = pytest.mark.parametrize("anatomy", ARMS.values(), ids=ARMS)


@pytest.fixture(params=ARMS.values(), ids=ARMS)
def arm(request):
    double = ArmDouble(request.param, HZ, BARE)
    double.open()
    return double


def run(double, seconds, q=None, gripper=None):
    q = double.anatomy.home if q is None else q
    for _ in range(round(seconds * HZ)):
        state = double.exchange(ArmCommand(np.array(q), np.zeros(len(q)), gripper))
    return state


def turning(anatomy, *speeds):
    """Joint velocities [J] rad/s: those of the first joints, and none of the others."""
    return np.array([*speeds, *[0.0] * (anatomy.chain.joints - len(speeds))])


def put(double, number, place):
    """An object somewhere, square to the bins and at rest."""
    double._objects[number] = *place, 1, 0, 0, 0
    start = double.anatomy.chain.joints + 2 + 6 * number
    double.data.qvel[start:start + 6] = 0
    mujoco.mj_forward(double.model, double.data)


@pytest.mark.parametrize("anatomy", [UR5E, UR5])
def test_its_tool_is_where_the_published_dimensions_say_within_a_millimetre(anatomy):
    double, random = ArmDouble(anatomy, HZ, BARE), np.random.default_rng(0)
    double.open()
    for _ in range(50):
        double.data.qpos[:6] = q = random.uniform(-3, 3, 6)
        mujoco.mj_kinematics(double.model, double.data)
        pose, site = anatomy.chain.pose(q), double.data.site("tool")
        assert np.abs(site.xpos - pose[:3, 3]).max() < 1e-3
        assert np.abs(site.xmat.reshape(3, 3) - pose[:3, :3]).max() < 1e-3


@ANATOMY
def test_where_ranges_and_fence_allow_it_an_arm_meets_neither_the_table_nor_itself(anatomy):
    model = scene(anatomy, 0, False, 1 / HZ)
    model.geom_conaffinity[model.geom_contype == ARM] = BOTH  # the doubles' links do not feel one another
    data, fence, random, allowed = mujoco.MjData(model), Fence(anatomy, 1 / HZ), np.random.default_rng(0), 0
    while allowed < 500:
        q = random.uniform(anatomy.lower, anatomy.upper)
        if fence.outside(q).any():
            continue
        allowed += 1
        data.qpos[:] = *q, 0.0425, 0.0425
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        for bodies in model.geom_bodyid[data.contact.geom]:
            parents = model.body_parentid[bodies]
            assert bodies[0] == parents[1] or bodies[1] == parents[0], [model.body(body).name for body in bodies]


def test_the_motors_carry_what_the_published_masses_weigh():
    """The torque that holds a joint is that of the weights beyond it about its axis."""
    model = mujoco.MjModel.from_xml_path(str(UR5E.model))
    data = mujoco.MjData(model)
    assert model.body_mass.sum() == pytest.approx(sum(MASSES))
    for q in np.random.default_rng(1).uniform(-3, 3, (5, 6)):
        data.qpos[:] = q
        mujoco.mj_forward(model, data)
        frames = published_frames(q)
        for joint in range(6):
            axis, centre, torque = frames[joint][:3, 2], frames[joint][:3, 3], 0.0
            for link in range(joint, 6):
                place = (frames[link + 1] @ np.array([*CENTRES[link], 1]))[:3]
                torque += axis @ np.cross(place - centre, [0, 0, 9.81 * MASSES[link]])
            assert data.qfrc_bias[joint] == pytest.approx(torque, abs=1e-3)


def published_frames(q):
    """The base's frame and those after each link, by the textbook's matrix."""
    frames = [np.eye(4)]
    for angle, (a, d, alpha) in zip(q, ROWS):
        (st, sa), (ct, ca) = np.sin([angle, alpha]), np.cos([angle, alpha])
        frames.append(frames[-1] @ np.array([[ct, -st * ca, st * sa, a * ct], [st, ct * ca, -ct * sa, a * st],
                                             [0, sa, ca, d], [0, 0, 0, 1]]))
    return frames


@ANATOMY
def test_let_go_it_swings_without_losing_or_gaining_energy(anatomy):
    """The arm alone, without servos, friction and ends of its ranges: what falls in height comes back in speed, within
    a thousandth of what moves. On the way all of it has fallen by 20 cm, 2 J per kg."""
    spec = mujoco.MjSpec.from_file(str(anatomy.model))
    spec.option.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    spec.option.integrator, spec.option.timestep = mujoco.mjtIntegrator.mjINT_RK4, 0.001
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    for joint in spec.joints:
        joint.damping, joint.frictionloss, joint.limited = np.zeros(3), 0.0, mujoco.mjtLimited.mjLIMITED_FALSE
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:] = turning(anatomy, 0.3, -0.5, 0.4, 0.2, -0.3, 0.1)
    mujoco.mj_forward(model, data)
    start, kinetic = data.energy.sum(), 0.0
    for _ in range(1500):
        mujoco.mj_step(model, data)
        kinetic = max(kinetic, data.energy[1])
    assert kinetic > 2 * model.body_mass.sum() and abs(data.energy.sum() - start) < 1e-3 * kinetic


@ANATOMY
def test_an_object_falls_as_things_fall_and_stays_where_it_fell(anatomy):
    double = ArmDouble(anatomy, HZ, Surroundings(objects=1))
    double.open()
    put(double, 0, (*np.mean(anatomy.bins[1], 0), 0.4))
    run(double, 0.2)
    assert double.truth()["objects"][0, 2] == pytest.approx(0.4 - 9.81 * 0.2**2 / 2, abs=0.005)
    run(double, 1.5)
    place = double.truth()["objects"][0]
    assert place[2] == pytest.approx(anatomy.table + OBJECT, abs=0.002)
    run(double, 1.0)
    assert np.abs(double.truth()["objects"][0] - place).max() < 1e-4


def test_it_holds_a_pose_without_sagging(arm):
    state = run(arm, 2.0)
    assert np.abs(state.q - arm.anatomy.home).max() < 1e-3
    assert np.abs(state.effort[1]) > 0.15 * arm.anatomy.effort[1]  # it weighs something, and the motors carry it


def test_joints_are_never_faster_or_stronger_than_the_vendor_allows(arm):
    """Each setpoint jumps by a radian, as no driver lets it, where nothing is in the way."""
    raised, joints = arm.anatomy.home + RAISED[arm.anatomy.name], arm.anatomy.chain.joints
    fastest = strongest = np.zeros(joints)
    for joint in range(joints):
        run(arm, 1.0, raised)
        for _ in range(100):
            state = arm.exchange(ArmCommand(raised + np.eye(joints)[joint], np.zeros(joints)))
            fastest, strongest = np.maximum(fastest, np.abs(state.dq)), np.maximum(strongest, np.abs(state.effort))
    assert not state.trouble
    rubs = arm.model.dof_damping[:joints].any()  # as the xArms' joints do
    assert ((2.4 if rubs else 2.5) < fastest).all() and (fastest <= SPEED * 1.05).all()
    assert (strongest <= arm.anatomy.effort + 1e-6).all() and strongest[1] > arm.anatomy.effort[1] / 1.5


def test_a_joint_that_is_flung_faster_than_the_vendor_allows_stops_the_controller(arm):
    arm.data.qvel[0] = 2 * SPEED
    state = arm.exchange(ArmCommand(arm.anatomy.home, turning(arm.anatomy)))
    assert "protective stop: joint 1 moved at" in state.trouble


@pytest.mark.parametrize("anatomy", [UR5E, UR5], ids=["ur5e", "ur5"])
def test_thrown_from_one_end_of_its_ranges_to_the_other_it_stops_by_itself(anatomy):
    arm = ArmDouble(anatomy, HZ, BARE)
    arm.open()
    for target in (UPPER, LOWER):
        for _ in range(50):
            state = arm.exchange(ArmCommand(target, np.zeros(6)))
    assert "protective stop: joint" in state.trouble


def test_it_follows_a_moving_setpoint_closely(arm):
    q, dq = arm.anatomy.home.copy(), turning(arm.anatomy, 0.5, 0.3, -0.3)
    for _ in range(125):
        q = q + dq / HZ
        state = arm.exchange(ArmCommand(q, dq))
    assert np.abs(state.q - q).max() < 0.02 and np.allclose(state.dq, dq, atol=0.05)


def test_told_nothing_it_brakes_and_stands(arm):
    dq = turning(arm.anatomy, 1.0)
    for period in range(1, 64):
        state = arm.exchange(ArmCommand(arm.anatomy.home + dq * period / HZ, dq))
    braked = state.q.copy()
    for _ in range(125):
        state = arm.exchange(None)
    assert np.abs(state.q - braked).max() < 0.02 and np.abs(state.dq).max() < 1e-3


def test_an_arm_driven_into_the_table_stops_by_itself_until_it_is_recovered(arm):
    down = arm.anatomy.home
    for _ in range(250):
        down = down + turning(arm.anatomy, 0, 0.5) / HZ
        state = arm.exchange(ArmCommand(down, turning(arm.anatomy)))
        if state.trouble:
            break
    assert "protective stop: joint" in state.trouble and "N m" in state.trouble
    stopped = state.q.copy()
    assert np.abs(run(arm, 0.5).q - stopped).max() < 0.05  # commands do not move it
    arm.recover()
    state = run(arm, 3.0)
    assert not state.trouble and np.abs(state.q - arm.anatomy.home).max() < 0.01


def test_closed_on_nothing_it_holds_nothing_and_on_a_cube_it_says_so_and_does_not_let_go():
    double = ArmDouble(UR5E, HZ, Surroundings(objects=1))
    double.open()
    put(double, 0, (-0.36, -0.4, UR5E.table + OBJECT))
    state = run(double, 1.5, gripper=0.0)
    assert state.gripper < 0.02 and not state.holding
    run(double, 1.5, gripper=1.0)
    for _ in range(60):  # held there until the fingers have it
        put(double, 0, double.truth()["tool_position"])
        double.exchange(ArmCommand(UR5E.home, np.zeros(6), 0.0))
    state = run(double, 1.0, gripper=0.0)
    assert state.holding and state.gripper == pytest.approx(2 * OBJECT / 0.085, abs=0.08)
    assert np.abs(double.data.qfrc_actuator[6:8]).max() <= GRIP + 1e-6
    held = double.truth()["objects"][0] - double.truth()["tool_position"]
    for period in range(1, 250):  # shaken sideways, a full turn of the pan joint's swing a second
        double.exchange(ArmCommand(UR5E.home + np.array([0.2 * np.sin(period / 20), 0, 0, 0, 0, 0]), np.zeros(6)))
    run(double, 1.0)
    assert np.abs(double.truth()["objects"][0] - double.truth()["tool_position"] - held).max() < 0.005
    assert run(double, 1.0, gripper=1.0).holding is False and double.truth()["objects"][0, 2] < 0.0


def test_an_object_outside_the_bins_is_put_back_by_somebody():
    double = ArmDouble(UR5E, HZ, Surroundings(objects=2, return_after=2.0))
    double.open()
    put(double, 1, (0.20, -0.35, UR5E.table + OBJECT))
    run(double, 1.5)
    assert double.truth()["returned"] == 0
    run(double, 2.0)
    place = double.truth()["objects"][1]
    assert double.truth()["returned"] == 1
    assert any((low - 0.03 < place[:2]).all() and (place[:2] < high + 0.03).all() for low, high in UR5E.bins)


def test_the_same_seed_gives_the_same_world_and_noise():
    def trace(seed):
        double = ArmDouble(UR5E, HZ, Surroundings(noise=1.0), seed)
        double.open()
        return run(double, 0.1).q, double.truth()["objects"]

    (q, objects), (same_q, same_objects), (other_q, _) = trace(1), trace(1), trace(2)
    assert np.array_equal(q, same_q) and np.array_equal(objects, same_objects) and not np.array_equal(q, other_q)
    assert 1e-5 < np.abs(q - UR5E.home).max() < 2e-3


def test_latency_delays_what_it_measures():
    double = ArmDouble(UR5E, HZ, Surroundings(objects=0, latency=0.08))
    double.open()
    state = run(double, 0.2)
    assert double.now() - state.time == pytest.approx(0.08e9)


def test_physics_that_breaks_down_is_shown_not_hidden(arm):
    arm.data.qvel[2] = np.nan
    assert not np.isfinite(run(arm, 0.1).dq).all()


def test_the_camera_sees_the_objects():
    double = ArmDouble(UR5E, HZ, Surroundings(objects=1, camera_hz=10.0))
    double.open()
    put(double, 0, (-0.36, -0.55, UR5E.table + OBJECT))
    there = double.extras()
    put(double, 0, (-0.36, -0.55, 5.0))
    gone = double.extras()
    double.close()
    changed = np.abs(there["image"].astype(int) - gone["image"]).max(-1) > 30
    assert 4 < changed.sum() < 200 and there["image"].shape == (64, 64, 3)
    assert (there["depth"] != gone["depth"]).sum() > 2 and 20 < np.median(there["depth"]) < 60
