"""Modes of images: what becomes of grey in 16 bits, palettes, alpha, CMYK, pages, wrong suffixes."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rib.data.catalogue import DataRow, open_data
from rib.data.check import check
from rib.data.images import SUFFIXES, decode_pixels
from rib.data.views import Pixels
from rib.errors import UserError
from rib.identity import digest

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
"""Every grey level once."""

COLOUR = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def deep(grey: np.ndarray[Any, Any], order: str = "<") -> Image.Image:
    """The same picture in 16 bits: 255 is 65535."""
    values = (grey.astype(np.uint16) * 257).astype(f"{order}u2")
    return Image.frombytes("I;16" if order == "<" else "I;16B", grey.shape[::-1], values.tobytes())


def tiff12(grey: np.ndarray[Any, Any]) -> bytes:
    """A 12-bit TIFF by hand: 255 is 4095."""
    values = grey.astype(np.uint16).ravel() * 16 + grey.ravel() // 16
    a, b = values[::2], values[1::2]
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8).tobytes()
    height, width = grey.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(packed)}
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in tags.items()
    )
    start = (8 + len(packed)).to_bytes(4, "little")
    return b"II*\0" + start + packed + len(tags).to_bytes(2, "little") + entries + bytes(4)


@pytest.mark.parametrize(
    "content",
    [
        encoded(deep(GREY), "PNG"),
        encoded(deep(GREY), "TIFF"),
        encoded(deep(GREY, ">"), "TIFF"),
        encoded(deep(GREY), "TIFF", compression="tiff_lzw"),
        encoded(deep(255 - GREY), "TIFF", tiffinfo={262: 0}),
        b"P5 16 16 65535\n" + (GREY.astype(">u2") * 257).tobytes(),
        tiff12(GREY),
        encoded(Image.fromarray(GREY), "PNG"),
        b"P5 16 16 255\n" + GREY.tobytes(),
    ],
    ids=["png", "tiff", "big-endian tiff", "lzw tiff", "white is zero", "pgm", "12-bit tiff", "8-bit png", "8-bit pgm"],
)
def test_grey_of_more_bits_is_the_same_picture(content: bytes) -> None:
    assert np.array_equal(decode_pixels(content, "x"), np.repeat(GREY[:, :, None], 3, axis=2))


def test_colour_of_sixteen_bits_is_read_as_grey_is() -> None:
    rows = (COLOUR.astype(">u2") * 257).reshape(16, -1)
    chunks = b"".join(b"\0" + row.tobytes() for row in rows)
    assert np.array_equal(decode_pixels(png(chunks, depth=16, kind=2), "x"), COLOUR)


def png(lines: bytes, depth: int, kind: int) -> bytes:
    """A PNG of 16 x 16 pixels, written by hand: Pillow writes no colour of 16 bits."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = (16).to_bytes(4, "big") * 2 + bytes([depth, kind, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(Image.fromarray(GREY.astype(np.uint16)), "PNG"), "16-bit values of at most 255"),
        (encoded(Image.fromarray(GREY.astype(np.uint16) * 16), "TIFF"), "16-bit values of at most 4080"),
        (encoded(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"), "32-bit values (mode F)"),
        (encoded(Image.fromarray(GREY.astype(np.int32) * 99), "TIFF"), "32-bit values (mode I)"),
    ],
    ids=["8 bits in 16", "12 bits in 16", "float", "int32"],
)
def test_values_of_which_none_is_said_to_be_white_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "t" / name).mkdir(parents=True)
        (tmp_path / "t" / name / "0.png").write_bytes(content)
    with pytest.raises(UserError, match=r"0\.png") as caught:
        open_data("x", DataRow(folder="t"), tmp_path, None).fingerprint("tune")
    assert words in str(caught.value)
    assert "which value is white" in str(caught.value)
    assert check("x", DataRow(folder="t"), tmp_path).unreadable


def test_sixteen_bits_of_black_are_black() -> None:
    black = np.zeros((4, 4), np.uint16)
    assert not decode_pixels(encoded(Image.fromarray(black), "PNG"), "x").any()


def test_only_the_prints_of_deep_grey_are_others_than_those_of_their_bytes(tmp_path: Path) -> None:
    """What was read as white before has another key now; what is read as before has the same."""
    from rib.data.modes import image_digest

    for content in (encoded(deep(GREY), "PNG"), encoded(deep(GREY), "TIFF"), b"P5 1 1 65535\n\xff\xff"):
        assert image_digest(content) != digest(content)
    plain = Image.fromarray(COLOUR)
    for form in ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP"):
        assert image_digest(encoded(plain, form)) == digest(encoded(plain, form))
    for content in (b"", b"II", b"P5", b"no image", b"\x89PNG\r\n\x1a\n"):
        assert image_digest(content) == digest(content)


def cmyk(invert: bool) -> bytes:
    """A CMYK JPEG; Adobe's programs store it inverted, with a marker, and so does Pillow."""
    content = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    assert (b"Adobe" in content) is True
    return content if not invert else content.replace(b"Adobe", b"Adobf")


def saved(mode: str, form: str, **options: Any) -> bytes:
    return encoded(Image.fromarray(COLOUR).convert("RGB").convert(mode), form, **options)


def first_of_two(form: str) -> bytes:
    other = Image.fromarray(255 - COLOUR)
    return encoded(Image.fromarray(COLOUR), form, save_all=True, append_images=[other], lossless=True)


def with_profile() -> bytes:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(Image.fromarray(COLOUR), "PNG", icc_profile=profile)


def see_through(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(GREY))
    return image


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(GREY > 99), "PNG"), lambda: np.where(GREY > 99, 255, 0)[:, :, None].repeat(3, 2)),
        (encoded(see_through(Image.fromarray(GREY)), "PNG"), lambda: GREY[:, :, None].repeat(3, 2)),
        (encoded(see_through(Image.fromarray(COLOUR)), "PNG"), lambda: COLOUR),
        (encoded(see_through(Image.fromarray(COLOUR)), "TIFF"), lambda: COLOUR),
        (first_of_two("PNG"), lambda: COLOUR),
        (first_of_two("WEBP"), lambda: COLOUR),
        (first_of_two("TIFF"), lambda: COLOUR),
        (with_profile(), lambda: COLOUR),
    ],
    ids=["1 bit", "LA", "RGBA", "RGBA tiff", "animated PNG", "animated WEBP", "pages", "profile"],
)
def test_pixels_by_hand(content: bytes, expected: Callable[[], Any]) -> None:
    """Alpha is dropped, later frames and pages are left, profiles are not applied."""
    assert np.array_equal(decode_pixels(content, "x"), expected())


@pytest.mark.parametrize(
    "content",
    [
        saved("P", "PNG"),
        saved("P", "PNG", transparency=3),
        saved("P", "PNG", transparency=bytes(range(200))),
        saved("CMYK", "TIFF"),
        cmyk(invert=False),
        cmyk(invert=True),
        saved("L", "JPEG"),
        saved("RGB", "JPEG", progressive=True),
        saved("YCbCr", "JPEG"),
        saved("RGB", "MPO", save_all=True, append_images=[Image.fromarray(COLOUR)]),
    ],
    ids=["P", "P see-through", "P shades", "CMYK tiff", "CMYK Adobe", "CMYK", "L", "progressive", "YCbCr", "MPO"],
)
def test_pixels_are_pillows(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as image, warnings.catch_warnings(action="ignore"):
        assert np.array_equal(decode_pixels(content, "x"), np.asarray(image.convert("RGB")))


def test_adobes_cmyk_is_not_read_inverted() -> None:
    """White paper, no ink, is white."""
    content = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")
    assert decode_pixels(content, "x").min() >= 254


def test_a_file_is_what_its_content_is_whatever_its_suffix(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        for name in ("ant", "bee"):
            (tmp_path / suffix / name).mkdir(parents=True)
            (tmp_path / suffix / name / f"0{suffix}").write_bytes(encoded(Image.fromarray(COLOUR), "PNG"))
        data = open_data("x", DataRow(folder=suffix), tmp_path, None)
        assert np.array_equal(data.read("tune", [1], Pixels(16))[0], COLOUR)
