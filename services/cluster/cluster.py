"""All services of a run on a Ray cluster: placed, started, watched, ended in order.

Ray is lifecycle only; what flows between the services goes over their own sockets. By default the cluster is a local
one: only this machine reaches it, with a token made for it, and it ends with this process, however this process ends.
`address` joins a cluster that is there already (`deploy/ray-cluster.yaml`); then services run on the node of this
process, and a robot on the node that has its resource `robot:NAME`.

A service that starts anew finds its port where it was: free ports are chosen once, here.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import zmq

from services import logs
from services.cluster import roles
from services.cluster.roles import Role, Service
from services.cluster.supervisor import Launch, ServiceRefused, Supervisor
from services.config import PORTS, Config
from services.node import Node
from services.run_folder import RunFolder
from services.wire.ports import free_ports, require_free
from services.wire.security import Security

if TYPE_CHECKING:
    from services.cluster.actor import ActorProcess

STORE_BYTES = 80 << 20  # of Ray's object store, which we do not use: about the least it takes
# Seconds to end, in this order.
PATIENCE = {"robot": 30.0, "learner": 60.0, "policy": 10.0, "replay": 20.0, "coordinator": 10.0}

# Ray reads these when it is imported, and so does every process that it starts: `ray start` needs them too.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # a control loop must not run at Ray's default of 15
    "RAY_kill_child_processes_on_worker_exit": "false",  # a robot's body outlives its control process
    "RAY_USAGE_STATS_ENABLED": "0",
}
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}  # Ray prints nothing into the terminal; what happens is in the logs
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # everything of Ray binds to loopback, on Linux too

log = logging.getLogger(__name__)
Build = Callable[[Role, Config, RunFolder, str], Service]


class Cluster:
    """The services of one run. Belongs to the main thread: Ray's processes end with the thread that started them.

        cluster = Cluster(config, folder)
        try:
            cluster.start()
            while ...: if cluster.failure: raise cluster.failure
        finally:
            cluster.stop()

    `address`: an existing cluster's, as `ray.init` takes it. `services`: those to run, all by default; `build` makes
    them.
    """

    def __init__(self, config: Config, folder: RunFolder, *, address: str = "", services: Sequence[Role] | None = None,
                 build: Build = roles.build) -> None:
        self.config = config
        self._folder, self._address, self._build = folder, address, build
        self._roles = {role.name(config): role for role in (roles.roles(config) if services is None else services)}
        self._supervisor: Supervisor | None = None
        self._node: Node | None = None
        self._context = zmq.Context()
        self._connected = False
        self._log: logging.Handler | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """Where the services bind, by port name; known once it started."""
        return self.config.network.addresses()

    def start(self) -> None:
        """Start everything. Raises PortInUse, SocketError, NotLoopback, ServiceRefused when Ray cannot run here; see
        also `failure`."""
        self.config = with_ports(self.config)
        self._log = logs.into(self._folder.logs / "supervisor.log")
        keys = self.config.network.keys
        # before anybody talks to another run that holds them
        require_free(self._context, self.addresses.values(), Security.load(keys) if keys else None)
        self._connect()
        self._node = Node("supervisor", "supervisor", self.config, self._context).start()
        self._node.state = "running"
        launches = {name: self._launch(name, role) for name, role in self._roles.items()}
        order = [([name for name, role in self._roles.items() if role.kind == kind], patience)
                 for kind, patience in PATIENCE.items()]
        for name in self._roles:
            self._node.count("restarts_total", 0, name)
        self._supervisor = Supervisor(launches, order, lambda name: self._node.count("restarts_total", label=name))
        self._supervisor.start()

    @property
    def failure(self) -> ServiceRefused | None:
        """Why the run cannot go on, when a service refused to start."""
        return self._supervisor.failure if self._supervisor else None

    @property
    def restarts(self) -> dict[str, int]:
        """How often each service was started again."""
        return self._supervisor.restarts if self._supervisor else {}

    def states(self) -> dict[str, str]:
        """State of each service: running | restarting | stopped | refused."""
        return self._supervisor.states() if self._supervisor else {}

    def pids(self) -> dict[str, int]:
        """Process id of each service that runs."""
        return self._supervisor.pids() if self._supervisor else {}

    def stop(self) -> list[str]:
        """End everything in order, the robots first and the coordinator last. Returns what had to be killed."""
        late = self._supervisor.stop() if self._supervisor else []
        if self._node:
            self._node.close()
            self._node = None
        self._context.destroy(linger=0)
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False
        if self._log:
            logs.leave(self._log)
            self._log = None
        return late

    def _connect(self) -> None:
        """Start a local cluster or join the one at `address`."""
        os.environ.update(ENVIRONMENT | QUIET | ({} if self._address else LOOPBACK))
        if not self._address:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once per process
        import ray

        where: dict[str, Any] = {"address": self._address} if self._address else {
            "address": "local", "num_cpus": len(self._roles), "include_dashboard": False,  # as many workers wait, ready
            "_node_ip_address": "127.0.0.1", "object_store_memory": STORE_BYTES}
        with _signals_kept():
            try:
                ray.init(**where, namespace=self.config.name, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                hint = "; is ~/.ray/auth_token that cluster's?" if self._address else ""
                raise ServiceRefused(f"Ray {self._address or 'on this machine'}: {error}{hint}") from error
        self._connected = True

    def _launch(self, name: str, role: Role) -> Launch:
        """How to start one service: as an actor with a new name each time, since Ray frees the old one late."""
        build = functools.partial(self._build, role, self.config, self._folder, self._control())
        log_file = self._folder.logs.resolve() / f"{name}.log"

        def launch(starts: int) -> ActorProcess:
            """Start it anew; `starts` counts how often."""
            import ray

            from services.cluster.actor import ActorProcess

            here = ray.get_runtime_context().get_node_id()
            where = placement(role, name, ray.nodes(), here) if self._address else {}
            options = {"name": f"{name}-{starts}", "num_gpus": self._gpus(role), **where}
            return ActorProcess(name, build, log_file, options)

        return launch

    def _control(self) -> str:
        """The coordinator's address for services on other nodes; "" where the config's will do."""
        import ray

        host, port = self.config.network.host, self.config.network.port
        return f"tcp://{ray.util.get_node_ip_address()}:{port}" if self._address and host in ("0.0.0.0", "*") else ""

    def _gpus(self, role: Role) -> float:
        """A share of a GPU for those who want one, where there is one."""
        import ray

        devices = {"learner": self.config.learner.device, "policy": self.config.policy.device}
        wanting = [kind for kind, device in devices.items() if device != "cpu"]
        return 1 / len(wanting) if role.kind in wanting and ray.cluster_resources().get("GPU") else 0


def placement(role: Role, name: str, nodes: Sequence[Mapping[str, Any]], here: str) -> dict[str, Any]:
    """Ray's actor options that bring a service to its node: a robot to where its resource is, all else to node `here`.

    `nodes`: as `ray.nodes()` gives them. The resource also keeps a second driver away from the same robot; a label
    `robot=NAME` on the nodes is heeded too.
    """
    living = [node for node in nodes if node["Alive"]]
    if role.kind == "robot" and any(f"robot:{name}" in node["Resources"] for node in living):
        labelled = any(node.get("Labels", {}).get("robot") == name for node in living)
        return {"resources": {f"robot:{name}": 1}} | ({"label_selector": {"robot": name}} if labelled else {})
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}


def with_ports(config: Config) -> Config:
    """The config with real ports: free ones where 0 was asked for, else its own. Raises PortInUse."""
    if config.network.port:
        return config
    return replace(config, network=replace(config.network, port=free_ports(config.network.host, len(PORTS))))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; whoever handled it goes on doing so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
