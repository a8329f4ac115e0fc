"""Signals: what an interrupt means while a run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_second_interrupt() -> Iterator[None]:
    """Let nothing cut short what ends in a moment: Ctrl-C is not heeded within. In a thread, it never is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
