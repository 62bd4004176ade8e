"""A connection of the vendor's SDK, without its habits: what it prints, sets for the whole process, and waits for.

The SDK prints to standard output, sets the default timeout of every new socket of the process to 1 s whenever one of
its threads connects, tries for minutes where a controller accepts but does not answer, and prefers Unix sockets of
fixed names in the system's temporary folder to the network: whoever puts one there takes over every xArm of the
computer, so we forbid it.

Its control port is 502, which only root may serve. A double's is another one: the SDK's constant says so while a
connection is made, under a lock. The streams of reports have ports that anybody may serve, and each double has a
loopback address of its own, so the SDK finds them, also anew, as it finds a robot's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from robots.driver import CommandRejected, LinkLost
from robots.xarm.codes import call_text

log = logging.getLogger(__name__)

PORT = 502
WARNING = 2
ANSWER_WITHIN = 0.5  # s; the SDK's default of 2 s is longer than an arm should wait for its next command
_connecting = threading.Lock()


class _Sockets:
    """The module `socket` as the SDK sees it: what it sets for the whole process is not set. Its own sockets have
    timeouts of their own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    @staticmethod
    def setdefaulttimeout(seconds: float | None) -> None:
        """Others of this process rely on theirs."""


def load() -> Any:
    """The SDK. Raises ImportError, which names the extra."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import xarm
            from xarm.core.comm import socket_port
            from xarm.core.utils.log import logger
    except ModuleNotFoundError as error:
        raise ImportError("an xArm needs the vendor's SDK: pip install 'daydreamer[xarm]'") from error
    socket_port.socket = _Sockets()
    for talker in (logger, logging.getLogger("origin.print")):  # they repeat in prose what codes say
        talker.setLevel(logging.CRITICAL)
    return xarm


def connect(address: str, timeout: float, port: int = PORT, **options: Any) -> Any:
    """An `XArmAPI` that is connected, in radians. Raises LinkLost, at the latest after `timeout` seconds; ImportError
    where the SDK is missing."""
    api = load().XArmAPI(address, is_radian=True, do_not_open=True, forbid_uds=True, check_joint_limit=True,
                         timed_comm=False, **options)
    done: Future = Future()
    with _connecting, _habits(port):
        threading.Thread(target=_connect, args=(api, done), name="xarm connects", daemon=True).start()
        try:
            done.result(timeout)
        except TimeoutError:
            why = f"no answer within {timeout:g} s"
        except Exception as error:  # the SDK raises plain ones
            why = str(error)
        else:
            api.set_timeout(ANSWER_WITHIN)
            return api
    disconnect(api)
    raise LinkLost(f"xArm at {address}: {why}; is the control box on, and does `ping {address}` answer?")


def disconnect(api: Any) -> None:
    """What the SDK started ends; never raises, nor waits for long."""
    thread = threading.Thread(target=api.disconnect, name="xarm disconnects", daemon=True)
    thread.start()
    thread.join(3)


def check(call: str, result: Any) -> None:
    """Raises CommandRejected with what a call's return code means, unless it is 0. Some calls return a list. A warning
    is worth a line: the call was done."""
    code = result[0] if isinstance(result, list | tuple) else result
    if code == WARNING:
        log.warning("%s", call_text(call, code))
    elif code != 0:
        raise CommandRejected(call_text(call, code))


def _connect(api: Any, done: Future) -> None:
    try:
        api.connect()
        done.set_result(None)
    except Exception as error:
        done.set_exception(error)


@contextlib.contextmanager
def _habits(port: int) -> Iterator[None]:
    """While a connection is made: the control port is this one, and nothing is printed."""
    from xarm.core.config.x_config import XCONF

    said = io.StringIO()
    usual, XCONF.SocketConf.TCP_CONTROL_PORT = XCONF.SocketConf.TCP_CONTROL_PORT, port
    try:
        with contextlib.redirect_stdout(said):
            yield
            time.sleep(0.005)  # its report thread has something to print too
    finally:
        XCONF.SocketConf.TCP_CONTROL_PORT = usual
        log.debug("SDK: %s", said.getvalue().strip())
