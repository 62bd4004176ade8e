"""A ball whose owner dies or hangs while it rolls. It is a toy that does not stop by itself."""

import contextlib
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from robots.body import Body
from robots.cameras.capture import CaptureProcess
from robots.cameras.decode import View
from robots.cameras.webcam import Webcam
from robots.sphero import link as links
from robots.sphero.driver import SpheroDriver
from robots.sphero.pilot import AT_REST
from robots.sphero.protocol_double import HZ, SpheroProcess

pytest.importorskip("spherov2")
CONTROL_HZ = 4.0
AHEAD = np.ones(2, np.float32)


class Rolling(SpheroDriver):
    """Leads to the ball that BALL describes, which outlives the body."""

    def _link_of_options(self):
        said = json.loads(os.environ["BALL"])
        view = View(size=tuple(said["size"]))
        return links.SpheroLink(self.options, lambda _: (
            [links.LOOPBACK, said["port"]], said["name"], CaptureProcess(Webcam(said["camera"], 0, 0, 0), view)))


@pytest.fixture(scope="module")
def ball():
    ball, ended = SpheroProcess("bolt", "centre", 0), threading.Event()

    def tick():
        while not ended.wait(1 / HZ):
            ball.tick()
        ball.close()

    thread = threading.Thread(target=tick)
    thread.start()
    with pytest.MonkeyPatch.context() as world:
        world.setenv("BALL", json.dumps(ball.said))
        yield ball
    ended.set()
    thread.join()


@pytest.fixture
def rolling(ball):
    """A body that makes it roll."""
    body = Body(f"killed-{os.getpid()}", "test_sphero_killed:Rolling", {"model": "bolt", "start": "centre"}, CONTROL_HZ)
    body.connect(30)
    body.arm()
    roll(body, ball)
    first = body.pid
    yield body
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGKILL)  # one that hangs would not end with the test
    body.disconnect()


def roll(body, ball):
    until(lambda: body.command(AHEAD) and ball.firmware.powers == (70, 70))


def until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_ball_of_a_body_that_is_killed_or_hangs_is_stopped_and_let_go_of(ball, rolling, number):
    killed = rolling.pid
    os.kill(killed, number)
    began = time.monotonic()
    until(lambda: ball.firmware.powers == AT_REST)
    assert time.monotonic() - began < 2.0  # 0.16 s, and 0.5 s where it hangs; a SPRK+'s own timeout would take 2
    time.sleep(0.2)
    assert ball.firmware.powers == AT_REST
    until(lambda: rolling.connect(30) or rolling.pid != killed)  # a toy has one owner at a time
    rolling.arm()
    roll(rolling, ball)


