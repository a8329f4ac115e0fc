"""Images that the data sets of a suite share, and the cases in which they would make a number wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rib.data.base import DataSet, Form
from rib.data.examples import Part
from rib.errors import UserError

MOST_SEEN = 0.01
"""Maximum share of the test images that a model may also be tuned on; above it, RIB refuses to score them."""

SAME = 0.5
"""Share of common images from which RIB takes two sets for one under two names, or a set for a duplicate of itself."""

MOST_CONTRADICTED = 0.1
"""Maximum share of a part whose rows have another class elsewhere in it; above it, RIB refuses the labels as wrong."""

MOST_PIXELS = 10**9
"""Maximum number of pixels of two parts to decode for a comparison: 20,000 images of 224 × 224 pixels take seconds."""

FEWEST_PAIRED = 0.5
"""Minimum share of the smaller set's source images that another set of its family must show."""


@dataclass(frozen=True)
class Roles:
    """Roles of the data sets of a suite.

    Attributes:
        reference: the reference set; empty for sets without a suite.
        downstream: sets that models are tuned on, and otherwise tested on.
        evaluate: sets that models are only tested on.
        tuned: those of `downstream` that some run tunes on.
        pretrained: sets, other than the reference set, that RIB pretrains a model of the suite on.
    """

    reference: str
    downstream: tuple[str, ...]
    evaluate: tuple[str, ...]
    tuned: tuple[str, ...]
    pretrained: tuple[str, ...] = ()

    @property
    def tested(self) -> tuple[str, ...]:
        """Every set that is scored."""
        return tuple(name for name in dict.fromkeys((*self.downstream, self.reference, *self.evaluate)) if name)

    def among(self, names: Collection[str]) -> Roles:
        """The roles of only these sets."""

        def left(given: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in given if name in names)

        reference = self.reference if self.reference in names else ""
        return Roles(reference, left(self.downstream), left(self.evaluate), left(self.tuned), left(self.pretrained))


@dataclass(frozen=True)
class Overlap:
    """Images that two parts share.

    Attributes:
        sets: the data sets, by name.
        words: one sentence with counts and an example.
        remedy: what to do about it; empty if RIB continues.
    """

    sets: tuple[str, ...]
    words: str
    remedy: str = ""

    @property
    def refused(self) -> bool:
        """Whether RIB refuses it because a number would be wrong."""
        return bool(self.remedy)

    def error(self) -> UserError:
        """The error for an overlap that RIB refuses."""
        return UserError(self.words, remedy=self.remedy)


def overlaps(sets: Mapping[str, DataSet], roles: Roles, deep: bool = False) -> list[Overlap]:
    """Everything that the sets of a suite share and should not; refused overlaps come first.

    Images of a set are read only if their digests are not cached. Pairs of sets from RIB's catalogue are skipped,
    because their authors intend what they share. Images are compared by their bytes. They are also compared by their
    pixels, if one part has files in a lossless format and both together have at most `MOST_PIXELS` pixels.

    Args:
        sets: every set that is scored or pretrained on, by name.
        roles: the roles of the sets.
        deep: compare pixels whatever their number.
    """
    parts = Parts(sets, None if deep else MOST_PIXELS)
    found = [
        *_unpaired(sets),
        *_other_texts(roles, sets),
        *(one for name in roles.tested for one in _within(name, parts)),
        *(one for pair in pairs_of(roles, sets) for one in _seen(*pair, parts)),
        *_pretrained(parts, roles),
        *_same(parts, roles),
        *parts.left_out(),
    ]
    return sorted(found, key=lambda one: not one.refused)


# -- images ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """The images of two parts.

    Attributes:
        mine, theirs: uint64 (N,), equal for equal images.
        how: "byte for byte" or "pixel for pixel".
    """

    mine: NDArray[np.uint64]
    theirs: NDArray[np.uint64]
    how: str

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which of `theirs` are among `mine`: bool (N,)."""
        return np.isin(self.theirs, self.mine)

    @property
    def common(self) -> tuple[int, int, int]:
        """The number of different images that are in both, and in each."""
        return len(np.intersect1d(self.mine, self.theirs)), len(np.unique(self.mine)), len(np.unique(self.theirs))


class Parts:
    """The images of the parts of data sets; each part is digested at most once.

    Args:
        sets: data sets by name.
        most: maximum pixels of two parts to decode for a comparison; None for no limit.
    """

    def __init__(self, sets: Mapping[str, DataSet], most: int | None) -> None:
        self.sets, self._most = sets, most
        self._forms: dict[tuple[str, Part], Form | None] = {}
        self._pictures: dict[tuple[str, Part], NDArray[np.uint64] | None] = {}
        self._too_many: dict[str, None] = {}

    def compare(self, one: str, part: Part, two: str, other: Part) -> Compared | None:
        """The images of two parts in a comparable form; None if there is none."""
        mine, theirs = self.sets[one].contents(part), self.sets[two].contents(other)
        bytewise = None if mine is None or theirs is None else Compared(mine, theirs, "byte for byte")
        if not self._need_pixels((one, part), (two, other)):
            return bytewise
        mine, theirs = self._pictures_of(one, part), self._pictures_of(two, other)
        if mine is None or theirs is None:
            return bytewise
        pixelwise = Compared(mine, theirs, self.sets[one].copied)
        return bytewise if bytewise and bytewise.common == pixelwise.common else pixelwise

    def _need_pixels(self, one: tuple[str, Part], two: tuple[str, Part]) -> bool:
        """Whether two parts may have the same picture as different bytes, and decoding them is affordable."""
        first, second = self._form(*one), self._form(*two)
        if first is None or second is None or not (first.lossless or second.lossless):
            return False
        if self._most is None or first.pixels + second.pixels <= self._most:
            return True
        self._too_many |= dict.fromkeys((one[0], two[0]))
        return False

    def _form(self, name: str, part: Part) -> Form | None:
        if (name, part) not in self._forms:
            self._forms[name, part] = self.sets[name].form(part)
        return self._forms[name, part]

    def _pictures_of(self, name: str, part: Part) -> NDArray[np.uint64] | None:
        if (name, part) not in self._pictures:
            self._pictures[name, part] = self.sets[name].pictures(part)
        return self._pictures[name, part]

    def left_out(self) -> Iterator[Overlap]:
        """A note about the sets that have too many pixels to compare."""
        if names := tuple(self._too_many):
            shown = ", ".join(map(repr, names))
            words = f"{shown}: copies of one picture in other bytes are not looked for: rib data check --deep does"
            yield Overlap(names, words)


# -- families ----------------------------------------------------------------------------------------------------------


def _unpaired(sets: Mapping[str, DataSet]) -> Iterator[Overlap]:
    """Sets of one family that do not show the same source images, so the stated family is not true."""
    families: dict[str, dict[str, DataSet]] = {}
    for name, data in sets.items():
        families.setdefault(data.family, {})[name] = data
    for family, members in families.items():
        shares: dict[str, list[tuple[float, str, str]]] = {}
        for (one, first), (two, second) in combinations(members.items(), 2):
            if first.shipped and second.shipped:
                continue  # known to pair, and large
            share, words = _paired(first, second)
            shares.setdefault(one, []).append((share, two, words))
            shares.setdefault(two, []).append((share, one, words))
        for name, others in shares.items():
            share, other, words = max(others)
            if share >= FEWEST_PAIRED or members[name].shipped:
                continue
            yield Overlap(
                (name, other),
                f"data sets {name!r} and {other!r} are of the family {family!r}, but their {members[name].noun} "
                f"do not pair: {words}",
                "give images of one source the same class and file name, or say how the source is found: `source`, "
                "`source_column`, `source_file`, or an array `sources` (docs/datasets.md); or leave out `family`",
            )
            break  # its partners would give the same note


def _paired(first: DataSet, second: DataSet) -> tuple[float, str]:
    """Share of the smaller set's source images that the other set shows too, and the counts in words."""
    if first.matched != second.matched:
        return 0.0, "one has source images by name or number, the other by row only"
    if not first.matched:
        same = _row_classes(first) == _row_classes(second)
        return float(same), "both have no names, and the labels of their rows differ"
    one, two = (np.unique(np.concatenate(_every_source(data))) for data in (first, second))
    common = len(np.intersect1d(one, two, assume_unique=True))
    fewer = min(len(one), len(two))
    return common / max(1, fewer), f"{common:,} of {fewer:,} source {first.noun} are in both"


def _every_source(data: DataSet) -> list[NDArray[np.int64]]:
    return [data.index(part).sources for part in ("tune", "test")]


def _row_classes(data: DataSet) -> list[list[str]]:
    return [[data.classes[label] for label in data.index(part).labels.tolist()] for part in ("tune", "test")]


def _other_texts(roles: Roles, sets: Mapping[str, DataSet]) -> Iterator[Overlap]:
    """Tested sets of pairs beside sets of single texts, and pairs in the other order: a model reads these otherwise."""
    named = [(name, sets[name].columns) for name in roles.tested if sets[name].columns]
    for (one, first), (two, second) in combinations(named, 2):
        if len(first) != len(second) or (first != second and set(first) == set(second)):
            read = " and ".join(f"{' + '.join(columns)} of {name!r}" for name, columns in named if name in (one, two))
            yield Overlap((one, two), f"models read {read}: one text and two, or two in another order")
            return


# -- one set -----------------------------------------------------------------------------------------------------------


def _within(name: str, parts: Parts) -> Iterator[Overlap]:
    """Images that are in a set more than once."""
    data = parts.sets[name]
    if data.shipped:
        return
    both: tuple[Part, ...] = ("tune", "test") if data.disjoint else ("test",)
    for part in both:
        compared = parts.compare(name, part, name, part)
        if compared is None:
            continue
        contents = compared.mine
        _, first, counts = np.unique(contents, return_index=True, return_counts=True)
        more = len(contents) - len(counts)
        if more:
            example = data.names(part)[int(first[counts.argmax()])]
            words = (
                f"data set {name!r}: {more:,} of {len(contents):,} {data.noun} of the {part} part are copies of others "
                f"there, {compared.how}, such as one of {example}"
            )
            yield Overlap((name,), words, "remove the copies" if part == "test" and more >= SAME * len(counts) else "")
            yield from _contradicted(name, data, part)


def _contradicted(name: str, data: DataSet, part: Part) -> Iterator[Overlap]:
    """Rows that are in a part more than once, with different classes: no model can be right on all of them."""
    contents, labels = data.contents(part), data.index(part).labels
    if contents is None:
        return
    _, which = np.unique(contents, return_inverse=True)
    low, high = np.full(which.max() + 1, len(data.classes)), np.full(which.max() + 1, -1)
    np.minimum.at(low, which, labels)
    np.maximum.at(high, which, labels)
    rows = np.flatnonzero((low < high)[which])
    if not len(rows):
        return
    first = int(rows[0])
    classes = " and ".join(repr(data.classes[label[which[first]]]) for label in (low, high))
    words = (
        f"data set {name!r}: {len(rows):,} of {len(labels):,} {data.noun} of the {part} part are there with another "
        f"class too, such as {data.names(part)[first]}: {classes}"
    )
    refused = len(rows) > MOST_CONTRADICTED * len(labels)
    yield Overlap((name,), words, "correct their labels, or remove them" if refused else "")


# -- tuned on and tested on --------------------------------------------------------------------------------------------


def pairs_of(roles: Roles, sets: Mapping[str, DataSet]) -> Iterator[tuple[str, DataSet, str, DataSet]]:
    """Pairs of a tuned set and a tested set that should not share an image, with their names."""
    for one in roles.tuned:
        for two in roles.tested:
            first, second = sets[one], sets[two]
            if not (first.shipped and second.shipped) and (one != two or first.disjoint):
                yield one, first, two, second


def _pretrained(parts: Parts, roles: Roles) -> Iterator[Overlap]:
    """Test images that a model of the suite is pretrained on, which overstates its accuracy before tuning."""
    for one in roles.pretrained:
        for two in roles.tested:
            first, second = parts.sets[one], parts.sets[two]
            if first.shipped and second.shipped:
                continue
            compared = parts.compare(one, "tune", two, "test")
            if compared is not None and (count := int((seen := compared.seen).sum())):
                example = second.names("test")[int(np.flatnonzero(seen)[0])]
                words = (
                    f"{count:,} of {len(seen):,} {second.noun} of {two!r} that are tested on are {compared.how} among "
                    f"the {first.noun} of {one!r} that a model is pretrained on, such as {example}"
                )
                remedy = f"pretrain on {first.noun} that are not tested on: another set, or {two!r} without them"
                yield Overlap((one, two), words, remedy if count > MOST_SEEN * len(seen) else "")


def _seen(one: str, first: DataSet, two: str, second: DataSet, parts: Parts) -> Iterator[Overlap]:
    """Tuning images of a set that are also tested on, in its own test part or in another set."""
    tested = f"the test part of {two!r}" if one == two or second.disjoint else f"{two!r}"
    tuned = "its own tune part" if one == two else f"the {first.noun} of {one!r} that are tuned on"
    compared = parts.compare(one, "tune", two, "test")
    if compared is not None and (count := int((seen := compared.seen).sum())):
        example = second.names("test")[int(np.flatnonzero(seen)[0])]
        words = (
            f"{count:,} of {len(seen):,} {second.noun} of {tested} are {compared.how} among {tuned}, such as {example}"
        )
        most = SAME if one != two and first.family == second.family else MOST_SEEN
        yield Overlap((one, two), words, _apart(one, two, first.noun) if count > most * len(seen) else "")
    if first.matched and second.matched and first.units == second.units and first.disjoint and second.disjoint:
        yield from _sources_seen(one, first, two, second, tested, tuned)


def _sources_seen(one: str, first: DataSet, two: str, second: DataSet, tested: str, tuned: str) -> Iterator[Overlap]:
    """Images of one source on both sides, if the suite keeps the sides apart."""
    theirs = second.index("test").sources
    seen = np.isin(theirs, first.index("tune").sources)
    if count := int(seen.sum()):
        example = second.names("test")[int(np.flatnonzero(seen)[0])]
        seen_words = f"{count:,} of {len(theirs):,} {second.noun} of {tested} show source {first.noun} of {tuned}"
        words = f"{seen_words}, such as {example}"
        yield Overlap(
            (one, two), words, _apart(one, two, first.noun) if one == two and count > MOST_SEEN * len(theirs) else ""
        )


def _apart(one: str, two: str, noun: str) -> str:
    if one == two:
        return f"test on {noun} that are not tuned on: remove the copies, or another second set"
    return f"take {one!r} or {two!r} out of the suite, or remove the common {noun} from one of them"


def _same(parts: Parts, roles: Roles) -> Iterator[Overlap]:
    """Two sets that have the same test images."""
    for one, two in combinations(roles.tested, 2):
        compared = None
        if not (parts.sets[one].shipped and parts.sets[two].shipped):
            compared = parts.compare(one, "test", two, "test")
        if compared is None:
            continue
        mine, theirs = compared.mine, compared.theirs
        common, fewer = len(np.intersect1d(mine, theirs)), min(len(np.unique(mine)), len(np.unique(theirs)))
        if common < SAME * max(1, fewer):
            continue
        noun = parts.sets[one].noun
        words = f"{common:,} of {fewer:,} {noun} tested on are the same in {one!r} and {two!r}: one set, two names"
        harmless = roles.reference in (one, two) or {one, two} <= set(roles.evaluate)
        yield Overlap((one, two), words, "" if harmless else f"take {one!r} or {two!r} out of the suite")
