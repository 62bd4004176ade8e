"""For every test: numerical libraries take one thread, in this process and in those it starts. With more, threads that
wait for one another spin, and a busy machine with few cores comes to a standstill. Properties are tried with the same
examples on every machine, however slow it is.

And for all of them at once, as `tools/test` runs them: in lanes beside one another, each a worker of pytest-xdist. What
keeps an eye on the clock on the wall waits most of the time; what only computes takes what that leaves of the
processor, and no more.
"""

import contextlib
import gc
import os

import pytest
from hypothesis import HealthCheck, settings

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("any machine")

LANES = {  # folders and files; what is here twice belongs to the first
    "computing": {
        *("diagnostics", "models", "nn", "planning", "replay"),
        *("agent/test_overfit.py", "agent/test_pixels.py"),
        *("robots/test_a1_driver.py", "robots/test_arms_double.py", "robots/test_arms_moves.py"),
        *("robots/test_arms_safety.py", "robots/test_legs_double.py", "robots/test_safety.py"),
        *("robots/test_sphero_driver.py", "robots/test_walk.py", "services/test_training.py"),
    },
    "agents": {"agent"},
    "robots": {"robots"},
}
PATIENT, PUNCTUAL = ("computing", "agents"), ("robots",)


def pytest_addoption(parser):
    """`--robot CONFIG`: the contract is also tested on the hardware at this config's address."""
    parser.addoption("--robot", metavar="CONFIG", help="a robot at its address: it is armed, stopped, told to stand")


def lane(nodeid):
    """Of a test; that of what starts whole systems is called after them."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return next((name for name, those in LANES.items() if {file, file.partition("/")[0]} & those), "systems")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return lane(nodeid)
    return Lanes(config, log)


def pytest_collection_finish():
    """All that was imported is no garbage. To look through it takes the collector 0.3 s, in which nobody ticks a
    robot."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    if "PYTEST_XDIST_WORKER" in os.environ:
        take_place(lane(item.nodeid))


def take_place(lane):
    """Of what else runs here, for good: no other lane is on this worker. Who ticks a driver goes first, where that is
    allowed, as its body does; who computes comes last."""
    if lane in PATIENT:
        os.nice(19)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif lane in PUNCTUAL:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -5)
