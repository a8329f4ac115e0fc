"""Tar shards in WebDataset's layout: files that share a key, an image and its label, follow each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from rib.arrays import Rows
from rib.data.companions import one_to_one, renamed
from rib.data.containers import Listing, listed
from rib.data.filesets import FileSetContainer
from rib.data.samples import Sample, read_shard
from rib.errors import UserError
from rib.files import plain


class ShardContainer(FileSetContainer):
    """The .tar files of a folder, or those that a pattern matches. An index of offsets allows random access.

    Args: as `FileSetContainer`.

    The label is the content of `KEY.cls`, or the field label, cls, wnid or class of `KEY.json`; if there are several,
    they must agree. The images of a shard in a sub-folder are in folders with that prefix.

    Raises:
        UserError: as `samples.read_shard`.
    """

    suffix = ".tar"

    @cached_property
    def _scan(self) -> tuple[Listing, list[tuple[int, Sample]], tuple[str, ...] | None]:
        """The listing, the shard and sample of each of its rows, and the class names."""
        self._states  # noqa: B018 -- notes the files' states first
        found: list[tuple[int, Sample]] = []
        beside: Counter[str] = Counter()
        for place, (path, _) in enumerate(self._files):
            samples, others = read_shard(path, self._data)
            found += [(place, sample) for sample in samples]
            beside += others
        if not found:
            raise UserError(
                f"data set {self._data!r}: no images", got=self.where, valid="pairs of KEY.jpg and KEY.cls in a shard"
            )
        labels, order = self._named(found)
        titles = self._told_apart(found)
        pairs = [
            (self._files[place][1] + label, name) for (place, _), label, name in zip(found, labels, titles, strict=True)
        ]
        listing, rows = listed(pairs)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in beside.most_common(4))
        left_out = (*self._found.left_out, *([f"{beside.total():,} files in shards ({kinds})"] if beside else []))
        return replace(listing, left_out=left_out), [found[row] for row in rows.tolist()], order

    def _named(self, found: Sequence[tuple[int, Sample]]) -> tuple[list[str], tuple[str, ...] | None]:
        """The label of each sample, and the order of the classes where fields give names to numbers.

        Raises:
            UserError: only some of the shards name the classes, or two name them differently.
        """
        labels, said = [sample.label for _, sample in found], [sample.said for _, sample in found]
        self._require_one_kind(found)
        if not any(said) or not self._names:
            return labels, None
        if not all(said):
            raise UserError(
                f"data set {self._data!r}: only some of its files name the classes",
                got=self.where,
                valid="the same fields in all files of a set",
                remedy="write the shards again",
            )
        return renamed(labels, said, self._data)

    def _require_one_kind(self, found: Sequence[tuple[int, Sample]]) -> None:
        """Refuse shards of which some have several numbers as labels, and others only names. Raises UserError."""
        by_shard: dict[int, set[str]] = {}
        for place, sample in found:
            by_shard.setdefault(place, set()).add(sample.label)
        numbers = {place: {word.isdecimal() for word in words} for place, words in by_shard.items()}
        numbered = [place for place, kinds in numbers.items() if kinds == {True} and len(by_shard[place]) > 1]
        named = [place for place, kinds in numbers.items() if kinds == {False}]
        if numbered and named:
            one, other = self._files[numbered[0]][0].name, self._files[named[0]][0].name
            raise UserError(
                f"data set {self._data!r}: two shards have labels of different kinds",
                got=f"{one}: numbers; {other}: names, in {self.where}",
                valid="the same in all files of a set",
                remedy="write the shards again, from one table",
            )

    def _told_apart(self, found: Sequence[tuple[int, Sample]]) -> list[str]:
        """The name of each sample's image, prefixed with its shard's name if the shards use the same keys.

        Raises:
            UserError: two shards hold the same images.
        """
        first: dict[tuple[str, str], tuple[int, Sample]] = {}
        again: list[tuple[tuple[int, Sample], tuple[int, Sample]]] = []
        for place, sample in found:
            key = (self._files[place][1], sample.key)
            if key in first:
                again.append((first[key], (place, sample)))
            else:
                first[key] = (place, sample)
        same = [
            pair for pair in again if pair[0][1].size == pair[1][1].size and self._read(pair[0]) == self._read(pair[1])
        ]
        if same:
            one, other = (self._files[place][0] for place, _ in same[0])
            raise UserError(
                f"data set {self._data!r}: {len(same):,} images are in two shards, under one key",
                got=f"{same[0][0][1].key} in {one} and {other}",
                remedy="remove one of the shards",
            )
        if not again:
            return [sample.name for _, sample in found]
        return [f"{self._files[place][0].stem}-{sample.name}" for place, sample in found]

    def _read(self, item: tuple[int, Sample]) -> bytes:
        place, sample = item
        with plain(self._files[place][0]).open("rb") as file:
            file.seek(sample.offset)
            return file.read(sample.size)

    def origins(self) -> Mapping[str, str]:
        listing = self.listing()
        labels = [listing.folders[place] for place in listing.folder_of.tolist()]
        return one_to_one(labels, [sample.key.rpartition("/")[0].rpartition("/")[2] for _, sample in self._scan[1]])

    def class_names(self) -> tuple[str, ...] | None:
        return self._scan[2]

    def listing(self) -> Listing:
        return self._scan[0]

    def title(self, row: int) -> str:
        place, sample = self._scan[1][row]
        return f"{self._files[place][0]}:{sample.name}"

    def reading_order(self, rows: Rows) -> Rows:
        places = [(self._scan[1][row][0], self._scan[1][row][1].offset) for row in rows.tolist()]
        return np.array(sorted(range(len(rows)), key=places.__getitem__), np.int64)

    def read(self, rows: Rows) -> list[bytes]:
        contents: dict[int, bytes] = {}
        by_shard: dict[int, list[int]] = {}
        for row in rows.tolist():
            by_shard.setdefault(self._scan[1][row][0], []).append(row)
        for place, inside in by_shard.items():
            with plain(self._files[place][0]).open("rb") as file:
                for row in inside:
                    sample = self._scan[1][row][1]
                    file.seek(sample.offset)
                    contents[row] = file.read(sample.size)
        return [contents[row] for row in rows.tolist()]
