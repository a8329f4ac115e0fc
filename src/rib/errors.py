"""Errors that speak to the user: what was got, what is valid, what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class RibError(Exception):
    """Base of every error that RIB raises on purpose. Shown without a traceback."""


class UserError(RibError):
    """A mistake in what the user gave (suite, path, name, file). Exit code 2.

    Args:
        problem: one sentence, what is wrong.
        got: what was found.
        valid: what would have been accepted.
        remedy: what to do about it.
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
"""Shorter values of variables are shown: they are no secrets, and occur in words."""


def conceal(value: str, name: str) -> None:
    """Show a value in the texts of errors by this name, from now on."""
    if len(value) >= SHORTEST_SECRET:
        _concealed[value] = name


def _as_written(part: Any) -> Any:
    """A part of an error's text; another object if nothing in its text is concealed."""
    text = str(part)
    for value in sorted(_concealed, key=len, reverse=True):
        text = text.replace(value, _concealed[value])
    return text if text != str(part) else part


class StepError(RibError):
    """A step that could not be carried out (diverged training, a full disk). Exit code 1."""


class DivergedError(StepError):
    """Training whose loss or weights are no longer what anyone can use."""


class NotFiniteError(StepError):
    """A model that answers with NaN or infinity: no accuracy of it means anything."""


class DamagedError(StepError):
    """A file of the store is not undamaged, or is gone. Exit code 1.

    Args:
        path: the file.
        fault: what is wrong with it.
    """

    def __init__(self, path: Path, fault: str) -> None:
        self.path, self.fault = path, fault
        super().__init__(
            f"{path} is damaged: {fault}\n  remedy: rib store verify --repair, and then rib run, which makes it again"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.fault)


class StoppedError(StepError):
    """The user stopped a run. Exit code 130; everything finished is kept."""


def _rebuild(kind: type[UserError], problem: str, got: object, valid: object, remedy: str) -> UserError:
    return kind(problem, got=got, valid=valid, remedy=remedy)


_MOST_NAMES = 60


def nearest(name: str, known: Iterable[str], what: str) -> UserError:
    """The error for a name that is not known, with the nearest known one suggested."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=12, cutoff=0.5)
    shown = known if len(known) <= _MOST_NAMES else (close or known[:12])
    more = f", … ({len(known)} in all)" if len(shown) < len(known) else ""
    return UserError(
        f"unknown {what} {name!r}",
        got=name,
        valid=(", ".join(shown) or "(none)") + more,
        remedy=f"did you mean {close[0]!r}?" if close else None,
    )


_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""Parts of torch's messages for a lack of memory that has no error class: on a CPU on Linux, on Windows, and on MPS."""


def is_memory(error: Exception) -> bool:
    """Whether what went wrong is that there was too little memory."""
    if isinstance(error, OSError):  # a map of a file
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):  # torch's kind is one; that it imports torch is too much to ask of this module
        return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


def told(error: Exception) -> str:
    """Describe an exception of foreign code: its type, its message, and the line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}: {error}{place}"
