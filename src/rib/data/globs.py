"""Files that a folder contains or a pattern matches. RIB refuses a set with missing files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rib.data.numbering import require_one_split, require_whole
from rib.errors import UserError, with_near_path

RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
"""{000..099}"""

MOST = 100_000
"""Maximum number of names that a pattern may expand to."""

JUNK = ("._", ".ds_store", "thumbs.db", "desktop.ini", "__macosx", "@eadir")
"""Prefixes, in lower case, of files that operating systems create. RIB ignores them without a note."""

UNFINISHED = (".part", ".partial", ".incomplete", ".crdownload", ".download", ".aria2", ".tmp")
"""Suffixes of incomplete copies and downloads."""

COMPRESSED = (".gz", ".tgz", ".zst", ".bz2", ".xz", ".lz4", ".zip", ".7z")

OTHERS = (".tar", ".parquet", ".arrow", ".feather", ".npz", ".tfrecord", ".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of files that may hold images or labels of a set."""

MISPLACED = "correct the path in the suite file, or set --data / RIB_DATA to the folder it is relative to"
"""The remedy for a data set's path that does not exist."""


@dataclass(frozen=True)
class Found:
    """Files of one kind.

    Attributes:
        root: the folder that is searched, or the fixed part of the pattern.
        files: each with its folder below the root as a prefix, such as "fog/3/"; sorted.
        left_out: other files there, which are not read, in words.
    """

    root: Path
    files: tuple[tuple[Path, str], ...]
    left_out: tuple[str, ...] = ()


def files_under(pattern: Path, suffix: str, data: str, base: Path | None = None) -> Found:
    """Files that a folder contains, or that a pattern matches.

    Args:
        pattern: a folder, searched with its sub-folders; a file; or a pattern with * ? [] or {000..009}. A name that
            exists literally is not taken for a pattern.
        suffix: suffix of the files to search for, in upper or lower case.
        data: the data set's name, for the error.
        base: the folder that a relative pattern starts from; its own name is never a pattern.

    Raises:
        UserError: nothing is found; a file of a range or a numbering is missing; the files belong to several splits,
            are compressed, or are incomplete copies.
    """
    root, rest = _parted(pattern, base)
    left_out: tuple[str, ...] = ()
    if rest:
        found = _matches(root, rest, pattern, data)
    elif root.is_dir():
        found, others = _searched(root, suffix)
        left_out = _left_out(others, root, suffix, data)
    else:
        found = [root] if root.exists() else []
    if not found:
        raise UserError(
            f"data set {data!r}: no {suffix} files",
            got=pattern,
            valid=f"a folder that holds {suffix} files, or a pattern such as DIR/*{suffix}",
            remedy=with_near_path(root, "correct the path" + _unset(str(pattern))),
        )
    top = root if root.is_dir() else root.parent
    if odd := next((path for path in found if not path.is_file()), None):
        raise UserError(f"data set {data!r}: {odd} is no file", got=pattern, valid=f"{suffix} files")
    chosen = not root.is_dir() or bool(re.search(r"[\[{]", rest.rpartition("/")[2]))
    left_out += require_whole(found, chosen, data)
    require_one_split([path.relative_to(top) for path in found], top, data)
    prefixes = [path.relative_to(top).parent.as_posix() for path in found]
    pairs = zip(found, ("" if prefix == "." else f"{prefix}/" for prefix in prefixes), strict=True)
    return Found(top, tuple(pairs), left_out)


def is_junk(name: str) -> bool:
    """Whether an operating system created a file or folder beside the user's files."""
    return name.lower().startswith(JUNK)


def _parted(pattern: Path, base: Path | None) -> tuple[Path, str]:
    """The fixed part of a pattern, up to the first name that has wildcards and does not exist literally; and
    the rest.
    """
    fixed = base if base and pattern.is_relative_to(base) else Path(pattern.anchor)
    parts = pattern.relative_to(fixed).parts
    for place, part in enumerate(parts):
        if re.search(r"[*?\[{]", part) and not os.path.lexists(fixed / part):
            return fixed, "/".join(parts[place:])
        fixed = fixed / part
    return fixed, ""


def _matches(root: Path, rest: str, pattern: Path, data: str) -> list[Path]:
    count = math.prod(int(last) - int(first) + 1 for first, last in RANGE.findall(rest))
    if count > MOST:
        raise UserError(f"data set {data!r}: a pattern that stands for {count:,} names", got=pattern, valid=f"{MOST:,}")
    by_name = {text: [path for path in root.glob(text) if not is_junk(path.name)] for text in _expanded(rest)}
    lost = [text for text, paths in by_name.items() if not paths]
    if lost and len(lost) < len(by_name):
        raise UserError(
            f"data set {data!r}: {len(lost):,} of the {len(by_name):,} files that a pattern names are missing",
            got=f"no {', '.join(lost[:5])}{', …' if len(lost) > 5 else ''} in {root}",
            valid=pattern,
            remedy="complete the copy, or name the intended files",
        )
    return sorted({path for paths in by_name.values() for path in paths})


def _searched(root: Path, suffix: str) -> tuple[list[Path], list[Path]]:
    """Files with a suffix in a folder and below it, and everything else there, such as hidden folders; both sorted."""
    found: list[Path] = []
    others: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        inside, real = Path(folder), os.path.realpath(folder)
        folders[:] = [name for name in folders if not is_junk(name) and real not in seen]
        names = names if real not in seen else []  # also if it was reached through a link
        seen.add(real)
        hidden = any(part.startswith(".") for part in inside.relative_to(root).parts)
        for name in names:
            if not is_junk(name):
                wanted = name.lower().endswith(suffix) and not hidden and not name.startswith(".")
                (found if wanted else others).append(inside / name)
    return sorted(found), sorted(others)


def _left_out(others: list[Path], root: Path, suffix: str, data: str) -> tuple[str, ...]:
    names = [(path, path.name.lower()) for path in others]
    for endings, words, remedy in (
        (UNFINISHED, "not copied to their end", "let the copy end, or remove them"),
        (COMPRESSED, "compressed", "unpack them, as in gunzip FILE.tar.gz, or remove them"),
    ):
        stopped = [path for path, name in names if name.endswith(endings) and suffix in name.replace(".tgz", ".tar.")]
        if stopped:
            raise UserError(
                f"data set {data!r}: {len(stopped):,} {suffix} files are {words}",
                got=f"{stopped[0].relative_to(root)} in {root}",
                valid=f"{suffix} files",
                remedy=remedy,
            )
    seen = [path.relative_to(root).as_posix() for path, name in names if name.endswith(OTHERS)]
    return (f"{len(seen):,} files beside the {suffix} files, such as {seen[0]}",) if seen else ()


def _unset(text: str) -> str:
    """A sentence about the variables in a path that are not set; empty if there are none."""
    names = re.findall(r"\$\{?(\w+)\}?", text)
    return f": the variable {names[0]} is not set" if names and names[0] not in os.environ else ""


def _expanded(pattern: str) -> Iterator[str]:
    """Expand {first..last} in a pattern into one pattern per number, padded like the first number."""
    match = RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expanded(pattern.replace(match[0], f"{number:0{len(first)}d}", 1))
