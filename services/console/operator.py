"""An operator's line to a running coordinator: ask, and get an answer or an error that says what to do."""

from __future__ import annotations

import time

import zmq
from pydantic import TypeAdapter, ValidationError

from services.config import NetworkConfig
from services.coordinator.status import Status
from services.wire import sockets
from services.wire.messages import Answer, Ask, Refused
from services.wire.security import Security

CONNECTING = 0.02  # seconds between two looks at whether the connection stands


class OperatorError(Exception):
    """The coordinator did not answer, or did not do what was asked."""


def control_address(host: str) -> str:
    """The control port of a coordinator given as HOST, HOST:PORT or a whole address."""
    host = host.removeprefix("tcp://")
    return f"tcp://{host}" if ":" in host else f"tcp://{host}:{NetworkConfig().port}"


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

    def status(self, patience: float = 3.0) -> Status:
        """The coordinator's status. Raises OperatorError."""
        try:
            return TypeAdapter(Status).validate_json(self.ask("status", patience=patience))
        except ValidationError as error:
            raise OperatorError(f"{self.address}: its status is not ours to read; is it of another version?") from error

    def ask(self, command: str, robot: str = "", token: str = "", patience: float = 10.0) -> str:
        """What the coordinator answers within `patience` seconds. Raises OperatorError."""
        while self._client.receive(0) is not None:  # the answer to an earlier question that came too late
            continue
        deadline = time.monotonic() + patience
        while not self._client.send(Ask(command, robot, token)) and time.monotonic() < deadline:
            sockets.wait([self._client], CONNECTING)
        while (left := deadline - time.monotonic()) > 0:
            match self._client.receive(left):
                case Answer(ok=True, text=text):
                    return text
                case Answer(text=text):
                    raise OperatorError(text)
                case Refused(text=text):
                    raise OperatorError(f"{self.address}: refused: {text}")
        silence = f"{self.address}: no answer from the coordinator in {patience:g} s; is the run going on?"
        raise OperatorError(self._client.trouble or silence)
