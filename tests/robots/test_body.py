"""The process that owns the robot, with real processes and real kills."""

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from robots.arms.moves import NAMES
from robots.basic import BasicDriver
from robots.body import HUNG, Body, Busy
from robots.body_layout import Files, Latch, Layout, text
from robots.body_process import BodyProcess
from robots.double import Camera
from robots.driver import Clip, FaultLatched, LinkLost, Mode, RobotSpec, Stop
from robots.estop import stop_bodies
from robots.legs.double import LegsDouble
from robots.legs.link import LowCommand
from robots.unitree_a1.anatomy import A1
from robots.unitree_a1.driver import A1Driver, A1Options

STAND = A1.stand_action.astype(np.float32)
CARTPOLE = {"id": "CartPole-v1"}
numbers = itertools.count()


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def name():
    name = f"body-test-{os.getpid()}-{next(numbers)}"
    yield name
    Files(name).fault.unlink(missing_ok=True)  # or another test of that name would begin with it


@pytest.fixture
def body(name):
    body = Body(name, "unitree_a1", {"pose": "stand"})
    body.connect()
    yield body
    body.stop(Stop.DAMP)
    body.disconnect()


def test_it_stands_in_real_time_and_every_period_is_counted(body):
    body.arm()
    start, ticks, ages = time.monotonic(), body.health().ticks, []
    for _ in range(40):
        signals = body.read()
        ages.append((time.monotonic_ns() - signals.time) * 1e-9)
        body.command(STAND)
        time.sleep(0.05)
    seconds, health = time.monotonic() - start, body.health()
    assert signals.values["up"][2] > 0.99
    assert np.median(ages) < 0.02
    assert health.ticks - ticks + health.overruns == pytest.approx(seconds * 1000, abs=250)  # reported at 10 Hz


def test_reading_and_commanding_never_wait_for_the_body(body):
    body.arm()
    os.kill(body.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        for _ in range(10):
            body.read()
            body.command(STAND)
        assert time.monotonic() - start < 0.1
    finally:
        os.kill(body.pid, signal.SIGCONT)


def test_two_names_are_two_robots(name, body):
    other = Body(f"{name}-other", "unitree_a1", {"pose": "back"})
    other.connect()
    assert other.pid != body.pid
    body.arm()
    assert other.health().mode == Mode.DISARMED
    assert other.read().values["up"][2] < 0 < body.read().values["up"][2]
    other.stop(Stop.DAMP)
    other.disconnect()


def test_a_second_control_process_is_refused_while_the_first_lives(name, body):
    with pytest.raises(Busy, match="another living process"):
        Body(name, "unitree_a1", {"pose": "stand"}).connect()
    body.arm()


@pytest.mark.parametrize("level, mode", [(Stop.DAMP, Mode.DISARMED), (Stop.ESTOP, Mode.FAULT)])
def test_a_stop_works_while_the_control_loop_hangs(body, level, mode):
    body.arm()
    hang, ended = threading.Event(), threading.Event()

    def loop():
        body.command(STAND)
        hang.wait()
        ended.set()

    threading.Thread(target=loop, daemon=True).start()
    body.stop(level)
    wait_until(lambda: body.health().mode == mode, 0.5)
    assert not ended.is_set()
    hang.set()


def test_a_command_that_is_not_finite_is_held_behind_the_body_too(body):
    body.arm()
    assert body.command(np.full(12, np.nan)).clip & Clip.NOT_FINITE
    time.sleep(0.1)
    assert np.isfinite(body.read().values["setpoint"]).all()
    assert body.health().mode == Mode.ARMED


@pytest.fixture
def slow_body(name):
    """An armed body in this process that looks at what was said to it only when `look` is called."""
    driver = A1Driver(A1Options(pose="stand"))
    driver.connect()
    layout, files = Layout(driver.spec), Files(name)
    process = BodyProcess(driver, layout.open(files, create=True), layout, speed=1.0)
    body = Body(name, "unitree_a1", {"pose": "stand"})
    body._region = layout.open(files, create=False)

    def look(ticks=25):
        process._obey_stops()
        process._obey_order()
        process._follow_command()
        process._report(driver.health())
        for _ in range(ticks):
            driver.tick()

    def ask(verb, **fields):
        body._region.boxes["order"].write(text(number=1, time=time.monotonic_ns(), verb=verb, **fields))

    body.driver, body.look, body.ask = driver, look, ask
    ask("arm")
    look()
    body.command(STAND)
    look()
    yield body
    files.region.unlink()


def moved(body):
    before = body.driver.read().values["setpoint"]
    body.look()
    return np.abs(body.driver.read().values["setpoint"] - before).max()


def test_a_command_from_before_a_stop_or_an_order_is_void_when_it_is_found_with_it(slow_body):
    body, far = slow_body, -STAND
    body.command(far)
    body.stop(Stop.HOLD)
    assert moved(body) < 1e-3
    body.command(far)
    body.stop(Stop.DAMP)
    body.ask("arm")
    body.look(ticks=0)  # the setpoint is the measured pose now
    assert moved(body) < 1e-3 and body.driver.health().mode == Mode.ARMED
    body.command(far)
    assert moved(body) > 0.01


def test_a_stop_that_was_said_after_an_order_wins(slow_body):
    body = slow_body
    body.stop(Stop.DAMP)
    body.ask("arm")
    body.stop(Stop.DAMP)
    body.look()
    assert body.driver.health().mode == Mode.DISARMED
    body.stop(Stop.ESTOP)
    body.look()
    body.ask("clear_fault", token="Ada")
    body.stop(Stop.ESTOP)
    body.look()
    assert body.driver.health().mode == Mode.FAULT


def test_the_clip_mask_begins_anew_when_armed(slow_body):
    body = slow_body
    body.driver.stop(Stop.DAMP)
    body.command(STAND)
    body.look()
    body.ask("arm")
    body.look()
    assert not body.command(STAND).clip & Clip.DISARMED


CONTROL = """
    import sys, time
    from robots.body import Body
    from robots.unitree_a1.anatomy import A1
    body = Body(sys.argv[1], "unitree_a1", {"pose": "stand"})
    body.connect()
    body.arm()
    body.command(A1.stand_action)
    print(body.pid, flush=True)
    while True:
        body.command(A1.stand_action)
        time.sleep(0.05)
"""


def test_a_killed_control_process_leaves_a_body_that_damps_and_that_the_next_one_finds(name):
    control = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CONTROL), name],
                               stdout=subprocess.PIPE, text=True)
    pid = int(control.stdout.readline())
    control.kill()
    control.wait()
    control.stdout.close()
    killed = time.monotonic()
    assert alive(pid)
    body = Body(name, "unitree_a1", {"pose": "stand"})
    time.sleep(1.3)  # the sentence under test is about time: damped after one second
    body.connect()
    try:
        assert body.pid == pid and time.monotonic() - killed < 5
        assert body.health().mode == Mode.DISARMED
        assert body.read().values["joint_angles"][2] < -1.75  # it no longer stands on its springs (-1.66): it sinks
        assert "no command, or no state, for 1.0 s: disarmed" in body.log_path.read_text()
    finally:
        body.stop(Stop.DAMP)
        body.disconnect()
    wait_until(lambda: not alive(pid))


def test_a_killed_body_is_noticed_and_replaced_disarmed(body):
    body.arm()
    first = body.pid
    os.kill(first, signal.SIGKILL)

    def lost():
        try:
            body.read()
        except LinkLost as error:
            return str(first) in str(error) and error.recoverable
        return False

    wait_until(lost, 1.0)
    with pytest.raises(LinkLost):
        body.command(STAND)
    body.stop(Stop.DAMP)
    assert "does not answer" in body.health().fault
    body.connect()
    assert body.pid != first and body.health().mode == Mode.DISARMED
    body.arm()
    body.command(STAND)


def test_a_body_that_hangs_is_killed_and_replaced(name):
    body = Body(name, "gym", {"id": "CartPole-v1"})
    body.connect()
    first = body.pid
    os.kill(first, signal.SIGSTOP)
    time.sleep(HUNG + 0.1)
    with pytest.raises(LinkLost):
        body.read()
    body.connect()
    assert body.pid != first and body.health().mode == Mode.DISARMED
    wait_until(lambda: not alive(first))
    body.disconnect()


def test_letting_go_of_a_body_that_just_died_is_no_error(name):
    body = Body(name, "gym", {"id": "CartPole-v1"})
    body.connect()
    os.kill(body.pid, signal.SIGKILL)
    body._child.wait()
    body.disconnect()
    body.connect()
    body.disconnect()


def test_looking_for_the_owner_of_a_body_keeps_nobody_from_owning_it(name):
    files = Files(name)
    looking = os.open(files.body_lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_EX)
    threading.Timer(0.005, os.close, [looking]).start()  # as long as a look may take on a busy machine
    lock = files.take(files.body_lock)
    assert lock is not None and files.take(files.body_lock) is None
    os.close(lock)
    files.body_lock.unlink()


def test_an_emergency_stop_whose_clearing_was_refused_outlives_the_body(body):
    body.stop(Stop.ESTOP)
    with pytest.raises(FaultLatched):
        body.clear_fault("")
    os.kill(body.pid, signal.SIGKILL)
    time.sleep(0.3)
    body.connect()
    wait_until(lambda: body.health().mode == Mode.FAULT)


def test_an_emergency_stop_outlives_the_body_until_an_operator_clears_it(body):
    body.stop(Stop.ESTOP)
    os.kill(body.pid, signal.SIGKILL)
    time.sleep(0.3)
    body.connect()
    wait_until(lambda: body.health().mode == Mode.FAULT)
    body.clear_fault("Ada")
    body.arm()


def test_a_fault_outlives_the_body_with_its_cause_until_an_operator_clears_it(name, monkeypatch, tmp_path):
    (tmp_path / "hot_robot.py").write_text(textwrap.dedent("""
        from robots.gym import GymDriver
        class Hot(GymDriver):
            def arm(self):
                super().arm()
                self._interlock.trip("motor 3 is hot")
    """))
    monkeypatch.syspath_prepend(str(tmp_path))
    body = Body(name, "hot_robot:Hot", {"id": "CartPole-v1"})

    def die():
        os.kill(body.pid, signal.SIGKILL)
        time.sleep(0.3)
        body.connect()

    body.connect()
    body.arm()
    die()  # before anybody asked how it is
    wait_until(lambda: body.health().mode == Mode.FAULT)
    assert body.health().fault == "motor 3 is hot"
    with pytest.raises(FaultLatched):
        body.arm()
    body.clear_fault("Ada")
    die()
    assert (body.health().mode, body.health().fault) == (Mode.DISARMED, "")
    body.disconnect()


def test_an_emergency_stop_outlives_every_process_until_an_operator_clears_it(name):
    first, second = (Body(name, "gym", CARTPOLE) for _ in range(2))
    first.connect()
    first.stop(Stop.ESTOP)
    first.disconnect()
    assert Files(name).fault.stat().st_mode & 0o077 == 0
    second.connect()
    try:
        health = second.health()
        assert health.mode == Mode.FAULT and health.fault.startswith("emergency stop (latched 2")
        assert "`daydreamer clear-fault --token NAME` ends it" in health.fault
        with pytest.raises(FaultLatched, match="emergency stop .latched 2"):
            second.arm()
        with pytest.raises(FaultLatched):
            second.clear_fault("")
        second.clear_fault("Ada")
        second.arm()
    finally:
        second.disconnect()
    assert not Files(name).fault.exists()


def test_a_double_that_no_run_could_clear_forgets_its_fault_with_its_process(name):
    body = Body(name, "gym", CARTPOLE, keep_faults=False)
    body.connect()
    body.stop(Stop.ESTOP)
    body.disconnect()
    body = Body(name, "gym", CARTPOLE, keep_faults=False)
    body.connect()
    body.arm()
    body.disconnect()


def test_an_emergency_stop_that_a_dead_body_did_not_hear_is_obeyed_by_the_next_one(name):
    body = Body(name, "gym", CARTPOLE)
    body.connect()
    os.kill(body.pid, signal.SIGKILL)
    body._child.wait()
    assert stop_bodies(name) == [name]
    body._let_go()  # as if its control process had died, too
    body = Body(name, "gym", CARTPOLE)
    body.connect()
    try:
        wait_until(lambda: body.health().mode == Mode.FAULT)
        with pytest.raises(FaultLatched):
            body.arm()
    finally:
        body.disconnect()


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\x00\xfe", b"x" * 100_000, b"hot\n\x1b[2Jmotor"])
def test_what_stands_in_the_file_of_a_fault_is_a_fault_in_words_whatever_it_is(tmp_path, content):
    path = tmp_path / "robot.fault"
    path.write_bytes(content)
    latch = Latch(path)
    assert 0 < len(latch.text) < 1000 and latch.text.isprintable()
    with pytest.raises(FaultLatched):
        latch.clear(" ")
    latch.clear("Ada")
    assert not path.exists() and not latch.text and not Latch(path).text


def test_the_first_fault_is_kept_also_where_it_could_not_be_written_at_once(tmp_path):
    path = tmp_path / "memory" / "robot.fault"
    latch = Latch(path)
    latch.keep("motor 3 is hot")
    path.parent.mkdir()
    latch.keep("it fell")
    assert Latch(path).text == latch.text and latch.text.startswith("motor 3 is hot (latched 2")


def test_a_living_body_of_other_settings_is_parked_and_replaced(name):
    first = Body(name, "gym", {"id": "CartPole-v1"})
    first.connect()
    pid = first.pid
    first._let_go()  # as if its control process had died
    second = Body(name, "gym", {"id": "Pendulum-v1"})
    second.connect()
    assert second.pid != pid
    wait_until(lambda: not alive(pid))
    assert second.spec.signals.contains(second.read().values)
    second.disconnect()


def test_a_driver_that_cannot_connect_says_why(name, monkeypatch, tmp_path):
    (tmp_path / "broken_robot.py").write_text(textwrap.dedent("""
        from robots.gym import GymDriver
        from robots.driver import LinkLost
        class Broken(GymDriver):
            def connect(self, timeout=10.0):
                raise LinkLost("no answer from 192.0.2.7")
    """))
    monkeypatch.syspath_prepend(str(tmp_path))
    body = Body(name, "broken_robot:Broken", {"id": "CartPole-v1"})
    with pytest.raises(LinkLost, match=r"no answer from 192\.0\.2\.7"):
        body.connect()
    body.log_path.unlink()


def test_why_a_robot_was_not_reached_is_told_in_the_words_of_its_link(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        body = Body(name, "unitree_a1", {"link": "hardware", "address": f"127.0.0.1:{silent.getsockname()[1]}"})
        with pytest.raises(LinkLost, match="no state .* within 1 s.* is it on, and in low-level mode"):
            body.connect(timeout=1.0)
    body.log_path.unlink()


def test_pictures_come_through(name):
    body = Body(name, "unitree_a1", {"pose": "stand", "camera": "chase"})
    body.connect()
    try:
        wait_until(lambda: body.read().values["image"].std() > 10)
        assert body.spec.signals.contains(body.read().values)
    finally:
        body.stop(Stop.DAMP)
        body.disconnect()


def test_a_slow_picture_does_not_stall_the_physics(monkeypatch):
    rendering, finish = threading.Event(), threading.Event()

    def slow(camera, qpos):
        rendering.set()
        finish.wait()
        return {"image": np.ones((64, 64, 3), np.uint8), "depth": np.ones((64, 64, 1), np.uint8)}

    monkeypatch.setattr(Camera, "_render", slow)
    double = LegsDouble(A1, "stand", camera_hz=20.0)
    double.keep_pace()
    double.open()
    double.extras()
    assert rendering.wait(5)
    for _ in range(5):
        double.exchange(LowCommand(A1.stand, A1.kp, A1.kd))
        assert not double.extras()["image"].any()  # none is finished yet, and nobody waits for it
    finish.set()
    wait_until(lambda: double.extras()["image"].all())
    double.close()


def test_speed_makes_the_robots_clock_run_faster(name):
    body = Body(name, "gym", {"id": "CartPole-v1"}, speed=4.0)
    body.connect()
    before, start = body.health().ticks, time.monotonic()
    time.sleep(1.0)
    health, seconds = body.health(), time.monotonic() - start
    body.disconnect()
    assert (health.ticks - before + health.overruns) / seconds == pytest.approx(4 * body.spec.inner_hz, rel=0.25)
    with pytest.raises(ValueError, match="speed"):
        Body(name, "gym", {"id": "CartPole-v1"}, speed=0)


def ticks_of_a_second(body):
    """Inner periods of a second on the wall, done or given up."""
    count = lambda health: health.ticks + health.overruns  # noqa: E731
    before, start = count(body.health()), time.monotonic()
    time.sleep(0.6)
    return (count(body.health()) - before) / (time.monotonic() - start)


def test_a_speed_that_changes_counts_from_then_on_and_outlives_the_body(name):
    body = Body(name, "gym", {"id": "CartPole-v1"})
    body.connect()
    try:
        hz = body.spec.inner_hz
        body.keep_pace(0.02)
        assert ticks_of_a_second(body) < 0.3 * hz  # reported at 10 Hz
        body.keep_pace(3.0)
        assert ticks_of_a_second(body) == pytest.approx(3 * hz, rel=0.3)  # and nothing of the slow second is made up
        os.kill(body.pid, signal.SIGKILL)
        wait_until(lambda: body.health().fault)
        body.connect()
        assert ticks_of_a_second(body) == pytest.approx(3 * hz, rel=0.3)
    finally:
        body.disconnect()


def test_a_robot_with_a_clock_of_its_own_keeps_it(name):
    with pytest.raises(ValueError, match="real time"):
        Body(name, "unitree_a1", {"link": "protocol"}).keep_pace(0.5)
    with pytest.raises(ValueError, match="speed"):
        Body(name, "ur5e", {"link": "protocol"}, speed=2.0)


def test_a_slow_clock_does_not_keep_the_robot_from_parking(name):
    body = Body(name, "unitree_a1", {"pose": "stand"}, speed=0.02)
    body.connect()
    body.arm()
    start = time.monotonic()
    body.disconnect()
    assert time.monotonic() - start < 9.0  # 2.3 s in real time, two minutes at that speed


def test_an_abandoned_body_lays_the_robot_down_and_ends(name, monkeypatch):
    import robots.body_process as process

    monkeypatch.setattr(process, "ABANDONED", 0.2)
    driver = A1Driver(A1Options(pose="stand"))
    driver.connect()
    driver.arm()
    layout, files = Layout(driver.spec), Files(name)
    process.BodyProcess(driver, layout.open(files, create=True), layout, speed=1.0).run()
    files.region.unlink()
    assert driver.link.data.qpos[2] < 0.12 and driver.health().mode == Mode.DISARMED


@pytest.fixture
def working(name):
    """A body in this process that stands, armed, and keeps whether its link is told to push; `fails` makes a method
    raise, and forgets what the link was told before that."""
    driver = A1Driver(A1Options(pose="stand"))
    driver.connect()
    driver.arm()
    layout, files = Layout(driver.spec), Files(name)
    process = BodyProcess(driver, layout.open(files, create=True), layout, speed=1.0)
    exchange, process.pushed = driver.link.exchange, []

    def exchanged(command):
        process.pushed.append(command.kp.any())
        return exchange(command)

    def fails(what, how, error):
        def failing(*_):
            if not failed:
                process.pushed.clear()
            failed.append(error)
            raise error
        failed = []
        setattr(what, how, failing)

    driver.link.exchange, process.fails, process.driver = exchanged, fails, driver
    yield process
    files.region.unlink()


def test_an_error_of_the_loop_around_the_driver_lets_the_robot_park(working):
    working.fails(working, "_publish", RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        working.run()
    assert working.driver.link.data.qpos[2] < 0.12 and any(working.pushed)


@pytest.mark.parametrize("how, error", [("tick", ZeroDivisionError("a bug")), ("health", LinkLost("gone"))])
def test_a_driver_that_fails_or_a_lost_link_damps_and_moves_the_robot_no_more(working, how, error):
    working.fails(working.driver, how, error)
    with pytest.raises(type(error)):
        working.run()
    assert working.driver._interlock.mode == Mode.DISARMED
    assert working.pushed and not any(working.pushed)


class Diary(A1Driver):
    """Writes down how high it was when it was let go."""

    def disconnect(self):
        super().disconnect()
        Path(os.environ["DIARY"]).write_text(f"{self.link.data.qpos[2]}")


@pytest.fixture
def standing(name, tmp_path, monkeypatch):
    """An armed body, and the height at which it was left."""
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    body = Body(name, "test_body:Diary", {"pose": "stand"})
    body.connect()
    body.arm()
    body.command(STAND)
    yield body, lambda: float((tmp_path / "diary").read_text())
    body._let_go()
    body.log_path.unlink(missing_ok=True)


def test_a_body_that_is_interrupted_lays_the_robot_down(standing):
    body, height = standing
    os.kill(body.pid, signal.SIGINT)
    body._child.wait(15)
    assert height() < 0.12


def test_an_emergency_stop_ends_the_parking_of_a_body_that_was_told_to_end_twice(standing, name):
    body, height = standing
    for _ in range(2):
        os.kill(body.pid, signal.SIGTERM)
        time.sleep(0.1)
    body.stop(Stop.ESTOP)
    body._child.wait(15)
    assert height() > 0.12  # it folds its legs in 2 s, and sinks no further in 0.3
    assert Latch(Files(name).fault).text.startswith("emergency stop")


def test_the_files_are_private_and_a_clean_end_leaves_none(name):
    body = Body(name, "gym", {"id": "CartPole-v1"})
    body.connect()
    folder = body.log_path.parent
    mine = lambda: [f for f in os.listdir(folder) if f.startswith(body.log_path.stem)]  # noqa: E731
    assert all(os.stat(folder / f).st_mode & 0o077 == 0 for f in mine() if not f.endswith(".log"))
    body.disconnect()
    assert mine() == []


def test_an_emergency_stop_needs_nobody_but_the_body(name):
    """The control process is gone, the body lives on for a while, and somebody says stop."""
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import time
        from robots.body import Body
        body = Body({name!r}, "unitree_a1", {{"pose": "stand"}})
        body.connect()
        body.arm()
        print(body.pid, flush=True)
        while True:
            body.command(body.standing(body.read().values))
            time.sleep(0.05)
    """)], stdout=subprocess.PIPE, text=True)
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert alive(pid) and stop_bodies("another-robot") == []
    assert stop_bodies(name) == [name]  # never without a name here: that stops every robot of this computer
    body = Body(name, "unitree_a1", {"pose": "stand"})
    try:
        body.connect()
        assert body.pid == pid
        wait_until(lambda: body.health().mode == Mode.FAULT)
        with pytest.raises(FaultLatched):
            body.arm()
    finally:
        body.disconnect()


@dataclass(frozen=True)
class Wired:
    """As drivers of real robots have it."""

    link: str = "hardware"
    address: str = "10.0.0.7"


class Light(BasicDriver):
    """A robot at an address: a lamp."""

    Options = Wired

    def __init__(self, options=Wired(), control_hz=20.0, seed=0):
        super().__init__(RobotSpec("light", spaces.Dict({"on": spaces.Box(0, 1, (1,), np.float32)}), {"on": ""},
                                   spaces.Box(-1, 1, (1,), np.float32), control_hz, 100.0))

    def measure(self):
        return {"on": np.zeros(1, np.float32)}

    def drive(self, action):
        pass


def test_one_process_at_a_time_drives_the_robot_at_an_address(name):
    first, second, elsewhere = (Body(f"{name}-{n}", "test_body:Light", {"address": address})
                                for n, address in enumerate(["10.0.0.7", "10.0.0.7", "10.0.0.8"]))
    try:
        first.connect()
        with pytest.raises(LinkLost, match="Light@10.0.0.7: another process of this computer drives this robot"):
            second.connect()
        elsewhere.connect()
        first.disconnect()
        second.connect()
    finally:
        for body in (first, second, elsewhere):
            body.disconnect()


def test_a_fault_is_met_at_the_address_of_the_robot_whoever_drives_it(name):
    address = {"address": name}
    run, jog = Body(f"{name}-run", "test_body:Light", address), Body(f"{name}-jog", "test_body:Light", address,
                                                                     keep_faults=False)
    try:
        run.connect()
        run.stop(Stop.ESTOP)
        run.disconnect()
        jog.connect()
        with pytest.raises(FaultLatched, match="emergency stop .latched"):
            jog.arm()
        jog.clear_fault("Ada")
        jog.arm()
        jog.disconnect()
        assert not Files(f"test_body:Light@{name}").fault.exists()
    finally:
        for body in (run, jog):
            body.disconnect()


def test_what_a_busy_arm_applied_is_what_is_said(name):
    body = Body(name, "ur5e", {"actions": "moves", "objects": 0}, 10.0)
    body.connect()
    body.arm()
    wait_until(lambda: body.health().busy)
    applied = body.command(np.int64(NAMES.index("-z")))
    assert NAMES[applied.action] == "noop" and applied.clip & Clip.BUSY
    deadline = time.monotonic() + 10
    while body.health().busy and time.monotonic() < deadline:
        body.command(np.int64(0))
        time.sleep(0.05)
    applied = body.command(np.int64(NAMES.index("-z")))
    assert NAMES[applied.action] == "-z" and not applied.clip & Clip.BUSY
    body.stop(Stop.DAMP)
    body.disconnect()


class Far(Light):
    """It takes its time to be reached."""

    def open(self, timeout):
        time.sleep(timeout)


def test_a_body_that_is_told_to_end_while_it_connects_ends_at_once(name):
    def end():
        wait_until(lambda: files.owner()[0] > 0)
        os.kill(files.owner()[0], signal.SIGTERM)

    files, body = Files(name), Body(name, "test_body:Far", {"address": name})
    ending, start = threading.Thread(target=end), time.monotonic()
    ending.start()
    with pytest.raises(LinkLost, match="told to end before the robot was reached"):
        body.connect(timeout=60.0)
    ending.join()
    assert time.monotonic() - start < 30.0  # half of what it would have waited, for a busy machine to start it
    body.log_path.unlink()
