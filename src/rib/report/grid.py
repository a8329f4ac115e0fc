"""Text in columns and lines, from which all terminal tables are built."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.text import Text

MISSING = "missing"

ABSENT = "–"
"""Stands for a value that is not expected to exist, in contrast to a missing one."""


def duration(seconds: float) -> str:
    """A duration in seconds as text."""
    if seconds < 59.95:
        return f"{seconds:z.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def wrapped(text: str, width: int, style: str) -> list[Text]:
    return [Text(line, style=style) for line in textwrap.wrap(text, max(width, 20), subsequent_indent="  ")]


def cut(line: Text, width: int) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    line.truncate(width, overflow="ellipsis")
    return line


def _blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of each block, of which none is wider than the room unless it has one column."""
    blocks: list[list[int]] = [[]]
    for at, size in enumerate(widths):
        if blocks[-1] and sum(widths[place] for place in blocks[-1]) + size > room:
            blocks.append([])
        blocks[-1].append(at)
    return blocks


def grid(
    corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Text]], width: int
) -> list[Text]:
    """Text cells under their headings. Columns that do not fit go into another block below."""
    widths = [max(cell_len(head), *(line[at].cell_len for line in cells)) + 2 for at, head in enumerate(columns)]
    whole = min(max(map(cell_len, [corner, *rows])), width // 2)
    short = min(whole, max(width // 3, 8))
    # names are cut only where whole names would need another block
    label = whole if len(_blocks(widths, width - whole)) == len(_blocks(widths, width - short)) else short
    blocks = _blocks(widths, width - label)

    def line(name: Text, texts: Iterable[Text], block: list[int]) -> Text:
        padded = (Text(" " * (widths[at] - text.cell_len)) + text for at, text in zip(block, texts, strict=True))
        name.truncate(label, overflow="ellipsis", pad=True)
        return Text.assemble(name, *padded)

    lines = []
    for block in blocks:
        heads = [Text(columns[at], style="dim") for at in block]
        lines += [Text(), line(Text(corner, style="dim"), heads, block)]
        lines += [line(Text(name), [row[at] for at in block], block) for name, row in zip(rows, cells, strict=True)]
    return lines[1:]
