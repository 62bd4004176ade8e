"""What the controller's numbers mean, and the way out: error codes of the arm, and return codes of the SDK's calls."""

from __future__ import annotations

from robots.driver import RobotError

EMERGENCY_STOPS = (1, 2, 3)

_STOP = "release it at the robot, then clear the fault"
_LOOK = "look at the robot, then clear the fault"
_POWER = "switch the control box off and on"

# error of the controller -> (what, way out)
ERRORS: dict[int, tuple[str, str]] = {
    1: ("emergency stop button of the control box", _STOP),
    2: ("emergency stop input of the control box", _STOP),
    3: ("three-state switch", _STOP),
    **{joint: (f"servo of joint {joint - 10}", _POWER) for joint in range(11, 18)},
    10: ("servo drive", _POWER),
    18: ("force sensor", "check its cable"),
    19: ("communication with the gripper", "check the gripper's cable at the tool flange, then clear the fault"),
    21: ("kinematics: no solution for the pose", "move away from it by hand or with jog"),
    22: ("the arm would have hit itself", "move it apart with the vendor's manual mode, then clear the fault"),
    23: ("a joint at the end of its range", "move it back with the vendor's manual mode, then clear the fault"),
    24: ("a joint faster than allowed", _LOOK),
    25: ("motion planning", _LOOK),
    26: ("the control box's clock", _POWER),
    27: ("a command was not answered", _POWER),
    28: ("gripper or other end effector", "check its cable and its power, then clear the fault"),
    30: ("a joint's speed is not as commanded", _LOOK),
    31: ("collision, or the load is not set",
         "free the arm, check the load in the vendor's program, then clear the fault"),
    33: ("input or output of the control box", _POWER),
    35: ("the tool left the controller's safety boundary",
         "move it back with the vendor's manual mode, then clear the fault"),
    36: ("too many delayed commands", _LOOK),
    37: ("manual mode", "leave it, then clear the fault"),
    38: ("an angle that no joint can have", _POWER),
    40: ("no solution for the pose", "move away from it by hand or with jog"),
    **{sensor: ("force sensor", "check its cable") for sensor in range(50, 54)},
    60: ("the tool faster than allowed", _LOOK),
}

# return code of a call -> (what, way out)
CALLS: dict[int, tuple[str, str]] = {
    -1: ("not connected", "check the cable and the control box's power"),
    -2: ("not ready", "clear the fault, then arm"),
    -3: ("an exception in the SDK", "see the log"),
    -4: ("unknown to this firmware", "update the controller"),
    -6: ("outside the tool's limits", "see the workspace in the config"),
    -7: ("outside the joints' limits", "see the limits in docs/robots/xarm.md"),
    -8: ("outside the allowed range", "check the option"),
    -9: ("stopped by somebody", _LOOK),
    1: ("the controller has an error", _LOOK),
    2: ("the controller has a warning", "see it in the vendor's program"),
    3: ("no answer in time", "check the cable; is the control box overloaded?"),
    4: ("a reply of the wrong length", "check the firmware's version"),
    5: ("a reply with another number", "is another program using this connection?"),
    6: ("a reply of another protocol", "check the firmware's version"),
    7: ("a reply to another call", "is another program using this connection?"),
    8: ("sending failed", "check the cable"),
    9: ("not ready to move", "clear the fault, then arm"),
    10: ("refused as invalid", "check the firmware's version"),
    11: ("an unknown failure", "see the log"),
    12: ("a wrong parameter", "check the option"),
    20: ("the gripper's bus answers as another host", "check the gripper's cable"),
    21: ("the gripper's baud rate is not supported", "check the gripper's firmware"),
    22: ("the gripper's baud rate is wrong", "set it in the vendor's program"),
    23: ("a short answer of the gripper", "check the gripper's cable"),
    51: ("another mode", "is another program moving the arm?"),
    100: ("it took too long", "see the log"),
    102: ("the gripper has an error", "look at what blocks it, then clear the fault"),
    103: ("the gripper is not enabled", "clear the fault, then arm"),
}


def error_text(code: int) -> str:
    """Of an error of the controller."""
    what, out = ERRORS.get(code, ("an error that is not in our table", "look it up in the vendor's manual"))
    return f"xArm error {code}: {what}; {out}"


def call_text(call: str, code: int) -> str:
    """Of a call of the SDK that did not return 0."""
    what, out = CALLS.get(code, ("a code that is not in our table", "look it up in the vendor's manual"))
    return f"xArm: {call} returned {code}: {what}; {out}"


def raised_text(error: Exception) -> str:
    """Of what a call raised: our own errors say what to do, the SDK's may say nothing at all."""
    if isinstance(error, RobotError):
        return str(error)
    what = ": ".join(filter(None, (type(error).__name__, str(error))))
    return f"xArm: the SDK raised {what}; {_LOOK}"
