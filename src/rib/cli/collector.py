"""Collector: Python's search for unused cycles of objects. Beside torch it takes a sixth of a short command's time."""

from __future__ import annotations

import gc
from collections.abc import Sequence

SHORT = ("export", "plan", "recommend", "report", "status", "verify")
"""Commands that read for some seconds, keep what they read, and train nothing."""


def pause_collector(words: Sequence[str]) -> None:
    """Turn the collector off if these arguments of `rib` begin with a command of `SHORT`."""
    if words and words[0] in SHORT:
        gc.disable()


def resume_collector() -> None:
    """Turn a paused collector on again, for the objects that are made from now on."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
