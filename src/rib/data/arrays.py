"""Arrays: an .npz file with `images` and `labels`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rib.data.base import DataSet
from rib.data.containers import short_digests
from rib.data.examples import Index, Part, View
from rib.data.images import apply_view
from rib.data.sources import apart, numbered
from rib.data.splits import carve, divided
from rib.errors import UserError
from rib.files import require_plain
from rib.identity import digest


class ArraySet(DataSet):
    """A data set in one .npz file (split here, or playing both roles whole) or in two.

    The file holds `images` uint8 (N, H, W, 3) or (N, H, W), `labels` (N,) as integers into `classes` or as class
    names, and may hold `classes` (names) and `sources` (N,) (which source image each example was made from).

    Args: as `ContainedSet`, with files in place of containers.
    """

    def __init__(
        self,
        name: str,
        file: Path,
        *,
        test_file: Path | None = None,
        test_fraction: float = 0.0,
        classes: Sequence[str] | None = None,
        family: str | None = None,
    ) -> None:
        self.name, self.family, self.units = name, family or name, family or name
        tune = _load(file, name)
        self.classes = _classes(tune, classes, name)
        index = _index(tune, self.classes, name)
        self.disjoint = bool(test_file or test_fraction)
        self.matched = "sources" in tune
        self._files = file, test_file or file
        if test_file:
            test = _load(test_file, name)
            test_index = _index(test, self.classes, name)
            if "sources" not in test:
                index, test_index = apart(index, test_index, None)
            self._parts = {"tune": (tune["images"], index), "test": (test["images"], test_index)}
            self._rows = {"tune": np.arange(len(index)), "test": np.arange(len(test_index))}
        else:
            split = (
                divided(index, test_fraction)
                if family and self.matched
                else carve(index, test_fraction, 0, "test part")
            )
            first, second = split
            tested = (tune["images"][second], index.take(second)) if self.disjoint else (tune["images"], index)
            self._parts = {"tune": (tune["images"][first], index.take(first)), "test": tested}
            self._rows = {"tune": first, "test": second if self.disjoint else first}

    def index(self, part: Part) -> Index:
        return self._parts[part][1]

    def fingerprint(self, part: Part) -> str:
        return self._fingerprints[part]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {
            part: digest(
                b"".join(
                    (
                        str(images.shape).encode(),
                        images.tobytes(),
                        index.labels.tobytes(),
                        index.sources.tobytes(),
                    )
                )
            )
            for part, (images, index) in self._parts.items()
        }

    def contents(self, part: Part) -> NDArray[np.uint64]:
        return self._contents[part]

    @cached_property
    def _contents(self) -> dict[str, NDArray[np.uint64]]:
        return {
            part: short_digests([digest(str(image.shape).encode() + image.tobytes()) for image in images])
            for part, (images, _) in self._parts.items()
        }

    def names(self, part: Part) -> list[str]:
        file = self._files[part == "test"]
        return [f"{file.name}[{row}]" for row in self._rows[part].tolist()]

    def pixels(self, part: Part, rows: Sequence[int], view: View) -> NDArray[np.uint8]:
        images = self._parts[part][0]
        return np.stack([apply_view(_rgb(images[row]), view) for row in rows])


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) of an image that may be grey."""
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _load(file: Path, data: str) -> dict[str, Any]:
    try:
        require_plain(file)
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise UserError(
            f"data set {data!r}: file not found",
            got=file,
            remedy="correct the path in the suite file, or set --data / RIB_DATA to the folder it is relative to",
        ) from None
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"data set {data!r}: cannot read {file}", got=error, valid="an .npz file") from None
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None or labels is None:
        raise UserError(f"data set {data!r}: {file} lacks arrays", got=", ".join(arrays), valid="images, labels")
    shape_ok = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if images.dtype != np.uint8 or not shape_ok or len(images) != len(labels) or not len(labels):
        raise UserError(
            f"data set {data!r}: {file} has images or labels of the wrong form",
            got=f"images {images.dtype} {images.shape}, labels {labels.shape}",
            valid="images uint8 (N, H, W, 3) or (N, H, W), labels (N,), N > 0",
        )
    return arrays


def _classes(arrays: dict[str, Any], classes: Sequence[str] | None, data: str) -> tuple[str, ...]:
    if classes is not None:
        return tuple(classes)
    if "classes" in arrays:
        return tuple(str(name) for name in arrays["classes"])
    if arrays["labels"].dtype.kind in "US":
        return tuple(sorted({str(name) for name in arrays["labels"]}))
    raise UserError(
        f"data set {data!r}: integer labels without class names",
        valid="`classes` in the suite file or an array `classes` in the .npz file",
    )


def _index(arrays: dict[str, Any], classes: tuple[str, ...], data: str) -> Index:
    labels = arrays["labels"]
    if labels.dtype.kind in "US":
        position = {name: index for index, name in enumerate(classes)}
        names = [str(name) for name in labels]
        if unknown := sorted(set(names) - set(classes)):
            raise UserError(f"data set {data!r}: unknown class {unknown[0]!r}", valid=", ".join(classes[:12]))
        labels = np.array([position[name] for name in names], np.int64)
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(
            f"data set {data!r}: a label is out of range",
            got=f"{labels.min()} … {labels.max()}",
            valid=f"0 … {len(classes) - 1}",
        )
    absent = sorted(set(range(len(classes))) - set(labels.tolist()))
    if absent:
        raise UserError(f"data set {data!r}: class {classes[absent[0]]!r} has no images")
    return Index(labels, _sources(arrays))


def _sources(arrays: dict[str, Any]) -> NDArray[np.int64]:
    if "sources" not in arrays:
        return np.arange(len(arrays["labels"]))
    sources = arrays["sources"]
    return numbered(sources.tolist()) if sources.dtype.kind in "US" else sources.astype(np.int64)
