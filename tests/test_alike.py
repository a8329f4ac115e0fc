"""Alike: near copies are found whatever their size and compression, and other pictures are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rib.data.alike import alike, looks_of, near_copies
from rib.data.catalogue import DataRow, open_data
from rib.data.overlap import Roles


def pictures(count: int, seed: int) -> list[Image.Image]:
    """Smooth scenes of 80 x 80."""
    noise = np.random.default_rng(seed).integers(0, 255, (count, 10, 10, 3), np.uint8)
    return [Image.fromarray(one).resize((80, 80), Image.Resampling.BICUBIC) for one in noise]


def write(folder: Path, images: list[Image.Image], suffix: str = "png", **options: Any) -> None:
    (folder / "cat").mkdir(parents=True)
    for place, image in enumerate(images):
        image.save(folder / "cat" / f"{place}.{suffix}", **options)


CHANGES: dict[str, Any] = {
    "compressed": lambda image: image,
    "smaller": lambda image: image.resize((60, 60), Image.Resampling.LANCZOS),
    "larger": lambda image: image.resize((133, 133), Image.Resampling.BICUBIC),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "brighter": lambda image: image.point(lambda value: min(255, value + 4)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_are_found_and_named(change: str, tmp_path: Path) -> None:
    tuned = pictures(40, 0)
    write(tmp_path / "a", tuned)
    others = pictures(40, 1)
    write(tmp_path / "b", [*others[:20], *(CHANGES[change](image) for image in tuned[:10])], "jpg", quality=70)
    sets = {name: open_data(name, DataRow(folder=name), tmp_path, None) for name in "ab"}
    pairs = alike(looks_of(sets["a"], "tune"), looks_of(sets["b"], "test"))
    names = [(sets["b"].names("test")[row], sets["a"].names("tune")[like]) for row, like in pairs]
    assert sorted(names) == sorted((f"cat/{20 + place}.jpg", f"cat/{place}.png") for place in range(10))
    notes = list(near_copies(sets, Roles("", ("a", "b"), (), ("a",))))
    assert [note.sets for note in notes] == [("a", "b")]
    assert "10 images tested on of 'b' look like ones of 'a'" in notes[0].words
    assert not notes[0].refused


def test_exact_copies_are_told_elsewhere_and_other_pictures_not_at_all(tmp_path: Path) -> None:
    write(tmp_path / "a", pictures(300, 0))
    write(tmp_path / "b", [*pictures(300, 0)[:5], *pictures(300, 1)])
    sets = {name: open_data(name, DataRow(folder=name), tmp_path, None) for name in "ab"}
    assert list(near_copies(sets, Roles("", ("a", "b"), (), ("a", "b")))) == []
