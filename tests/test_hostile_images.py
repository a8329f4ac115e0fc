"""Image files that are not what they say, or that would take a machine's memory: one error, with the file's name."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import Say, document, toml, write_tree
from rib.data import apart
from rib.data.images import (
    FORMATS,
    MOST_ELONGATED,
    apply_view,
    check_whole,
    decode_here,
    decode_pixels,
    form_of_image,
)
from rib.data.modes import is_deep_grey
from rib.data.views import Pixels
from rib.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(NOISE)).save(buffer, kind, **options)
    return buffer.getvalue()


OTHER_FORMATS = (
    "GIF",
    "EPS",
    "DDS",
    "TGA",
    "PCX",
    "SGI",
    "ICO",
    "JPEG2000",
    "XBM",
    "MSP",
    "SPIDER",
    "QOI",
    "AVIF",
)


@pytest.mark.parametrize("kind", OTHER_FORMATS)
def test_a_format_that_is_not_documented_is_not_opened(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ghostscript is what an EPS starts; here nothing may start at all."""
    image = Image.fromarray(NOISE)
    image = image.convert({"XBM": "1", "MSP": "1", "SPIDER": "F", "GIF": "P"}.get(kind, "RGB"))
    try:
        content = encoded(kind, image)
    except (OSError, KeyError):
        pytest.skip(f"this Pillow writes no {kind}")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    for name in ("x.png", "x.jpg", f"x.{kind.lower()}"):
        with pytest.raises(UserError, match=f"cannot read the image {name}\n  got:    no JPEG, PNG"):
            decode_pixels(content, name)
        with pytest.raises(UserError, match=name):
            check_whole(content, name)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_documented_formats_are_opened_whatever_the_suffix(kind: str) -> None:
    pixels = decode_pixels(encoded(kind), "x.txt")
    with Image.open(io.BytesIO(encoded(kind))) as image:
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (2, 300), (9, 901)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_thin_image_is_refused_before_it_is_resized(kind: str, shape: tuple[int, int]) -> None:
    content = encoded(kind, Image.new("L", shape))
    with pytest.raises(UserError, match=f"{shape[0]} × {shape[1]} pixels: one side is more than 100 times the other"):
        decode_pixels(content, "thin.png")
    with pytest.raises(ValueError, match="more than 100 times"):
        apply_view(np.zeros((*shape[::-1], 3), np.uint8), Pixels(224))


def test_what_is_as_elongated_as_may_be_is_read_as_pillow_reads_it() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (3 * MOST_ELONGATED, 3, 3), dtype=np.uint8))
    pixels = decode_pixels(encoded("PNG", image), "x")
    assert np.array_equal(pixels, np.asarray(image))
    seen = apply_view(pixels, Pixels(32))
    resized = image.resize((32, 3200), Image.Resampling.BICUBIC).crop((0, 1584, 32, 1616))
    assert np.array_equal(seen, np.asarray(resized))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(UserError, match=r"20 × 24 pixels are more than 400|exceeds limit of 400"):
        decode_pixels(content, "x")


def scanned(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes so often: 14 bytes each."""
    content = encoded("JPEG", Image.new("L", (side, side), 120), progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + b"\xff\xd9"


@pytest.mark.parametrize("way", ["alone", "for Pillow"])
def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is moderate and so is its file; to decode it would take an hour."""
    if way == "for Pillow":
        monkeypatch.setattr("rib.data.images._decode_jpeg", lambda content: None)
    bomb = scanned(1000, 200_000)
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda content: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match=r"x\.jpg[^@]*1000 × 1000 pixels in 200,005 scans"):
        decode_pixels(bomb, "x.jpg")


def test_a_tiff_is_no_way_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("TIFF", Image.fromarray(NOISE), compression="jpeg")
    assert decode_pixels(content, "x.tif").shape == NOISE.shape
    monkeypatch.setattr("rib.data.images.MOST_PASSES", NOISE.shape[0] * NOISE.shape[1] - 1)
    with pytest.raises(ValueError, match="scans"):
        decode_here(content)


def test_what_an_image_would_be_resized_to_is_bounded_too() -> None:
    with pytest.raises(ValueError, match="pixels are more than"):
        apply_view(NOISE, Pixels(size=5_000, crop=0.1))


def test_the_scans_of_a_photo_are_taken() -> None:
    assert np.array_equal(decode_pixels(scanned(64, 20), "x"), decode_pixels(scanned(64, 1), "x"))


def plain_ppm(width: int, height: int) -> bytes:
    """Numbers in text, which Pillow reads one by one in Python."""
    return b"P3 %d %d 255\n" % (width, height) + b"7 " * (3 * width * height)


@pytest.mark.skipif(os.name != "posix", reason="needs limits of processes")
def test_an_image_that_takes_too_long_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 0)
    with pytest.raises(UserError, match=r"x\.ppm[^@]*more than 0 s of processor time"):
        decode_pixels(plain_ppm(2000, 1000), "x.ppm")
    monkeypatch.setattr(apart, "SECONDS", 60)
    assert (decode_pixels(plain_ppm(20, 10), "y.ppm") == 7).all()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space")
def test_an_image_that_takes_too_much_memory_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("TIFF", Image.new("L", (9000, 9000)), compression="tiff_adobe_deflate")
    monkeypatch.setattr(apart, "MEMORY", 300 << 20)
    with pytest.raises(UserError, match=r"x\.tif[^@]*more than 300 MiB of memory"):
        decode_pixels(content, "x.tif")
    assert not is_deep_grey(content)


def test_a_decoder_that_crashes_is_an_error_with_the_name_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crashes of native code, and the out-of-memory killer; one that was ended between two files is replaced."""
    content = encoded("TIFF")
    assert np.array_equal(decode_pixels(content, "x.tif"), NOISE)
    for process in list(apart._idle):
        process.kill()
    assert np.array_equal(decode_pixels(content, "x.tif"), NOISE)
    monkeypatch.setattr(apart, "_ask", lambda *_: -11)
    with pytest.raises(UserError, match=r"x\.tif[^@]*its decoder crashed \(signal 11\)"):
        decode_pixels(content, "x.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM"])
def test_usual_images_start_no_process(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_borrowed", lambda: pytest.fail("a process was started"))
    assert decode_pixels(encoded(kind), "x").shape == NOISE.shape


@pytest.mark.parametrize("what", ["CMYK", "progressive", "TIFF", "P3", "P6 of 9", "RLE", "large", "deep"])
def test_what_is_decoded_apart_has_the_same_pixels(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        apart, "ask", lambda question, content, ask=apart.ask: asked.append(question) or ask(question, content)
    )
    image = Image.fromarray(NOISE)
    deep = Image.fromarray(np.arange(0, 65536, 2**9, dtype=np.uint16).reshape(8, 16))
    content = {
        "CMYK": lambda: encoded("JPEG", image.convert("CMYK")),
        "TIFF": lambda: encoded("TIFF", compression="tiff_lzw"),
        "P3": lambda: plain_ppm(5, 4),
        "P6 of 9": lambda: b"P6 5 4 9\n" + bytes(range(10)) * 6,
        "RLE": lambda: run_length_bmp(),
        "large": lambda: encoded("PNG", Image.new("L", (4100, 4100), 7)),
        "deep": lambda: encoded("TIFF", deep),
        "progressive": lambda: encoded("JPEG", progressive=True),
    }[what]()
    found = decode_pixels(content, "x")
    assert np.array_equal(found, decode_here(content))
    assert asked == ([] if what == "progressive" else ["pixels"])
    if what == "deep":
        assert is_deep_grey(content)
        assert form_of_image(content) == (True, 128)


def run_length_bmp() -> bytes:
    """Four by two pixels, each row a run of four."""
    pixels = bytes([4, 1, 0, 0, 4, 2, 0, 1])
    palette = bytes(range(256)) * 4
    head = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def overlapping_tags(count: int, size: int) -> bytes:
    """A TIFF of one pixel with tags that all name the same bytes: older versions of Pillow copy them for each."""
    usual = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1))
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in usual]
    entries += [struct.pack("<HHII", 1000 + tag, 7, size, 8) for tag in range(count)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + directory


def test_a_tiff_of_overlapping_tags_takes_no_memory_of_this_process() -> None:
    content, before = overlapping_tags(3000, 300_000), resource_peak()
    try:
        assert decode_pixels(content, "x.tif").shape == (1, 1, 3)
    except UserError as error:
        assert "x.tif" in str(error)  # noqa: PT017
    assert not is_deep_grey(content)
    assert form_of_image(content) == (True, 1)
    assert resource_peak() - before < 100 << 20


def resource_peak() -> int:
    """Bytes of memory that this process has had at most."""
    resource = pytest.importorskip("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) << 10


def test_mutated_files_are_read_or_refused_by_name() -> None:
    """TIFF and WEBP decoders raise struct, key, index and type errors for bytes that were turned over."""
    rng = random.Random(7)
    whole = [encoded(kind) for kind in FORMATS] + [encoded("TIFF", compression=way) for way in ("tiff_lzw", "jpeg")]
    read = refused = 0
    for _ in range(1500):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            cut = rng.randrange(1, len(content)) if rng.random() < 0.2 else len(content)
            pixels = decode_pixels(bytes(content[:cut]), "odd.img")
        except UserError as error:
            assert "odd.img" in str(error)  # noqa: PT017
            refused += 1
        else:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            read += 1
    assert read > 50
    assert refused > 500


def test_data_check_and_run_name_the_same_file(tmp_path: Path, rib_says: Say) -> None:
    made = document(tmp_path)
    tree = write_tree(tmp_path / "tree", ("ant", "bee", "cat", "dog"))
    file = next(tree.rglob("*.png"))
    file.write_bytes(encoded("EPS"))
    made["data"]["whole"] = {"folder": "tree", "test_fraction": 0.5}
    (tmp_path / "s.toml").write_text(toml(made))
    for words in (("data", "check"), ("run",)):
        code, said = rib_says(*words, tmp_path / "s.toml")
        assert code != 0
        assert f"{file.parent.name}/{file.name}" in said
    assert "no JPEG, PNG" in said
