import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys

import numpy as np

from mmagn.workers import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Pages that the kernel has to clear for the second of two arrays of 64 MB, one after the other."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_freed_is_used_again_without_the_kernel() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("given back", "kept")
    )
    assert kept < given_back / 10
