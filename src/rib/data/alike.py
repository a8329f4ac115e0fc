"""Near copies: test images that look like a tuning image, such as another size or compression of the same picture."""

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
"""Side of the image that is compared, in pixels."""

FAR = 4
"""Maximum number of bits, of 64, in which the hashes of two similar images differ."""

GREY = 6.0
"""Maximum mean difference of the 9 × 8 thumbnails of two similar images, in grey levels of 255."""

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
    """Test images that look like a tuning image but are not exact copies. Each pair of sets gives one note, never an
    error.

    Args:
        sets: every set that is scored, by name.
        roles: the roles of the sets.
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
            continue
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
    """The appearance of every image of a part: the difference hash (dHash) of its centre square, and a thumbnail.

    Args:
        data: the data set.
        part: the part.
        advance: called with the number of images read since the last call.

    Raises:
        UserError: an image cannot be read.
    """
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
    """Pairs of a test row and the most similar tuning row, for the test rows that have a similar one."""
    found = []
    for start in range(0, len(tested.bits), CHUNK):
        same = tested.bits[start : start + CHUNK] @ tuned.bits.T  # 64 minus twice the number of bits that differ
        for row, like in np.argwhere(same >= 64 - 2 * FAR).tolist():
            difference = float(np.abs(tested.thumbs[start + row] - tuned.thumbs[like]).mean())
            if difference <= GREY:
                found.append((start + row, difference, like))
    best = {row: like for row, _, like in sorted(found, reverse=True)}
    return sorted(best.items())
