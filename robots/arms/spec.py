"""What an arm with these options measures and accepts, known before connecting."""

from __future__ import annotations

from gymnasium import spaces

from robots.arms.anatomy import Anatomy
from robots.arms.motion import Joints, Motion, Tool
from robots.arms.moves import Moves
from robots.arms.options import ArmOptions
from robots.driver import RobotSpec, expiry
from robots.setpoints import signals_of


def motion(anatomy: Anatomy, period: float, options: ArmOptions) -> Motion:
    """How `options.actions` move the arm, every `period` [s]."""
    if options.actions == "moves":
        return Moves(anatomy, period, options.reset_after, options.touch)
    if options.actions == "joints":
        return Joints(anatomy, period, options.gripper)
    return Tool(anatomy, period, options.gripper, options.bins)


def robot_spec(anatomy: Anatomy, options: ArmOptions, motion: Motion, control_hz: float,
               inner_hz: float) -> RobotSpec:
    """Signals: of each joint angle, velocity, effort and setpoint; position and velocity of the tool in the base's
    frame; `gripper`: measured and wanted opening; `holding`; `side`: over the left bin, over the right one; `busy`;
    `target` and the camera's `image` and `depth` where the options ask for them."""
    joints = anatomy.chain.joints
    sizes = {  # name -> (size, unit)
        "joint_angles": (joints, "rad"), "joint_velocities": (joints, "rad/s"), "effort": (joints, "N m"),
        "setpoint": (joints, "rad"), "tool_position": (3, "m"), "tool_velocity": (3, "m/s"), "gripper": (2, ""),
        "holding": (1, ""), "side": (2, ""), "busy": (1, ""),
    }
    if options.target_every:
        sizes["target"] = (3, "m")
    signals, units = signals_of(sizes, camera=options.camera == "front")
    return RobotSpec(anatomy.name, spaces.Dict(signals), units, motion.space, control_hz, inner_hz, *expiry(control_hz),
                     motion.noop)
