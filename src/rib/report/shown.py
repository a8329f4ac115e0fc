"""Shown: values that print themselves, in a terminal, in an interpreter and in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rich.console import RenderableType

from rib.text.terminal import console, off_screen

WIDTH = 100
"""Columns of what an interpreter or a notebook shows."""

PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:1.25;font-family:monospace">{code}</pre>'


class Shown(ABC):
    """A value with lines to show; `print(value)`, its name in an interpreter, and a notebook's cell show them."""

    @abstractmethod
    def lines(self, width: int) -> RenderableType:
        """What to show in a number of columns."""

    def table(self) -> None:
        """Print it, as wide as the terminal."""
        screen = console(highlight=False)
        screen.print(self.lines(screen.width))

    def __repr__(self) -> str:
        """The lines as plain text."""
        screen = off_screen(WIDTH)
        with screen.capture() as shown:
            screen.print(self.lines(WIDTH))
        return shown.get().rstrip()

    def _repr_html_(self) -> str:
        screen = off_screen(WIDTH, record=True)
        screen.print(self.lines(WIDTH))
        return screen.export_html(inline_styles=True, code_format=PRE)
