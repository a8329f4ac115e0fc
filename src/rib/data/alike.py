"""Alike: images that are nearly those that are tuned on, such as another size or compression of the same picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rib.data.base import DataSet
from rib.data.examples import Part
from rib.data.overlap import Overlap, Parts, Roles, pairs_of
from rib.data.views import Pixels

SIDE = 64
"""Pixels of the view for comparisons."""

FAR = 4
"""Bits of 64 in which the hashes of two images that are alike may differ."""

GREY = 6.0
"""Grey levels, of 255, by which their 9 x 8 thumbnails may differ in the mean."""

CHUNK = 256


@dataclass(frozen=True)
class ImageLooks:
    """Statistics of the appearance of images.

    Attributes:
        bits: float32 (N, 64), the signs of the difference hash, -1 or 1.
        thumbs: float32 (N, 72), 9 x 8 grey levels.
    """

    bits: NDArray[np.float32]
    thumbs: NDArray[np.float32]


def near_copies(
    sets: Mapping[str, DataSet], roles: Roles, advance: Callable[[int], None] = lambda _: None
) -> Iterator[Overlap]:
    """Images tested on that look like one tuned on and are no exact copies: a note each pair of sets, never refused.

    Args:
        sets: every set that is scored, by name.
        roles: who is what.
        advance: called with the number of images read since the last call.
    """
    known: dict[tuple[str, Part], ImageLooks] = {}
    parts = Parts(sets, None)

    def looks(name: str, part: Part) -> ImageLooks:
        if (name, part) not in known:
            known[name, part] = looks_of(sets[name], part, advance)
        return known[name, part]

    for one, first, two, second in pairs_of(roles, sets):
        if not (isinstance(first.trial, Pixels) and isinstance(second.trial, Pixels)):
            continue  # no images
        found = alike(looks(one, "tune"), looks(two, "test"))
        compared = parts.compare(one, "tune", two, "test")
        if compared is not None:
            found = [(row, like) for row, like in found if compared.theirs[row] != compared.mine[like]]
        if found:
            row, like = found[0]
            yield Overlap(
                (one, two),
                f"{len(found):,} images tested on of {two!r} look like ones of {one!r} that are tuned on, such as "
                f"{second.names('test')[row]} and {first.names('tune')[like]}",
            )


def looks_of(data: DataSet, part: Part, advance: Callable[[int], None] = lambda _: None) -> ImageLooks:
    """The looks of a part: the difference hash (dHash) of its centre square, and a thumbnail."""
    count = len(data.index(part))
    thumbs = np.empty((count, 8, 9), np.float32)
    for start in range(0, count, CHUNK):
        rows = range(start, min(start + CHUNK, count))
        for row, pixels in zip(rows, data.read(part, rows, Pixels(SIDE)), strict=True):
            small = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
            thumbs[row] = np.asarray(small, np.float32)
        advance(len(rows))
    bits = np.where(thumbs[:, :, 1:] > thumbs[:, :, :-1], np.float32(1), np.float32(-1))
    return ImageLooks(bits.reshape(count, 64), thumbs.reshape(count, 72))


def alike(tuned: ImageLooks, tested: ImageLooks) -> list[tuple[int, int]]:
    """Rows tested on and, for each, the most similar row tuned on, of those that are alike."""
    found = []
    for start in range(0, len(tested.bits), CHUNK):
        same = tested.bits[start : start + CHUNK] @ tuned.bits.T  # 64 less twice the number of bits that differ
        for row, like in np.argwhere(same >= 64 - 2 * FAR).tolist():
            difference = float(np.abs(tested.thumbs[start + row] - tuned.thumbs[like]).mean())
            if difference <= GREY:
                found.append((start + row, difference, like))
    best = {row: like for row, _, like in sorted(found, reverse=True)}
    return sorted(best.items())
