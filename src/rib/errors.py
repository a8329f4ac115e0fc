"""Errors for the user: what was wrong, what was found, what is valid, and what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any


class RibError(Exception):
    """Base of every error that RIB raises on purpose. The command shows it without a traceback."""


class UserError(RibError):
    """A mistake in a suite, path, name or file from the user. Exit code 2.

    Args:
        problem: what is wrong, in one sentence.
        got: the value that was found.
        valid: the values that are accepted.
        remedy: what the user can do.
    """

    def __init__(self, problem: str, *, got: object = None, valid: object = None, remedy: str | None = None) -> None:
        problem, got, valid, remedy = (_as_written(part) for part in (problem, got, valid, remedy))
        self.problem, self.got, self.valid, self.remedy = problem, got, valid, remedy
        lines = [problem]
        for word, text in (("got", got), ("valid", valid), ("remedy", remedy)):
            if text is not None:
                lines.append(f"  {word + ':':8}{text}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.got, self.valid, self.remedy)


_concealed: dict[str, str] = {}

SHORTEST_SECRET = 6
"""Minimum length of a concealed value. Shorter values are not secrets, and occur in ordinary words."""


def conceal(value: str, name: str) -> None:
    """From now on, show a value by this name in the text of errors."""
    if len(value) >= SHORTEST_SECRET:
        _concealed[value] = name


def _as_written(part: Any) -> Any:
    """A part of an error's text with values replaced by their names; the same object if there is nothing to replace."""
    text = str(part)
    for value in sorted(_concealed, key=len, reverse=True):
        text = text.replace(value, _concealed[value])
    return text if text != str(part) else part


class StepError(RibError):
    """A step that failed (a diverged training, a full disk). Exit code 1."""


class DivergedError(StepError):
    """A training whose loss or weights are unusable."""


class NotFiniteError(StepError):
    """A model with NaN or infinity among its outputs, so that its accuracy means nothing."""


class DamagedError(StepError):
    """A file of the store is damaged or missing. Exit code 1.

    Args:
        path: the file.
        fault: the damage.
    """

    def __init__(self, path: Path, fault: str) -> None:
        self.path, self.fault = path, fault
        super().__init__(
            f"{path} is damaged: {fault}\n  remedy: rib store verify --repair, and then rib run, which makes it again"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.fault)


class StoppedError(StepError):
    """The user stopped a run. Exit code 130; all finished steps are kept."""


def _rebuild(kind: type[UserError], problem: str, got: object, valid: object, remedy: str) -> UserError:
    return kind(problem, got=got, valid=valid, remedy=remedy)


_MOST_NAMES = 60


def nearest(name: str, known: Iterable[str], what: str) -> UserError:
    """The error for an unknown name. It suggests the nearest known name."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=12, cutoff=0.5)
    best = difflib.get_close_matches(name, close, n=1, cutoff=0.5 if len(name) < 4 else 0.6)  # "ry" is near "ri"
    shown = known if len(known) <= _MOST_NAMES else (close or known[:12])
    more = f", … ({len(known)} in all)" if len(shown) < len(known) else ""
    return UserError(
        f"unknown {what} {name!r}",
        got=name,
        valid=(", ".join(shown) or "(none)") + more,
        remedy=f"did you mean {best[0]!r}?" if best else None,
    )


_MOST_LISTED = 10_000
"""Maximum number of names in a folder among which `with_near_path` looks."""


def with_near_path(path: Path, remedy: str | None = None) -> str | None:
    """A remedy for a path that does not exist. It begins with the nearest existing path, if one is near."""
    try:
        near = _near_path(path)
    except OSError:  # a folder that may not be read, or a name that is too long
        near = None
    return "; ".join(filter(None, (f"did you mean {str(near)!r}?" if near else None, remedy))) or None


def _near_path(path: Path) -> Path | None:
    if path.exists():
        return None
    missing = path
    while not missing.parent.exists() and missing.parent != missing.parent.parent:
        missing = missing.parent
    names = [each.name for each in islice(missing.parent.iterdir(), _MOST_LISTED)]
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.6)
    if not close:
        return None
    there = missing.parent / close[0]
    whole = there / path.relative_to(missing)
    return whole if whole.exists() else there


_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""Parts of torch's messages for a lack of memory that has no error class: on a CPU on Linux, on Windows, and on MPS."""


def is_memory(error: Exception) -> bool:
    """Whether the cause of an error is a lack of memory."""
    if isinstance(error, OSError):  # mapping a file failed
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):  # torch has its own class, which this module must not import
        return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


def told(error: Exception) -> str:
    """Describe an exception of user or library code: its type, its message, and the line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}: {error}{place}"
