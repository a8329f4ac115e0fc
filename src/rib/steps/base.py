"""Step: a frozen description of work, which also prices and runs itself.

The key of a step identifies its result, not who computes it, where or when.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rib.data.decoded import Decoded
from rib.data.parts import DataPart
from rib.identity import identity_fields, identity_values, key_of
from rib.methods.base import Passes
from rib.models.catalogue import Architecture
from rib.recipe import Recipe
from rib.steps.workshop import Count, Weighted, Workshop
from rib.steps.world import World
from rib.store.store import Store

Left = Literal["weights", "features"]
"""The output of a step for other steps, named by its folder in the store."""


class Keyed:
    """A frozen description that its content identifies.

    Attributes:
        key_name: the name of the class in keys and records, which survives renaming.
    """

    key_name: ClassVar[str]

    @cached_property
    def key(self) -> str:
        """Hash of the identity fields and of the keys of the steps that this one needs."""
        return self.new_key()

    def new_key(self) -> str:
        """The key, computed again. It differs if user code was edited."""
        return key_of(self.key_name, identity_values(self))

    @property
    def spec(self) -> dict[str, Any]:
        """The identity fields as JSON types; needed steps appear by key."""
        return identity_fields(self)


class Step(Keyed, ABC):
    """A step of a plan. Each kind is one class in its own file; no code outside this folder asks for the kind.

    Attributes:
        activity: name of its kind in a profile.
        trains: whether it has backward passes.
        optional: whether its readers can compute its output themselves.
        start: the pretrained weights.
        architecture: architecture of the model.
    """

    activity: ClassVar[str]
    trains: ClassVar[bool] = False
    optional: ClassVar[bool] = False

    if TYPE_CHECKING:  # fields of some steps, properties of others

        @property
        def start(self) -> Weighted: ...

        @property
        def architecture(self) -> Architecture: ...

    # -- identity --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def title(self) -> str:
        """Human-readable label, e.g. "finetune resnet on sketch (200)"."""

    @property
    def variant(self) -> str:
        """The method or analysis; empty if its kind has only one."""
        return ""

    @property
    def group(self) -> str:
        """Name of its row in the plan's table."""
        return f"{self.key_name} {self.variant}".strip()

    @property
    def detail(self) -> str:
        """Name of its row in a profile, within its activity."""
        return self.variant

    # -- inputs and outputs ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def needs(self) -> tuple[Step, ...]:
        """Steps that must be done before."""

    @property
    def features(self) -> Step | None:
        """The step whose features this one reads if they exist; None if it reads none."""
        return None

    @property
    @abstractmethod
    def parts(self) -> tuple[DataPart, ...]:
        """The data that it reads."""

    def looked_at(self, world: World) -> list[Decoded]:
        """The data that it reads, in the view of its model."""
        return [world.decoded(part, self.architecture.view) for part in self.parts]

    @property
    def subject(self) -> str:
        """Key of the weights that it uses. Steps with the same subject run best in sequence."""
        return self.key

    @property
    def leaves(self) -> Left | None:
        """The kind of output that it writes for other steps besides the record; None if there is none."""
        return None

    @property
    def keeps_weights(self) -> bool:
        """Whether its output is weights."""
        return self.leaves == "weights"

    def is_left(self, store: Store) -> bool:
        """Whether its output for other steps is in the store."""
        if self.leaves is None:
            return True
        return store.has_weights(self.key) if self.leaves == "weights" else store.has_features(self.key)

    def stays(self, keep: str) -> bool:
        """Whether its output stays in the store when no step needs it any more, given `How.keep`."""
        return keep == "all"

    def lost(self, store: Store) -> list[str]:
        """Keys of the steps whose weights this one needs but which are no longer in the store."""
        if self.keeps_weights:
            return [] if self.is_left(store) else [self.key]
        return [key for need in self.needs for key in need.lost(store)]

    # -- cost -----------------------------------------------------------------------------------------------

    @abstractmethod
    def passes(self, world: World, shared: Container[str]) -> Passes:
        """The images that go through the net; those of an analysis are an estimate.

        Args:
            world: counts the images.
            shared: keys of the steps whose features are computed once and read by others.
        """

    @abstractmethod
    def timed_as(self, recipe: Recipe) -> Recipe:
        """The recipe that determines its speed, given the suite's recipe."""

    # -- running ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Run the step, write its output into the store, and return the values of its record.

        Raises:
            StepError: it fails.
            UserError: an input is wrong.
        """


def distinct(step: Step, taken: Container[str]) -> str:
    """The step's title, with the start of its key if another step has the same title (another rate or alpha)."""
    return f"{step.title} · {step.key[:8]}" if step.title in taken else step.title
