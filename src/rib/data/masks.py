"""Files of a class that by their names belong to another file: masks, depth maps, thumbnails, a second format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rib.data.containers import Container, Listing
from rib.data.sources import stem
from rib.errors import UserError

_WORDS = (
    r"(?:masks?|seg|segm|segmentations?|segmask|gt|ground[ _-]?truth|labels?|labelids|annotations?|trimap|matte|alpha"
    r"|superpixels?|depth|thumb|thumbnail|heatmap|overlay|bbox|\d{2,4}x\d{2,4})"
)
_PHOTO = ("rgb", "img", "image", "color", "colour", "photo", "orig", "original")

_AFTER = re.compile(rf"(?P<base>.+?)[ _.-]+{_WORDS}[ _-]?\d*", re.IGNORECASE)
_BEFORE = re.compile(rf"{_WORDS}[ _.-]+(?P<base>.+)", re.IGNORECASE)

_ANY = re.compile(rf"[ _.-]{_WORDS}[ _-]?\d*\.\w+$|^{_WORDS}[ _.-]", re.IGNORECASE | re.MULTILINE)
"""Finds out quickly whether any of a million names may be a mask's."""

MOST = 0.01
"""Share of a set's images that may look like masks of others, by their names."""

TWICE = 0.25
"""Share of second files of one name in a set that is no accident: half of the images are then in pairs."""


def require_pictures_of_their_own(data: str, container: Container, told: bool = False) -> None:
    """Refuse a set in which images belong to other images of their class, by the names of their files.

    Such are `001_mask.png` beside `001.png`, `mask_001.png` beside `image_001.png`, `001.seg.png` beside `001.jpg`; and
    `001.jpg` beside `001.png`, if half of the images are such pairs.

    Args:
        data: the data set's name, for errors.
        container: holds the images.
        told: whether the user says which images show the same source, so that twins are counted as one.

    Raises:
        UserError: there are such images, and more than a hundredth of the set.
    """
    listing = container.listing()
    if not listing.named or not listing.names:
        return
    if masks := list(_masks(listing)) if _ANY.search("\n".join(listing.names)) else []:
        _refuse(
            data,
            container,
            masks,
            MOST,
            "look by their names like masks, maps or thumbnails of others",
            "move them out of the folders of the classes; rename the files that are pictures of their own",
        )
    if not told and (twins := list(_twins(listing))):
        _refuse(
            data,
            container,
            twins,
            TWICE,
            "have the name of another image of their class, with another suffix",
            "keep one file for each picture; or rename different pictures, or name the source of each with `source`",
        )


def _refuse(
    data: str, container: Container, found: Sequence[tuple[str, str, str]], most: float, words: str, remedy: str
) -> None:
    total = len(container.listing())
    if len(found) >= most * total:
        folder, one, other = found[0]
        raise UserError(
            f"data set {data!r}: {len(found):,} of {total:,} images {words}",
            got=f"{one} beside {other} in {container.where / folder}",
            valid="pictures alone, each once",
            remedy=remedy,
        )


def _masks(listing: Listing) -> Iterator[tuple[str, str, str]]:
    """Folder and name of each image that looks like another one's mask, and the other one's name."""
    places = listing.folder_of.tolist()
    first = {(place, stem(name).lower()): name for place, name in zip(places, listing.names, strict=True)}
    for place, name in zip(places, listing.names, strict=True):
        for found in filter(None, (_AFTER.fullmatch(stem(name)), _BEFORE.fullmatch(stem(name)))):
            base = found["base"].lower()
            whole = (
                base,
                *(form for word in _PHOTO for form in (f"{base}_{word}", f"{word}_{base}", f"{base}-{word}")),
            )
            if owner := next((first[place, one] for one in whole if (place, one) in first), None):
                yield listing.folders[place], name, owner
                break


def _twins(listing: Listing) -> Iterator[tuple[str, str, str]]:
    """Folder and name of each image that has another one's name with another suffix, and the other one's name."""
    if len({name.rpartition(".")[2].lower() for name in listing.names}) < 2:
        return
    first: dict[tuple[int, str], str] = {}
    for place, name in zip(listing.folder_of.tolist(), listing.names, strict=True):
        if (other := first.setdefault((place, stem(name)), name)) != name:
            yield listing.folders[place], name, other
