"""How: everything that changes how a result comes about and not what it is."""

from __future__ import annotations

from dataclasses import dataclass

AT_ONCE = 16
"""Nets in one pass over swept data, unless the user says otherwise."""


@dataclass(frozen=True)
class How:
    """Everything that changes how a result comes about and not what it is. Never part of a key.

    Attributes:
        workers: worker processes; None chooses from cores or GPUs, 1 stays in this process.
        device: "auto", "cpu", or a torch device.
        threads: torch threads per process.
        checkpoint_seconds: least time between two checkpoints of a training run, or of a long prediction.
        keep: which weights stay in the store when nothing needs them any more.
        share: whether what several steps would each make is made once; results are the same without.
        pack_budget: bytes that all packs in the store may take; None for what is free on the disk, less a reserve.
        at_once: nets that predict streamed data, or a pack larger than memory, in one pass over it.
        chunk_bytes: memory for two chunks of such images.
        streamed: names of the packs that are not made, because their content is streamed; set by the run.
        swept: names of the packs that many nets look at in one pass: those, and what is too large to stay in memory.
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
