"""Shows the metrics of one process to Prometheus, over HTTP, and says which process of a run has which port.

With `network.metrics` set, the processes of a run have consecutive ports from there on, in the order coordinator,
replay, policy, learner, supervisor (which is `daydreamer run` itself), then robot 0, robot 1 and so on. A robot that
joined from another computer has the same port there as it would have here.

Metrics are for looking on: a port that cannot be had is said and tried again, and stops nobody.
"""

from __future__ import annotations

import errno
import logging
import threading

from prometheus_client import start_http_server

from services.cluster.roles import SERVICES
from services.config import Config
from services.metrics import Metrics
from services.wire.errors import PortInUse, SocketError

ORDER = (*SERVICES, "supervisor", "robot")
AGAIN = 5.0  # seconds between two attempts to have the port
PATIENCE = 1.0  # seconds to let go of it; the thread ends with the process anyway

log = logging.getLogger(__name__)


def metrics_port(config: Config, kind: str, name: str) -> int:
    """The port of a process; 0 where metrics are off."""
    index = int(name.rpartition("-")[2]) if kind == "robot" and config.network.metrics else 0
    return config.network.metrics and config.network.metrics + ORDER.index(kind) + index


class Server:
    """http://host:port/metrics, until it is closed. `port`: the real one, where 0 asked for a free one.
    Raises PortInUse, SocketError."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            self._http, _ = start_http_server(port, host, metrics.registry)
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", 0) == errno.EADDRINUSE:
                raise PortInUse(f"no metrics: {host}:{port}: another process holds this port; end it, or choose others "
                                "with `--set network.metrics=...` (0: none)") from error
            raise SocketError(f"no metrics: {host}:{port}: cannot bind there: {error}; check network.host and "
                              "network.metrics") from error
        self.port = self._http.server_port

    def close(self) -> None:
        """Let go of the port."""
        self._http.shutdown()
        self._http.server_close()


class Exporter:
    """Has the port of its process as soon as it can be had, from a thread of its own: names are looked up on the way,
    which may take seconds. `trouble`: why the port is not had; "" where all is well."""

    def __init__(self, metrics: Metrics, config: Config, kind: str, name: str) -> None:
        host = config.network.host
        self._metrics, self._host = metrics, "0.0.0.0" if host == "*" else host
        self._port = metrics_port(config, kind, name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"metrics-{name}", daemon=True)
        self.trouble = ""

    def start(self) -> None:
        """Begin, where metrics are wanted."""
        if self._port:
            self._thread.start()

    def close(self) -> None:
        """Let go of the port."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                server = Server(self._metrics, self._host, self._port)
            except SocketError as error:
                if not self.trouble:
                    log.error("%s", error)
                self.trouble = str(error)
                self._stop.wait(AGAIN)
                continue
            self.trouble = ""
            log.info("metrics at http://%s:%d/metrics", self._host, self._port)
            self._stop.wait()
            server.close()
