"""How: everything that changes how a result is computed, but not the result."""

from __future__ import annotations

from dataclasses import dataclass

AT_ONCE = 16
"""Default number of nets in one pass over swept data."""


@dataclass(frozen=True)
class How:
    """Everything that changes how a result is computed, but not the result. Never part of a key.

    Attributes:
        workers: worker processes; None chooses from cores or GPUs, 1 stays in this process.
        device: "auto", "cpu", or a torch device.
        threads: torch threads per process.
        checkpoint_seconds: minimum time between two checkpoints of a training or of a long prediction.
        keep: the weights that stay in the store when no step needs them any more.
        share: whether features that several steps need are computed once; it does not change results.
        pack_budget: maximum bytes of all packs; None for the free disk space minus a reserve.
        at_once: nets in one pass over streamed data, or over a pack larger than memory.
        chunk_bytes: memory for two chunks of such data.
        streamed: names of the packs whose data are streamed instead; set by the run.
        swept: names of the packs that many nets read in one pass: the streamed ones, and those too large for memory.
    """

    workers: int | None = None
    device: str = "auto"
    threads: int = 1
    checkpoint_seconds: float = 2.0
    keep: str = "all"
    share: bool = True
    pack_budget: int | None = None
    at_once: int = AT_ONCE
    chunk_bytes: int = 2**31
    streamed: frozenset[str] = frozenset()
    swept: frozenset[str] = frozenset()
