"""The MuJoCo world of an arm: its own MJCF, a parallel gripper, a table, two bins and what lies in them.

An arm's MJCF has its hinges in the order of the chain, each with `actuatorfrcrange`, and a site `flange` whose z points
away from the arm. Its base is the world's origin. Arm and gripper meet the world, not one another: the ranges that we
use keep them apart.
"""

from __future__ import annotations

import logging

import mujoco
import numpy as np

from robots.arms.anatomy import TIP, Anatomy

log = logging.getLogger(__name__)

STROKE = 0.085  # m between the open fingers, as of Robotiq's 2F-85 and UFACTORY's gripper
GRIP = 40.0  # N, each finger at most
STEP = 0.002  # s of physics, at most
LAG = 0.06  # s that a joint's servo follows behind: its damping over its stiffness
OBJECT = 0.02  # m, half a cube's edge, and a ball's radius
FLOOR = 0.045  # m that a bin's floor extends beyond where the tool may be in it
WALL = 0.05  # m
ARM, WORLD, BOTH = 2, 1, 3  # bits of what meets what
PALETTE = ((0.85, 0.2, 0.15), (0.15, 0.4, 0.85), (0.95, 0.75, 0.1), (0.2, 0.65, 0.3), (0.6, 0.3, 0.7))
_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint


def scene(anatomy: Anatomy, objects: int, bins: bool, period: float) -> mujoco.MjModel:
    """Joints: the arm's, `finger_left`, `finger_right`, then a free one for each of `objects`, named `object0`...;
    actuators: a servo for each joint of arm and gripper. A whole number of steps makes a `period` [s]. Camera:
    `front`."""
    mujoco.set_mju_user_warning(log.warning)
    spec = mujoco.MjSpec.from_file(str(anatomy.model))
    option = spec.option
    option.timestep = period / max(1, round(period / STEP))
    option.integrator, option.cone = mujoco.mjtIntegrator.mjINT_IMPLICITFAST, mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10
    option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    _servo(spec, anatomy)
    _gripper(spec, anatomy)
    _room(spec, anatomy)
    for low, high in anatomy.bins if bins else ():
        _bin(spec, low - FLOOR, high + FLOOR, anatomy.table, _wall(anatomy))
    for number in range(objects):
        _object(spec, number)
    return spec.compile()


def _servo(spec: mujoco.MjSpec, anatomy: Anatomy) -> None:
    """A position loop for each joint, and the weight of the arm carried by its motors."""
    for body in spec.bodies[1:]:
        body.gravcomp = 1
    for joint, effort in zip(spec.joints, anatomy.effort, strict=True):
        joint.actgravcomp = 1
        joint.actfrclimited, joint.actfrcrange = 1, (-effort, effort)
        stiffness = max(800.0, 25 * effort)
        servo = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=stiffness, kv=LAG * stiffness)


def _gripper(spec: mujoco.MjSpec, anatomy: Anatomy) -> None:
    """Two fingers that move as one along x of the tool's frame."""
    site = spec.site("flange")
    tool, flange = anatomy.chain.tool, np.empty(9)
    mujoco.mju_quat2Mat(flange, site.quat)
    length = float(flange.reshape(3, 3)[:, 2] @ (tool[:3, 3] - site.pos))
    hand = site.parent.add_body(name="gripper", pos=site.pos, quat=_quaternion(tool[:3, :3]), gravcomp=1)
    hand.add_geom(type=_GEOM.mjGEOM_CYLINDER, size=(0.035, 0.02, 0), pos=(0, 0, 0.02), mass=0.35, **_skin(0.2))
    hand.add_geom(type=_GEOM.mjGEOM_BOX, size=(0.06, 0.025, (length - 0.09) / 2), pos=(0, 0, (length - 0.01) / 2),
                  mass=0.35, **_skin(0.3))
    hand.add_site(name="tool", pos=(0, 0, length), size=(0.004, 0.004, 0.004))
    for name, side in (("finger_left", 1), ("finger_right", -1)):
        _finger(spec, hand, name, side, length)
    spec.add_equality(name="fingers", type=mujoco.mjtEq.mjEQ_JOINT, objtype=mujoco.mjtObj.mjOBJ_JOINT,
                      name1="finger_left", name2="finger_right", data=[0, 1, *[0] * 10])


def _finger(spec: mujoco.MjSpec, hand: mujoco.MjsBody, name: str, side: int, length: float) -> None:
    finger = hand.add_body(name=name, pos=(side * 0.005, 0, length - 0.02), gravcomp=1)
    finger.add_joint(name=name, type=_JOINT.mjJNT_SLIDE, axis=(side, 0, 0), range=(0, STROKE / 2), limited=1,
                     armature=0.2, damping=[5, 0, 0])
    finger.add_geom(type=_GEOM.mjGEOM_BOX, size=(0.005, 0.011, 0.02 + TIP / 2), pos=(0, 0, TIP / 2), mass=0.05,
                    friction=(1.2, 0.02, 0.001), condim=4, priority=1, **_skin(0.1))
    servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=1,
                              forcerange=(-GRIP, GRIP))
    servo.set_to_position(kp=4000, kv=100)


def _room(spec: mujoco.MjSpec, anatomy: Anatomy) -> None:
    low, high = anatomy.workspace
    middle = np.array([*(low + high)[:2] / 2, anatomy.table])
    away = np.where(np.abs(middle[:2]) == np.abs(middle[:2]).max(), np.sign(middle[:2]), 0)
    world = spec.worldbody
    reach = np.abs(high - low)[:2] / 2 + 0.15
    world.add_geom(name="table", type=_GEOM.mjGEOM_BOX, size=(*reach, 0.01), pos=middle - (0, 0, 0.01),
                   contype=WORLD, conaffinity=BOTH, rgba=(0.75, 0.72, 0.68, 1))
    world.add_light(pos=middle + (0, 0, 1.5), dir=(0, 0, -1), type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    eye = middle + (*0.55 * away, 0.5)
    back, side = (eye - middle) / np.linalg.norm(eye - middle), np.array([-away[1], away[0], 0])
    turn = _quaternion(np.stack([side, np.cross(back, side), back], 1))
    world.add_camera(name="front", pos=eye, quat=turn, fovy=55)


def _wall(anatomy: Anatomy) -> float:
    """Height of the bins' walls, which slope outwards by half a right angle: what fits between the two."""
    (_, left_high), (_, right_high) = anatomy.bins
    (left_low, _), (right_low, _) = anatomy.bins
    gaps = np.maximum(left_low - right_high, right_low - left_high) - 2 * FLOOR
    return float(min(WALL, gaps.max() / 2))


def _bin(spec: mujoco.MjSpec, low: np.ndarray, high: np.ndarray, table: float, wall: float) -> None:
    """Four slopes, down which lies again in the tool's reach what was pushed up."""
    middle, half, thick = (low + high) / 2, (high - low) / 2, 0.005
    for axis in (0, 1):
        for sign in (-1, 1):
            out = np.zeros(3)
            out[axis] = sign
            along = np.cross((0, 0, 1), out)
            slope = (out + (0, 0, 1)) / np.sqrt(2)
            normal = np.cross(slope, along)
            turn = _quaternion(np.stack([slope, along, normal], 1))
            foot = np.array([*middle, table]) + out * half[axis]
            centre = foot + slope * wall / np.sqrt(2) - normal * np.sign(normal[2]) * thick
            spec.worldbody.add_geom(type=_GEOM.mjGEOM_BOX, size=(wall / np.sqrt(2), half[1 - axis] + wall, thick),
                                    pos=centre, quat=turn, contype=WORLD, conaffinity=BOTH, friction=(0.3, 0.01, 0.001),
                                    rgba=(0.5, 0.55, 0.6, 1))


def _object(spec: mujoco.MjSpec, number: int) -> None:
    """Cubes and balls in turn."""
    body = spec.worldbody.add_body(name=f"object{number}")
    body.add_freejoint(name=f"object{number}")
    kind = _GEOM.mjGEOM_SPHERE if number % 2 else _GEOM.mjGEOM_BOX
    body.add_geom(type=kind, size=(OBJECT, OBJECT, OBJECT), mass=0.08, contype=WORLD, conaffinity=BOTH,
                  condim=6 if number % 2 else 4, friction=(0.8, 0.02, 0.002), rgba=(*PALETTE[number % len(PALETTE)], 1))


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    return quaternion


def _skin(grey: float) -> dict[str, object]:
    return {"contype": ARM, "conaffinity": WORLD, "rgba": (grey, grey, grey, 1)}
