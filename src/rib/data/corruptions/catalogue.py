"""Catalogue of corruptions, and the one function that applies them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rib.data.corruptions import blur, digital, noise, spatter, weather
from rib.data.corruptions.base import SMALLEST, Corruption, Draws
from rib.data.corruptions.frost import Textures
from rib.data.published import SEVERITIES
from rib.errors import UserError, nearest

ROWS: Mapping[str, Corruption] = {
    row.name: row
    for row in (
        *(*noise.ROWS, *blur.ROWS, *weather.ROWS, *digital.ROWS),
        *(*noise.EXTRA, *blur.EXTRA, *spatter.EXTRA, *digital.EXTRA),
    )
}
"""Every corruption by name: the fifteen in the published order, then the four extra ones."""


def find_corruption(name: str) -> Corruption:
    """The row of that name. Raises UserError with the nearest name if there is none."""
    if name not in ROWS:
        raise nearest(name, ROWS, "corruption")
    return ROWS[name]


def check_severity(severity: int) -> None:
    """Raise UserError unless it is one of 1 … 5."""
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise UserError("unknown severity", got=severity, valid="1, 2, 3, 4, 5")


def image_seed(content: bytes, seed: int) -> int:
    """The seed of an image, by what it is: never by its name, or its place among others.

    Args:
        content: bytes that name it, such as its file's.
        seed: of the whole set.
    """
    found = hashlib.blake2b(f"{seed}/".encode(), digest_size=8)
    found.update(content)
    return int.from_bytes(found.digest(), "big") >> 1


def corrupt(
    images: NDArray[np.uint8],
    name: str,
    severity: int,
    seeds: Sequence[int] | NDArray[np.integer],
    *,
    textures: Textures | None = None,
) -> NDArray[np.uint8]:
    """Images corrupted as by the library imagecorruptions; docs/corruptions.md says where ImageNet-C's script differs.

    Each depends on its own pixels and seed only, never on its batch.

    Args:
        images: uint8 (N, H, W, 3), with H and W at least 32.
        name: one of `ROWS`.
        severity: 1 to 5.
        seeds: one per image, at least 0.
        textures: pictures of frost, for `frost` only; default: made by formula.

    Returns:
        uint8 (N, H, W, 3).

    Raises:
        UserError: the name, the severity, the images or the seeds are not as said.

    Source: Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261.
    """
    row = find_corruption(name)
    check_severity(severity)
    check_images(images, seeds)
    kernel = partial(row.kernel, textures=textures) if name == "frost" else row.kernel
    level = row.levels[severity - 1]
    found = np.empty(images.shape, np.uint8)
    for place, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        found[place] = kernel(np.ascontiguousarray(image), level, Draws(int(seed), name, severity))
    return found


def check_images(images: NDArray[np.uint8], seeds: Sequence[int] | NDArray[np.integer]) -> None:
    """Raise UserError unless images are uint8 (N, H, W, 3), large enough, with one seed each."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < SMALLEST:
        raise UserError(
            "these images cannot be corrupted",
            got=f"{images.dtype} {images.shape}",
            valid=f"uint8 (N, H, W, 3), H and W at least {SMALLEST}",
        )
    if len(seeds) != len(images) or any(int(seed) < 0 for seed in seeds):
        raise UserError(
            "give each image its own seed", got=f"{len(seeds)} seeds", valid=f"{len(images)} integers from 0 on"
        )
