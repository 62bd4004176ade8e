import mujoco
import numpy as np
import pytest

from robots.double import load
from robots.xarm.anatomy import MODELS, TOOL

MODEL = pytest.mark.parametrize("arm", MODELS.values(), ids=MODELS)
SLANT = np.arctan(284.5 / 53.5)  # of the xArm 6's upper arm
# The rows of UFACTORY's "Standard D-H Parameters" (docs.ufactory.cc, kinematic and dynamic parameters), which is not
# where our numbers come from: theta at zero [rad], d, a [mm], alpha [quarter turns].
PUBLISHED = {
    "xarm6": [(0, 267, 0, -1), (-SLANT, 0, 289.48866, 0), (SLANT, 0, 77.5, -1), (0, 342.5, 0, 1), (0, 0, 76, -1),
              (0, 97, 0, 0)],
    "xarm7": [(0, 267, 0, -1), (0, 0, 0, 1), (0, 293, 52.5, 1), (0, 0, 77.5, 1), (0, 342.5, 0, 1), (0, 0, 76, -1),
              (0, 97, 0, 0)],
}


def flange(arm, q):
    return arm.chain.pose(q) @ np.linalg.inv(TOOL)


@pytest.mark.parametrize("name, degrees, millimetres", [
    ("xarm6", [0] * 6, (207, 0, 112)),  # the vendor's own starting pose
    ("xarm7", [0] * 7, (206, 0, 120.5)),
    ("xarm6", [90, -90, 90, -90, 90, -90], (97, -207, -98)),  # another driver's test of the real arm
])
def test_the_flange_is_where_others_publish_it(name, degrees, millimetres):
    assert np.allclose(flange(MODELS[name], np.radians(degrees))[:3, 3] * 1000, millimetres, atol=0.5)


def published(name, q):
    """The flange [4, 4], mm, by the textbook's matrix."""
    frame = np.eye(4)
    for angle, (zero, d, a, quarters) in zip(q, PUBLISHED[name], strict=True):
        (st, sa), (ct, ca) = (wave([angle + zero, quarters * np.pi / 2]) for wave in (np.sin, np.cos))
        frame = frame @ np.array([[ct, -st * ca, st * sa, a * ct], [st, ct * ca, -ct * sa, a * st], [0, sa, ca, d],
                                  [0, 0, 0, 1]])
    return frame


@MODEL
def test_every_joint_turns_the_flange_as_the_vendor_s_table_says_within_a_millimetre(arm):
    for q in np.random.default_rng(0).uniform(-3, 3, (50, arm.chain.joints)):
        ours, theirs = flange(arm, q), published(arm.name, q)
        assert np.abs(ours[:3, 3] * 1000 - theirs[:3, 3]).max() < 1
        assert np.abs(ours[:3, :3] - theirs[:3, :3]).max() < 1e-3


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
