"""An operator's line to a running coordinator: ask, and get an answer or an error that says what to do."""

from __future__ import annotations

import json
import time
from typing import Any

import zmq

from services.wire import sockets
from services.wire.messages import Answer, Ask, Refused
from services.wire.security import Security


class OperatorError(Exception):
    """The coordinator did not answer, or did not do what was asked."""


class Operator:
    """Asks one coordinator. `address`: its control port as tcp://host:port; `keys`: a file of CURVE keys, or empty.
    Belongs to one thread."""

    def __init__(self, address: str, keys: str = "") -> None:
        self._context = zmq.Context()
        security = Security.load(keys) if keys else None
        self._client = sockets.Client(self._context, address, security=security)
        self.address = address

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._context.term()

    def status(self, patience: float = 3.0) -> dict[str, Any]:
        """The coordinator's status. Raises OperatorError."""
        return json.loads(self.ask("status", patience=patience))

    def ask(self, command: str, robot: str = "", token: str = "", patience: float = 10.0) -> str:
        """What the coordinator answers within `patience` seconds. Raises OperatorError."""
        while self._client.receive(0) is not None:  # the answer to an earlier question that came too late
            continue
        self._client.send(Ask(command, robot, token))
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            match self._client.receive(left):
                case Answer(ok=True, text=text):
                    return text
                case Answer(text=text):
                    raise OperatorError(text)
                case Refused(text=text):
                    raise OperatorError(f"{self.address}: refused: {text}")
        raise OperatorError(f"no answer from the coordinator at {self.address} within {patience:g} s; is the run still going?")
