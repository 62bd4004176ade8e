import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.arms.kinematics import Chain, rotation_vector, transform
from robots.ur5e.anatomy import UR5, UR5E

bounds = settings(max_examples=30, derandomize=True)
angles = st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6).map(np.array)
unit = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1).map(np.array)


def test_the_stretched_arm_is_as_long_as_its_published_links():
    """At zero both links of the UR5e lie along -x: 0.425 + 0.3922 m; the wrist adds 0.1333 + 0.0996 m and our tool 0.15
    along -y; 0.1625 - 0.0997 m up."""
    assert np.allclose(UR5E.chain.position(np.zeros(6)), [-0.8172, -0.2329 - 0.15, 0.0628])
    assert np.allclose(UR5.chain.position(np.zeros(6)), [-0.81725, -0.10915 - 0.0823 - 0.15, 0.089159 - 0.09465])


@bounds
@given(angles)
def test_the_jacobian_is_how_the_tool_moves(q):
    chain, small = UR5E.chain, 1e-6
    pose, jacobian = chain.jacobian(q)
    assert np.allclose(pose, chain.pose(q))
    for joint in range(6):
        moved = chain.pose(q + small * np.eye(6)[joint])
        turned = rotation_vector(moved[:3, :3] @ pose[:3, :3].T)
        assert np.allclose(np.concatenate([moved[:3, 3] - pose[:3, 3], turned]) / small, jacobian[:, joint], atol=1e-4)


@bounds
@given(unit, st.floats(1e-6, np.pi))
def test_a_rotation_and_its_vector_are_the_same(axis, angle):
    axis = axis / np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    vector = rotation_vector(rotation)
    if angle > 3.14:  # half a turn has two vectors
        vector = vector * np.sign(vector @ axis)
    assert np.allclose(vector, angle * axis, atol=1e-5)


@bounds
@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_steps_towards_a_place_of_the_workspace_arrive_with_the_tool_down(share):
    low, high = UR5E.workspace
    place, down = low + np.array(share) * (high - low), UR5E.chain.pose(UR5E.home)[:3, :3]
    q = UR5E.home
    for _ in range(60):
        step, left = UR5E.chain.towards(q, place, down)
        q = q + np.clip(step, -0.1, 0.1)
    assert left < 1e-4 and (UR5E.lower < q).all() and (q < UR5E.upper).all()
    assert np.allclose(UR5E.chain.position(q), place, atol=1e-4)


def test_a_step_near_a_singular_pose_stays_bounded():
    """Stretched, the arm cannot go further out; the step that is asked for anyway is a small one."""
    q = np.array([0.0, -0.3, 1e-6, -1.2, -1.57, 0])
    pose = UR5E.chain.pose(q)
    step, _ = UR5E.chain.towards(q, pose[:3, 3] * 1.05, pose[:3, :3])
    assert np.abs(step).max() < 3


def test_angles_that_are_changed_in_place_are_new_angles():
    q = UR5E.home.copy()
    before = UR5E.chain.position(q)
    q[1] += 0.1
    assert np.linalg.norm(UR5E.chain.position(q) - before) > 0.01


def test_what_a_chain_gives_is_the_callers_own():
    UR5E.chain.pose(UR5E.home)[:] = 0
    UR5E.chain.position(UR5E.home)[:] = 0
    assert UR5E.chain.pose(UR5E.home)[3, 3] == 1


def test_frames_are_placed_and_turned_as_urdf_writes_it():
    quarter = np.pi / 2
    chain = Chain(np.stack([transform((0, 0, 1)), transform((1, 0, 0), (quarter, 0, 0))]), transform((0, 0, 0.5)))
    assert np.allclose(chain.position(np.array([0, 0])), [1, -0.5, 1])
    assert np.allclose(chain.position(np.array([quarter, 0])), [0.5, 1, 1])
    assert transform((0, 0, 0), (0.1, 0.2, 0.3))[:3, :3] == pytest.approx(
        transform((0, 0, 0), (0, 0, 0.3))[:3, :3] @ transform((0, 0, 0), (0, 0.2, 0))[:3, :3]
        @ transform((0, 0, 0), (0.1, 0, 0))[:3, :3])
