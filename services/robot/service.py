"""The robot node: the control process of one robot. It imports neither torch nor ray, and needs no other service to be
safe.

Threads: the caller's keeps time and runs the control loop; one moves observations and actions, one keeps experience on
the disk and delivers it, one talks to the coordinator. None but the first is waited for, and that one never longer than
the action deadline. The robot itself is owned by yet another process, see robots/body.py.
"""

from __future__ import annotations

import logging
import sys
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import zmq

from daydreamer.exploration import HOLD, Explorer
from daydreamer.replay.chunk import Schema
from robots import registry
from robots.body import Body
from robots.realtime import real_time
from services.crew import Crew
from services.embodiment import check_speed, observation_space
from services.link import Link
from services.node import Node
from services.robot.clockwork import Clockwork
from services.robot.control import Control
from services.robot.policy_client import PolicyClient
from services.robot.spool import Spool
from services.run_folder import RunFolder
from services.wire.security import Security

if TYPE_CHECKING:
    from services.config import Config

SWITCH = 0.0005  # seconds after which another thread must yield to the control loop; Python's default is 5 ms
RECONNECT = 0.5  # seconds between attempts to reach the body
LAST_DELIVERY = 10.0  # seconds in which a stopping robot still delivers; what is left then stays in its spool

log = logging.getLogger(__name__)


class RobotRefused(Exception):
    """The coordinator does not take this robot into its run; the text says why and the way out."""


class RobotNode:
    """Robot `name` of the run in `folder`. `control`: the coordinator's address, where it is not the config's."""

    def __init__(self, config: Config, name: str, folder: RunFolder, *, control: str = "") -> None:
        self._config, self._name, self._folder, self._address = config, name, folder, control

    def run(self, stop: threading.Event) -> None:
        """Control the robot until `stop` or an order to stop, then park it and deliver what is left.

        Raises ConfigError, SecurityError, LogLocked, SchemaError (a spool of another robot), RobotRefused.
        """
        sys.setswitchinterval(SWITCH)
        robot, name = self._config.robot, self._name
        seed = (self._config.seed + zlib.crc32(name.encode())) % 2**31  # robots of one run do not move alike
        body = Body(f"{self._folder.path.resolve()}/{name}", robot.driver, robot.options, robot.control_hz,
                    robot.first_speed, seed, robot.monitors)
        check_speed(self._config, body)
        task = registry.task_class(registry.driver_class(robot.driver), robot.task)()
        schema = Schema.of_spaces(body.spec.signals, body.spec.action_space)
        keys = list(observation_space(self._config, body.spec))
        security = Security.load(self._config.network.keys) if self._config.network.keys else None
        with zmq.Context() as context:
            node = Node("robot", name, self._config, context, schema=schema.digest, control=self._address)
            to_policy, to_replay = (Link(context, node, port, security) for port in ("policy", "experience"))
            policy = PolicyClient(name, body.spec.action_space, robot.context, node, to_policy)
            spool = Spool(self._folder.spool(name), schema, name, node, to_replay, limit=robot.spool_mib << 20)
            explorer = Explorer(body.spec.action_space, round(HOLD * robot.control_hz), seed)
            control = Control(body, task, policy, spool, node, explorer, keys=keys,
                              deadline=robot.action_deadline)
            clockwork = Clockwork(robot, body, control, node)
            node.on_order = control.order
            for gauge, limits in body.thresholds.items():
                node.gauge("robot_body_warns", limits.warn, gauge)
                node.gauge("robot_body_stops", limits.stop, gauge)
            with spool, node, Crew(threading.Event()) as crew:
                crew.start("policy", lambda: policy.work(crew))
                crew.start("spool", lambda: spool.work(crew))
                with real_time():
                    self._keep_time(control, clockwork, node, lambda: stop.is_set() or crew.ended)
                node.state, node.detail = "stopping", "parked, delivering what is left"
                spool.finish(LAST_DELIVERY)
        if node.refused:
            raise RobotRefused(node.refused.text)

    def _keep_time(self, control: Control, clockwork: Clockwork, node: Node, ended: Callable[[], bool]) -> None:
        """The control loop, from reaching the body to parking the robot, however it ends."""
        connected = False
        try:
            while not (ended() or control.stopping.is_set() or node.refused):
                if not connected:
                    connected = control.connect()
                    clockwork.restart()
                    if not connected:
                        control.stopping.wait(RECONNECT)
                elif clockwork.wait():
                    connected = control.tick()
                    clockwork.note()
                else:
                    connected = control.attend()
        finally:
            node.state, node.detail = "stopping", "parking"
            control.finish()
