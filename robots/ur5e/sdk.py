"""The process in which ur-rtde lives: `python -m robots.ur5e.sdk SETTINGS`, started by `robots.ur5e.link`.

It has a process of its own because the SDK cannot be trusted with another's: its constructors hold the interpreter's
lock and may wait for ever, and after a lost connection it connects again by itself, uploads its script without our
watchdog, and can abort the process. Here a lost connection ends the process, and the link starts another one.

It speaks lines of JSON over the socket `fd`. To it, once per period: `{"servo": [q], "gripper": x}` or
`{"brake": true}`; rarely `{"recover": true}`. From it: a state for every package of the controller, `{"ready": true}`,
`{"error": text}` before it ends in vain, `{"recovered": text}`, empty where it worked. Only what is sent to it feeds
the controller's watchdog, so it never speaks for a tick that hangs. When the socket closes it brakes, stops the script
and ends. What passes on states and setpoints is real-time as the body is; else a busy computer starves the watchdog.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from robots.realtime import real_time
from robots.ur5e.robotiq import GripperError, Robotiq
from robots.ur5e.status import NORMAL, PLAYING, PROTECTIVE_STOP, REDUCED, plausible, trouble

STREAM_HZ = 125.0  # states per second, which both generations of controllers can send
WATCHDOG_HZ = 4.0  # the script stops when it heard nothing for a quarter of a second
LOOKAHEAD, GAIN = 0.05, 300.0  # s, -: how servoJ smooths; its ranges are 0.03 to 0.2, and 100 to 2000
BRAKE = 10.0  # m/s² of the tool
LEAVING, STARTING, RELEASING, LEFTOVER = 1.5, 1.0, 1.0, 0.5  # s
LOST = 3  # exit status
DASHBOARD, SCRIPT, RTDE = 29999, 30003, 30004
VARIABLES = ["timestamp", "actual_q", "actual_qd", "target_moment", "joint_temperatures", "speed_scaling", "robot_mode",
             "safety_mode", "runtime_state"]


class Refused(Exception):
    """The controller, or the state it is in, does not let us; the text says what to do."""


class Controller:
    """ur-rtde's three interfaces to one controller. `period` [s] of the setpoints; `again`: the link has just lost this
    controller, so a program that runs there is the one that the SDK uploaded when it connected again by itself."""

    def __init__(self, host: str, period: float, again: bool) -> None:
        self._host, self._period, self._again = host, period, again
        self._receive: Any = None
        self._control: Any = None
        self._serves = self._watched = False

    def connect(self) -> None:
        """States flow from now on. Raises Refused."""
        for port in (DASHBOARD, SCRIPT, RTDE):
            self._reach(port)
        import rtde_receive

        self._receive = rtde_receive.RTDEReceiveInterface(self._host, STREAM_HZ, VARIABLES)

    def take_control(self) -> None:
        """Where the arm can move, it takes commands from now on. Raises Refused."""
        if not self._trouble(program_runs=True):
            self._upload()

    @property
    def connected(self) -> bool:
        """Whether states may still come."""
        return self._receive.isConnected()

    @property
    def timestamp(self) -> float:
        """Of the newest state: it changes with each."""
        return self._receive.getTimestamp()

    def state(self) -> dict[str, Any]:
        """The newest state."""
        receive = self._receive
        return {"q": receive.getActualQ(), "dq": receive.getActualQd(), "effort": receive.getTargetMoment(),
                "celsius": max(receive.getJointTemperatures()), "speed": receive.getSpeedScaling(),
                "robot_mode": receive.getRobotMode(), "safety_mode": receive.getSafetyMode(),
                "runtime_state": receive.getRuntimeState()}

    def servo(self, q: list[float]) -> None:
        """A setpoint [6] rad. Does nothing where the script does not run, or to what is not finite."""
        if not all(map(math.isfinite, q)):
            return self.brake()
        if self._listens():
            self._serves = True
            self._control.servoJ(q, 0.0, 0.0, self._period, LOOKAHEAD, GAIN)

    def brake(self) -> None:
        """Come to rest and stand; feeds the watchdog."""
        if self._listens():
            if self._serves:
                self._control.servoStop(BRAKE)
                self._serves = False
            self._control.kickWatchdog()

    def leave(self) -> None:
        """At rest, and nothing of ours is left on the controller."""
        self.brake()
        if self._plays():
            self._control.stopScript()

    def recover(self) -> None:
        """Out of a protective stop, and the script runs again. Raises Refused."""
        if self._receive.getSafetyMode() == PROTECTIVE_STOP:
            self._ask("close safety popup")
            answer = self._ask("unlock protective stop")
            if "releasing" not in answer.lower() or not self._wait(self._is_safe, RELEASING):
                raise Refused(f"the controller does not unlock the protective stop: {answer}")
        if text := self._trouble(program_runs=True):
            raise Refused(text)
        if self._control is None:
            self._upload()
        elif not self._plays():
            self._control.kickWatchdog()  # clears the command, or the new script obeys the last setpoint of the old one
            self._control.reuploadScript()
            self._start()

    def _upload(self) -> None:
        """The SDK does, as soon as it is there. Raises Refused."""
        if self._ask("is in remote control") == "false":
            raise Refused("the pendant is in local control: switch it to remote control, at its top right")
        if self._again and self._runs():
            self._ask("stop")
        if not self._wait(lambda: not self._runs(), LEFTOVER):  # a script of ours ends by its watchdog
            raise Refused("a program runs on the controller: stop it at the pendant")
        import rtde_control

        self._control = rtde_control.RTDEControlInterface(self._host, STREAM_HZ)
        self._start()

    def _start(self) -> None:
        self._serves = self._watched = False
        if not self._wait(self._runs, STARTING):
            raise Refused("the control script did not start; see the pendant's log")

    def _runs(self) -> bool:
        return self._receive.getRuntimeState() == PLAYING

    def _plays(self) -> bool:
        return self._control is not None and self._runs()

    def _listens(self) -> bool:
        """Whether the script plays. From the first command on it is watched: before, there is nobody to feed it."""
        if self._plays() and not self._watched:
            self._watched = self._control.setWatchdog(WATCHDOG_HZ)
        return self._plays()

    def _is_safe(self) -> bool:
        return self._receive.getSafetyMode() in (NORMAL, REDUCED)

    def _trouble(self, program_runs: bool) -> str:
        return trouble(self._receive.getRobotMode(), self._receive.getSafetyMode(), program_runs)

    def _wait(self, until: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not until() and time.monotonic() < deadline:
            time.sleep(0.005)
        return until()

    def _reach(self, port: int) -> None:
        """The SDK's own attempts have no end."""
        try:
            socket.create_connection((self._host, port), 1.0).close()
        except OSError as error:
            raise Refused(f"nothing answers on {self._host}:{port} ({error}); is that the controller's address, is it "
                          "on, and are its services enabled (Settings, Security, Services)?") from error

    def _ask(self, line: str) -> str:
        """The dashboard's answer to a line."""
        import dashboard_client

        client = dashboard_client.DashboardClient(self._host)
        client.connect(1000)
        try:
            client.send(line + "\n")
            return client.receive().strip()
        finally:
            client.disconnect()


class Wire:
    """Lines of JSON over a socket; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def send(self, **fields: Any) -> None:
        """Raises OSError when nobody listens any more."""
        with self._lock:
            self._connection.sendall(json.dumps(fields).encode() + b"\n")

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """What came since the batch before; ends with the connection."""
        pending = b""
        while data := self._connection.recv(65536):
            *lines, pending = (pending + data).split(b"\n")
            if lines:
                yield [json.loads(line) for line in lines]


def tell_states(controller: Controller, gripper: Robotiq | None, wire: Wire) -> None:
    """Every new state, until one of both sides is gone: then the process ends, whatever its other threads wait for."""
    last = math.nan
    try:
        while controller.connected:
            if (stamp := controller.timestamp) == last:
                time.sleep(0.001)
                continue
            last, state = stamp, controller.state()
            state["plausible"] = plausible(state["robot_mode"], state["safety_mode"], state["runtime_state"],
                                           state["q"] + state["dq"])
            if gripper is not None:
                grip = gripper.grip()
                state |= {"opening": grip.opening, "holding": grip.holding, "gripper_trouble": grip.trouble}
            wire.send(state=state, time=time.monotonic_ns())
    except OSError:
        time.sleep(LEAVING)  # the main thread leaves, unless it hangs
    os._exit(LOST)


def obey(controller: Controller, gripper: Robotiq | None, wire: Wire) -> None:
    """The newest setpoint, and orders, until the link closes the connection."""
    for batch in wire.batches():
        newest = batch[-1]
        if any("recover" in message for message in batch):
            wire.send(recovered=_recovered(controller))
        wishes = [message["gripper"] for message in batch if message.get("gripper") is not None]
        if gripper is not None and wishes:
            gripper.wish(wishes[-1])
        if "servo" in newest:
            controller.servo(newest["servo"])
        else:
            controller.brake()


def _text(error: Exception) -> str:
    missing = isinstance(error, ModuleNotFoundError)
    return "a UR arm needs the vendor's SDK: pip install daydreamer[ur]" if missing else str(error)


def _recovered(controller: Controller) -> str:
    try:
        controller.recover()
    except Exception as error:  # the SDK raises what it likes, also without a word
        return str(error) or type(error).__name__
    return ""


def punctually(work: Callable[..., None]) -> Callable[..., None]:
    """`work` in real time, where that is allowed."""
    def working(*arguments: Any) -> None:
        with real_time():
            work(*arguments)
    return working


def main(settings: Mapping[str, Any]) -> None:
    """See the module. `host`, `period` [s], `again`, `gripper`: whether there is one, `activate`: it may be, `fd`."""
    os.dup2(2, 1)  # the SDK prints
    wire = Wire(socket.socket(fileno=settings["fd"]))
    controller = Controller(settings["host"], settings["period"], settings["again"])
    gripper = Robotiq(settings["host"], settings["activate"]) if settings["gripper"] else None
    try:
        controller.connect()
        if gripper is not None:
            gripper.open()
        controller.take_control()
    except Exception as error:  # the SDK raises what it likes
        with contextlib.suppress(OSError):  # nobody waits any more
            wire.send(error=_text(error), final=isinstance(error, (Refused, GripperError, ModuleNotFoundError)))
        os._exit(1)
    threading.Thread(target=punctually(tell_states), args=(controller, gripper, wire), daemon=True).start()
    wire.send(ready=True)
    try:
        punctually(obey)(controller, gripper, wire)
    except Exception as error:  # the SDK raises what it likes
        with contextlib.suppress(OSError):  # nobody waits any more
            wire.send(error=f"{type(error).__name__}: {error}", final=False)
    finally:
        threading.Timer(LEAVING, os._exit, [1]).start()
        controller.leave()
        os._exit(0)  # the SDK's own way out takes seconds, and its threads


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
