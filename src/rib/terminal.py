"""Terminal: text of others shown as text, whatever characters are in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, colour or reorder what is shown; tab and line feed are not among them."""


def console(stderr: bool = False, highlight: bool = True) -> Console:
    """Where tables and lines are shown: a name is shown as it is, even one such as "[red]", ":smile:" or "\\x1b[2J"."""
    return _Plain(stderr=stderr, highlight=highlight, markup=False, emoji=False)


def printable(text: str) -> str:
    """`text` with an escape such as \\x1b in place of every character that is not for show."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Plain(Console):
    """A console that lets through no control characters but those that it makes itself."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))
