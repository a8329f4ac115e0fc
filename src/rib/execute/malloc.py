"""Malloc: glibc keeps the memory that this process frees, for the next step."""

from __future__ import annotations

import ctypes
import os
import sys

TRIM, MMAP = -1, -3
"""Numbers of mallopt options in glibc."""

KEPT = 1 << 30
"""Maximum free bytes at the top of the heap."""

APART = 256 << 20
"""Blocks of at least this many bytes return to the system when freed; the activations of a batch are smaller."""

_THEIR_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Make the allocator keep freed memory, so that the next batch can reuse it.

    By default glibc returns each freed tensor of some megabytes to the system, and requests the memory again for every
    layer. Each page then costs a page fault. These take about a tenth of the CPU time of a forward pass of a ViT-Ti/16
    (docs/benchmarks.md). Results are the same. Settings of glibc in the environment have priority. Without glibc this
    does nothing.

    Returns:
        Whether the allocator now keeps freed memory.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _THEIR_OWN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP, APART)) and bool(mallopt(TRIM, KEPT))
