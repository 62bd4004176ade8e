"""Cameras: decoding, the ladder, the capture process, and Intel's SDK itself, fed with recordings and renders."""

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import cv2
import mujoco
import numpy as np
import odd_cameras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odd_cameras import OddCamera

from robots.cameras import realsense
from robots.cameras.camera import CameraLost
from robots.cameras.capture import CaptureProcess
from robots.cameras.capture_process import Freshness
from robots.cameras.decode import View, crop, decode, metres, shrink, shrink_depth, to_counts
from robots.cameras.double import RenderedRealSense
from robots.cameras.ladder import Ladder, Patience, Step
from robots.cameras.realsense import Pipeline, Recorded, Software
from robots.cameras.shared import SharedFrames
from robots.cameras.software_device import SoftwareDevice
from robots.cameras.source import OLDEST, Raw, SourceLost, build, describe, on_our_clock
from robots.cameras.webcam import Webcam
from robots.shared_memory import folder

HASTE = Patience(frame=0.8, start=20, reset=0.1, calm=60)  # a loaded machine starts a process slowly
SCENE = """<mujoco><visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual><worldbody>
<geom type="plane" size="3 3 .1" rgba="0 0 0 1"/>
<body name="block" mocap="true" pos="0.5 0 .25"><geom type="box" size=".5 2 .25" rgba="1 0 0 1"/></body>
<camera name="overhead" pos="0 0 2" fovy="60"/></worldbody></mujoco>"""

small = st.integers(1, 12)
counts = st.tuples(st.integers(4, 24), st.integers(4, 24)).flatmap(
    lambda shape: arrays(np.uint16, shape, elements=st.integers(0, 65535) | st.just(0)))


def until(condition, seconds=30.0):
    """Waits for what must come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def is_running(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def odd(tmp_path):
    """Makes odd cameras in capture processes, and sees that nothing is left of them."""
    before, opened = set(folder().iterdir()), []

    def make(patience=HASTE, **settings):
        opened.append(CaptureProcess(OddCamera(str(tmp_path / "journal"), **settings), View((12, 16)), patience))
        return opened[-1]

    make.journal = lambda: (tmp_path / "journal").read_text().split()
    yield make
    for camera in opened:
        pid = camera.pid
        camera.close()
        assert not is_running(pid)
    assert {path for path in folder().iterdir() if "camera" in path.name} <= before


# decoding


@settings(max_examples=40)
@given(arrays(np.uint8, st.tuples(st.integers(4, 24), st.integers(4, 24), st.just(3))), small, small)
def test_a_shrunken_picture_has_the_size_and_lies_between_the_pixels_it_came_from(image, height, width):
    if height > image.shape[0] or width > image.shape[1]:
        with pytest.raises(ValueError, match=f"at least {height}x{width}"):
            shrink(image, (height, width))
        return
    out = shrink(image, (height, width))
    assert out.shape == (height, width, 3) and out.dtype == np.uint8
    assert out.min() >= image.min() and out.max() <= image.max()
    assert abs(out.mean() - image.mean()) < 1  # each pixel of the whole has the same weight


@settings(max_examples=40)
@given(counts, st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_unknown_depth_is_never_mixed_into_known_depth(depth, size):
    depth = metres(depth, 0.001, 0.5, 20.0)
    out, known = shrink_depth(depth, size), depth[depth > 0]
    assert np.isfinite(out).all()
    for value in out[out > 0]:
        assert known.min() * 0.9999 <= value <= known.max() * 1.0001
    assert (out > 0).all() or (depth == 0).any()


@settings(max_examples=40)
@given(counts, st.floats(1e-4, 0.01), st.floats(0.02, 0.5), st.floats(0.6, 50))
def test_depth_is_unknown_or_between_near_and_far(depth, unit, near, far):
    out = metres(depth, unit, near, far)
    assert out.dtype == np.float32 and out.shape == depth.shape
    assert ((out == 0) | (out >= np.float32(near)) & (out <= np.float32(far))).all()
    inside = (depth * unit > near * 1.001) & (depth * unit < far * 0.999)
    np.testing.assert_allclose(out[inside], (depth * unit)[inside], rtol=1e-5)


@settings(max_examples=40)
@given(arrays(np.float32, (3, 4), elements=st.floats(0, 100, width=32)), st.floats(0.001, 0.1))
def test_counts_keep_the_order_and_only_the_unknown_is_zero(depth, unit):
    out = to_counts(depth, unit)
    assert out.shape == (3, 4, 1) and out.dtype == np.uint8
    assert ((out[..., 0] == 0) == (depth == 0)).all()
    assert (np.diff(out.ravel()[np.argsort(depth, axis=None)].astype(int)) >= 0).all()
    assert abs(int(to_counts(np.full((1, 1), 1.0, np.float32), 0.02)[0, 0, 0]) - 50) <= 1


def test_what_is_cut_off_is_cut_from_image_and_depth_alike_at_every_resolution():
    for scale in (1, 4):
        depth = np.zeros((40 * scale, 80 * scale), np.uint16)
        depth[10 * scale : 30 * scale, 40 * scale : 70 * scale] = 1000
        image = np.repeat((depth[..., None] > 0).astype(np.uint8) * 200, 3, 2)
        out, out_depth = decode(Raw(image, depth, 0.001, 0, 1, 0.0), View((10, 15), (0.25, 0.25, 0.5, 0.125)))
        assert (out == 200).all() and np.allclose(out_depth, 1.0)
    assert crop(np.zeros((40, 80)), (0, 0, 0, 0)).shape == (40, 80)


def test_depth_that_is_not_aligned_is_refused():
    with pytest.raises(ValueError, match="not aligned"):
        decode(Raw(np.zeros((48, 64, 3), np.uint8), np.zeros((40, 64), np.uint16), 0.001, 0, 1, 0.0), View((8, 8)))


@pytest.mark.parametrize("make, told", [
    (lambda: View(crop=(0.6, 0.4, 0, 0)), "crop"), (lambda: View(near=1, far=0.5), "near and far"),
    (lambda: View(size=(0, 64)), "size"), (lambda: Pipeline(width=8), "width and height"),
    (lambda: Pipeline(fps=0), "fps"), (lambda: Recorded("old.bag"), "path.*old.bag"), (lambda: Webcam(""), "device"),
    (lambda: Patience(frame=0), "frame"), (lambda: Software("m", 64, 64, 20, 200.0), "fovy"),
])
def test_a_setting_out_of_range_is_named_with_what_is_allowed(make, told):
    with pytest.raises(ValueError, match=f"{told}.*allowed is"):
        make()


@pytest.mark.parametrize("source", [Pipeline("0123", 848, 480, depth=False), Recorded("a.db3", loop=False),
                                    Software("/proc/1/fd/3", 64, 48, 20, 45.0), Webcam("/dev/video2", fps=0)])
def test_a_source_is_made_anew_from_its_description(source):
    assert build(json.loads(json.dumps(describe(source)))) == source


# time and trouble


@settings(max_examples=40)
@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 2**62))
def test_no_clock_makes_a_frame_newer_than_its_arrival_or_much_older(age, arrived):
    captured = on_our_clock(age, arrived)
    assert arrived - OLDEST <= captured <= arrived
    if 0 <= age <= 0.999:
        assert captured == arrived - round(age * 1e9)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_troubles_climb_the_ladder_step_by_step_and_calm_comes_down(looks):
    patience = Patience(frame=1, start=2, reset=3, calm=5)
    ladder, now, number, taken, first, due = Ladder(patience, 0.0), 0.0, 0, Step.WAIT, None, 2.0
    for passed, new, alive in looks:
        now, number = now + passed, number + new
        step = ladder.look(now, number, alive)
        if new:
            first, due = now if first is None else first, now + 1
            taken = Step.WAIT if now - first >= 5 else taken
        assert (step == Step.WAIT) == (alive and now < due)
        if step != Step.WAIT:
            taken = Step(min(taken + 1, Step.GIVE_UP))
            assert step == taken
            first, due = None, now + (5 if step == Step.RESET else 2)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), max_size=30))
def test_a_frame_counts_once_both_its_number_and_its_clock_went_on(frames):
    freshness, last, captured = Freshness(), None, 0
    for number, stamp, arrived in frames:
        new = freshness.time_of(Raw(None, None, 0.0, arrived, number, float(stamp)))
        if last is not None and (number == last[0] or stamp == last[1]):
            assert new is None
        else:
            assert new == max(arrived, captured + 1)
            last, captured = (number, stamp), new


def test_a_first_frame_whose_writer_died_is_no_frame_and_the_next_writer_goes_on():
    size, depth = (12, 16), np.dtype(np.float32)
    memory = SharedFrames.create(size, depth)
    reader, image = SharedFrames(memory, size, depth), np.full((*size, 3), 7, np.uint8)
    SharedFrames(memory, size, depth).write(image, None, 5)
    with mmap.mmap(memory, 0) as torn:
        torn[torn.find(bytes([7] * 9))] = 8
    assert reader.read() is None and reader.number == 1
    SharedFrames(memory, size, depth).write(image, None, 6)
    assert reader.read().time == 6 and (reader.read().image == 7).all()
    os.close(memory)


# the capture process


def test_the_newest_frame_comes_with_its_age(odd):
    camera = odd()
    first = camera.open(20)
    assert first.image.shape == (12, 16, 3) and (first.image == 255).all() and first.depth is None
    until(lambda: camera.newest().sequence > first.sequence + 5)
    frames = [camera.newest() for _ in range(50)]
    assert all(0 <= time.monotonic_ns() - frame.time < 20e9 for frame in frames)
    assert sorted(frames, key=lambda frame: (frame.sequence, frame.time)) == frames
    assert camera.gauges()["camera_restarts"] == 0 and 0 <= camera.gauges()["camera_age_seconds"] < 20
    camera.close()
    camera.close()
    assert odd.journal() == ["open", "close"]
    with pytest.raises(CameraLost, match="open the camera first"):
        camera.newest()


@pytest.mark.parametrize("trouble", ["frozen", "raises", "stops", "crashes"])
def test_a_camera_in_trouble_is_restarted_and_goes_on(odd, trouble):
    camera = odd(trouble=trouble, heals=1)
    first = camera.open(20)
    until(lambda: camera.newest().sequence > first.sequence + 10)
    assert odd.journal().count("open") == 2 and "reset" not in odd.journal()
    assert camera.gauges()["camera_restarts"] == 1


def test_a_camera_that_stays_silent_is_restarted_reset_once_and_given_up(odd):
    camera = odd(trouble="silent")
    last = camera.open(20)
    with pytest.raises(CameraLost, match=r"OddCamera.*no new frame.*2 restarts.*check the odd camera"):
        while True:
            assert (frame := camera.newest()).sequence >= last.sequence
            last = frame
            time.sleep(0.01)
    assert odd.journal() == ["open", "close", "open", "close", "reset", "open", "close"]
    assert camera.pid == 0
    assert camera.open(20).sequence  # an operator looked: everything is tried anew
    camera.close()


def test_why_a_camera_does_not_open_is_told(odd):
    with pytest.raises(CameraLost, match="RuntimeError: no frame arrived.*2 restarts.*check the odd camera"):
        odd(trouble="open").open(60)


def test_what_no_restart_can_mend_is_told_at_once(odd):
    camera = odd(trouble="over")
    camera.open(20)
    until(lambda: camera._lost)
    with pytest.raises(CameraLost, match="that was all; check"):
        camera.newest()
    assert odd.journal().count("open") == 1


def test_a_crop_that_leaves_too_little_is_told_at_once(tmp_path):
    with pytest.raises(CameraLost, match="48x64 pixels are left.*at least 64x64"):
        CaptureProcess(OddCamera(str(tmp_path / "journal"))).open(20)


def test_a_killed_capture_process_comes_back(odd):
    camera = odd()
    camera.open(20)
    killed = camera.pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: camera.pid not in (0, killed))
    seen = camera.newest().sequence
    until(lambda: camera.newest().sequence > seen + 5)
    assert camera.gauges()["camera_restarts"] == 1


def test_a_camera_that_hangs_when_it_is_stopped_is_closed_all_the_same(odd):
    camera = odd(trouble="close")
    camera.open(20)
    pid = camera.pid
    camera.close()
    assert not is_running(pid)


@pytest.mark.parametrize("trouble", ["", "hangs"])
def test_the_capture_process_ends_with_its_parent_even_where_it_hangs(tmp_path, trouble):
    journal, here = str(tmp_path / "journal"), os.path.dirname(odd_cameras.__file__)
    script = ("import sys, time; from odd_cameras import OddCamera; from robots.cameras.capture import CaptureProcess\n"
              f"camera = CaptureProcess(OddCamera({journal!r}, {trouble!r}), {View((12, 16))!r})\n"
              "camera.open(30); print(camera.pid, flush=True); time.sleep(60)")
    prelude = "from robots.cameras.decode import View; "
    parent = subprocess.Popen([sys.executable, "-c", prelude + script], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])})
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not is_running(pid))


# Intel's SDK


@pytest.fixture(scope="module")
def rs():
    return pytest.importorskip("pyrealsense2")


def picture(number, edge=40):
    """A red half beside a black one, and depth with the same edge; both tell the number."""
    image, depth = np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 2000 + number, np.uint16)
    image[:, edge:] = 200 + number, 0, 0
    depth[:, edge:] = 1000 + number
    return image, depth


@pytest.fixture(scope="module")
def recording(rs, tmp_path_factory):
    """Ten pictures at 30 Hz, as the SDK records them."""
    path = str(tmp_path_factory.mktemp("camera") / "ten.db3")
    camera, queue = SoftwareDevice(rs, 64, 48, 30, 60.0), rs.syncer()
    recorder = rs.recorder(path, camera.device)
    sensors = list(recorder.query_sensors())
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(queue)
    start = time.time() * 1e3
    for number in range(1, 11):
        camera.feed(*picture(number), number, start + number * 1000 / 30)
        time.sleep(1 / 30)
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    del recorder, sensors, sensor
    return path


def frames_of(source, most):
    """What an open source gives until it ends, at most so many frames."""
    frames, deadline = [], time.monotonic() + 20
    while len(frames) < most:
        assert time.monotonic() < deadline
        if (raw := source.wait(0.5)) is not None:
            frames.append(raw._replace(image=raw.image.copy(), depth=raw.depth.copy()))
    return frames


def test_a_recording_is_played_through_the_sdk_as_it_was_taken_and_then_ends(recording):
    source, frames, shown = Recorded(recording, loop=False), [], time.monotonic_ns()
    source.open()
    with pytest.raises(SourceLost, match="the recording ended") as ended:
        while True:
            frames += frames_of(source, 1)
    source.close()
    assert ended.value.final and 5 <= len(frames) <= 10  # a loaded machine misses some
    for raw in frames:
        image, depth = picture(raw.number)
        np.testing.assert_array_equal(raw.image, image)
        np.testing.assert_array_equal(raw.depth, depth)
        assert raw.unit == pytest.approx(0.001) and shown <= raw.time <= time.monotonic_ns()


def test_a_recording_in_a_loop_never_pairs_its_end_with_its_beginning(recording):
    source = Recorded(recording)
    source.open()
    frames = frames_of(source, 25)
    source.close()
    assert sum(later.number < raw.number for raw, later in zip(frames, frames[1:])) >= 2
    assert all(raw.depth.max() - 2000 == raw.image[0, 63, 0] - 200 == raw.number for raw in frames)


def test_a_recording_runs_in_a_capture_process(recording):
    camera = CaptureProcess(Recorded(recording), View((24, 32), near=0.5, far=1.5))
    try:
        frame = camera.open(20)
    finally:
        camera.close()
    assert frame.image.shape == (24, 32, 3) and frame.depth.shape == (24, 32)
    np.testing.assert_array_equal(frame.image[:, :20], 0)
    np.testing.assert_allclose(frame.depth[:, 20:], 0.8 + frame.image[0, 31, 0] / 1000, atol=1e-5)
    np.testing.assert_allclose(frame.depth[:, :20], 1.5)


@pytest.fixture
def overhead(rs):
    """A double's camera above a red block whose edge is under it, physics on a thread."""
    model = mujoco.MjModel.from_xml_string(SCENE)
    data, stop = mujoco.MjData(model), threading.Event()
    mujoco.mj_forward(model, data)
    camera = RenderedRealSense(model, "overhead", 96, 96)

    def step():
        while not stop.wait(0.005):
            camera.show(data)

    thread = threading.Thread(target=step)
    thread.start()
    yield SimpleNamespace(camera=camera, data=data)
    stop.set()
    thread.join()
    camera.close()


def test_a_doubles_scene_comes_through_the_sdk_with_colour_and_depth_aligned(overhead):
    camera = CaptureProcess(Software(**overhead.camera.address), View((48, 48)), HASTE)
    try:
        frame = camera.open(20)
        red = frame.image[..., 0] > 128
        assert (red == (frame.depth < 1.75)).all() and red[:, 24:].all() and not red[:, :24].any()
        np.testing.assert_allclose(frame.depth[:, :24], 2.0, atol=0.01)
        np.testing.assert_allclose(frame.depth[:, 24:], 1.5, atol=0.01)
        moved, overhead.data.mocap_pos[0, 0] = time.monotonic_ns(), 5.0
        until(lambda: camera.newest().image.max() < 50)
        assert moved - 0.2e9 < camera.newest().time < time.monotonic_ns()
        frozen = camera.newest().sequence
        overhead.camera.freeze(1.5)  # longer than the patience with frames
        until(lambda: camera.gauges()["camera_restarts"])
        until(lambda: camera.newest().sequence > frozen + 3)
        assert time.monotonic_ns() - camera.newest().time < 20e9
    finally:
        camera.close()


def test_what_is_old_in_a_doubles_memory_is_not_taken_for_new(overhead):
    first, again = Software(**overhead.camera.address), Software(**overhead.camera.address)
    first.open()
    until(lambda: first.wait(0.1))
    overhead.camera.freeze(60)
    until(lambda: first.wait(0.3) is None)
    first.close()
    again.open()
    assert again.wait(0.3) is None
    again.close()


def test_colour_and_depth_of_different_moments_are_passed_over(rs):
    source = Software("", 64, 48, 30, 60.0)
    device = SoftwareDevice(rs, 64, 48, 30, 60.0)
    source.prepare = lambda rs, pipeline: pipeline.set_device(device.device) or both(rs)

    def both(rs):
        config = rs.config()
        realsense.enable(rs, config, source)
        return config

    source.open()
    now, numbers = time.time() * 1e3, []
    for number in range(1, 7):
        apart = 500 * (number in (3, 4))
        device.feed(*picture(number), number, now + 33 * number, now + 33 * number - apart)
        raw = realsense.Piped.wait(source, 0.1)
        numbers += [] if raw is None else [(raw.number, int(raw.depth.max()) - 2000)]
    source.close()
    assert (1, 1) in numbers and (6, 6) in numbers and all(color == depth for color, depth in numbers)
    assert not {3, 4} & {color for color, _ in numbers}


def test_a_double_that_is_gone_is_told(rs):
    with pytest.raises(SourceLost, match="pictures are gone"):
        Software("/proc/self/fd/9999", 64, 64, 20, 60.0).open()


def test_without_the_sdk_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(SourceLost, match=r"pip install daydreamer\[realsense\].*libusb-1.0-0") as told:
        Pipeline().open()
    assert told.value.final


class Bus:
    """What the SDK says of cameras on a bus: the one with serial B is away for a moment after its reset."""

    camera_info = SimpleNamespace(name="name", serial_number="serial", usb_type_descriptor="usb", firmware_version="fw")

    def __init__(self, *serials):
        self.serials, self.resets, self.away = serials, [], 0

    def context(self):
        return self

    def query_devices(self):
        self.away -= self.away > 0
        return [self._device(serial) for serial in self.serials if not (serial == "B" and self.away)]

    def _device(self, serial):
        info = {"name": "D435", "serial": serial, "usb": "2.1", "fw": "5"}
        return SimpleNamespace(get_info=info.get, supports=info.__contains__,
                               hardware_reset=lambda: self.resets.append(serial) or setattr(self, "away", 3))


def test_a_reset_is_of_the_one_camera_alone_and_waits_until_it_left(monkeypatch):
    bus = Bus("A", "B", "C")
    monkeypatch.setattr(realsense, "sdk", lambda: bus)
    Pipeline("B").reset()
    assert bus.resets == ["B"] and bus.away == 2
    assert Pipeline("B")._found(5.0)["serial"] == "B" and bus.away == 0


@pytest.mark.parametrize("serials, wanted, told", [
    ((), "", "no RealSense camera is connected; there is none"),
    (("A",), "X", r"serial X is connected; there is A \(D435, USB 2.1\)"),
    (("A", "B"), "", "there are 2 cameras: set `serial` to one of A"),
])
def test_a_camera_that_cannot_be_chosen_is_told_with_those_there_are(monkeypatch, serials, wanted, told):
    monkeypatch.setattr(realsense, "sdk", lambda: Bus(*serials))
    monkeypatch.setattr(realsense, "APPEAR", 0.0)
    with pytest.raises(SourceLost, match=told):
        Pipeline(wanted).prepare(Bus(), None)


def test_a_camera_that_has_not_the_wanted_mode_is_told(rs, monkeypatch):
    monkeypatch.setattr(realsense, "devices", lambda: [{"serial": "A", "name": "D435", "usb": "2.1"}])
    with pytest.raises(SourceLost, match=r"A \(D435, USB 2.1\) does not give 640x480 at 30 Hz"):
        Pipeline("A").open()


# webcams


@pytest.fixture
def film(tmp_path):
    path = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 50, (64, 48))
    for number in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 50 * number + 20), np.uint8))  # blue, green, red
    writer.release()
    return path


def test_a_film_is_played_in_its_colours_at_its_pace_once_or_in_a_loop(film):
    once, reds, begin = Webcam(film, loop=False), [], time.monotonic()
    once.open()
    with pytest.raises(SourceLost, match="the film is over") as over:
        while True:
            if (raw := once.wait(0.5)) is not None:
                reds.append(int(raw.image[24, 32, 0]))
                assert raw.image[24, 32, 2] < 20 and raw.depth is None
    once.close()
    np.testing.assert_allclose(reds, [20, 70, 120, 170, 220], atol=6)
    assert over.value.final and time.monotonic() - begin > 4 / 50
    loop = Webcam(film)
    loop.open()
    numbers = [raw.number for _ in range(12) if (raw := loop.wait(0.5)) is not None]
    loop.close()
    assert numbers == list(range(1, 13))


def test_a_webcam_that_is_not_there_is_named(odd):
    with pytest.raises(CameraLost, match="/dev/video99: no such device.*v4l2-ctl"):
        CaptureProcess(Webcam("/dev/video99"), patience=HASTE).open(20)
