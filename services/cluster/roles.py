"""Which services a run has, and how each is made: the one place that knows, for Ray actors and for services by hand.

Imports stand in the branches: a robot's process loads neither torch nor ray.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Protocol

from services.config import Config
from services.run_folder import RunFolder

SERVICES = ("coordinator", "replay", "policy", "learner")  # in the order in which a run starts them
MOST = 48  # characters of a robot's name, so that keys may bear it


class Service(Protocol):
    """What every kind is made of."""

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`."""


@dataclass(frozen=True)
class Role:
    """One service of a run. `index` counts the robots of the run from 0."""

    kind: str  # coordinator | replay | policy | learner | robot
    index: int = 0

    def name(self, config: Config) -> str:
        """Its name in the run."""
        return robot_name(config, self.index) if self.kind == "robot" else self.kind


def roles(config: Config) -> list[Role]:
    """All services of a run."""
    return [*(Role(kind) for kind in SERVICES), *(Role("robot", index) for index in range(config.robot.count))]


def robot_name(config: Config, index: int) -> str:
    """The name of a run's robot, fit for folders, keys and Ray resources: its driver's, without a module before it."""
    short = re.sub(r"[^A-Za-z0-9]+", "_", config.robot.driver.rpartition(":")[2]).strip("_")[:MOST]
    return f"{short or 'robot'}-{index}"


def build(role: Role, config: Config, folder: RunFolder, control: str = "") -> Service:
    """The service of a role. `control`: the coordinator's address, where it is not the config's."""
    match role.kind:
        case "coordinator":
            from services.coordinator.service import CoordinatorService
            return CoordinatorService(config, folder)
        case "replay":
            from services.replay.service import ReplayService
            return ReplayService(config, folder, control=control)
        case "policy":
            from services.policy.service import PolicyService
            return PolicyService(config, folder, control=control)
        case "learner":
            from services.learner.service import LearnerService
            return LearnerService(config, folder, control=control)
        case "robot":
            from services.robot.service import RobotNode
            return RobotNode(config, role.name(config), folder, control=control)
    raise ValueError(f"{role.kind}: there are {', '.join(SERVICES)} and robot")
