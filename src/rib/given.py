"""Given: arguments of Python calls and values of options, read as the caller meant them or refused in words."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rib.errors import UserError

T = TypeVar("T")

LONGEST_NAME = 255
"""Maximum bytes of one name in a path, on every common file system."""

LARGEST = 10**12
"""Maximum of a whole number, such as a number of images; a larger one is a mistake."""


def path_in(value: Any, what: str) -> Path:
    """A path from a text or a path object, with `~` expanded.

    Args:
        value: the value.
        what: its role, for the error: "the store".

    Raises:
        UserError: it is something else, is empty, or cannot be a path.
    """
    valid = "a path, as a text or as pathlib.Path"
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise UserError(f"{what} is not a path", got=_shown(value), valid=valid)
    if not text:
        raise UserError(f"{what} is an empty path", got="''", valid=f"{valid}; '.' for the working folder")
    parts = [os.fsencode(part) if _can_be_named(part) else None for part in Path(text).parts]
    if any(part is None or len(part) > LONGEST_NAME for part in parts):
        reason = f"no NUL character, and names of at most {LONGEST_NAME} bytes"
        raise UserError(f"{what} cannot be a path", got=ascii(text)[:80], valid=reason)
    return at_home(text)


def _can_be_named(part: str) -> bool:
    try:
        return b"\0" not in os.fsencode(part)
    except UnicodeEncodeError:
        return False


def text_in(value: Any, what: str) -> str:
    """A text. Raises UserError if it is anything else."""
    if not isinstance(value, str):
        raise UserError(f"{what} is not a text", got=_shown(value), valid="one text")
    return str(value)


def texts_in(value: Any, what: str) -> tuple[str, ...]:
    """A list of texts; one text is a list of one, and None an empty list. Sets are sorted.

    Raises:
        UserError: it is no list, or an entry is no text.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (text_in(value, what),)
    found = _listed(value, what, "a list of texts, or one text")
    return tuple(text_in(item, f"an entry of {what}") for item in found)


def number_in(value: Any, what: str, least: int = 1, most: int = LARGEST) -> int:
    """A whole number, also of numpy, in a range.

    Raises:
        UserError: it is anything else (a bool, a float, a text), or out of range.
    """
    valid = f"a whole number from {least:,} to {most:,}"
    try:
        number = operator.index(value)
    except TypeError:
        raise UserError(f"{what} is not a whole number", got=_shown(value), valid=valid) from None
    if isinstance(value, bool):
        raise UserError(f"{what} is not a whole number", got=_shown(value), valid=valid)
    if not least <= number <= most:
        raise UserError(f"{what} is out of range", got=_shown(number), valid=valid)
    return number


def numbers_in(value: Any, what: str, least: int = 0, most: int = LARGEST) -> tuple[int, ...]:
    """Whole numbers, all different, in the order of a list, a range or an array. Sets are sorted.

    Raises:
        UserError: it is no such list, it is empty, or a number appears twice.
    """
    valid = "a list of different whole numbers"
    numbers = tuple(number_in(item, f"an entry of {what}", least, most) for item in _listed(value, what, valid))
    if not numbers or len(set(numbers)) < len(numbers):
        fault = "a number appears twice" if numbers else "the list is empty"
        raise UserError(f"{what}: {fault}", got=list(numbers), valid=valid)
    return numbers


def instance_in(value: Any, kind: type[T], what: str) -> T:
    """A value of a class. Raises UserError if it is anything else."""
    if not isinstance(value, kind):
        raise UserError(f"{what} has another type", got=_shown(value), valid=f"{kind.__module__}.{kind.__qualname__}")
    return value


def _listed(value: Any, what: str, valid: str) -> list[Any]:
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{what} is not a list", got=_shown(value), valid=valid)
    items = list(value)
    return sorted(items, key=str) if isinstance(value, set | frozenset) else items


def _shown(value: Any) -> str:
    """A value and its type, cut off where it is long."""
    text = ascii(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


# -- home folders ------------------------------------------------------------------------------------------------------


def at_home(path: str | Path) -> Path:
    """A path with `~` expanded.

    Raises:
        UserError: the path begins with `~`, and the system knows no such home folder, as for a user without an account.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            f"no home folder is known for the path {str(path)!r}",
            got=f"HOME is {os.environ.get('HOME', 'not set')}",
            remedy="give the full path, or set HOME; RIB_STORE or --store names the folder of records",
        ) from None


def perhaps_at_home(path: str | Path) -> Path:
    """A path with `~` expanded, if the home folder is known."""
    try:
        return at_home(path)
    except UserError:
        return Path(path)
