"""World: the data sets of a suite, opened when first needed."""

from __future__ import annotations

from pathlib import Path

from rib.data.base import DataSet
from rib.data.catalogue import DataRow, find_row, open_data, require_some
from rib.data.decoded import Decoded
from rib.data.examples import Part
from rib.data.expected import ExpectedSet, is_absent
from rib.data.labels import match_classes
from rib.data.overlap import overlaps
from rib.data.parts import DataPart
from rib.data.splits import tuning_rows
from rib.data.views import View
from rib.errors import UserError
from rib.suite.suite import Suite
from rib.text.names import short


class World:
    """The data sets of a suite, opened when first needed.

    Args:
        suite: the suite.
        cache: folder for fingerprints and packs.
        assume: use the published counts of a published set that is missing on this machine.
        fresh: read checkpoints even if their digests are cached.
    """

    def __init__(self, suite: Suite, cache: Path | None, assume: bool = False, fresh: bool = False) -> None:
        self.suite, self.cache, self.assume, self.fresh = suite, cache, assume, fresh
        self.assumed: list[str] = []
        self._open: dict[str, DataSet] = {}
        self._parts: dict[tuple[str, Part], DataPart] = {}
        self._draws: dict[tuple[str, int | None, float], tuple[int, int]] = {}

    def __getitem__(self, name: str) -> DataSet:
        if name not in self._open:
            row = find_row(name, self.suite.data)
            if self.assume and row.imagenet and is_absent(name, row, self.suite.base):
                self._open[name] = ExpectedSet(name, row.imagenet)
                self.assumed.append(name)
            else:
                self._open[name] = self._opened(name, row)
        return self._open[name]

    def _opened(self, name: str, row: DataRow) -> DataSet:
        """Raises UserError as `open_data` does. If the set is missing, others may be too, so it names the command that
        lists them."""
        try:
            return open_data(name, row, self.suite.base, self.cache)
        except UserError as error:
            if "not found" not in error.problem:
                raise
            remedy = f"{error.remedy or 'correct its path'}; rib data check SUITE lists all sets that are missing"
            raise UserError(error.problem, got=error.got, valid=error.valid, remedy=remedy) from None

    def part(self, name: str, part: Part) -> DataPart:
        """A part, identified by content, with its label map to the reference set's classes."""
        if (name, part) not in self._parts:
            data, reference = self[name], self[self.suite.reference]
            row = find_row(name, self.suite.data)
            targets = {**data.targets, **row.label_targets(self.suite.base, data.classes)}
            words = ", ".join(filter(None, (data.map_name, row.labels_words, data.caveat)))
            combine = None if row.combine == "max" else row.combine
            label_map = match_classes(name, data.classes, reference.classes, targets, words, combine)
            require_some(data, part)
            both = not data.disjoint and data.fingerprint("tune") == data.fingerprint("test")
            self._parts[name, part] = DataPart(name, part, data.fingerprint(part), label_map, both, self.called(name))
        return self._parts[name, part]

    def decoded(self, data: DataPart, view: View) -> Decoded:
        """A part in a view."""
        return Decoded(self[data.name], data.part, view)

    def count(self, data: DataPart) -> int:
        """Number of images of a part."""
        return len(self[data.name].index(data.part))

    def drawn(self, data: DataPart, size: int | None, held_out: float, seed: int | None) -> tuple[int, int]:
        """Number of tuning images and of held-out images; without a seed, all images and zero."""
        if seed is None:
            return self.count(data), 0
        place = (data.name, size, held_out)
        if place not in self._draws:  # the number is the same for every seed
            index = self[data.name].index(data.part)
            tuning, held = tuning_rows(index, size, held_out, seed, data.name)
            self._draws[place] = len(tuning), len(held)
        return self._draws[place]

    def shared(self) -> tuple[str, ...]:
        """Images that several sets contain, in sentences.

        Raises:
            UserError: the common images would make a number wrong.
        """
        roles = self.suite.roles
        shared = overlaps({name: self[name] for name in (*self.suite.tested, *roles.pretrained)}, roles)
        if refused := next((one for one in shared if one.refused), None):
            raise refused.error()
        return tuple(one.words for one in shared)

    def notes(self) -> tuple[str, ...]:
        """What a reader of results should know of the sets: common images, and sets of one class.

        Raises:
            UserError: as `shared`.
        """
        alone = [self.called(name) for name in self.suite.tested if len(self[name].classes) == 1]
        words = (
            f"{', '.join(alone)}: all images have one class, so accuracy among the set's classes is 100 % for every "
            "model and its change is 0, which draws RI towards 0"
        )
        return (*self.shared(), *([words] if alone else []))

    def called(self, name: str) -> str:
        """Name of a data set in step titles."""
        names = self.suite.set_names
        return names.short(name) if name in names.full else short(name)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files of the opened sets that RIB leaves out, in words."""
        sets = self._open.items()
        return tuple(f"{name.rpartition(':')[2]}: leaves out {words}" for name, data in sets for words in data.left_out)

    @property
    def classes(self) -> int:
        """Number of classes of the reference set, which is the number of model outputs.

        Raises:
            UserError: it has one class.
        """
        names = self[self.suite.reference].classes
        if len(names) < 2:
            raise UserError(
                f"the reference set {self.suite.reference!r} has one class, which every model predicts",
                got=", ".join(names),
                valid="two classes or more",
                remedy="check the folder of the set: its class folders may lie elsewhere",
            )
        return len(names)
