"""Progress: how long-running work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], None]
"""Called with the number of items finished since the last call."""
