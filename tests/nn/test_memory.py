"""Memory that is kept, seen from outside the C library."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from daydreamer.nn.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(16):
        torch.ones(2**24).sum()  # a block of 64 MiB, freed at once: more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
kept = keep_freed_memory()
faults()  # until each block has found its place
print(kept, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_memory_that_is_used_again_and_again_is_taken_from_the_system_once():
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    if said[0] == "False":
        pytest.skip("another C library")
    assert int(said[1]) < 8, "a block that was given back has a page fault for every 4 KiB, or for every 2 MiB"
