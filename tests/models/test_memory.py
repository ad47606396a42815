"""Freed memory stays with a process that trains."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from mien.evaluation.predictor import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    # Three blocks of 64 MB, which are freed at the end of the step.
    return float(sum(torch.ones(16 << 20) for _ in range(3)).sum())
for _ in range(6):  # until the blocks have found their places
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_steps_do_not_ask_the_system_for_memory_again() -> None:
    assert _faults("keep") < 0.1 * _faults("give back")


def _faults(what: str) -> int:
    """Pages that the system had to bring in after the first steps."""
    done = subprocess.run([sys.executable, "-c", FAULTS, what], capture_output=True, text=True, check=True)
    return int(done.stdout)
