"""Conversion of images that are not 8-bit RGB. The table is in docs/datasets.md, "Pixels"."""

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
    """A complete image whose values have an unclear meaning."""


_DARKEST = 2**12
"""If all values of a 16-bit image are below this, its high bytes would be almost black."""


def as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An opened image of any mode as uint8 (H, W, 3).

    8-bit modes are converted as by Pillow's `convert("RGB")`. Of 16-bit grey the high byte is used, as Pillow does for
    16-bit colour; Pillow's own conversion of 16-bit grey would give white.

    Raises:
        UnclearError: the mode does not say which value is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return np.repeat(_high_byte(image)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnclearError(f"32-bit values (mode {image.mode}): the file does not say which value is white")
    image.info.pop("transparency", None)  # `convert` drops it too, with a warning for a palette
    return np.asarray(image.convert("RGB"))


def _high_byte(image: Image.Image) -> NDArray[np.uint8]:
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = int(tags.get(_BITS, (16,))[0])
    values = np.asarray(image).astype(np.int64)
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white
        values = 2**bits - 1 - values
    if bits == 16 and 0 < values.max() < _DARKEST:
        raise UnclearError(f"16-bit values of at most {values.max()}: the file does not say which value is white")
    return (values >> (bits - 8)).astype(np.uint8)


def image_digest(content: bytes) -> str:
    """A digest of an image file.

    For 16-bit grey, which RIB 0.1 read differently, it includes how the pixels are read.
    """
    return digest(content + b"\0high byte" if is_deep_grey(content) else content)


def is_deep_grey(content: bytes) -> bool:
    """Whether an image file is grey with more than 8 bits, or has numbers of unclear meaning."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content[24:26] == b"\x10\x00"  # bit depth 16, colour type grey
    if content.startswith(b"P5"):
        return is_deep_here(content)
    if not content.startswith((b"II", b"MM")):
        return False
    try:
        return bool(apart.ask("deep", content)[0].get("deep"))
    except apart.LimitError:  # `decode_pixels` raises the error
        return False


def is_deep_here(content: bytes) -> bool:
    """`is_deep_grey` of a TIFF or PPM in this process, which a hostile TIFF can block for long."""
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF", "PPM")) as image:
            return image.mode.startswith("I") or image.mode == "F"
    except Exception:  # hostile bytes may make decoders raise any error; `decode_pixels` reports it
        return False
