"""The ball is found where it is, or reported lost; there is nothing between."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.sphero import look
from robots.sphero.double import Arena
from robots.sphero.options import BLUE, CORNERS
from robots.sphero.tracker import Tracker

WHOLE = [0, 0, 1, 0, 1, 1, 0, 1]
FLOOR = (190, 185, 180)
share = st.floats(0.08, 0.92)


def picture(*balls, size=(240, 320), floor=FLOOR, noise=0, seed=0):
    """A floor with balls on it: x and y in pixels, radius, colour."""
    image = np.full((*size, 3), floor, np.uint8)
    for x, y, radius, colour in balls:
        cv2.circle(image, (round(x * 16), round(y * 16)), round(radius * 16), colour, -1, cv2.LINE_AA, 4)
    dirt = np.random.default_rng(seed).normal(0, noise, image.shape).astype(np.float32) if noise else 0
    return np.clip(image + dirt, 0, 255).astype(np.uint8)


@settings(max_examples=40)
@given(share, share, st.floats(5, 12), st.integers(0, 12), st.integers(0, 99))
def test_a_ball_is_found_to_a_pixel_in_a_noisy_picture(x, y, radius, noise, seed):
    image = picture((320 * x, 240 * y, radius, (10, 40, 240)), noise=noise, seed=seed)
    found = Tracker(WHOLE, BLUE).find(image)
    assert np.abs((found - [x, y]) * [320, 240]).max() < 1.0


@settings(max_examples=40)
@given(st.integers(0, 30), st.integers(0, 99), st.tuples(*[st.integers(90, 255)] * 3))
def test_without_a_ball_nothing_is_found(noise, seed, floor):
    floor = tuple(np.uint8([sum(floor) / 3] * 3) // 4 * 3 + np.uint8(floor) // 4)  # anything but strong colours
    assert Tracker(WHOLE, BLUE).find(picture(floor=floor, noise=noise, seed=seed)) is None


@settings(max_examples=40)
@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.lists(st.floats(-0.04, 0.04), min_size=8, max_size=8))
def test_places_are_the_arenas_also_from_an_oblique_camera(x, y, moved):
    corners = np.float32(CORNERS) + np.float32(moved)
    to_picture = cv2.getPerspectiveTransform(np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]), corners.reshape(4, 2))
    u, v = cv2.perspectiveTransform(np.float64([[[x, y]]]), to_picture).ravel() * [320, 240]
    found = Tracker(corners, BLUE).find(picture((u, v, 7, (0, 0, 255))))
    assert np.abs(found - [x, y]).max() < 0.01


def test_two_balls_outside_ones_specks_and_blankets_are_no_ball():
    blue, tracker = (0, 30, 240), Tracker(CORNERS, BLUE)
    assert tracker.find(picture((160, 120, 7, blue))) is not None
    assert tracker.find(picture((100, 120, 7, blue), (220, 120, 6, blue))) is None
    assert tracker.find(picture((160, 120, 1, blue))) is None
    assert tracker.find(picture((160, 120, 90, blue))) is None
    assert tracker.find(picture((12, 120, 7, blue))) is None
    beside = tracker.find(picture((12, 120, 9, blue), (160, 120, 7, blue)))
    assert beside == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_red_ball_is_red_on_both_sides_of_the_hue_circle():
    tracker = Tracker(WHOLE, [170, 120, 60, 10, 255, 255])
    for colour in ((250, 30, 0), (250, 0, 30)):
        assert tracker.find(picture((160, 120, 7, colour))) is not None
    assert tracker.find(picture((160, 120, 7, (0, 30, 240)))) is None


def test_the_models_picture_is_the_arena_alone():
    image = picture((80, 120, 7, (0, 0, 255)))
    image[:24], image[-24:], image[:, :32], image[:, -32:] = 0, 0, 0, 0
    shown = Tracker(CORNERS, BLUE).picture(image)
    assert shown.shape == (64, 64, 3) and shown.dtype == np.uint8
    assert shown.min(-1)[[0, -1]].min() > 150 and shown.min(-1)[:, [0, -1]].min() > 150
    assert np.argmin(shown[..., 0].min(0)) == pytest.approx(64 * (80 - 32) / 256, abs=1.5)


@pytest.mark.parametrize("place", [(0.06, 0.06), (0.94, 0.06), (0.5, 0.5), (0.2, 0.94)])
def test_the_doubles_ball_is_seen_where_it_is(place):
    arena = Arena()
    camera = arena.camera(10)
    arena.put(np.array(place), 0.0)
    image = camera.frame(arena.data.qpos)["image"]
    off = Tracker(CORNERS, BLUE).find(image) - place
    assert np.abs(off).max() < 0.02  # 1.6 cm: the ball's centre is above the floor
    arena.show(False)
    assert Tracker(CORNERS, BLUE).find(camera.frame(arena.data.qpos)["image"]) is None
    camera.close()


def test_whoever_sets_up_the_arena_sees_what_the_tracker_sees(tmp_path, capsys):
    film, out = str(tmp_path / "arena.avi"), tmp_path / "arena.png"
    writer = cv2.VideoWriter(film, cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(3):
        writer.write(cv2.cvtColor(picture((96, 180, 8, (0, 30, 240))), cv2.COLOR_RGB2BGR))
    writer.release()
    look.main(["--camera", film, "--corners", *map(str, WHOLE), "--out", str(out)])
    said = capsys.readouterr().out
    x, y = (float(word.strip(",;")) for word in said.split()[4:6])
    assert (x, y) == (pytest.approx(0.3, abs=0.01), pytest.approx(0.75, abs=0.01))
    assert cv2.imread(str(out)).shape == (240, 320, 3)
    look.main(["--camera", film, "--colour", "40", "120", "60", "70", "255", "255", "--out", str(out)])
    assert "no ball is seen" in capsys.readouterr().out
