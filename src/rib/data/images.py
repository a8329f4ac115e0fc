"""Reading image files and giving them a model's view, as the reference pipelines of timm and torchvision do."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rib.data.examples import View
from rib.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_TAIL = 64


def read_image(path: Path) -> Image.Image:
    """Decode a file to RGB. EXIF orientation is not applied, as torchvision's ImageFolder does not.

    Raises:
        UserError: the file is missing, truncated, or no image; it is named.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(str(path), error) from None
    return decode_image(content, str(path))


def decode_image(content: bytes, title: str) -> Image.Image:
    """Decode the bytes of an image file to RGB, whatever its format and mode: grey, palette, CMYK, with alpha.

    EXIF orientation is not applied and alpha is dropped, as torchvision's ImageFolder does.

    Args:
        content: the file's bytes.
        title: names the file in the error.

    Raises:
        UserError: it is truncated, or no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(title, error if content else "an empty file") from None


def check_whole(content: bytes, title: str) -> None:
    """Refuse a file that is cut off or no image. Decodes it only where its end does not look as it should.

    Raises:
        UserError: as `decode_image`.
    """
    if not _ends_well(content):
        decode_image(content, title)


def _ends_well(content: bytes) -> bool:
    """Whether a file has the first and last bytes of its format; an ending that is merely unusual says no."""
    tail = content[-_TAIL:]
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" in tail
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return len(content) >= 8 + int.from_bytes(content[4:8], "little")
    return False


def apply_view(image: Image.Image, view: View, native: bool = False) -> NDArray[np.uint8]:
    """Resize the shorter side to floor(size / crop) and cut the centre: uint8 (size, size, 3).

    The longer side is truncated and the crop's corner is rounded as in torchvision's `resize` and `center_crop`.

    Args:
        image: RGB.
        view: what the model sees.
        native: use an image that has the model's size already as it is, without resize and crop.
    """
    if native and image.size == (view.size, view.size):
        return np.asarray(image, dtype=np.uint8)
    short = math.floor(view.size / view.crop)
    width, height = image.size
    if min(width, height) != short:
        scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
        image = image.resize(scaled, _FILTERS[view.interpolation])
    width, height = image.size
    left, top = round((width - view.size) / 2.0), round((height - view.size) / 2.0)
    return np.asarray(image.crop((left, top, left + view.size, top + view.size)), dtype=np.uint8)


def _unreadable(title: str, error: Exception | str) -> UserError:
    return UserError(
        f"cannot read the image {title}",
        got=str(error).strip() or type(error).__name__,
        remedy="copy the file again, or take it out of the data set",
    )
