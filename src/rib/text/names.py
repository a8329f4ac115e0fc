"""Names of data sets and models in tables, files and options. A name is shortened only if the short form is unique."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from rib.errors import UserError, nearest

RESERVED = frozenset(
    {"pretrained", "own", "reference", "mean", "ri", "mri", "all"}
    | {"your own data", "the set tuned on", "other downstream sets"}
)
"""Words with a fixed meaning in tables, files and options. No short name is one of them."""


class Names:
    """Data sets, or models, by their full names. A short name is a full name without its namespace.

    Names that differ only in case or in Unicode form count as one name, so that they differ visibly and on
    every file system.

    Args:
        full: the full names, such as "digits:sketch".
        reserved: words that no short name may be.
    """

    def __init__(self, full: Iterable[str], reserved: frozenset[str] = RESERVED) -> None:
        self.full = tuple(dict.fromkeys(full))
        tails = {name: short(name) for name in self.full}
        counts = Counter(folded(tail) for tail in tails.values())
        self._short = {
            name: name if counts[folded(tail)] > 1 or folded(tail) in reserved else tail for name, tail in tails.items()
        }
        self._tails = tails

    def short(self, name: str) -> str:
        """The short name; the full one if the short one is not unique. Unknown names are returned unchanged."""
        return self._short.get(name, name)

    @property
    def spellings(self) -> Mapping[str, str]:
        """Every spelling of every name, with the full name."""
        unique = {short: name for name, short in self._short.items()}
        return MappingProxyType(unique | {name: name for name in self.full})

    def find(self, given: str, what: str) -> str:
        """The full name for a full or short name.

        Args:
            given: a full or short name.
            what: "data set" or "model", for the message.

        Raises:
            UserError: no name or several names match.
        """
        if given in self.spellings:
            return self.spellings[given]
        if several := [name for name, tail in self._tails.items() if tail == given]:
            raise UserError(
                f"{what} {given!r}: the name is ambiguous or reserved",
                got=given,
                valid=", ".join(several),
                remedy="give the full name",
            )
        raise nearest(given, self.full, what)


@lru_cache(maxsize=64)
def names_of(full: tuple[str, ...], reserved: frozenset[str] = RESERVED) -> Names:
    """`Names`, computed once per tuple of full names."""
    return Names(full, reserved)


def few(names: Sequence[str], most: int = 6) -> str:
    """Names in one line: all of up to `most`; else the first `most`, and the number of others."""
    shown = names if len(names) <= most else [*names[: most - 2], f"{len(names) - most + 2} more"]
    return ", ".join(shown)


def short(name: str) -> str:
    """A name without its namespace. It need not be unique: in a suite, use `Names`."""
    return name.rpartition(":")[2] or name


def folded(name: str) -> str:
    """A name in the form in which file systems that ignore case and Unicode form compare it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
