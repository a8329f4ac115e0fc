"""How: everything that changes how a result is computed, but not the result."""

from __future__ import annotations

from dataclasses import dataclass

from rib.errors import UserError
from rib.given import instance_in, number_in, text_in

KEEP = ("all", "pretrained", "none")
"""Values of `How.keep`."""

MOST = 2**62
"""Maximum of a number of bytes, processes or nets."""

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

    Raises:
        UserError: a field has another type, or is out of range.
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

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("threads", 1), ("pack_budget", 0), ("at_once", 1), ("chunk_bytes", 1)):
            if (value := getattr(self, name)) is not None or name in ("threads", "at_once", "chunk_bytes"):
                object.__setattr__(self, name, number_in(value, f"How.{name}", least, MOST))
        instance_in(self.share, bool, "How.share")
        seconds = self.checkpoint_seconds
        if not isinstance(seconds, int | float) or not seconds >= 0:  # NaN is not
            raise UserError("How.checkpoint_seconds is no time", got=repr(seconds), valid="0 or more seconds")
        if text_in(self.keep, "How.keep") not in KEEP:
            raise UserError("unknown weights to keep", got=self.keep, valid=", ".join(KEEP))
        text_in(self.device, "How.device")

    def available(self) -> How:
        """The same, if torch knows the device and this machine has it. Raises UserError."""
        import torch

        device, valid, remedy = self.device, "auto, cpu", "leave --device out"
        try:
            kind = torch.device("cpu" if device == "auto" else device).type
        except RuntimeError:
            kind = "unknown"
        if kind not in ("cpu", "cuda", "mps"):
            raise UserError("unknown device", got=device, valid="auto, cpu, cuda, cuda:1, mps")
        if kind == "cuda" and not torch.cuda.is_available():
            raise UserError("no CUDA device is available", got=device, valid=valid, remedy=remedy)
        if kind == "mps" and not torch.backends.mps.is_available():
            raise UserError("no MPS device is available", got=device, valid=valid, remedy=remedy)
        return self
