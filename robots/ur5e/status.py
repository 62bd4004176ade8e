"""What a UR controller's modes mean, and what an operator does about them. Numbers from UR's RTDE guide."""

from __future__ import annotations

RUNNING = 7  # the robot mode in which an arm can move
ROBOT_MODES = {-1: "NO_CONTROLLER", 0: "DISCONNECTED", 1: "CONFIRM_SAFETY", 2: "BOOTING", 3: "POWER_OFF", 4: "POWER_ON",
               5: "IDLE", 6: "BACKDRIVE", 7: "RUNNING", 8: "UPDATING_FIRMWARE"}
NORMAL, REDUCED, PROTECTIVE_STOP, EMERGENCY_STOP = 1, 2, 3, 7  # safety modes
SAFETY_MODES = range(1, 12)
STOPPED, PLAYING = 1, 2  # runtime states
RUNTIME_STATES = range(6)

_POWER = "power the robot on and release its brakes at the pendant, then clear the fault"
_SAFETY = {
    PROTECTIVE_STOP: "protective stop: look what the arm met, then clear the fault, 5 s after the stop at the earliest",
    4: "safety recovery mode: move the arm back within its safety limits at the pendant, then clear the fault",
    5: "safeguard stop: close the gate, or whatever holds the safeguard input, then clear the fault",
    6: f"emergency stop of the system: release it where it was pressed, {_POWER}",
    EMERGENCY_STOP: f"emergency stop: turn the robot's button back, {_POWER}",
    8: f"safety violation: see the pendant's log, restart safety there, {_POWER}",
    9: f"safety fault: see the pendant's log, restart safety there, {_POWER}",
    10: "safety waits for the three-position switch or the operating mode: see the pendant, then clear the fault",
    11: "safety waits for the three-position switch or the operating mode: see the pendant, then clear the fault",
}


def trouble(robot_mode: int, safety_mode: int, program_runs: bool) -> str:
    """Why the arm does not move and what to do; empty where nothing is in its way."""
    if safety_mode in _SAFETY:
        return _SAFETY[safety_mode]
    if robot_mode != RUNNING:
        return f"the robot is in mode {ROBOT_MODES.get(robot_mode, robot_mode)}: {_POWER}"
    if not program_runs:
        return ("the control script does not run: its watchdog stopped it because it heard nothing of us, or somebody "
                "did at the pendant; clear the fault to start it again")
    return ""


def plausible(robot_mode: int, safety_mode: int, runtime_state: int, joints: list[float]) -> bool:
    """Whether a reading can be one: known modes, and joint angles or velocities that an arm can have. TCP keeps bytes
    right on their way, but not what a controller in trouble puts into them."""
    return (robot_mode in ROBOT_MODES and safety_mode in SAFETY_MODES and runtime_state in RUNTIME_STATES
            and all(-20 < value < 20 for value in joints))
