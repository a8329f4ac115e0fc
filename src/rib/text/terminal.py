"""Safe output of text from elsewhere, whatever characters it contains and whatever the terminal can show."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

LONGEST_NAME = 200
"""Maximum number of characters of a name. Longer ones fit no table and no file name."""

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, break a line, change colours or reorder text. Tab and line feed are allowed."""


PLAIN = {
    "→": "->", "≥": ">=", "≤": "<=", "≈": "~", "±": "+/-", "×": "x", "·": "|", "…": "...", "−": "-", "–": "-", "—": "-",
    "‐": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "✓": "+", "✗": "x", "▲": "^", "▼": "v", "●": "#", "◐": "?",
    "○": "o", "━": "-", "─": "-", "█": "#", "°": " deg", "²": "2", "Δ": "d", "α": "alpha", "β": "beta", "σ": "sd",
    "\u00a0": " ", "\u202f": " ", "\u2009": " ",
}  # fmt: skip
r"""Replacements for characters that a terminal cannot show; all others become escapes such as \xe9."""

DEGRADED = "rib-degraded"
"""Name of the error handler for such characters, for `errors=` of a stream or of `str.encode`."""


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in found), error.end


codecs.register_error(DEGRADED, _degrade)


def degraded(text: str, encoding: str) -> str:
    """`text` with the nearest plain characters in place of those that the encoding lacks."""
    try:
        return text.encode(encoding, DEGRADED).decode(encoding)
    except LookupError:
        return text.encode("ascii", DEGRADED).decode()


def prepare_streams() -> None:
    """Make standard output and standard error accept any text, whatever their encoding.

    Output to a closed stream is dropped.
    """
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - never closed
        elif reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=DEGRADED)


def finish_streams() -> bool:
    """Flush standard output and standard error. Return False if the reader of a pipe is gone, which is no error."""
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            whole = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (OSError, ValueError):  # a full disk or a closed stream, which was reported before
            pass
    return whole


def console(stderr: bool = False, highlight: bool = True) -> Console:
    r"""A console for tables and lines that prints names literally, even "[red]", ":smile:" or "\x1b[2J"."""
    return _Plain(stderr=stderr, highlight=highlight, markup=False, emoji=False)


def off_screen(width: int, record: bool = False) -> Console:
    """A console of this width without visible output.

    It captures what is printed, or records it with colours for export.
    """
    screen = io.StringIO()
    if record:
        return _Plain(file=screen, width=width, highlight=False, markup=False, emoji=False, record=True)
    return _Plain(file=screen, width=width, highlight=False, markup=False, emoji=False, color_system=None)


def name_fault(text: str) -> str | None:
    """Why a text cannot be the name of a data set, a model, a method or a class; None if it can."""
    if UNPRINTABLE.search(text) or "\n" in text or "\t" in text:
        return "control characters"
    if len(text) > LONGEST_NAME:
        return f"more than {LONGEST_NAME} characters"
    return None if text.strip() else "nothing to see"


def printable(text: str) -> str:
    r"""`text` with an escape such as \x1b in place of every character that could control the terminal."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(line: str) -> None:
    """Print a line on standard error. Ignore it if the reader is gone or the disk is full."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


class _Plain(Console):
    """A console that drops all control characters except its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._shown(segment.text))

    def on_broken_pipe(self) -> None:
        """Let the command handle a broken pipe."""
        raise BrokenPipeError

    def _shown(self, text: str) -> str:
        return printable(text) if text.isascii() else degraded(printable(text), self.encoding)
