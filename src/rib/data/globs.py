"""Files that a folder holds or a pattern names."""

from __future__ import annotations

import math
import re
from pathlib import Path

from rib.errors import UserError

RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
"""{000..099}"""

MOST = 100_000
"""Names that a pattern may stand for."""


def files_under(pattern: Path, suffix: str, data: str) -> list[tuple[Path, str]]:
    """Files and the folder of each, as a prefix such as "fog/3/", relative to the fixed part of the pattern.

    Args:
        pattern: a folder, searched with its sub-folders; a file; or a pattern with * ? [] or {000..009} in it.
        suffix: of the files that a folder is searched for.
        data: the data set's name, for the error.

    Raises:
        UserError: nothing is there.
    """
    fixed = next((folder for folder in (pattern, *pattern.parents) if not _wild(str(folder))), Path())
    if fixed == pattern:
        found = [pattern] if pattern.is_file() else sorted(pattern.rglob(f"*{suffix}"))
    else:
        rest = pattern.relative_to(fixed).as_posix()
        _require_few(rest, data)
        found = sorted({path for text in _expanded(rest) for path in fixed.glob(text)})
    base = pattern.parent if pattern.is_file() else fixed
    if not found:
        raise UserError(
            f"data set {data!r}: no {suffix} files",
            got=pattern,
            valid=f"a folder that holds {suffix} files, or a pattern such as DIR/*{suffix}",
            remedy="correct the path",
        )
    prefixes = [path.relative_to(base).parent.as_posix() for path in found]
    return [(path, "" if prefix == "." else f"{prefix}/") for path, prefix in zip(found, prefixes, strict=True)]


def _wild(text: str) -> bool:
    return bool(re.search(r"[*?\[{]", text))


def _require_few(pattern: str, data: str) -> None:
    count = math.prod(int(last) - int(first) + 1 for first, last in RANGE.findall(pattern))
    if count > MOST:
        raise UserError(f"data set {data!r}: a pattern that stands for {count:,} names", got=pattern, valid=f"{MOST:,}")


def _expanded(pattern: str) -> list[str]:
    """A pattern without {first..last}: one for each number, padded as the first is."""
    match = RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [text for number in numbers for text in _expanded(pattern.replace(match[0], number, 1))]
