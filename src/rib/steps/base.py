"""Step: a frozen description of work that also says what it costs and does itself.

A step's key says what its result is, not who does it, where or when.
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
"""Output of a step for other steps, by its folder in the store."""


class Keyed:
    """A frozen description that is named by its content.

    Attributes:
        key_name: what keys and records call the class, whatever its name.
    """

    key_name: ClassVar[str]

    @cached_property
    def key(self) -> str:
        """Hash of the identity fields, and of the keys of what this needs."""
        return self.new_key()

    def new_key(self) -> str:
        """The key, computed again: that of other code if code of the user's own was edited."""
        return key_of(self.key_name, identity_values(self))

    @property
    def spec(self) -> dict[str, Any]:
        """The identity fields as JSON types; what this needs appears by key."""
        return identity_fields(self)


class Step(Keyed, ABC):
    """A step of a plan. Each kind is one class in a file of its own; nothing outside of this folder asks for its kind.

    Attributes:
        activity: what its kind is called in a profile.
        trains: whether images pass backward too.
        optional: whether a step that reads what it leaves can do without, and makes it for itself.
        start: the pretrained weights that it is about.
        architecture: of the model.
    """

    activity: ClassVar[str]
    trains: ClassVar[bool] = False
    optional: ClassVar[bool] = False

    if TYPE_CHECKING:  # fields of some steps, properties of others

        @property
        def start(self) -> Weighted: ...

        @property
        def architecture(self) -> Architecture: ...

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def title(self) -> str:
        """Human-readable label, e.g. "finetune resnet on sketch (200)"."""

    @property
    def variant(self) -> str:
        """Which of its kind: the method, the analysis; empty if a kind has only one."""
        return ""

    @property
    def group(self) -> str:
        """The line of a plan's table that it is counted in."""
        return f"{self.key_name} {self.variant}".strip()

    @property
    def detail(self) -> str:
        """The line of a profile that it is counted in, within its activity."""
        return self.variant

    # -- what it needs and leaves ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def needs(self) -> tuple[Step, ...]:
        """Steps that must be done before."""

    @property
    def features(self) -> Step | None:
        """The step whose features this one reads if they are there; None if it reads none."""
        return None

    @property
    @abstractmethod
    def parts(self) -> tuple[DataPart, ...]:
        """The data that it looks at."""

    def looked_at(self, world: World) -> list[Decoded]:
        """The data that it looks at, in the form that its model takes."""
        return [world.decoded(part, self.architecture.view) for part in self.parts]

    @property
    def subject(self) -> str:
        """Key of the weights that it works on: steps with one subject are best done one after the other."""
        return self.key

    @property
    def leaves(self) -> Left | None:
        """The output for other steps in the store, besides the record."""
        return None

    @property
    def keeps_weights(self) -> bool:
        """Whether it leaves weights."""
        return self.leaves == "weights"

    def is_left(self, store: Store) -> bool:
        """Whether what it leaves for others is in the store."""
        if self.leaves is None:
            return True
        return store.has_weights(self.key) if self.leaves == "weights" else store.has_features(self.key)

    def stays(self, keep: str) -> bool:
        """Whether what it leaves stays in the store when nothing needs it any more, as `How.keep` says."""
        return keep == "all"

    def lost(self, store: Store) -> list[str]:
        """Keys of the steps whose weights would be needed for this one's, and are no longer kept."""
        if self.keeps_weights:
            return [] if self.is_left(store) else [self.key]
        return [key for need in self.needs for key in need.lost(store)]

    # -- what it costs -----------------------------------------------------------------------------------------------

    @abstractmethod
    def passes(self, world: World, shared: Container[str]) -> Passes:
        """The images that go through the net; those of an analysis are an estimate.

        Args:
            world: counts the images.
            shared: keys of the steps whose features are made once and read by others.
        """

    @abstractmethod
    def timed_as(self, recipe: Recipe) -> Recipe:
        """The recipe that decides its speed, given the suite's."""

    # -- doing it ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Do it, and leave what it makes in the store; the values of its record.

        Raises:
            StepError: it cannot be done.
            UserError: an input is at fault.
        """


def distinct(step: Step, taken: Container[str]) -> str:
    """The step's title, with some of its key if another step has that title (another rate, another alpha)."""
    return f"{step.title} · {step.key[:8]}" if step.title in taken else step.title
