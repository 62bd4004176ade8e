"""Several cameras in one process: what becomes of one is nothing to the others."""

import gc
import threading

import mujoco
import numpy as np
import pytest

from robots.eye import Eye

BALL = """<mujoco><worldbody><light pos="0 0 3"/><camera name="above" pos="0 0 1"/>
          <geom type="sphere" size="0.2" rgba="0 0 1 1"/></worldbody></mujoco>"""


class Seeing(Eye):
    """An eye above a ball."""

    def __init__(self):
        model = mujoco.MjModel.from_xml_string(BALL)
        self.data = mujoco.MjData(model)
        mujoco.mj_forward(model, self.data)
        super().__init__(model, 32, 32)

    def picture(self):
        self.look(self.data, "above")
        return self.rgb()


def on_another_thread(make):
    made = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made.pop()


@pytest.mark.parametrize("elsewhere, closed", [(False, True), (False, False), (True, False)])
def test_a_camera_sees_on_when_another_one_is_gone(elsewhere, closed):
    eye, other = Seeing(), on_another_thread(Seeing) if elsewhere else Seeing()
    before = eye.picture()
    assert np.ptp(before) > 100
    if closed:
        other.close()
    del other
    gc.collect()
    assert (eye.picture() == before).all()
    eye.close()


def test_a_camera_may_be_closed_twice():
    eye = Seeing()
    eye.close()
    eye.close()
