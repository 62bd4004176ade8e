"""The far end of a Robotiq gripper's text protocol: the fingers of a double."""

from __future__ import annotations

from robots.ur5e.machine import POWER_OFF, Machine
from robots.ur5e.robotiq import ACTIVE, CLOSED, FULL, ON_OBJECT, OPEN, to_opening

ACTIVATING, RESET = 1, 0  # STA
MOVING, AT_TARGET = 0, 3  # OBJ
ACTIVATION = 1.0  # s, one half of it closing
NEAR = 0.03  # of the opening, that counts as there
NOT_ACTIVE = 7  # FLT


class Fingers:
    """The variables of one gripper, which moves with the physics of `robot`."""

    def __init__(self, robot: Machine) -> None:
        self._robot = robot
        self.begin()

    def begin(self) -> None:
        """Active, and told nothing yet."""
        self._set = {"ACT": 1, "GTO": 0, "POS": 0, "SPE": FULL, "FOR": 0}
        self._activated_at = -ACTIVATION
        self._fault = 0

    def deactivate(self) -> None:
        """As after power on."""
        self._set |= {"ACT": 0, "GTO": 0}

    def tick(self) -> None:
        """Move as in an activation that has not ended."""
        if self._status() == ACTIVATING:
            halfway = self._robot.seconds - self._activated_at > ACTIVATION / 2
            self._robot.gripper.wish = 1.0 if halfway else 0.0

    def get(self, name: str) -> str:
        """The value of a variable as text. Raises ValueError for one that it does not have."""
        gripper = self._robot.gripper
        measured = {
            "STA": self._status, "FLT": lambda: self._fault, "PRE": lambda: self._set["POS"], "OBJ": self._object,
            "POS": lambda: round(CLOSED - gripper.measured * (CLOSED - OPEN)),
        }
        if name not in measured and name not in self._set:
            raise ValueError(f"GET {name}")
        return "?" if self._robot.robot_mode == POWER_OFF else str(measured.get(name, lambda: self._set[name])())

    def set(self, values: dict[str, int]) -> None:
        """Raises ValueError for a variable that cannot be set, or not to this."""
        if any(name not in self._set or not 0 <= value <= FULL for name, value in values.items()):
            raise ValueError(f"SET {values}")
        if values.get("ACT", 0) > self._set["ACT"]:
            self._activated_at, self._fault = self._robot.seconds, 0
        self._set |= values
        if self._set["GTO"] and self._status() == ACTIVE:
            self._robot.gripper.wish = to_opening(self._set["POS"])
        elif self._set["GTO"]:
            self._fault = NOT_ACTIVE

    def _status(self) -> int:
        if not self._set["ACT"]:
            return RESET
        return ACTIVE if self._robot.seconds - self._activated_at >= ACTIVATION else ACTIVATING

    def _object(self) -> int:
        gripper = self._robot.gripper
        if gripper.holding:
            return ON_OBJECT
        return AT_TARGET if abs(gripper.measured - to_opening(self._set["POS"])) < NEAR else MOVING


class FingersServer:
    """One client of the fingers."""

    greeting = b""

    def __init__(self, fingers: Fingers) -> None:
        self._fingers, self._pending = fingers, b""

    def feed(self, data: bytes) -> bytes:
        """An answer to each complete line. Raises ValueError for a line that makes no sense."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        return b"".join(self._answer(*line.decode("ascii").split()) for line in lines)

    def _answer(self, verb: str, *words: str) -> bytes:
        if verb == "GET" and len(words) == 1:
            return f"{words[0]} {self._fingers.get(words[0])}\n".encode()
        if verb == "SET" and words and len(words) % 2 == 0:
            self._fingers.set({name: int(value) for name, value in zip(words[::2], words[1::2])})
            return b"ack"
        raise ValueError(f"{verb} {words}")
