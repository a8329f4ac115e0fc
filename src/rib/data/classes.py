"""Names and order of classes, by one rule for every container; docs/extending.md states it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.data.class_lists import lists_of_names, only_order
from rib.data.containers import Listing
from rib.errors import UserError
from rib.text.terminal import name_fault

MISSING = ("nan", "null", "<na>", "n/a", "#n/a")
"""What libraries write in place of a value that is missing, in lower case."""

_NO_WIDTH = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff"))
"""Characters that show nothing, which a copied name may contain."""

PLAIN_LABELS = "save each label as one whole number, or as a name; of one-hot labels or scores, the argmax"

_LIST = re.compile(r"[\[({]\s*[-+.0-9eE]+([\s,;]+[-+.0-9eE]+)+[\s,;]*[])}]")
"""A list of two numbers or more as text, such as a one-hot label."""

_SEVERAL = re.compile(r"[0-9]+([\s,;|]+[0-9]+)+")
"""Several numbers without brackets, such as the labels of an image with two objects."""


@dataclass(frozen=True)
class Labelled:
    """What a container says about its classes.

    Attributes:
        where: its location, for messages.
        listing: its folders are the labels as written: names or whole numbers.
        names: the author's names of the classes, in order, if the container states them.
        says: the source of `names`, for messages.
        prefixes: folders of the container's files, which come before the labels in the listing.
        beside: orders in files beside the container, each with its file. One belongs to this set if it names its
            classes.
        noun: plural of what it holds, for messages.
        folders: folders with files that may list its classes.
    """

    where: Path
    listing: Listing
    names: tuple[str, ...] | None = None
    says: str = ""
    prefixes: tuple[str, ...] = ("",)
    beside: Sequence[tuple[tuple[str, ...], Path]] = ()
    noun: str = "images"
    folders: Sequence[Path] = ()


@dataclass(frozen=True)
class Classes:
    """Classes of a data set.

    Attributes:
        names: in the order of the labels.
        label_of: for each container, int64 (folders,): the label of each folder, -1 for one that is not used.
        left_out: what the user chose not to use, in words.
    """

    names: tuple[str, ...]
    label_of: tuple[NDArray[np.int64], ...]
    left_out: tuple[str, ...]


def class_name(text: str) -> str:
    """A name in Unicode's composed form, in which "é" is one character.

    File systems of macOS and Linux write it differently.
    """
    return unicodedata.normalize("NFC", text)


def require_shown(data: str, what: str, names: Sequence[str]) -> None:
    """Refuse names that cannot be shown, such as those with control characters.

    Args:
        data: the data set's name, for the error.
        what: they name, such as "a group".
        names: from a file.

    Raises:
        UserError: a name has control characters, is too long, or shows nothing.
    """
    for name in names:
        if fault := name_fault(name):
            shown = ascii(name)
            raise UserError(
                f"data set {data!r}: the name of {what} has {fault}",
                got=shown if len(shown) < 80 else f"{shown[:80]}…",
                remedy="rename it",
            )


def refuse_labels(data: str, where: object, bad: int, total: int, words: str, remedy: str = "") -> UserError:
    """An error about labels that are no class.

    Args:
        data: the data set's name.
        where: the file, for the message.
        bad: number of such labels.
        total: number of all labels.
        words: the fault, such as "are negative (such as -1)".
        remedy: what to do about it; default: label the images or remove them.
    """
    return UserError(
        f"data set {data!r}: {bad:,} of {total:,} labels {words}",
        got=where,
        valid="a name or a whole number from 0 up in every row",
        remedy=remedy or "label these rows, or remove them",
    )


def disagreement(first: Sequence[str], second: Sequence[str]) -> tuple[str, str] | None:
    """Two labels of one image that contradict each other; None if both columns of labels agree.

    If the columns share a vocabulary (both are names, or both are numbers, and some labels are in both), they agree
    where the labels are equal. If the vocabularies differ, such as wnids and English names, they agree if each label of
    one column always occurs with the same label of the other.

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
    """Classes of a set in one container, or in two of which the second is the test set.

    The order is the first of these that exists: `given`; the author's order; that of a file beside the set which names
    exactly its classes; numerical order if all names are whole numbers; alphabetical order. If the labels are numbers
    and the names are not, number k is name k.

    Args:
        data: the data set's name, for errors.
        containers: the containers of the set.
        given: names that the user chose, in order; images of other classes are not used.
        absent: whether some of the given classes may have no images.

    Raises:
        UserError: a label is no class; a class has no images; names differ only in spelling; two containers disagree
            about the order.
    """
    words = [_words(data, each, given or ()) for each in containers]
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


def _words(data: str, container: Labelled, given: Sequence[str]) -> list[str]:
    """The label of each folder of a container, without the prefix for the files' folder.

    Raises:
        UserError: a label is no class; a word for a missing value is one only if `given` names it.
    """
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
    if lists := [place for place, word in enumerate(words) if _LIST.fullmatch(word) and word not in given]:
        count, fault = int(listing.counts[lists].sum()), f"are lists of numbers ({words[lists[0]]!r})"
        raise refuse_labels(data, container.where, count, len(listing), fault, PLAIN_LABELS)
    if words and all(_SEVERAL.fullmatch(word) and word not in given for word in words):
        fault = f"are several numbers each ({words[0]!r})"
        raise refuse_labels(data, container.where, len(listing), len(listing), fault, PLAIN_LABELS)
    if absent := [place for place, word in enumerate(words) if word.lower() in MISSING and word not in given]:
        count, fault = int(listing.counts[absent].sum()), f"stand for a missing value ({words[absent[0]]!r})"
        raise refuse_labels(data, container.where, count, len(listing), fault)
    _refuse_alike(data, words, container.where, listing.folders)
    return words


def _refuse_alike(data: str, words: Sequence[str], where: object, written: Sequence[str] = ()) -> None:
    """Refuse names that differ only in case, spaces, leading zeros, Unicode form or characters of no width.

    Args:
        data: the data set's name, for the error.
        words: the names.
        where: their location, for the error.
        written: the names as written, before normalisation.

    Raises:
        UserError: two names differ only in these.
    """
    seen: dict[str, int] = {}
    for place, word in enumerate(words):
        plain = looks_of(word)
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


def looks_of(name: str) -> str:
    """A name without differences that a reader does not see or that rarely matter: case, spaces, Unicode form and
    characters of no width.
    """
    return " ".join(class_name(name.translate(_NO_WIDTH)).casefold().split())


def _told_apart(one: str, other: str) -> str:
    alike = one != other and one.casefold() != other.casefold() and looks_of(one) == looks_of(other)
    return f"{one!a} and {other!a}" if alike else f"{one!r} and {other!r}"


def _own_order(data: str, containers: Sequence[Labelled]) -> tuple[str, ...] | None:
    """The order that the set's author states, if any.

    Raises:
        UserError: two containers state different orders.
    """
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
    """The order of the classes if the user gives none.

    Raises:
        UserError: two sources state different orders.
    """
    names = _own_order(data, containers)
    says = next((each.says for each in containers if each.names is not None), "")
    beside = {tuple(map(class_name, order)): file for each in containers for order, file in each.beside}
    for order, file in beside.items():
        if set(order) == set(names or words):
            if names is not None and names != order:
                raise _two_orders(data, says, str(file))
            names, says = order, str(file)
    names, says = _listed(data, containers, names, says, words)
    if names is None:
        _refuse_unnamed(data, containers[0], words, beside)
    found = names or _natural(words)
    mine = [name.casefold() for name in found]
    for order, file in beside.items():
        common = [name for name in map(str.casefold, order) if name in mine]
        if common != [name for name in mine if name in common]:
            raise _two_orders(data, says or "the alphabet", f"{file}, which names other classes too")
    return found


def _listed(
    data: str, containers: Sequence[Labelled], names: tuple[str, ...] | None, says: str, words: Sequence[str]
) -> tuple[tuple[str, ...] | None, str]:
    """The order of the classes and its source, after a look at files of any name that list exactly these classes.

    Raises:
        UserError: such a file states another order than a source of higher rank, or than another such file.
    """
    classes = names or words
    if all(word.isdecimal() for word in classes):
        return names, says
    folders = tuple(folder for each in containers for folder in each.folders)
    remedy = "give [data] `classes`, in the intended order, or move one of the files away"
    found = only_order(folders, classes, f"data set {data!r}", remedy)
    if found is None:
        return names, says
    if names is not None and names != found[0]:
        raise _two_orders(data, says, str(found[1]))
    return found[0], says if names is not None else str(found[1])


def _refuse_unnamed(
    data: str, container: Labelled, words: Sequence[str], beside: Mapping[tuple[str, ...], Path]
) -> None:
    """Refuse labels that are the numbers from 0 up, if a file beside the set has as many names. Raises UserError."""
    if sorted(words) != sorted(map(str, range(len(words)))):
        return
    listed: dict[tuple[str, ...], Path] = {} if len(words) < 2 else dict(lists_of_names(container.folders, len(words)))
    for order, file in {**beside, **listed}.items():
        if len(order) == len(words) and not set(order) & set(words):
            raise UserError(
                f"data set {data!r}: the labels are numbers, and a file beside the set has as many names",
                got=f"{container.where} and {file}",
                valid="names for the numbers, or no such file",
                remedy=f"if they name them: classes = {list(order[:3])!r}" + (", …" if len(order) > 3 else ""),
            )


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
    """Whether labels are indices into names, rather than names themselves."""
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
    """A sentence about images of classes that are not used.

    Raises:
        UserError: the user did not choose the classes.
    """
    beyond = np.where(labels < 0, container.listing.counts, 0)
    others, count = [words[place] for place in np.flatnonzero(beyond).tolist()], int(beyond.sum())
    if chosen:
        return f"{count:,} {container.noun} of classes that `classes` does not name ({shortened(others, 3)})"
    first = next((each.says for each in containers if each.says), f"{containers[0].where}")
    raise UserError(
        f"data set {data!r}: {count:,} {container.noun} of classes that are not in {first} ({len(others):,})",
        got=f"{shortened(others)} in {container.where}",
        valid="the same classes everywhere in a set",
        remedy="complete the other part, or give [data] `classes` to choose among them",
    )


def shortened(names: Sequence[str], most: int = 10) -> str:
    """The first few names, and the number of all of them if there are more."""
    return ", ".join(names[:most]) + (f", … ({len(names):,} in all)" if len(names) > most else "")
