"""Modes: what becomes of an image that is not 8-bit RGB. docs/datasets.md, "Pixels", has the table."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from rib.data import apart
from rib.identity import digest

_BITS, _PHOTOMETRIC = 258, 262
"""TIFF tags."""


class UnclearError(ValueError):
    """An image that is whole and whose values do not say what they mean."""


_DARKEST = 2**12
"""A 16-bit image whose values all lie below this would be all but black."""


def as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of an opened image, whatever its mode.

    8-bit modes become what Pillow's `convert("RGB")` makes of them. Of 16-bit grey the high byte is taken, as Pillow
    takes it of 16-bit colour; its own conversion of 16-bit grey gives white.

    Raises:
        UnclearError: the mode does not say which value is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return np.repeat(_high_byte(image)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnclearError(f"32-bit values (mode {image.mode}): the file does not say which value is white")
    image.info.pop("transparency", None)  # dropped by `convert` too, for a palette with a warning
    return np.asarray(image.convert("RGB"))


def _high_byte(image: Image.Image) -> NDArray[np.uint8]:
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = int(tags.get(_BITS, (16,))[0])
    values = np.asarray(image).astype(np.int64)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        values = 2**bits - 1 - values
    if bits == 16 and 0 < values.max() < _DARKEST:
        raise UnclearError(f"16-bit values of at most {values.max()}: the file does not say which value is white")
    return (values >> (bits - 8)).astype(np.uint8)


def image_digest(content: bytes) -> str:
    """A digest of an image file and of how its pixels are read, where that has changed since RIB 0.1: 16-bit grey."""
    return digest(content + b"\0high byte" if is_deep_grey(content) else content)


def is_deep_grey(content: bytes) -> bool:
    """Whether an image file is grey of more than 8 bits, or of numbers that may be anything."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content[24:26] == b"\x10\x00"  # bit depth 16, colour type grey
    if content.startswith(b"P5"):
        return is_deep_here(content)
    if not content.startswith((b"II", b"MM")):
        return False
    try:
        return bool(apart.ask("deep", content)[0].get("deep"))
    except apart.LimitError:  # `decode_pixels` says it in words
        return False


def is_deep_here(content: bytes) -> bool:
    """The same of a TIFF or PPM, in this process, which a hostile TIFF may take long."""
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF", "PPM")) as image:
            return image.mode.startswith("I") or image.mode == "F"
    except Exception:  # decoders raise whatever hostile bytes lead them to; `decode_pixels` says it in words
        return False
