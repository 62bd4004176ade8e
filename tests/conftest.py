"""For every test: numerical libraries take one thread, in this process and in those it starts. With more, threads that
wait for one another spin, and a busy machine with few cores comes to a standstill."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def pytest_addoption(parser):
    """`--robot CONFIG`: the contract is also tested on the hardware at this config's address."""
    parser.addoption("--robot", metavar="CONFIG", help="a robot at its address: it is armed, stopped, told to stand")
