"""What stands between a driver and motors that are limp or damped: gains rise slowly, and only towards a setpoint that
is near."""

from __future__ import annotations

import numpy as np

from robots.driver import CommandRejected
from robots.legs.anatomy import JOINTS, Anatomy
from robots.legs.link import LowCommand

RAMP = 0.5  # s until the motors have the whole gains
JUMP = 0.05  # rad beyond the window that the driver's limits keep every setpoint in


class SoftStart:
    """Every command goes through `admit`. It has no clock; times are nanoseconds."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._damping, self._jump = anatomy.damping, anatomy.window + JUMP
        self._began: int | None = None

    def restart(self) -> None:
        """The motors were damped by somebody else: the next command is a first one again."""
        self._began = None

    def admit(self, command: LowCommand, measured: np.ndarray, now: int) -> LowCommand:
        """The command with the gains it may have by now: from damping alone to its own within RAMP seconds. Raises
        CommandRejected where the first setpoint lies farther from the `measured` angles [12] than a driver's may."""
        if not command.kp.any():
            self._began = None
            return command
        if self._began is None:
            self._refuse_jump(command.q - measured)
            self._began = now
        share = (now - self._began) * 1e-9 / RAMP
        if share >= 1:
            return command
        return LowCommand(command.q, share * command.kp, self._damping + share * (command.kd - self._damping))

    def _refuse_jump(self, ahead: np.ndarray) -> None:
        if not (np.abs(ahead) <= self._jump).all():
            worst = int(np.argmax(np.nan_to_num(np.abs(ahead), nan=np.inf)))
            raise CommandRejected(f"{JOINTS[worst]}: the first setpoint is {ahead[worst]:.2f} rad from the "
                                  f"measured angle, allowed is {self._jump:g}")
