"""Digests of decoded images, which show that two files of different formats have the same picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.base import Form
from rib.data.containers import Container, changed, in_chunks, short_digests
from rib.data.images import decode_pixels, form_of_image
from rib.data.modes import image_digest
from rib.data.threads import side_by_side
from rib.files import read_fact, write_fact
from rib.identity import digest

SAMPLE = 8
"""Number of images of a part whose size is read."""

LOSSY = (".jpg", ".jpeg")


def picture_digest(pixels: NDArray[np.uint8]) -> str:
    """A digest of a decoded image, uint8 (H, W, 3)."""
    return digest(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())


def form_of(container: Container, rows: Rows, known: NDArray[np.uint64], cache: Path | None) -> Form:
    """Facts about the images of some rows, from their names and the headers of a sample.

    Args: as `picture_digests`.
    """
    file = _fact("picture_kind", known, cache)
    if file and (kept := read_fact(file)):
        return Form(*json.loads(kept))
    found = _looked_at(container, rows)
    if file:
        write_fact(file, json.dumps([found.lossless, found.pixels]).encode())
    return found


def _fact(what: str, known: NDArray[np.uint64], cache: Path | None) -> Path | None:
    """The file that caches facts about the images with these digests."""
    return cache / f"{digest(json.dumps([what, known.tolist()]).encode())}.json" if cache else None


def _looked_at(container: Container, rows: Rows) -> Form:
    listing = container.listing()
    lossless = listing.named and any(not listing.names[row].lower().endswith(LOSSY) for row in rows.tolist())
    chosen = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(np.int64)]
    pixels: list[int] = []
    for content in container.read(chosen):
        try:
            exact, count = form_of_image(content)
        except Exception:  # hostile bytes may make decoders raise any error; decoding reports it later
            continue
        pixels.append(count)
        lossless = lossless or exact
    return Form(lossless, round(sum(pixels) / max(1, len(pixels)) * len(rows)))


def picture_digests(
    container: Container, rows: Rows, known: NDArray[np.uint64], cache: Path | None
) -> NDArray[np.uint64]:
    """The first 64 bits of a digest of every row's decoded pixels. Files are decoded again only after a change.

    Args:
        container: holds the images.
        rows: the rows to digest.
        known: `short_digests` of the rows' bytes.
        cache: folder for digests.

    Returns:
        uint64 (N,).

    Raises:
        UserError: an image cannot be decoded, or its bytes differ from `known`.
    """
    file = _fact("picture_digest", known, cache)
    if file and (kept := read_fact(file)):
        return np.array(json.loads(kept), np.uint64)
    found = [""] * len(rows)
    for places, contents in in_chunks(container, rows):

        def one(item: tuple[int, bytes]) -> None:
            place, content = item
            title = container.title(int(rows[place]))
            if short_digests([image_digest(content)])[0] != known[place]:
                raise changed(title)
            found[place] = picture_digest(decode_pixels(content, title))

        side_by_side(one, list(zip(places.tolist(), contents, strict=True)))
    short = short_digests(found)
    if file:
        write_fact(file, json.dumps(short.tolist()).encode())
    return short
