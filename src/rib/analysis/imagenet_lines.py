"""ImageNet lines: the accuracy that published ImageNet models predict for a model, given its accuracy on ImageNet.

imagenet_lines.toml beside this file has the shipped coefficients, their date and the included models. This command
prints such a file for a folder of timm's results tables:

    python -m rib.analysis.imagenet_lines FOLDER
"""

from __future__ import annotations

import csv
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from rib.analysis.effective import Line, fit_line
from rib.errors import UserError, nearest
from rib.files import plain

LinesReference = Literal["imagenet", "same classes"]
"""The horizontal axis of a line. "imagenet": accuracy on the ImageNet validation set, over all 1000 classes. "same
classes": accuracy on its images of the test set's 200 classes, with the other 800 outputs masked."""

TABLES: dict[tuple[str, LinesReference], tuple[str, str]] = {
    ("imagenet:v2", "imagenet"): ("results-imagenet.csv", "results-imagenetv2-matched-frequency.csv"),
    ("imagenet:sketch", "imagenet"): ("results-imagenet.csv", "results-sketch.csv"),
    ("imagenet:a", "imagenet"): ("results-imagenet.csv", "results-imagenet-a.csv"),
    ("imagenet:a", "same classes"): ("results-imagenet-a-clean.csv", "results-imagenet-a.csv"),
    ("imagenet:r", "imagenet"): ("results-imagenet.csv", "results-imagenet-r.csv"),
    ("imagenet:r", "same classes"): ("results-imagenet-r-clean.csv", "results-imagenet-r.csv"),
}
"""For each line, the names of the two accuracy tables in timm's folder `results`."""

SHIPPED = Path(__file__).with_name("imagenet_lines.toml")


@dataclass(frozen=True)
class ImageNetLine:
    """A line through published ImageNet models.

    Attributes:
        tested_on: the test set.
        reference: the horizontal axis of the line.
        line: its coefficients; its points are rows of the tables.
        models: number of checkpoints among the rows. A checkpoint that was tested at two resolutions is two points.
    """

    tested_on: str
    reference: LinesReference
    line: Line
    models: int


def imagenet_line(tested_on: str, reference: LinesReference = "imagenet") -> ImageNetLine:
    """A shipped line, for masked accuracy.

    ImageNet-A and -R have two lines. The default is over accuracy on all of ImageNet, which suites measure. The papers
    on effective robustness use accuracy on the same 200 classes.

    Args:
        tested_on: name of the test set, such as "imagenet:sketch".
        reference: the horizontal axis of the line.

    Raises:
        UserError: there is no such line.
    """
    lines = {(each.tested_on, each.reference): each for each in shipped_lines()}
    if (tested_on, reference) not in lines:
        known = [name for name, start in lines if start == reference]
        raise nearest(tested_on, known, f"data set with an ImageNet line over {reference}")
    return lines[tested_on, reference]


@cache
def shipped_lines() -> tuple[ImageNetLine, ...]:
    """All shipped lines."""
    rows = tomllib.loads(SHIPPED.read_text("utf-8"))["line"]
    return tuple(
        ImageNetLine(
            tested_on=row.pop("tested_on"), reference=row.pop("reference"), models=row.pop("models"), line=Line(**row)
        )
        for row in rows
    )


def fit_lines(folder: Path) -> list[ImageNetLine]:
    """Lines through the rows of timm's results tables.

    A row is a checkpoint at one resolution and crop. A line uses the rows that are in both of its tables.

    Args:
        folder: holds the tables named in `TABLES`, each with the columns model, img_size, crop_pct and top1.

    Raises:
        UserError: a table is missing, lacks a column, or has too few rows in common with the other.
    """
    return [_fit(folder, *names, *tables) for names, tables in TABLES.items()]


def _fit(folder: Path, tested_on: str, reference: LinesReference, clean: str, shifted: str) -> ImageNetLine:
    first, second = dict(_rows(folder / clean)), dict(_rows(folder / shifted))
    common = sorted(first.keys() & second.keys())
    line = fit_line(np.array([first[row] for row in common]), np.array([second[row] for row in common]))
    return ImageNetLine(tested_on, reference, line, models=len({model for model, *_ in common}))


def _rows(table: Path) -> Iterator[tuple[tuple[str, ...], float]]:
    try:
        with plain(table).open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                yield (row["model"], row["img_size"], row["crop_pct"]), float(row["top1"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{table.name} cannot be read as one of timm's results tables",
            got=f"{type(error).__name__}: {error}",
            valid="a CSV file with the columns model, img_size, crop_pct, top1",
            remedy="take the files from the folder `results` of huggingface/pytorch-image-models",
        ) from None


def as_toml(lines: list[ImageNetLine]) -> str:
    """Lines in the TOML form that `shipped_lines` reads."""
    return "\n".join(_table(each) for each in lines)


def _table(each: ImageNetLine) -> str:
    numbers = {name: round(value, 6) for name, value in asdict(each.line).items()}
    words = {"tested_on": f'"{each.tested_on}"', "reference": f'"{each.reference}"', "models": each.models}
    return "[[line]]\n" + "".join(f"{name} = {value}\n" for name, value in (words | numbers).items())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m rib.analysis.imagenet_lines FOLDER")
    try:
        print(as_toml(fit_lines(Path(sys.argv[1]))), end="")
    except UserError as error:
        sys.exit(str(error))
