"""Terminal: text of others shown as text, whatever characters are in it and whatever the terminal can show."""

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
"""Characters of a name. Longer ones fit no table and no file name."""

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, break a line, colour or reorder what is shown. Not tab and line feed."""


PLAIN = {
    "→": "->", "≥": ">=", "≤": "<=", "≈": "~", "±": "+/-", "×": "x", "·": "|", "…": "...", "−": "-", "–": "-", "—": "-",
    "‐": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "✓": "+", "✗": "x", "▲": "^", "▼": "v", "●": "#", "◐": "?",
    "○": "o", "━": "-", "─": "-", "█": "#", "°": " deg", "²": "2", "Δ": "d", "α": "alpha", "β": "beta", "σ": "sd",
    "\u00a0": " ", "\u202f": " ", "\u2009": " ",
}  # fmt: skip
"""Replacements for characters that a terminal cannot show; any other becomes an escape such as \\xe9."""

DEGRADED = "rib-degraded"
"""Name of the handler of such characters, for `errors=` of a stream or of `str.encode`."""


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in found), error.end


codecs.register_error(DEGRADED, _degrade)


def degraded(text: str, encoding: str) -> str:
    """`text` as a stream of an encoding can show it: the nearest plain characters in place of what it lacks."""
    try:
        return text.encode(encoding, DEGRADED).decode(encoding)
    except LookupError:
        return text.encode("ascii", DEGRADED).decode()


def prepare_streams() -> None:
    """Let standard output and standard error take any text, whatever their encoding; a closed one swallows it."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - never closed
        elif reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=DEGRADED)


def finish_streams() -> bool:
    """Write out what is still held back; whether somebody read it. A closed pipe takes no more, without a word."""
    whole = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            whole = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (OSError, ValueError):  # a full disk, or closed: what is to be said of it has been said
            pass
    return whole


def console(stderr: bool = False, highlight: bool = True) -> Console:
    """A console for tables and lines that shows names literally, even "[red]", ":smile:" or "\\x1b[2J"."""
    return _Plain(stderr=stderr, highlight=highlight, markup=False, emoji=False)


def off_screen(width: int, record: bool = False) -> Console:
    """A console of this width that nothing is seen of: what is printed is captured, or recorded in colour to export."""
    screen = io.StringIO()
    if record:
        return _Plain(file=screen, width=width, highlight=False, markup=False, emoji=False, record=True)
    return _Plain(file=screen, width=width, highlight=False, markup=False, emoji=False, color_system=None)


def name_fault(text: str) -> str | None:
    """Why a text cannot be a name: of a data set, a model, a method or a class. None if it can."""
    if UNPRINTABLE.search(text) or "\n" in text or "\t" in text:
        return "control characters"
    if len(text) > LONGEST_NAME:
        return f"more than {LONGEST_NAME} characters"
    return None if text.strip() else "nothing to see"


def printable(text: str) -> str:
    """`text` with an escape such as \\x1b in place of every character that is not for show."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(line: str) -> None:
    """Print a line on standard error. Ignore it if the reader is gone or the disk is full."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


class _Plain(Console):
    """A console that lets through no control characters but those that it makes itself."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._shown(segment.text))

    def on_broken_pipe(self) -> None:
        """Let the command end in its own way."""
        raise BrokenPipeError

    def _shown(self, text: str) -> str:
        return printable(text) if text.isascii() else degraded(printable(text), self.encoding)
