"""The control box's protocol, without sockets: our bytes against the vendor SDK's own codec, and what they do; and the
velocities that are sent."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.arms.double import ArmDouble, Surroundings
from robots.arms.link import ArmCommand
from robots.xarm import wire
from robots.xarm.anatomy import MODELS, XARM6
from robots.xarm.machine import HZ, MOVING, READY, STOPPED, Machine
from robots.xarm.pilot import OLD, Reported, velocity

REPORT = pytest.importorskip("xarm.x3.report")
UXBUS = pytest.importorskip("xarm.core.wrapper.uxbus_cmd_tcp")
floats = st.floats(-1e3, 1e3, width=32)
requests = st.builds(wire.Request, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 255),
                     st.binary(max_size=60))


def joints(values):
    return st.tuples(*[values] * 7)


@given(st.lists(requests, max_size=5), st.data())
def test_requests_are_whole_however_the_bytes_come(sent, data):
    stream, taken, pending = b"".join(map(wire.pack_request, sent)), [], b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found, pending = wire.take_requests(pending + stream[:size])
        stream, taken = stream[size:], taken + found
    assert taken == sent and not pending


@given(st.binary(max_size=200))
def test_bytes_of_anybody_are_requests_or_an_error_and_never_grow(data):
    try:
        found, pending = wire.take_requests(data)
    except ValueError:
        return
    assert sum(len(wire.pack_request(request)) for request in found) + len(pending) == len(data)


reports = st.builds(wire.Report, st.integers(0, 15), st.integers(0, 15), st.integers(0, 65535), joints(floats),
                    st.tuples(*[floats] * 6), joints(floats))


@given(reports)
def test_a_report_says_to_the_sdk_what_it_says_to_us(report):
    structure = REPORT.ReportDataStructure.create(30003, is_radian=True)
    data = wire.pack_report(report)
    structure.update(data)
    assert wire.unpack_report(data) == report and len(data) == 87
    assert (structure.data_size, structure.state, structure.mode, structure.cmd_num) == (87, *report[:3])
    assert tuple(structure.actual_joint_angle) == report.joints
    assert tuple(structure.estimated_joint_torque) == report.torque


class Bench:
    """A control box, and the SDK's own client of it over a wire in this process."""

    def __init__(self, anatomy=XARM6, objects=0):
        self.arm = ArmDouble(anatomy, anatomy.inner_hz, Surroundings(objects=objects))
        self.machine = Machine(self.arm, anatomy)
        self.sdk, self.pending = UXBUS.UxbusCmdTcp(self), []

    def flush(self):
        self.pending.clear()

    def write(self, data):
        (request,), rest = wire.take_requests(data)
        assert not rest
        self.pending.append(wire.pack_reply(request, *self.machine.answer(request)))
        return 0

    def read(self, timeout):
        return self.pending.pop(0)

    def wait(self, seconds):
        for _ in range(round(seconds * HZ)):
            self.machine.cycle()

    def ready(self):
        assert [self.sdk.motion_en(8, 1)[0] & 1, self.sdk.set_mode(4, 0)[0] & 1, self.sdk.set_state(0)[0]] == [0, 0, 0]
        return self

    def q(self):
        return np.array(self.machine.report().joints)

    def turn(self, speed, seconds):
        return self.sdk.vc_set_jointv([speed, 0, 0, 0, 0, 0, 0], 1, seconds)[0]


@pytest.mark.parametrize("name", MODELS)
def test_the_sdk_reads_model_and_pose(name):
    bench = Bench(MODELS[name])
    said = bytes(bench.sdk.get_version()[1:]).rstrip(b"\0").decode()
    assert said.startswith(f"{name[-1]},{name[-1]},") and said.endswith("v2.3.0")
    assert np.allclose(bench.sdk.get_joint_pos()[1:], wire.seven(MODELS[name].home), atol=1e-6)
    x, y, z, *_ = bench.machine.report().pose
    assert np.allclose((x, y, z), (390, 0, 372), atol=1)  # the flange is above the tool


def test_a_velocity_ends_by_itself_and_the_arm_stands():
    bench = Bench().ready()
    assert bench.turn(0.5, 0.3) == 0
    bench.wait(0.2)
    assert bench.machine.state == MOVING and 0.02 < bench.q()[0] < 0.11
    bench.wait(0.8)
    stood = bench.q()[0]
    bench.wait(0.5)
    assert bench.machine.state == READY and 0.1 < stood < 0.2 and bench.q()[0] == pytest.approx(stood, abs=2e-3)


def test_a_velocity_without_an_end_goes_on():
    bench = Bench().ready()
    bench.turn(0.5, 0)
    bench.wait(1.5)
    assert bench.q()[0] > 0.6


@pytest.mark.parametrize("spoil", [lambda sdk: sdk.set_state(4), lambda sdk: sdk.set_mode(1, 0),
                                   lambda sdk: sdk.motion_en(8, 0)])
def test_an_arm_that_was_stopped_or_changed_does_not_move_until_it_is_ready_again(spoil):
    bench = Bench().ready()
    spoil(bench.sdk)
    assert bench.turn(0.5, 1) != 0 or not bench.sdk.state_is_ready
    bench.wait(0.5)
    assert abs(bench.q()[0]) < 1e-3
    bench.ready()
    assert bench.turn(0.5, 1) == 0 and bench.sdk.state_is_ready
    bench.wait(0.5)
    assert bench.q()[0] > 0.1


@pytest.mark.parametrize("joint, sign", [(1, 1), (2, 1), (4, -1)])
def test_a_joint_stops_at_the_end_of_its_range_with_an_error(joint, sign):
    bench = Bench().ready()
    speeds = np.zeros(7)
    speeds[joint] = 2.5 * sign
    for _ in range(40):
        bench.sdk.vc_set_jointv(list(speeds), 1, 0.2)
        bench.wait(0.1)
    assert bench.machine.state == STOPPED
    assert bench.machine.error in (23, 31)  # the table may come first
    assert bench.turn(0.1, 1) == 1


def test_a_velocity_beyond_the_joints_or_no_number_is_refused():
    bench = Bench().ready()
    assert bench.turn(float("nan"), 1) == 10
    assert bench.machine.error == 0
    bench.turn(3.3, 1)
    assert bench.machine.error == 24


def test_an_emergency_stop_takes_the_power_until_it_is_released_and_cleaned():
    bench = Bench().ready()
    bench.turn(0.5, 1)
    bench.wait(0.2)
    bench.machine.fail(1)
    bench.wait(0.3)
    where = bench.q()[0]
    bench.sdk.clean_err()
    assert bench.sdk.get_err_code()[:2] == [1, 1]  # still pressed
    bench.machine.release_button()
    bench.sdk.clean_err()
    assert bench.sdk.get_err_code()[:2] == [0, 0]
    bench.sdk.set_state(0)
    assert bench.machine.state == STOPPED  # no power yet
    bench.ready()
    bench.wait(0.3)
    assert bench.q()[0] == pytest.approx(where, abs=5e-3)


def test_the_fence_stops_a_tool_that_leaves_it():
    bench = Bench()
    bench.sdk.set_tcp_offset([0, 0, 172, 0, 0, 0])
    bench.sdk.set_xyz_limits([600, 200, 50, -50, 400, 0])
    bench.sdk.set_fense_on(1)
    bench.ready()
    bench.turn(0.5, 2)
    bench.wait(2)
    assert bench.machine.error == 35 and 50 < bench.machine.report().pose[1] < 80


def test_what_the_arm_meets_is_a_collision_until_it_is_cleaned():
    bench = Bench().ready()
    bench.arm.protective_stop()
    bench.wait(0.1)
    assert bench.turn(0.2, 1) == 1 and bench.machine.error == 31
    bench.sdk.clean_err()
    bench.ready()
    bench.turn(0.2, 1)
    bench.wait(0.5)
    assert bench.machine.error == 0 and bench.q()[0] > 0.02


def test_the_gripper_goes_where_modbus_sends_it():
    bench = Bench().ready()
    assert bench.sdk.gripper_modbus_get_pos() == [0, 850]
    assert bench.sdk.gripper_modbus_set_pos(400)[0] == 0
    bench.wait(1.5)
    code, position = bench.sdk.gripper_modbus_get_pos()
    assert code == 0 and position == pytest.approx(400, abs=20)
    assert bench.sdk.gripper_modbus_get_errcode() == [0, 0]


@settings(max_examples=100)
@given(requests)
def test_whatever_is_asked_for_is_answered_and_moves_nothing_that_has_no_power(shared_bench, asked):
    status, data = shared_bench.machine.answer(asked._replace(function=asked.function % 130))
    assert 0 <= status <= 255 and isinstance(data, bytes)
    shared_bench.sdk.motion_en(8, 0)
    shared_bench.wait(0.02)
    assert np.allclose(shared_bench.q()[:6], XARM6.home, atol=1e-2)


@pytest.fixture(scope="module")
def shared_bench():
    return Bench()


def test_modbus_of_another_size_is_refused():
    bench = Bench()
    with pytest.raises(struct.error):
        bench.machine._modbus(b"\x09\x08")
    assert bench.machine.answer(wire.Request(1, 3, 124, b"\x09\x08"))[0] & wire.INVALID


anything = st.lists(st.floats(), min_size=6, max_size=6).map(np.array)


@given(anything, anything, anything, st.integers(-10**12, 10**12), st.floats(0.01, 3.14))
def test_no_velocity_is_faster_than_allowed_or_no_number_whatever_is_wished_or_seen(q, dq, seen, age, fastest):
    now = 10**15
    sent = velocity(ArmCommand(q, dq), Reported(now - age, seen, seen, 1), now, fastest)
    assert np.isfinite(sent).all() and (np.abs(sent) <= fastest).all()
    if not 0 <= age <= OLD * 1e9:
        assert not sent.any()


def test_a_velocity_is_the_setpoint_s_own_and_goes_towards_it():
    q, dq = np.linspace(-1, 1, 6), np.linspace(0.1, 0.2, 6)
    assert np.array_equal(velocity(ArmCommand(q, dq), Reported(0, q, q, 1), 0, 1.8), dq)
    behind = velocity(ArmCommand(q, dq), Reported(0, q - 0.01, q, 1), 0, 1.8)
    assert (behind > dq).all() and (behind < dq + 0.2).all()
    assert not velocity(ArmCommand(q, dq), None, 0, 1.8).any()
