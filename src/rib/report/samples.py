"""Samples: a few test images or texts of each data set, small enough for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.data.base import DataSet
from rib.data.examples import Index
from rib.data.imagenet_classes import spoken
from rib.data.views import Inputs, Pixels
from rib.errors import RibError
from rib.plan import Plan

COUNT = 6
"""Samples of a set."""

SIDE, GAP = 56, 3
"""Side of a sample image, and the space between two, in pixels."""

LETTERS = 160
"""Characters of a sample text."""

MOST_SETS = 24
"""Sets with samples; the others of a larger suite have none, so that its page stays small."""


@dataclass(frozen=True)
class Samples:
    """Samples of one data set.

    Attributes:
        name: of the set in tables.
        role: its part in the suite, in words.
        count: test examples of the set.
        labels: class of each sample, with its cell.
        picture: the sample images side by side as a data address, which no network serves; empty for texts.
        width, height: of the picture, pixels.
        texts: the sample texts; empty for images.
    """

    name: str
    role: str
    count: int
    labels: tuple[str, ...]
    picture: str = ""
    width: int = 0
    height: int = 0
    texts: tuple[str, ...] = ()


def samples(plan: Plan) -> list[Samples]:
    """Samples of the sets of a suite, unless it leaves them out; a set whose files cannot be read now has none."""
    return list(_readable(plan)) if plan.suite.samples else []


def _readable(plan: Plan) -> Iterator[Samples]:
    for name in sorted(plan.suite.tested, key=lambda name: name != plan.suite.reference)[:MOST_SETS]:
        try:
            yield _of_set(plan, name, plan.world[name])
        except (RibError, OSError):  # moved since the run: the results do not need them
            continue


def _of_set(plan: Plan, name: str, data: DataSet) -> Samples:
    """Raises UserError or OSError if the set cannot be read."""
    index = data.index("test")
    rows = chosen_rows(index)
    labels = tuple(_label(data, index, row) for row in rows)
    about = plan.suite.set_names.short(name), _role(plan, name), len(index), labels
    if texts := data.words("test", rows):
        return Samples(*about, texts=tuple(map(_shortened, texts)))
    images = data.read("test", rows, Pixels(SIDE))
    return Samples(*about, picture=_strip(images), width=len(rows) * (SIDE + GAP) - GAP, height=SIDE)


def chosen_rows(index: Index) -> list[int]:
    """Rows of up to `COUNT` classes, spread over all classes; of each later class a later row, for another cell."""
    classes = np.unique(index.labels)
    places = np.unique(np.linspace(0, len(classes) - 1, min(COUNT, len(classes))).round().astype(int))
    return [_row(index, int(label), at / len(places)) for at, label in enumerate(classes[places])]


def _row(index: Index, label: int, share: float) -> int:
    rows: NDArray[np.int64] = np.flatnonzero(index.labels == label)
    return int(rows[int(share * len(rows)) if index.cells is not None else 0])


def _label(data: DataSet, index: Index, row: int) -> str:
    name = spoken(data.classes[int(index.labels[row])])
    return name if index.cells is None else f"{name}, {index.cell_names[int(index.cells[row])]}"


def _role(plan: Plan, name: str) -> str:
    if name == plan.suite.reference:
        return "reference"
    return "downstream" if name in plan.suite.downstream else "only tested on"


def _shortened(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= LETTERS else plain[: LETTERS - 1] + "…"


def _strip(images: Inputs) -> str:
    """Images uint8 (n, SIDE, SIDE, 3) side by side, as a JPEG file in a data address."""
    from PIL import Image

    whole = Image.new("RGB", (len(images) * (SIDE + GAP) - GAP, SIDE), "white")
    for place, image in enumerate(images):
        whole.paste(Image.fromarray(image), (place * (SIDE + GAP), 0))
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
