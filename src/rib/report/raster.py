"""Raster: a figure's PDF as PNG, so that matplotlib draws each figure once, and lean fonts in PDFs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

DOTS = 200
"""Resolution of every PNG, in dots per inch."""

LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB", "kern", "MATH")
"""Tables of a font that place glyphs. A PDF states the place of each glyph and uses none of them."""


@cache
def has_renderer() -> bool:
    """Whether pypdfium2, which is part of the extra `figures`, is installed and runs on this machine."""
    try:
        import pypdfium2  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def png_of(pdf: bytes) -> bytes:
    """The first page of a PDF as PNG, RGB on white; equal pages give equal bytes.

    Args:
        pdf: a whole file.
    """
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    try:
        # a bitmap has whole pixels, rounded up: a hair less, so that 7 in stay 1,400 pixels
        picture = document[0].render(scale=DOTS / 72 * (1 - 1e-6)).to_pil()
        made = io.BytesIO()
        picture.save(
            made, "png", compress_level=3, dpi=(DOTS, DOTS)
        )  # by a tenth larger than level 6, in half the time
        return made.getvalue()
    finally:
        document.close()


@contextmanager
def lean_fonts() -> Iterator[None]:
    """Embed fonts without their layout tables, which take most of the time that cutting a font to its letters takes.

    matplotlib passes fontTools no option for this, so its default changes here. With a fontTools that has no such
    default, fonts are embedded with their tables.
    """
    from fontTools.subset import Options

    name = "_drop_tables_default"
    usual = getattr(Options, name, None)
    if usual is None:
        yield
        return
    setattr(Options, name, [*usual, *LAYOUT_TABLES])
    try:
        yield
    finally:
        setattr(Options, name, usual)
