"""What stands between a quadruped's driver and its motors, whatever the packets are: soft start, remote, losses."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from robots.driver import CommandRejected
from robots.legs import remote
from robots.legs.anatomy import JOINTS
from robots.legs.link import LowCommand
from robots.legs.network import TickCount
from robots.legs.remote import Button, Remote
from robots.legs.soft_start import JUMP, RAMP, SoftStart
from robots.unitree_a1.anatomy import A1

joints = np.arange(12.0)
single = st.floats(-1e6, 1e6, width=32)


@given(bits=st.integers(0, 65535), stick=single)
def test_the_remote_is_read_as_it_was_written(bits, stick):
    held = Remote(Button(bits), lx=stick)
    assert remote.decode(remote.encode(held)) == held


def test_buttons_lie_where_the_vendors_header_has_them():
    data = bytes([0x55, 0x51, 0b00100001, 0b00000010]) + bytes(36)
    assert remote.decode(data).buttons == Button.R1 | Button.L2 | Button.B
    assert remote.decode(data).holds(remote.STOP) and not remote.decode(bytes(40)).holds(remote.DEADMAN)


def wanting(q, kp=80.0):
    return LowCommand(np.asarray(q, float), np.full(12, kp), np.full(12, 2.0))


def test_gains_rise_from_damping_to_their_own_in_half_a_second():
    start, here = SoftStart(A1), joints / 10
    times = np.linspace(0, RAMP, 26)
    gains = np.array([[c.kp[0], c.kd[0]] for c in (start.admit(wanting(here), here, round(t * 1e9)) for t in times)])
    assert np.allclose(gains, [[80 * t / RAMP, 4 - 2 * t / RAMP] for t in times], atol=1e-6)
    late = start.admit(wanting(here + 1), here, 10**10)
    assert (late.kp == 80).all()  # only the first setpoint has to be near


@pytest.mark.parametrize("between", [lambda s: s.admit(wanting(joints, kp=0.0), joints, 1), SoftStart.restart])
def test_after_damping_the_gains_rise_anew(between):
    start = SoftStart(A1)
    start.admit(wanting(joints), joints, 0)
    between(start)
    assert start.admit(wanting(joints), joints, 10**10).kp[0] == 0


@given(joint=st.integers(0, 11), ahead=st.floats(-3, 3) | st.just(np.nan))
def test_a_first_setpoint_that_is_far_is_refused_however_long_one_waits(joint, ahead):
    assume(not abs(ahead) <= A1.window + JUMP)
    start, far = SoftStart(A1), joints.copy()
    far[joint] += ahead
    for now in (0, 10**10):
        with pytest.raises(CommandRejected, match=f"{JOINTS[joint]}: .* from the measured angle"):
            start.admit(wanting(far), joints, now)


@pytest.mark.parametrize("unit", [2, 2000, 1])
@given(lost=st.lists(st.integers(0, 20), max_size=50))
def test_lost_datagrams_are_counted_in_whatever_unit_the_ticks_are(unit, lost):
    count, tick = TickCount(), 2**32 - 60 * unit
    for gap in [0] * 60 + lost:
        tick += unit * (gap + 1)
        count.see(tick % 2**32)
    assert (count.lost, count.jumps) == (sum(lost), 0)


@pytest.mark.parametrize("jump", [-5, 10_000])
def test_a_jump_of_the_robots_clock_is_no_loss(jump):
    count = TickCount()
    for n in range(100):
        count.see((2 * n + 10 + (jump if n > 70 else 0)) % 2**32)
    assert (count.lost, count.jumps) == (0, 1)
