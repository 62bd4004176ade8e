import mujoco
import numpy as np
import pytest

from robots.double import load
from robots.xarm.anatomy import MODELS, TOOL

MODEL = pytest.mark.parametrize("arm", MODELS.values(), ids=MODELS)


def flange(arm, q):
    return arm.chain.pose(q) @ np.linalg.inv(TOOL)


@pytest.mark.parametrize("name, degrees, millimetres", [
    ("xarm6", [0] * 6, (207, 0, 112)),  # the vendor's own starting pose
    ("xarm7", [0] * 7, (206, 0, 120.5)),
    ("xarm6", [90, -90, 90, -90, 90, -90], (97, -207, -98)),  # another driver's test of the real arm
])
def test_the_flange_is_where_others_publish_it(name, degrees, millimetres):
    assert np.allclose(flange(MODELS[name], np.radians(degrees))[:3, 3] * 1000, millimetres, atol=0.5)


@MODEL
def test_the_double_s_links_are_as_long_as_the_arm_s(arm):
    model = load(arm.model)
    data, random = mujoco.MjData(model), np.random.default_rng(0)
    for _ in range(50):
        data.qpos[:] = random.uniform(arm.lower, arm.upper)
        mujoco.mj_kinematics(model, data)
        pose = flange(arm, data.qpos)
        assert np.abs(data.site("flange").xpos - pose[:3, 3]).max() < 1e-6
        assert np.abs(data.site("flange").xmat.reshape(3, 3) - pose[:3, :3]).max() < 1e-6


@MODEL
def test_home_holds_the_tool_upright_over_the_middle_of_the_workspace(arm):
    pose = arm.chain.pose(arm.home)
    assert np.allclose(pose[:3, 2], (0, 0, -1), atol=1e-4)
    assert np.allclose(pose[:2, 3], (arm.workspace[0] + arm.workspace[1])[:2] / 2, atol=0.01)
    assert arm.hover < pose[2, 3] < arm.workspace[1][2]


@MODEL
def test_the_used_range_lies_inside_the_vendor_s_and_bins_inside_the_workspace(arm):
    vendor = load(arm.model).jnt_range
    assert (vendor[:, 0] < arm.lower).all() and (arm.upper < vendor[:, 1]).all()
    for low, high in arm.bins:
        assert (arm.workspace[0][:2] <= low).all() and (low < high).all() and (high <= arm.workspace[1][:2]).all()


@MODEL
def test_the_motors_hold_the_arm_against_gravity_with_half_their_torque(arm):
    model = load(arm.model)
    data = mujoco.MjData(model)
    data.qpos[:] = arm.home
    mujoco.mj_forward(model, data)
    assert (np.abs(data.qfrc_bias) < arm.effort / 2).all()
    assert (model.jnt_actfrcrange[:, 1] == arm.effort).all()
