"""A toy's SDK that raises while the file that ODD_SPHERO names is there, for the process that owns the radio."""

import os

from robots.sphero import loopback
from robots.sphero.radio import Ether


def air(port: int) -> Ether:
    from spherov2.toy.sprk2 import Sprk2

    sound = Sprk2.set_raw_motors

    def set_raw_motors(toy, *powers):
        if os.path.exists(os.environ["ODD_SPHERO"]):
            raise RuntimeError("out of order")
        return sound(toy, *powers)

    Sprk2.set_raw_motors = set_raw_motors
    return loopback.air(port)
