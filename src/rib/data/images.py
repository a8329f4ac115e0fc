"""Reading image files and giving them a model's view, as the reference pipelines of timm and torchvision do."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rib.data import apart
from rib.data.modes import UnclearError, as_rgb, is_deep_grey
from rib.data.views import Pixels
from rib.errors import UserError
from rib.files import read_plain

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_TORCH_FILTERS = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}

_SAME_COLOURS = ("YCbCr", "Gray", "RGB")
"""Colour spaces of a JPEG that simplejpeg turns to RGB as Pillow does. CMYK it does not."""

_TAIL = 64

_JPEG, _HEAVY = b"\xff\xd8\xff", (b"II", b"MM")
"""First bytes of a JPEG, and of files that are never decoded in this process: TIFF."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
"""Formats that Pillow may read. Its other readers start programs (EPS) or are little tested against hostile bytes."""

MOST_PASSES = 2_000_000_000
"""Pixels of a JPEG times its scans: a decoder passes over all pixels once per scan, about 1.3 ns each. An image of 89
million pixels in ten scans has 0.9 billion; a file of 10 MB can hold 700,000 scans, which would take a day."""

LIGHT, LIGHT_BYTES, LIGHT_PIXELS = ("PNG", "WEBP", "BMP", "PPM"), 1 << 26, 1 << 24
"""What is decoded in this process beside JPEGs: 64 MiB and 16.8 million pixels at most. A TIFF is a format of formats,
and Pillow reads some BMP and PPM files pixel by pixel in Python: they are decoded apart."""

MOST_ELONGATED = 100
"""Longer side of an image per shorter side. One of 1 × 20,000 pixels would be resized to 224 × 4,480,000: 3 GB."""


def read_image(path: Path) -> Image.Image:
    """Decode a file to RGB. EXIF orientation is not applied, as torchvision's ImageFolder does not.

    Raises:
        UserError: the file is missing, truncated, or no image; it is named.
    """
    try:
        content = read_plain(path)
    except OSError as error:
        raise _unreadable(str(path), error) from None
    return decode_image(content, str(path))


def decode_image(content: bytes, title: str) -> Image.Image:
    """`decode_pixels` as an image of Pillow's."""
    return Image.fromarray(decode_pixels(content, title))


def decode_pixels(content: bytes, title: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to RGB, whatever its format and mode: grey, palette, CMYK, with alpha.

    The pixels are Pillow's, bit for bit. EXIF orientation is not applied and alpha is dropped, as torchvision's
    ImageFolder does. Of 16-bit grey the high byte is taken (`modes.as_rgb`).

    Args:
        content: the file's bytes.
        title: names the file in the error.

    Returns:
        uint8 (H, W, 3).

    Raises:
        UserError: it is truncated, or no image, or does not say which value is white.
    """
    try:
        pixels = _decode_jpeg(content)
        if pixels is None:
            pixels = _decode_light(content)
        return _decode_apart(content) if pixels is None else pixels
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise _unreadable(title, f"no {', '.join(FORMATS)}" if content else "an empty file") from None
    except UnclearError as error:
        raise UserError(
            f"cannot read the image {title}",
            got=error,
            valid="8 bits a channel, or 16-bit values that use the whole range",
            remedy="save the images as 8-bit, scaled so that white is 255",
        ) from None
    except Exception as error:  # decoders raise whatever hostile bytes lead them to
        raise _unreadable(title, error) from None


def decode_here(content: bytes) -> NDArray[np.uint8]:
    """What `decode_pixels` decodes apart, in the process that does so. Raises whatever Pillow does, and ValueError."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        require_moderate(*image.size)
        if image.format == "JPEG" or "jpeg" in str(image.info.get("compression")):
            _require_few_scans(*image.size, content)
        return as_rgb(image)


def form_of_image(content: bytes) -> tuple[bool, int]:
    """Whether a file's format is lossless, and its number of pixels, from its header.

    Raises:
        ValueError: it has none.
    """
    if content.startswith(_JPEG):
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        return False, height * width
    if content.startswith(_HEAVY) or len(content) > LIGHT_BYTES:
        lossless, pixels = _asked("form", content)[0]["form"]
        return bool(lossless), int(pixels)
    return form_here(content)


def form_here(content: bytes) -> tuple[bool, int]:
    """The same in this process, which a TIFF may take long. Raises whatever Pillow does."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return image.format != "JPEG", math.prod(image.size)


def _asked(question: str, content: bytes) -> apart.Answer:
    """The answer of a process of its own; raises what it met, as `decode_pixels` expects it."""
    facts, data = apart.ask(question, content)
    if "error" in facts:
        kinds = {"format": UnidentifiedImageError, "unclear": UnclearError}
        raise kinds.get(facts["error"], ValueError)(facts["message"])
    return facts, data


def _decode_apart(content: bytes) -> NDArray[np.uint8]:
    facts, data = _asked("pixels", content)
    return np.frombuffer(data, np.uint8).reshape(facts["shape"])


def _decode_light(content: bytes) -> NDArray[np.uint8] | None:
    """An image that Pillow is sure to decode in seconds; None for another."""
    if content.startswith((*_HEAVY, _JPEG)) or len(content) > LIGHT_BYTES:
        return None
    with Image.open(io.BytesIO(content), formats=LIGHT) as image:
        require_moderate(*image.size)
        by_python = image.format in ("BMP", "PPM") and any(part[0] != "raw" for part in image.tile)
        if by_python or math.prod(image.size) > LIGHT_PIXELS:
            return None
        return as_rgb(image)


def require_moderate(width: int, height: int) -> None:
    """Refuse an image so elongated, or so large, that to resize it would take gigabytes.

    Raises:
        ValueError: it is; its size and the limit are named.
    """
    if min(width, height) < 1 or max(width, height) > MOST_ELONGATED * min(width, height):
        raise ValueError(f"{width} × {height} pixels: one side is more than {MOST_ELONGATED} times the other")
    if width * height > (most := Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(f"{width} × {height} pixels are more than {most:,}")


def _require_few_scans(width: int, height: int, content: bytes) -> None:
    """Refuse a JPEG, alone or in a TIFF, that would be decoded for minutes or hours. Raises ValueError."""
    scans = content.count(b"\xff\xda")
    if width * height * scans > MOST_PASSES:
        raise ValueError(
            f"{width} × {height} pixels in {scans:,} scans: {MOST_PASSES:,} pixels of all scans are the limit"
        )


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """A JPEG as libjpeg-turbo decodes it for Pillow too; None for whatever it is better left to Pillow to judge."""
    if not content.startswith(_JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    require_moderate(width, height)
    _require_few_scans(width, height, content)
    if colours not in _SAME_COLOURS:
        return None
    try:
        return cast(NDArray[np.uint8], simplejpeg.decode_jpeg(content))
    except ValueError:
        return None


def check_whole(content: bytes, title: str) -> None:
    """Refuse a file that is cut off or no image. Decodes it only where its end does not look as it should, or where
    its values may not say which is white.

    Raises:
        UserError: as `decode_pixels`.
    """
    if is_deep_grey(content) or not _ends_well(content):
        decode_pixels(content, title)


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


def apply_view(image: NDArray[np.uint8] | Image.Image, view: Pixels, native: bool = False) -> NDArray[np.uint8]:
    """Resize the image to floor(size / crop) and cut the centre: uint8 (size, size, 3).

    Sides and corners are truncated or rounded as in torchvision's `resize` and `center_crop`, and for a border as in
    timm's and open_clip's `ResizeKeepRatio` and `CenterCropOrPad`.

    Args:
        image: RGB, uint8 (H, W, 3) or an image of Pillow's.
        view: what the model sees, and how it is resized.
        native: use an image that has the model's size already as it is, without resize and crop.

    Raises:
        ValueError: as `require_moderate`.
    """
    pixels: NDArray[np.uint8] = np.asarray(image)
    height, width = pixels.shape[:2]
    if native and (width, height) == (view.size, view.size):
        return pixels
    require_moderate(width, height)
    side = math.floor(view.size / view.crop)
    scaled = _scaled(width, height, side, view)
    require_moderate(*scaled)
    if view.resize == "border" or min(scaled) < view.size:
        return _crop_or_pad(_resized(pixels, scaled, view), view)
    left, top = round((scaled[0] - view.size) / 2.0), round((scaled[1] - view.size) / 2.0)
    crop = (left, top, left + view.size, top + view.size)
    if scaled == (width, height) or _is_fast(view):
        return _resized(pixels, scaled, view)[top : crop[3], left : crop[2]]
    whole = Image.fromarray(pixels)
    if width == height and _crops_first(width, side, view):
        return np.asarray(_resize_cropped(whole, side, crop, view))
    return np.asarray(whole.resize(scaled, _FILTERS[view.interpolation]).crop(crop))


def _scaled(width: int, height: int, side: int, view: Pixels) -> tuple[int, int]:
    """Width and height of an image after it is resized to `side`."""
    if view.resize == "squash":
        return side, side
    if view.resize == "border":
        ratio = max(height / side, width / side)
        return max(round(width / ratio), 1), max(round(height / ratio), 1)
    if min(width, height) == side:
        return width, height
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def _resized(pixels: NDArray[np.uint8], scaled: tuple[int, int], view: Pixels) -> NDArray[np.uint8]:
    if scaled == (pixels.shape[1], pixels.shape[0]):
        return pixels
    if _is_fast(view):
        return _resize_fast(pixels, scaled, view)
    return np.asarray(Image.fromarray(pixels).resize(scaled, _FILTERS[view.interpolation]))


def _is_fast(view: Pixels) -> bool:
    return view.decode == "fast" and view.interpolation in _TORCH_FILTERS


def _crop_or_pad(pixels: NDArray[np.uint8], view: Pixels) -> NDArray[np.uint8]:
    """The centre of an image on a square of the view's colour: uint8 (size, size, 3)."""
    before = [max(view.size - length, 0) // 2 for length in pixels.shape[:2]]
    shape = [max(view.size, length) for length in pixels.shape[:2]]
    canvas = np.empty((*shape, 3), np.uint8)
    canvas[:] = view.fill or (0, 0, 0)
    canvas[before[0] : before[0] + pixels.shape[0], before[1] : before[1] + pixels.shape[1]] = pixels
    top, left = (round((length - view.size) / 2.0) for length in shape)
    return canvas[top : top + view.size, left : left + view.size]


def _resize_fast(pixels: NDArray[np.uint8], scaled: tuple[int, int], view: Pixels) -> NDArray[np.uint8]:
    """torchvision's antialiased resize of uint8, which keeps fewer bits of its weights than Pillow's does."""
    import torch

    from rib import _compat

    _compat.declare_missing_operators()
    from torchvision.transforms.v2 import InterpolationMode, functional

    tensor = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)
    mode = InterpolationMode(_TORCH_FILTERS[view.interpolation])
    resized = functional.resize(tensor, [scaled[1], scaled[0]], mode, antialias=True)
    return cast(NDArray[np.uint8], resized.permute(1, 2, 0).numpy())


def _resize_cropped(image: Image.Image, short: int, crop: tuple[int, int, int, int], view: Pixels) -> Image.Image:
    """A square image resized to `short`; only the part inside the crop is computed."""
    left, top, right, bottom = (edge * image.width / short for edge in crop)
    return image.resize((view.size, view.size), _FILTERS[view.interpolation], box=(left, top, right, bottom))


@lru_cache(maxsize=256)
def _crops_first(side: int, short: int, view: Pixels) -> bool:
    """Whether Pillow gives the same pixels where it makes only those that the crop of a square image leaves.

    Its weights are the same where the edges of the crop are exact in the single precision that it keeps them in: where
    `short` is a power of two. Whether it then resizes rows or columns first, its version chooses by the size of the
    result: one image of noise tells.
    """
    if short & (short - 1) or short * side >= 2**24:
        return False
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    corner = round((short - view.size) / 2.0)
    crop = (corner, corner, corner + view.size, corner + view.size)
    whole = noise.resize((short, short), _FILTERS[view.interpolation]).crop(crop)
    return np.array_equal(np.asarray(whole), np.asarray(_resize_cropped(noise, short, crop, view)))


def _unreadable(title: str, error: Exception | str) -> UserError:
    return UserError(
        f"cannot read the image {title}",
        got=str(error).strip() or type(error).__name__,
        remedy="copy the file again, or take it out of the data set",
    )
