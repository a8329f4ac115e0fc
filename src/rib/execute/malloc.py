"""Memory: what this process frees, it keeps for the next step."""

from __future__ import annotations

import ctypes
import os
import sys

TRIM, MMAP = -1, -3
"""Numbers of mallopt options in glibc."""

KEPT = 1 << 30
"""Bytes that may lie free at the heap's top."""

APART = 256 << 20
"""Bytes from which a block is the system's, and goes back when freed; a batch's activations are smaller."""

_THEIR_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Let the allocator keep what a batch frees, for the next batch to take.

    glibc gives tensors of some megabytes back to the system one by one and asks for them anew at every layer; each page
    then costs a fault, and faults cost a CPU forward pass of a ViT-Ti/16 about a tenth of its time
    (docs/benchmarks.md). Results are the same. Whoever has set glibc up by its environment is not overruled, and
    elsewhere than on glibc nothing happens.

    Returns:
        Whether it is so now.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _THEIR_OWN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP, APART)) and bool(mallopt(TRIM, KEPT))
