"""Progress: how long work reports that it advances."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], None]
"""Is called with the number of items that were done since the last call."""
