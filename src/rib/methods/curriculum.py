"""Fine-tuning on a growing tuning set."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from pydantic import Field, field_validator

from rib.methods.base import TrainedMethod


class Curriculum(TrainedMethod):
    """Fine-tuning with batches from nested, growing tuning sets, and in the end from the whole set.

    Steps, images per step, schedule and optimizer are those of `finetune`; only the choice and order of the images
    differ. Each share holds for an equal part of the run. A smaller set has every class of the whole set, and its
    images are repeated more often.
    """

    name: ClassVar[str] = "curriculum"
    key_name: ClassVar[str] = "rib.methods.curriculum:Curriculum"
    shares: tuple[float, ...] = Field((0.05, 0.2, 1.0), min_length=1, description="growing shares of the tuning set")

    @field_validator("shares")
    @classmethod
    def _growing(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if shares[0] <= 0 or shares[-1] != 1 or any(after <= before for before, after in pairwise(shares)):
            raise ValueError("shares grow from above 0 to 1")
        return shares

    def stages(self) -> tuple[float, ...]:
        """Shares of the tuning set, one per equal part of the run."""
        return self.shares
