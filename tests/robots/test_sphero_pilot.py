"""The vendor's SDK and our time to live, against a toy's firmware in place of the air. Real time, but little of it."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from robots.sphero import pilot, radio
from robots.sphero.firmware import BATTERY, Firmware
from robots.sphero.options import BLUE
from robots.sphero.packets import PIECE, V1, V2
from robots.sphero.pilot import AT_REST, PATIENCE, TTL, Pilot
from robots.sphero.radio import Ether

pytest.importorskip("spherov2")
AHEAD = (70, 70)


class Toy:
    """What the air leads to. `told`: when its powers were set, and to what; `mute`: it does as it is told and says
    nothing; `hangs`: writes never return; `gone`: it cannot be reached."""

    def __init__(self, version=V1, name="SK-1234"):
        self.firmware, self.name, self.told = Firmware(version), name, []
        self.mute = self.hangs = self.gone = False
        self.connections = 0

    async def find(self, name, seconds):
        found = name == self.name and not self.gone
        return SimpleNamespace(name=name, address="here") if found else None

    def client(self, device, on_loss):
        self.on_loss, self.callbacks = on_loss, {}
        return self

    async def connect(self):
        self.connections += 1
        self.firmware.connected()

    async def disconnect(self):
        pass

    async def start_notify(self, characteristic, callback):
        self.callbacks[characteristic] = callback

    async def write_gatt_char(self, characteristic, data, response):
        if self.hangs:
            await asyncio.sleep(60)
        before, answers = self.firmware.powers, self.firmware.receive(characteristic, data, time.monotonic())
        if self.firmware.powers != before:
            self.told.append((time.monotonic(), self.firmware.powers))
        for answer in () if self.mute else answers:
            for start in range(0, len(answer), PIECE):
                self.callbacks[self.firmware.version.ANSWERS](None, bytearray(answer[start:start + PIECE]))


@pytest.fixture
def flying():
    """Makes pilots; in the end they are closed, and nothing of the SDK is left."""
    before, pilots = threading.active_count(), []

    def fly(toy, model="sprk", name="SK-1234", spaced=False, **more):
        ether = Ether(toy.find, toy.client)
        one = Pilot(model, name, ether, BLUE, **more)
        if not spaced:  # a toy's pace would take half of a test's time
            one._kind.toy_type = one._kind.toy_type._replace(cmd_safe_interval=0.002)
        pilots.append((one, ether))
        return one

    yield fly
    for one, ether in pilots:
        one.close()
        ether.close()
    assert threading.active_count() == before


def until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


def wishing(one, powers, true, seconds=10.0):
    """Wish as a driver does, with every tick, until something holds."""
    def wished():
        one.wish(powers)
        return true()
    until(wished, seconds)


@pytest.mark.parametrize("version, model, name", [(V1, "sprk", "SK-1234"), (V2, "bolt", "SB-1234"),
                                                  (V2, "mini", "SM-1234")])
def test_every_model_is_woken_unstabilized_driven_and_left_at_rest(flying, version, model, name):
    toy = Toy(version, name)
    one = flying(toy, model, name)
    wishing(one, (70, -30), lambda: one.powers == (70, -30))
    assert toy.firmware.powers == (70, -30) and not toy.firmware.stabilized and not toy.firmware.sleeping
    assert one.gauges["toy_watchdog"] == (version is V1)
    until(lambda: "battery_volts" in one.gauges)
    assert one.gauges["battery_volts"] == BATTERY
    one.close()
    assert toy.firmware.powers == AT_REST


def test_when_wishes_stop_the_power_ends_with_their_time_to_live(flying):
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: toy.firmware.powers == AHEAD)
    one.wish(AHEAD)
    last = time.monotonic()
    until(lambda: toy.firmware.powers == AT_REST)
    assert toy.told[-1][0] - last > 0.9 * TTL
    time.sleep(1.0)  # the SDK's own thread, had we used it, would have said it again after 0.8 s
    assert [powers for _, powers in toy.told] == [AHEAD, AT_REST]


def test_a_wish_that_waited_on_its_way_to_the_pilot_lives_no_longer(flying):
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: toy.firmware.powers == AHEAD)
    until(lambda: toy.firmware.powers == AT_REST)
    one.wish(AHEAD, time.monotonic() - TTL)
    time.sleep(0.3)  # several turns of the pilot
    assert [powers for _, powers in toy.told] == [AHEAD, AT_REST]


def test_a_power_ends_even_where_no_answer_comes(flying):
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: toy.firmware.powers == AHEAD)
    toy.mute = True
    one.wish(AHEAD)
    began = time.monotonic()
    until(lambda: toy.firmware.powers == AT_REST, TTL + PATIENCE + 3)
    assert time.monotonic() - began >= 0.9 * TTL
    toy.mute = False


def test_a_toy_that_does_not_answer_is_stopped_before_it_is_given_up_whatever_is_wished(flying, monkeypatch):
    monkeypatch.setattr(pilot, "FIRST_WAIT", 60.0)
    monkeypatch.setattr(pilot, "DEAF", 0.4)
    monkeypatch.setattr(pilot, "SILENCE", 1.0)
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: toy.firmware.powers == AHEAD)
    toy.mute = True
    wishing(one, AHEAD, lambda: one.trouble)
    assert toy.firmware.powers == AT_REST


def test_of_many_wishes_the_newest_is_sent_and_no_faster_than_the_model_takes_them(flying):
    toy = Toy()
    one = flying(toy, spaced=True)
    wishing(one, (1, 1), lambda: toy.told)
    for power in range(2, 200):
        one.wish((power, power))
        time.sleep(0.002)
    until(lambda: toy.firmware.powers == (199, 199))
    times = [when for when, _ in toy.told]
    assert 3 < len(times) < 30
    assert min(b - a for a, b in zip(times, times[1:])) > 0.055  # the SDK's interval is 0.06 s


def test_a_connection_that_breaks_is_made_again_and_begins_at_rest(flying, monkeypatch):
    monkeypatch.setattr(pilot, "FIRST_WAIT", 0.05)
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: one.powers == AHEAD)
    toy.told.clear()
    toy.on_loss(toy)
    wishing(one, AHEAD, lambda: toy.connections == 2)
    wishing(one, AHEAD, lambda: len(toy.told) == 2)
    assert [powers for _, powers in toy.told] == [AT_REST, AHEAD]
    assert one.gauges["toy_reconnects"] == 1 and not one.trouble


def test_a_toy_that_falls_silent_is_reached_anew(flying, monkeypatch):
    monkeypatch.setattr(pilot, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(pilot, "SILENCE", 0.3)
    monkeypatch.setattr(pilot, "FIRST_PATIENCE", 0.5)
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: one.powers == AHEAD)
    toy.mute = True
    until(lambda: "not answer" in one.trouble)
    toy.mute = False
    wishing(one, AHEAD, lambda: toy.connections >= 2 and not one.trouble)
    assert one.gauges["toy_unanswered_commands"] >= 1


def test_an_answer_that_is_spoiled_ends_in_a_new_connection(flying, monkeypatch):
    """The SDK's decoder stays stuck on a bad checksum."""
    monkeypatch.setattr(pilot, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(pilot, "SILENCE", 0.3)
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: one.powers == AHEAD)
    toy.callbacks[V1.ANSWERS](None, bytearray(b"\xff\xff\x00\x01\x01\x00"))
    wishing(one, AHEAD, lambda: toy.connections == 2 and one.powers == AHEAD)


def test_a_radio_that_hangs_holds_nobody_up(flying, monkeypatch):
    monkeypatch.setattr(radio, "CALL", 0.2)
    monkeypatch.setattr(pilot, "FIRST_WAIT", 5.0)
    toy = Toy()
    one = flying(toy)
    wishing(one, AHEAD, lambda: one.powers == AHEAD)
    toy.hangs = True
    until(lambda: "bluetooth" in one.trouble)
    began = time.monotonic()
    one.wish(AHEAD)
    one.close()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("name, why", [("SK-9999", "near"), ("SB-1234", "no Sphero SPRK")])
def test_a_toy_that_is_not_found_is_given_up_in_the_end_and_named(flying, monkeypatch, name, why):
    monkeypatch.setattr(pilot, "FIRST_WAIT", 0.02)
    toy = Toy(name="SB-1234")
    one = flying(toy, name=name, give_up=0.1)
    until(lambda: one.lost)
    assert why in one.trouble and name in one.trouble
