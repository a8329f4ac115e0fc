"""Whether files of a set are missing, as their numbered names show, or belong to several splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rib.errors import UserError

_OF = re.compile(r"(?P<before>.*?)(?P<number>\d+)-of-(?P<total>\d+)(?P<after>.*)")
"""train-00000-of-00004.parquet, also with a digest: train-00000-of-00004-0a1b2c3d4e5f6071.parquet"""

_NUMBER = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)")
"""train-0003.tar: the last number of the name"""

_SPLITS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing", "tst", "publictest", "privatetest"),
}
_WORDS = {word: split for split, words in _SPLITS.items() for word in words}

_SPARSE = 20
"""If this many times more numbers are missing than present, the numbers do not count the files."""


def require_whole(files: Sequence[Path], chosen: bool, data: str) -> tuple[str, ...]:
    """Refuse files whose numbers have gaps.

    Args:
        files: all files of a set.
        chosen: whether the user named each file: by its name, a range, or characters in brackets.
        data: the data set's name, for the error.

    Returns:
        The files that the user chose to leave out, in words.

    Raises:
        UserError: a file is missing; the message names the first.
    """
    gaps = [gap for gap in (*_totals(files), *([] if chosen else _gaps(files))) if gap[0]]
    if not gaps:
        return ()
    lost, count = gaps[0]
    shown = f"{', '.join(lost[:5])}{', …' if len(lost) > 5 else ''}"
    if chosen:
        return (f"{len(lost):,} of {count:,} numbered files that were not named, such as {lost[0]}",)
    raise UserError(
        f"data set {data!r}: {len(lost):,} of {count:,} numbered files are missing",
        got=f"no {shown} in {files[0].parent}",
        remedy="complete the copy, or name the intended files, as in part-000[013].tar",
    )


def _totals(files: Sequence[Path]) -> Iterator[tuple[list[str], int]]:
    """Missing names, among files whose names state the total number of files; and that number."""
    groups: dict[tuple[Path, str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    width: dict[tuple[Path, str, str], int] = {}
    for path in files:
        if match := _OF.fullmatch(path.name):
            group = (path.parent, match["before"], re.sub(r"^-[0-9a-f]{8,}", "", match["after"]))
            groups[group][match["total"]].add(int(match["number"]))
            width[group] = len(match["number"])
    for group, totals in groups.items():
        _, before, after = group
        if len(totals) > 1:  # two versions of a set; the old one was not removed
            yield [f"one of the two numberings {before}…-of-{' and -of-'.join(totals)}{after}"], len(totals)
        for total, numbers in totals.items():
            wanted = range(int(total))
            if numbers == set(range(1, int(total) + 1)):  # counted from one
                continue
            lost = [f"{before}{n:0{width[group]}d}-of-{total}{after}" for n in wanted if n not in numbers]
            yield lost, int(total)


def _gaps(files: Sequence[Path]) -> Iterator[tuple[list[str], int]]:
    """Missing names within a numbering that is padded with zeros or begins at 0 or 1, and the numbering's length."""
    groups: dict[tuple[Path, str, str, int], set[int]] = defaultdict(set)
    for path in files:
        if not _OF.fullmatch(path.name) and (match := _NUMBER.fullmatch(path.name)):
            digits = match["number"]
            width = len(digits) if digits.startswith("0") and len(digits) > 1 else 0
            groups[path.parent, match["before"], match["after"], width].add(int(digits))
    for (folder, before, after, width), numbers in list(groups.items()):
        if width:  # all of one width; some need no padding: t-099, t-100
            wide = {n for n in groups.get((folder, before, after, 0), ()) if len(str(n)) == width}
            numbers = numbers | wide
        elif min(numbers) > 1 or any(key[:3] == (folder, before, after) and key[3] for key in groups):
            continue
        count = max(numbers) - min(numbers) + 1
        if count <= (_SPARSE + 1) * len(numbers):
            lost = [f"{before}{n:0{width}d}{after}" for n in range(min(numbers), max(numbers)) if n not in numbers]
            yield lost, count


def require_one_split(files: Sequence[Path], root: Path, data: str) -> None:
    """Refuse files if the names of some say that they are for training and others that they are not.

    Args:
        files: paths relative to the root.
        root: their folder.
        data: the data set's name, for the error.

    Raises:
        UserError: they belong to several splits.
    """
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        splits[split_of(path.as_posix())].append(path)
    named = {split: paths for split, paths in splits.items() if split}
    if len(named) > 1:
        raise UserError(
            f"data set {data!r}: files of several splits in one set",
            got=", ".join(f"{len(paths):,} of {split} ({paths[0]})" for split, paths in sorted(named.items()))
            + f" in {root}",
            valid="files of one split",
            remedy='name one, as in "train-*.parquet", and another to test on, as in test_parquet = "test-*.parquet"',
        )


def split_of(name: str) -> str:
    """The split that a name states: train, validation or test; else empty."""
    return next((_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _WORDS), "")
