"""Fine-tuning on a growing tuning set."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from pydantic import Field, field_validator

from rib.methods.base import TrainedMethod


class Curriculum(TrainedMethod):
    """Fine-tuning whose batches come from nested, growing tuning sets, and from the whole of it in the end.

    Steps, images per step, schedule and optimizer are those of `finetune`: what differs is which images are seen when.
    Each share holds for an equal part of the run; a smaller set has every class that the whole has, and its images
    come round more often.
    """

    name: ClassVar[str] = "curriculum"
    key_name: ClassVar[str] = "rib.methods.curriculum:Curriculum"
    shares: tuple[float, ...] = Field((0.05, 0.2, 1.0), min_length=1, description="of the tuning set, growing to 1")

    @field_validator("shares")
    @classmethod
    def _growing(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if shares[0] <= 0 or shares[-1] != 1 or any(after <= before for before, after in pairwise(shares)):
            raise ValueError("shares grow from above 0 to 1")
        return shares

    def stages(self) -> tuple[float, ...]:
        """The shares."""
        return self.shares
