"""Reads image files and applies a model's view, as the reference pipelines of timm and torchvision do."""

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
from rib.data.foreign import kind_of
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
"""Colour spaces of JPEGs that simplejpeg converts to RGB exactly as Pillow does. It cannot convert CMYK."""

_TAIL = 64

_JPEG, _HEAVY = b"\xff\xd8\xff", (b"II", b"MM")
"""First bytes of a JPEG, and of files that are never decoded in this process: TIFF."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
"""Formats that Pillow may read. Its other readers start programs (EPS) or are little tested against hostile bytes."""

MOST_PASSES = 2_000_000_000
"""Maximum of a JPEG's pixels times its scans, because a decoder passes over all pixels once per scan, at about 1.3 ns
per pixel. An image of 89 million pixels in ten scans has 0.9 billion. A file of 10 MB can hold 700,000 scans, which
would take a day.
"""

LIGHT, LIGHT_BYTES, LIGHT_PIXELS = ("PNG", "WEBP", "BMP", "PPM"), 1 << 26, 1 << 24
"""Formats besides JPEG that this process decodes, up to 64 MiB and 16.8 million pixels. Other files are decoded in a
child process: a TIFF can contain many formats, and Pillow reads some BMP and PPM files pixel by pixel in Python.
"""

MOST_ELONGATED = 100
"""Maximum ratio of an image's longer to its shorter side. An image of 1 × 20,000 pixels would be resized to
224 × 4,480,000 pixels, or 3 GB.
"""


def read_image(path: Path) -> Image.Image:
    """Decode a file to RGB. EXIF orientation is not applied, as in torchvision's ImageFolder.

    Raises:
        UserError: the file is missing, truncated, or no image; the message names it.
    """
    try:
        content = read_plain(path)
    except OSError as error:
        raise _unreadable(str(path), error) from None
    return decode_image(content, str(path))


def decode_image(content: bytes, title: str) -> Image.Image:
    """The result of `decode_pixels` as a Pillow image."""
    return Image.fromarray(decode_pixels(content, title))


def decode_pixels(content: bytes, title: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file of any format and mode (grey, palette, CMYK, with alpha) to RGB.

    The pixels equal Pillow's, bit for bit. EXIF orientation is not applied and alpha is dropped, as in torchvision's
    ImageFolder. Of 16-bit grey the high byte is used (`modes.as_rgb`).

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
        fault = f"no {', '.join(FORMATS)}" if content else "an empty file"
        raise _unreadable(title, *(kind_of(content) or (fault,))) from None
    except UnclearError as error:
        raise UserError(
            f"cannot read the image {title}",
            got=error,
            valid="8 bits per channel, or 16-bit values that use the whole range",
            remedy="save the images as 8-bit, scaled so that white is 255",
        ) from None
    except Exception as error:  # hostile bytes may make decoders raise any error
        raise _unreadable(title, error) from None


def decode_here(content: bytes) -> NDArray[np.uint8]:
    """The part of `decode_pixels` that runs in the child process: uint8 (H, W, 3).

    Raises:
        Exception: whatever Pillow raises.
        ValueError: as `require_moderate` and `_require_few_scans`.
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        require_moderate(*image.size)
        if image.format == "JPEG" or "jpeg" in str(image.info.get("compression")):
            _require_few_scans(*image.size, content)
        return as_rgb(image)


def form_of_image(content: bytes) -> tuple[bool, int]:
    """Whether a file's format is lossless, and its number of pixels, from its header.

    Raises:
        ValueError: it has no valid header.
    """
    if content.startswith(_JPEG):
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        return False, height * width
    if content.startswith(_HEAVY) or len(content) > LIGHT_BYTES:
        lossless, pixels = _asked("form", content)[0]["form"]
        return bool(lossless), int(pixels)
    return form_here(content)


def form_here(content: bytes) -> tuple[bool, int]:
    """`form_of_image` in this process, which a TIFF can block for long. Raises whatever Pillow raises."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return image.format != "JPEG", math.prod(image.size)


def _asked(question: str, content: bytes) -> apart.Answer:
    """The answer of a child process. Raises the errors that it reports, as `decode_pixels` expects them."""
    facts, data = apart.ask(question, content)
    if "error" in facts:
        kinds = {"format": UnidentifiedImageError, "unclear": UnclearError}
        raise kinds.get(facts["error"], ValueError)(facts["message"])
    return facts, data


def _decode_apart(content: bytes) -> NDArray[np.uint8]:
    facts, data = _asked("pixels", content)
    return np.frombuffer(data, np.uint8).reshape(facts["shape"])


def _decode_light(content: bytes) -> NDArray[np.uint8] | None:
    """Decode an image that takes Pillow at most seconds; None for any other."""
    if content.startswith((*_HEAVY, _JPEG)) or len(content) > LIGHT_BYTES:
        return None
    with Image.open(io.BytesIO(content), formats=LIGHT) as image:
        require_moderate(*image.size)
        by_python = image.format in ("BMP", "PPM") and any(part[0] != "raw" for part in image.tile)
        if by_python or math.prod(image.size) > LIGHT_PIXELS:
            return None
        return as_rgb(image)


def require_moderate(width: int, height: int) -> None:
    """Refuse an image so elongated or so large that resizing it would take gigabytes of memory.

    Raises:
        ValueError: the message has its size and the limit.
    """
    if min(width, height) < 1 or max(width, height) > MOST_ELONGATED * min(width, height):
        raise ValueError(f"{width} × {height} pixels: one side is more than {MOST_ELONGATED} times the other")
    if width * height > (most := Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(f"{width} × {height} pixels are more than {most:,}")


def _require_few_scans(width: int, height: int, content: bytes) -> None:
    """Refuse a JPEG, possibly inside a TIFF, that would take minutes or hours to decode.

    Raises:
        ValueError: its pixels times its scans exceed `MOST_PASSES`.
    """
    scans = content.count(b"\xff\xda")
    if width * height * scans > MOST_PASSES:
        raise ValueError(
            f"{width} × {height} pixels in {scans:,} scans: {MOST_PASSES:,} pixels of all scans are the limit"
        )


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """Decode a JPEG with libjpeg-turbo, which Pillow uses too; None if Pillow should decode it or raise the error."""
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
    """Refuse a file that is truncated or no image.

    It decodes the file only if its end looks unusual, or if its mode may not say which value is white.

    Raises:
        UserError: as `decode_pixels`.
    """
    if is_deep_grey(content) or not _ends_well(content):
        decode_pixels(content, title)


def _ends_well(content: bytes) -> bool:
    """Whether a file has the usual first and last bytes of its format."""
    tail = content[-_TAIL:]
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" in tail
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return len(content) >= 8 + int.from_bytes(content[4:8], "little")
    return False


def apply_view(image: NDArray[np.uint8] | Image.Image, view: Pixels, native: bool = False) -> NDArray[np.uint8]:
    """Resize the image to floor(size / crop) and cut out the centre: uint8 (size, size, 3).

    Sides and corners are truncated or rounded as in torchvision's `resize` and `center_crop`; for a border, as in
    timm's and open_clip's `ResizeKeepRatio` and `CenterCropOrPad`.

    Args:
        image: RGB, uint8 (H, W, 3) or a Pillow image.
        view: the model's view.
        native: whether an image that already has the model's size is used without resizing and cropping.

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
    """Width and height of an image after it is resized to `side`, in pixels."""
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
    """The centre of an image on a square filled with the view's colour: uint8 (size, size, 3)."""
    before = [max(view.size - length, 0) // 2 for length in pixels.shape[:2]]
    shape = [max(view.size, length) for length in pixels.shape[:2]]
    canvas = np.empty((*shape, 3), np.uint8)
    canvas[:] = view.fill or (0, 0, 0)
    canvas[before[0] : before[0] + pixels.shape[0], before[1] : before[1] + pixels.shape[1]] = pixels
    top, left = (round((length - view.size) / 2.0) for length in shape)
    return canvas[top : top + view.size, left : left + view.size]


def _resize_fast(pixels: NDArray[np.uint8], scaled: tuple[int, int], view: Pixels) -> NDArray[np.uint8]:
    """torchvision's antialiased resize of uint8, whose weights have fewer bits than Pillow's."""
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
    """Whether Pillow gives the same pixels if it computes only those inside the crop of a square image.

    The weights are the same if the edges of the crop are exact in Pillow's single precision, which they are if `short`
    is a power of two. Pillow's version decides by the size of the result whether it resizes rows or columns first. So
    this function also compares both ways on one image of noise.
    """
    if short & (short - 1) or short * side >= 2**24:
        return False
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    corner = round((short - view.size) / 2.0)
    crop = (corner, corner, corner + view.size, corner + view.size)
    whole = noise.resize((short, short), _FILTERS[view.interpolation]).crop(crop)
    return np.array_equal(np.asarray(whole), np.asarray(_resize_cropped(noise, short, crop, view)))


def _unreadable(
    title: str, error: Exception | str, remedy: str = "copy the file again, or take it out of the data set"
) -> UserError:
    return UserError(f"cannot read the image {title}", got=str(error).strip() or type(error).__name__, remedy=remedy)
