"""Classes: their names and their order, by one rule for every container; docs/extending.md states it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.data.containers import Listing
from rib.errors import UserError


@dataclass(frozen=True)
class Labelled:
    """A container as far as classes go.

    Attributes:
        where: its place, for people.
        listing: its folders are the labels as they stand there: names, or whole numbers.
        names: what its author calls the classes, in order, where the container says so.
        says: who says so, for people.
        prefixes: folders of the container's files, which stand before the labels in the listing.
        beside: orders that files beside the container give, each with its file: this set's, if they name its classes.
    """

    where: Path
    listing: Listing
    names: tuple[str, ...] | None = None
    says: str = ""
    prefixes: tuple[str, ...] = ("",)
    beside: Sequence[tuple[tuple[str, ...], Path]] = ()


@dataclass(frozen=True)
class Classes:
    """Classes of a data set.

    Attributes:
        names: in the order of the labels.
        label_of: for each container, int64 (folders,): the label of each folder, -1 for one that is left out.
        left_out: what is left out by choice, in words.
    """

    names: tuple[str, ...]
    label_of: tuple[NDArray[np.int64], ...]
    left_out: tuple[str, ...]


def class_name(text: str) -> str:
    """A name in Unicode's composed form, in which "é" is one character: macOS and Linux write it differently."""
    return unicodedata.normalize("NFC", text)


def refuse_labels(data: str, where: object, bad: int, total: int, words: str) -> UserError:
    """The error of labels that name no class.

    Args:
        data: the data set's name.
        where: the file, for people.
        bad: how many labels.
        total: of how many.
        words: what they are, as "are negative (such as -1)".
    """
    return UserError(
        f"data set {data!r}: {bad:,} of {total:,} labels {words}",
        got=where,
        valid="a name or a whole number from 0 up for every image",
        remedy="label these images, or remove them",
    )


def disagreement(first: Sequence[str], second: Sequence[str]) -> tuple[str, str] | None:
    """Two labels of one image of which one must be wrong; None if two columns of labels say the same.

    Labels of one vocabulary (both are names, or both are numbers, and some are in both columns) say the same where they
    are equal. Of two vocabularies, such as wnids and English names, each label stands for one of the other.

    Args:
        first, second: the labels of the same images.
    """
    pairs = dict.fromkeys(zip(first, second, strict=True))
    if {one for one, _ in pairs} & {other for _, other in pairs}:
        return next(((one, other) for one, other in pairs if one != other), None)
    for side in (0, 1):
        seen: dict[str, tuple[str, str]] = {}
        for pair in pairs:
            if seen.setdefault(pair[side], pair) != pair:
                return pair
    return None


def name_classes(
    data: str, containers: Sequence[Labelled], given: Sequence[str] | None, absent: bool = False
) -> Classes:
    """Classes of a set in one container, or in two, of which the second is tested on.

    The order is that of `given`; else the author's own; else that of a file beside the set which names exactly its
    classes; else, of names that are all whole numbers, that of the numbers; else that of the alphabet. Where the labels
    are numbers and the names are not, number k is name k.

    Args:
        data: the data set's name, for errors.
        containers: of the set.
        given: names that the user chose, in order; what bears another is left out.
        absent: whether some of the given classes may have no images.

    Raises:
        UserError: a label is no class; a class has no images; names differ in their spelling alone; two containers
            disagree about the order.
    """
    words = [_words(data, each) for each in containers]
    names = tuple(class_name(name) for name in given) if given is not None else _order(data, containers, words[0])
    _refuse_alike(data, names, "[data] `classes`" if given is not None else containers[0].where)
    label_of, left_out = [], []
    for each, named in zip(containers, words, strict=True):
        labels = _labels(data, each, named, names)
        there = set(labels.tolist())
        lost = [name for label, name in enumerate(names) if label not in there]
        if lost and not (absent and there - {-1}):
            raise _absent(data, each, named, lost, names)
        if each.listing.counts[labels < 0].any():
            left_out.append(_beyond(data, each, named, labels, given is not None, containers))
        label_of.append(labels)
    return Classes(names, tuple(label_of), tuple(left_out))


def _words(data: str, container: Labelled) -> list[str]:
    """The name of each folder of a container, without the folder of the files."""
    listing, prefixes = container.listing, container.prefixes
    if len(prefixes) > 1:
        raise UserError(
            f"data set {data!r}: its files lie in {len(prefixes):,} folders",
            got=", ".join(prefix or "." for prefix in prefixes[:5]) + f" in {container.where}",
            valid="files in one folder",
            remedy="name one of the folders",
        )
    words = [class_name(folder.removeprefix(prefixes[0])) for folder in listing.folders]
    for pattern, fault in ((r"-[0-9]+", "are negative"), (r"\s*", "are empty")):
        bad = [place for place, word in enumerate(words) if re.fullmatch(pattern, word)]
        if bad:
            count = int(listing.counts[bad].sum())
            raise refuse_labels(data, container.where, count, len(listing), f"{fault} ({words[bad[0]]!r})")
    _refuse_alike(data, words, container.where, listing.folders)
    return words


def _refuse_alike(data: str, words: Sequence[str], where: object, written: Sequence[str] = ()) -> None:
    """Refuse names that differ only in case, outer spaces, leading zeros or Unicode form.

    Args:
        data: the data set's name, for the error.
        words: names.
        where: they stand.
        written: the names as they stand there.
    """
    seen: dict[str, int] = {}
    for place, word in enumerate(words):
        plain = word.strip().casefold()
        key = str(int(plain)) if plain.isascii() and plain.isdigit() else plain
        if key in seen:
            one, other = ((written or words)[each] for each in (seen[key], place))
            raise UserError(
                f"data set {data!r}: "
                + ("a class is named twice" if one == other else "two classes differ only in case, spaces or spelling"),
                got=f"{_told_apart(one, other)} in {where}",
                remedy="rename or merge one of them",
            )
        seen[key] = place


def _told_apart(one: str, other: str) -> str:
    alike = class_name(one) == class_name(other) and one != other
    return f"{one!a} and {other!a}" if alike else f"{one!r} and {other!r}"


def _own_order(data: str, containers: Sequence[Labelled]) -> tuple[str, ...] | None:
    """The author's own order, if one is said; two that differ are refused."""
    said = [each for each in containers if each.names is not None]
    for other in said[1:]:
        if other.names != said[0].names:
            raise UserError(
                f"data set {data!r}: the classes are in different orders",
                got=f"{said[0].says} and {other.says}",
                valid="one order in all files of a set",
                remedy="give [data] `classes`, in the intended order",
            )
    return tuple(class_name(name) for name in said[0].names or ()) if said else None


def _order(data: str, containers: Sequence[Labelled], words: Sequence[str]) -> tuple[str, ...]:
    """The order of the classes where the user gives none. Raises UserError if it is said in two ways."""
    names = _own_order(data, containers)
    says = next((each.says for each in containers if each.names is not None), "")
    beside = {tuple(map(class_name, order)): file for each in containers for order, file in each.beside}
    for order, file in beside.items():
        if set(order) == set(names or words):
            if names is not None and names != order:
                raise _two_orders(data, says, str(file))
            names, says = order, str(file)
    found = names or _natural(words)
    mine = [name.casefold() for name in found]
    for order, file in beside.items():
        common = [name for name in map(str.casefold, order) if name in mine]
        if common != [name for name in mine if name in common]:
            raise _two_orders(data, says or "the alphabet", f"{file}, which names other classes too")
    return found


def _two_orders(data: str, one: str, other: str) -> UserError:
    return UserError(
        f"data set {data!r}: the classes are in different orders",
        got=f"{one} and {other}",
        valid="the same order in every source",
        remedy="give [data] `classes`, in the intended order, or move the file away",
    )


def _natural(words: Sequence[str]) -> tuple[str, ...]:
    if all(re.fullmatch("0|[1-9][0-9]*", word) for word in words):
        return tuple(sorted(words, key=int))
    return tuple(sorted(words))


def are_numbers(words: Sequence[str], names: Sequence[str]) -> bool:
    """Whether labels are numbers that count names, rather than names themselves."""
    return all(word.isascii() and word.isdigit() for word in words) and not set(names) & set(words)


def _labels(data: str, container: Labelled, words: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    place: Mapping[str, int] = {name: label for label, name in enumerate(names)}
    if not are_numbers(words, names):
        return np.array([place.get(word, -1) for word in words], np.int64)
    labels = np.array([int(word) for word in words], np.int64)
    beyond = labels >= len(names)
    if beyond.any():
        count = int(container.listing.counts[beyond].sum())
        fault = f"are out of range: {int(labels.max())}, where {len(names):,} classes are named"
        raise refuse_labels(data, container.where, count, len(container.listing), fault)
    return labels


def _absent(
    data: str, container: Labelled, words: Sequence[str], lost: Sequence[str], names: Sequence[str]
) -> UserError:
    said = f", which {container.says} names" if container.says else ""
    return UserError(
        f"data set {data!r}: no folder or label for class {lost[0]!r}{said}"
        + (f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""),
        got=f"{shortened(words)} in {container.where}",
        valid=shortened(names),
        remedy="complete the copy, give [data] `classes` that are there, or say absent_classes = true",
    )


def _beyond(
    data: str,
    container: Labelled,
    words: Sequence[str],
    labels: NDArray[np.int64],
    chosen: bool,
    containers: Sequence[Labelled],
) -> str:
    """Words on images of further classes; they are refused unless the user chose the classes."""
    beyond = np.where(labels < 0, container.listing.counts, 0)
    others, count = [words[place] for place in np.flatnonzero(beyond).tolist()], int(beyond.sum())
    if chosen:
        return f"{count:,} images of classes that `classes` does not name ({shortened(others, 3)})"
    first = next((each.says for each in containers if each.says), f"{containers[0].where}")
    raise UserError(
        f"data set {data!r}: {count:,} images of classes that are not in {first} ({len(others):,})",
        got=f"{shortened(others)} in {container.where}",
        valid="the same classes everywhere in a set",
        remedy="complete the other part, or give [data] `classes` to choose among them",
    )


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Names for people, the first few and how many there are."""
    return ", ".join(names[:most]) + (f", … ({len(names):,} in all)" if len(names) > most else "")
