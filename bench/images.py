"""Images for benchmarks: JPEGs in a tree of classes, from a folder of photographs or rendered."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

CLASSES = 10
PHOTOGRAPHS = "imagenet-sample-*.tar"
"""Archives of JPEGs in the folder RIB_BENCH_IMAGES, from which `tree` takes its images."""


def tree(root: Path, count: int, side: int | None = None, shift: int = 0) -> Path:
    """A folder tree of JPEGs, saved as those of ImageNet-C are: quality 85, optimized.

    Args:
        root: target folder.
        count: number of images.
        side: width and height; None keeps photographs unchanged, and renders images of 500 × 375.
        shift: 0 to 9, pixels by which every image is shifted sideways: sets with different shifts share no image. Where
            there are fewer originals than images, each further use of them is shifted by ten more.
    """
    found = originals()
    for number, image in enumerate(islice(cycle(found), count)):
        file = root / f"class{number % CLASSES}" / f"{number:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        offset = shift + 10 * (number // len(found))
        shifted = ImageChops.offset(image, offset, 0) if offset else image
        shown = shifted if side is None else cropped(shifted, side)
        shown.save(file, quality=85, optimize=True)
    return root


def source() -> str:
    """The origin of the images, in words."""
    return "rendered images" if archive() is None else "photographs"


def originals() -> list[Image.Image]:
    """RGB images of about 500 × 375."""
    found = archive()
    return list(rendered(20)) if found is None else list(photographs(found))


def archive() -> Path | None:
    """The archive of photographs, if there is one."""
    places = [Path(os.environ["RIB_BENCH_IMAGES"])] if "RIB_BENCH_IMAGES" in os.environ else []
    places += [parent / "shared" / "data" for parent in Path(__file__).resolve().parents[1:4]]
    return next((file for place in places for file in sorted(place.glob(PHOTOGRAPHS))), None)


def photographs(file: Path) -> Iterator[Image.Image]:
    """The images of an archive."""
    with tarfile.open(file) as archived:
        for member in archived:
            content = archived.extractfile(member) if member.name.lower().endswith((".jpg", ".jpeg")) else None
            if content is not None:
                yield Image.open(io.BytesIO(content.read())).convert("RGB")


def rendered(count: int) -> Iterator[Image.Image]:
    """Smooth colours at several scales with a little noise, whose JPEGs have about as many bytes as photographs."""
    for seed in range(count):
        generator = np.random.default_rng(seed)
        total = generator.normal(0, 6, (375, 500, 3))
        for cells, strength in ((4, 60), (16, 30), (60, 18)):
            coarse = generator.normal(0, strength, (cells, cells, 3)).astype(np.float32)
            layers = [
                Image.fromarray(coarse[..., colour]).resize((500, 375), Image.Resampling.BICUBIC) for colour in range(3)
            ]
            total += np.stack([np.asarray(layer) for layer in layers], axis=2)
        yield Image.fromarray(np.clip(128 + total, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, side: int) -> Image.Image:
    """The largest centre square, resized."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)
