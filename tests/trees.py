"""Small copies of the published ImageNet sets, laid out exactly as published, with images that say their class.

Every image is of one colour, from which `class_of` reads the ImageNet class again after any decoding and resizing.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rib.data.imagenet_classes import class_names, objectnet, subset, wnids
from rib.data.published import CORRUPTIONS, PUBLISHED, SEVERITIES

NAMES = ("val", "v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing", "c")
"""The nine sets."""

NOT_OVERLAPPING = {"air_freshener": "Air freshener", "ziploc_bag": "Ziploc bag", "baking_sheet": "Baking sheet"}
"""Some folders of ObjectNet that mean no ImageNet class."""

_STEPS = 10  # values a colour channel takes, 25 apart


def colour(number: int) -> tuple[int, int, int]:
    """The colour of an ImageNet class."""
    red, green, blue = number // 100, number // 10 % 10, number % 10
    return (12 + 25 * red, 12 + 25 * green, 12 + 25 * blue)


def class_of(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The ImageNet class of each image uint8 (N, H, W, 3), from all of its pixels but those at the border."""
    inner = pixels[:, 2:-2, 2:-2].reshape(len(pixels), -1, 3).astype(np.float64)
    assert inner.std(axis=1).max() < 4, "an image is not of one colour: a border was left on it, or images are mixed"
    digits = np.clip(np.round((inner.mean(axis=1) - 12) / 25), 0, _STEPS - 1).astype(np.int64)
    return digits @ np.array([100, 10, 1])


@cache
def encoded(number: int, form: str = "JPEG", border: int = 0, size: tuple[int, int] = (40, 32)) -> bytes:
    """An image file of a class. A border is red."""
    image = Image.new("RGB", (size[0] + 2 * border, size[1] + 2 * border), (255, 0, 0))
    image.paste(colour(number), (border, border, border + size[0], border + size[1]))
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 95} if form == "JPEG" else {}))
    return buffer.getvalue()


def some(count: int, total: int) -> list[int]:
    """So many class numbers, spread, with those that a wrong order of the folders would mix up."""
    if count >= total:
        return list(range(total))
    wanted = [0, 1, 2, 10, total - 1]
    spread = np.linspace(0, total - 1, count).round().astype(int).tolist()
    return sorted(dict.fromkeys(wanted + spread).keys())[: max(count, len(wanted))] if count >= 5 else wanted[:count]


def lay_out(root: Path, name: str, classes: int = 12, images: int = 2) -> Path:
    """Lay out one set under a data root, in the folder it is published in.

    Args:
        root: of all data.
        name: one of `NAMES`, or "train".
        classes: how many of its classes.
        images: of a class (and cell).

    Returns:
        The set's own folder.
    """
    where = root / PUBLISHED[name].folders[0]
    if name == "objectnet":
        _objectnet(where, classes, images)
    elif name == "c":
        for corruption in CORRUPTIONS:
            for severity in SEVERITIES:
                _wnid_folders(where / corruption / str(severity), wnids(), classes, images, "c")
    elif name == "v2":
        for number in some(classes, 1000):
            files = (f"{number:04x}{image:036x}.jpeg" for image in range(images))
            _write(where / str(number), files, encoded(number))
    else:
        known = subset(name) if name in ("a", "r") else wnids()
        _wnid_folders(where, known, classes, images, name)
    return where


def lay_out_all(root: Path, classes: int = 12, images: int = 2, names: Sequence[str] = NAMES) -> Path:
    """Lay out several sets under one root."""
    for name in names:
        lay_out(root, name, classes, images)
    return root


def _wnid_folders(where: Path, known: Sequence[str], classes: int, images: int, name: str) -> None:
    for place in some(classes, len(known)):
        wnid = known[place]
        number = wnids().index(wnid)
        files = (file_name(name, wnid, number, image) for image in range(images))
        width = 40 + len(name)  # so that no two sets have the same content
        _write(where / wnid, files, encoded(number, size=(width, 32)))


def file_name(name: str, wnid: str, number: int, image: int) -> str:
    """The name of a file, as the set has them."""
    forms = {
        "train": f"{wnid}_{image}.JPEG",
        "a": f"0.{image:06d}_some class _ another class_0.6.jpg",
        "r": f"art_{image}.jpg",
        "sketch": f"sketch_{image}.JPEG",
    }
    return forms.get(name, f"ILSVRC2012_val_{number * 50 + image + 1:08d}.JPEG")


def _objectnet(where: Path, classes: int, images: int) -> None:
    labels = {folder: row.label for folder, row in objectnet().items()} | NOT_OVERLAPPING
    meanings = {
        row.label: "; ".join(class_names()[wnid] for wnid in row.wnids) for row in objectnet().values()
    }  # the published file has ImageNet's own names, several classes parted by semicolons
    mappings = where / "mappings"
    mappings.mkdir(parents=True, exist_ok=True)
    (mappings / "folder_to_objectnet_label.json").write_text(json.dumps(labels, indent=2))
    (mappings / "objectnet_to_imagenet_1k.json").write_text(json.dumps(meanings, indent=2))
    folders = list(objectnet())
    for place in some(classes, len(folders)):
        number = wnids().index(objectnet()[folders[place]].wnids[0])
        files = (f"{place:07x}{image:08x}.png" for image in range(images))
        _write(where / "images" / folders[place], files, encoded(number, "PNG", border=2))
    for folder in NOT_OVERLAPPING:
        _write(where / "images" / folder, ["00ff.png"], encoded(0, "PNG", border=2))


def _write(folder: Path, names: Iterable[str], content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)


def files_of(where: Path) -> list[tuple[str, str, bytes]]:
    """Folder, name and bytes of every image under a folder, sorted."""
    found = [path for path in sorted(where.rglob("*")) if path.is_file() and path.suffix != ".json"]
    return [(path.parent.relative_to(where).as_posix(), path.name, path.read_bytes()) for path in found]


def as_parquet(where: Path, target: Path, labels: dict[str, int] | None = None, groups: int = 5) -> Path:
    """A folder tree as shuffled Parquet files, as Hugging Face writes them.

    Args:
        where: the tree.
        target: the folder of the files.
        labels: integer label of each folder, with the folders as ClassLabel names; default: names as strings.
        groups: images a row group.
    """
    by_prefix: dict[str, list[tuple[str, str, bytes]]] = {}
    for folder, name, content in files_of(where):
        prefix, _, last = folder.rpartition("/")
        by_prefix.setdefault(prefix, []).append((last, name, content))
    for prefix, files in by_prefix.items():
        shuffled = [files[row] for row in np.random.default_rng(0).permutation(len(files))]
        images = [{"bytes": content, "path": name} for _, name, content in shuffled]
        values = [labels[folder] if labels else folder for folder, _, _ in shuffled]
        table = pa.table({"image": images, "label": values})
        if labels:
            names = sorted(labels, key=lambda folder: labels[folder])
            features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        place = target / prefix
        place.mkdir(parents=True, exist_ok=True)
        half = max(1, table.num_rows // 2)
        for part, piece in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(piece, place / f"test-{part:05d}-of-00002.parquet", row_group_size=groups)
    return target


def as_shards(where: Path, target: Path, numbers: dict[str, int] | None = None, fields: bool = False) -> Path:
    """A folder tree as two shuffled WebDataset shards for each cell.

    Args:
        where: the tree.
        target: the folder of the shards.
        numbers: label of each folder; default: its name.
        fields: labels in .json files rather than .cls.
    """
    by_prefix: dict[str, list[tuple[str, str, bytes]]] = {}
    for folder, name, content in files_of(where):
        prefix, _, last = folder.rpartition("/")
        by_prefix.setdefault(prefix, []).append((last, name, content))
    for prefix, files in by_prefix.items():
        (target / prefix).mkdir(parents=True, exist_ok=True)
        order = np.random.default_rng(1).permutation(len(files))
        for shard, rows in enumerate(np.array_split(order, 2)):
            with tarfile.open(target / prefix / f"set-{shard:04d}.tar", "w") as tar:
                for row in rows.tolist():
                    folder, name, content = files[row]
                    stem, _, suffix = name.rpartition(".")
                    label = str(numbers[folder] if numbers else folder)
                    said = json.dumps({"label": label}) if fields else label
                    _member(tar, f"{folder}/{stem}.{suffix}", content)
                    _member(tar, f"{folder}/{stem}.{'json' if fields else 'cls'}", said.encode())
    return target


def _member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
