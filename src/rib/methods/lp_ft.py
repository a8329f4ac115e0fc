"""Linear probing, then fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from rib.methods.base import Ingredient, Method, TrainedMethod


class LPFT(TrainedMethod):
    """Fine-tuning that starts from the linear probe's head (Kumar et al. 2022, arXiv 2202.10054).

    As in arXiv 2410.21582, both stages use the recipe's epochs and learning rate.
    """

    name: ClassVar[str] = "lp_ft"
    key_name: ClassVar[str] = "rib.methods.lp_ft:LPFT"
    probe: str = "linear_probe"

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The linear probe."""
        return (self.probe,)
