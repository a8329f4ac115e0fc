"""Shown: values that display themselves in a terminal, an interpreter and a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rich.console import RenderableType

from rib.text.terminal import console, off_screen

WIDTH = 100
"""Width in columns in an interpreter or a notebook."""

PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:1.25;font-family:monospace">{code}</pre>'


class Shown(ABC):
    """A value that displays lines of text: by `print(value)`, by its name in an interpreter, and in a notebook's
    cell."""

    @abstractmethod
    def lines(self, width: int) -> RenderableType:
        """The content to display, for a width in columns."""

    def table(self) -> None:
        """Print the value at the width of the terminal."""
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
