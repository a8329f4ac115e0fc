"""The allocator of a process that does steps: what a batch frees, the next one takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FREE_AND_TAKE = """
import resource
import numpy as np
from rib.execute.malloc import keep_freed
print(keep_freed())
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(64 << 20, dtype=np.uint8)[::4096] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")


def taken_again(**settings: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and page faults of taking 64 MiB for the second time, in a fresh process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment |= {"NUMPY_MADVISE_HUGEPAGE": "0"} | settings  # a fault on a huge page is worth 512
    lines = subprocess.run(
        [sys.executable, "-c", FREE_AND_TAKE], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return lines[0] == "True", int(lines[1])


def test_what_is_freed_is_taken_again_without_a_page_fault() -> None:
    kept, faults = taken_again()
    assert kept
    assert faults < 100


@pytest.mark.parametrize(("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "")])
def test_what_the_user_has_set_stands(name: str, value: str) -> None:
    kept, faults = taken_again(**{name: value})
    assert not kept
    assert faults > 10_000
