"""Cell texts: the numbers of a matrix as one artist, because matplotlib lays out each of its own texts several times.

It imports matplotlib, so only functions that draw import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from matplotlib.artist import Artist
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties

SIZE = 5.5
"""Font size in points."""


_WIDTHS: WeakKeyDictionary[Any, dict[tuple[str, bool], float]] = WeakKeyDictionary()
"""Widths of texts in pixels, normal and bold, for each renderer: the panels of a figure have many texts in common."""


@dataclass(frozen=True)
class CellText:
    """A text of one line, centred at a point in data coordinates."""

    x: float
    y: float
    text: str
    colour: str = "black"
    bold: bool = False


class CellTexts(Artist):
    """Texts of one size, each centred in its cell. They are texts in a PDF too: readers can search and copy them.

    They must lie within the axes: no layout makes room for them.

    Args:
        texts: the texts.
    """

    def __init__(self, texts: Sequence[CellText]) -> None:
        super().__init__()
        self.cells = tuple(texts)
        self.set(zorder=3, in_layout=False)  # above colours and lines

    def draw(self, renderer: Any) -> None:
        """Draw all texts. Equal texts are measured once; each is centred by its width and by the height of digits."""
        fonts = {bold: FontProperties(size=SIZE, weight="bold" if bold else "normal") for bold in (False, True)}
        heights = {bold: renderer.get_text_width_height_descent("0", font, False)[1] for bold, font in fonts.items()}
        widths = _WIDTHS.setdefault(renderer, {})
        top = renderer.get_canvas_width_height()[1]
        places = self.get_transform().transform([(cell.x, cell.y) for cell in self.cells] or [(0.0, 0.0)])
        for cell, (x, y) in zip(self.cells, places, strict=False):
            kind, font = (cell.text, cell.bold), fonts[cell.bold]
            if kind not in widths:
                widths[kind] = renderer.get_text_width_height_descent(cell.text, font, False)[0]
            base = y - heights[cell.bold] / 2
            ink = renderer.new_gc()
            ink.set_foreground(to_rgba(cell.colour), isRGBA=True)
            left, base = x - widths[kind] / 2, top - base if renderer.flipy() else base
            renderer.draw_text(ink, left, base, cell.text, font, 0.0)
            ink.restore()
