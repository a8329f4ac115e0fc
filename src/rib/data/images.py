"""Reading image files and giving them a model's view, as the reference pipelines of timm and torchvision do."""

from __future__ import annotations

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


def read_image(path: Path) -> Image.Image:
    """Decode a file to RGB. EXIF orientation is not applied, as torchvision's ImageFolder does not.

    Raises:
        UserError: the file is missing, truncated, or no image; it is named.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"cannot read the image {path}",
            got=str(error) or type(error).__name__,
            remedy="copy the file again, or take it out of the data set",
        ) from None


def apply_view(image: Image.Image, view: View) -> NDArray[np.uint8]:
    """Resize the shorter side to floor(size / crop) and cut the centre: uint8 (size, size, 3).

    The longer side is truncated and the crop's corner is rounded as in torchvision's `resize` and `center_crop`.
    """
    short = math.floor(view.size / view.crop)
    width, height = image.size
    if min(width, height) != short:
        scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
        image = image.resize(scaled, _FILTERS[view.interpolation])
    width, height = image.size
    left, top = round((width - view.size) / 2.0), round((height - view.size) / 2.0)
    return np.asarray(image.crop((left, top, left + view.size, top + view.size)), dtype=np.uint8)
