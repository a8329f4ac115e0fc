"""Containers made by hand: the same images as a folder tree, Parquet files, tar shards and an .npz file."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

SIDE = 12

Link = tuple[str, str]
"""Kind ("hard" or "sym") and target of a link."""


@dataclass(frozen=True)
class Item:
    """An image of a set.

    Attributes:
        label: its class.
        name: its file's.
        pixels: uint8 (SIDE, SIDE, 3).
    """

    label: str
    name: str
    pixels: NDArray[np.uint8]

    @property
    def content(self) -> bytes:
        return png(self.pixels)


def png(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def items(classes: Sequence[str], per_class: int = 4, seed: int = 0) -> list[Item]:
    """Images of noise, a class after the other."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (len(classes) * per_class, SIDE, SIDE, 3), np.uint8)
    names = [(label, f"{place:03d}.png") for label in classes for place in range(per_class)]
    return [Item(*name, image) for name, image in zip(names, images, strict=True)]


def shuffled(made: Sequence[Item], seed: int = 1) -> list[Item]:
    return [made[row] for row in np.random.default_rng(seed).permutation(len(made)).tolist()]


def tree(root: Path, made: Iterable[Item], order: Sequence[str] = ()) -> Path:
    """A folder tree, with classes.txt where an order is given."""
    for item in made:
        (root / item.label).mkdir(parents=True, exist_ok=True)
        (root / item.label / item.name).write_bytes(item.content)
    return ordered(root, order)


def ordered(root: Path, order: Sequence[str]) -> Path:
    if order:
        (root / "classes.txt").write_text("\n".join(order) + "\n", "utf-8")
    return root


def card(names: Sequence[str]) -> str:
    """A data card as Hugging Face's library writes it, with the names of a ClassLabel."""
    numbered = "".join(f"          '{place}': {name}\n" for place, name in enumerate(names))
    column = f"  - name: label\n    dtype:\n      class_label:\n        names:\n{numbered}"
    return f"---\nlicense: mit\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n{column}---\n# A set\n"


def table(
    made: Sequence[Item], labels: Sequence[Any], kind: Any = None, names: Sequence[str] = (), paths: bool = True
) -> pa.Table:
    """A table of images and labels; `names` are those of a ClassLabel; without `paths`, of plain bytes."""
    images: Any = [item.content for item in made]
    if paths:
        structs = [{"bytes": item.content, "path": f"{item.label}/{item.name}"} for item in made]
        images = pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    found = pa.table({"image": images, "label": pa.array(labels, kind)})
    if not names:
        return found
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def parquet(root: Path, whole: pa.Table, files: int = 1, group: int = 3, name: str = "train") -> Path:
    """A table as files that say how many there are."""
    root.mkdir(parents=True, exist_ok=True)
    edges = np.linspace(0, len(whole), files + 1).astype(int).tolist()
    for place, (start, end) in enumerate(pairwise(edges)):
        file = root / f"{name}-{place:05d}-of-{files:05d}.parquet"
        pq.write_table(whole.slice(start, end - start), file, row_group_size=group)
    return root


def members(
    made: Iterable[Item], labels: Mapping[str, object] | None = None, form: str = "cls"
) -> list[tuple[str, bytes]]:
    """Members of a shard: an image and its label for each, which is the class or what `labels` gives for it."""
    found: list[tuple[str, bytes]] = []
    for item in made:
        key = f"{item.label}_{item.name.removesuffix('.png')}"
        value = item.label if labels is None else labels[item.label]
        said = json.dumps({"label": value}) if form == "json" else str(value)
        found += [(f"{key}.png", item.content), (f"{key}.{form}", said.encode())]
    return found


def shard(file: Path, content: Iterable[tuple[str, bytes | Link]]) -> Path:
    """A tar file of files and links; gives its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, data in content:
            member = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            else:
                member.type = tarfile.LNKTYPE if data[0] == "hard" else tarfile.SYMTYPE
                member.linkname = data[1]
                tar.addfile(member)
    return file.parent


def arrays(file: Path, made: Sequence[Item], **others: Any) -> Path:
    """An .npz file of images and labels (names, unless others are given)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": np.stack([item.pixels for item in made]), "labels": np.array([i.label for i in made])} | others
    np.savez(file, **content)
    return file
