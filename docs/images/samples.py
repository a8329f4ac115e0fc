"""Samples of the embedded sets for docs/concepts.md: a contact sheet of digits, and a table of texts.

python docs/images/samples.py
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rib.data.catalogue import find_row, open_data
from rib.data.digits import CLASSES, DOMAINS, render
from rib.data.fields import DOWNSTREAM, MISSPELT, REFERENCE
from rib.data.texts import Texts

SHEET = Path(__file__).with_name("digits-sets.png")
PAGE = Path(__file__).parents[1] / "concepts.md"
BLOCK = re.compile(r"(?<=<!-- samples -->\n).*(?=<!-- /samples -->)", re.DOTALL)

SCALE, GAP, LEFT = 2, 4, 104
"""Magnification, pixels between images, width of the names."""

SHOWN = ("city", "date", "job", "phone", "street")
"""Classes of `fields` in the table; the others are of the same kind."""


def contact_sheet() -> Image.Image:
    """One row per set of digits, one column per class: the first test image of each."""
    side = 28 * SCALE + GAP
    sheet = Image.new("RGB", (LEFT + side * len(CLASSES), side * len(DOMAINS)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for row, name in enumerate(DOMAINS):
        draw.text((4, row * side + side // 2), name, fill="black", font=font, anchor="lm")
        for label, pixels in first_images(name).items():
            image = Image.fromarray(pixels).resize((28 * SCALE,) * 2, Image.Resampling.NEAREST)
            sheet.paste(image, (LEFT + label * side, row * side))
    return sheet


def first_images(name: str) -> dict[int, np.ndarray]:
    """The first test image of each class that a set has."""
    found = render(name, "test")
    labels, rows = np.unique(found.labels, return_index=True)
    return {int(label): found.images[row] for label, row in zip(labels, rows, strict=True)}


def text_table() -> str:
    """The first test value of some classes in each set of texts, as a Markdown table."""
    head = ["set", *SHOWN]
    rows = [[f"`{name}`", *first_texts(name)] for name in (REFERENCE, *DOWNSTREAM, MISSPELT)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def first_texts(name: str) -> list[str]:
    """The first test value of each shown class in a set."""
    full = f"fields:{name}"
    found = open_data(full, find_row(full, {}), PAGE.parent, None)
    assert isinstance(found, Texts)
    labels = found.index("test").labels
    rows = [int(np.flatnonzero(labels == found.classes.index(each))[0]) for each in SHOWN]
    return list(found.texts("test", rows)[0])


if __name__ == "__main__":
    contact_sheet().save(SHEET, optimize=True)
    PAGE.write_text(BLOCK.sub(lambda _: "\n" + text_table() + "\n", PAGE.read_text("utf-8")), "utf-8")
