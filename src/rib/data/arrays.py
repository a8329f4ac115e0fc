"""Data sets in .npz files with `images` and `labels`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rib.data.base import DataSet, Form
from rib.data.cells import joined, number_cells, require_every_class
from rib.data.classes import PLAIN_LABELS, Labelled, name_classes, refuse_labels
from rib.data.companions import may_speak, names_beside, renamed, require_rows_of_one_split
from rib.data.containers import Listing, short_digests
from rib.data.examples import Index, Part
from rib.data.foreign import kind_of_file
from rib.data.globs import MISPLACED
from rib.data.groups import group_bytes, grouped
from rib.data.images import apply_view
from rib.data.orders import near_folders, orders_beside
from rib.data.pictures import picture_digest
from rib.data.sources import apart, numbered
from rib.data.splits import carve, divided
from rib.data.views import Inputs, View, as_pixels
from rib.errors import UserError, with_near_path
from rib.files import plain
from rib.identity import digest

CLASS_ARRAYS = ("classes", "class_names", "classnames", "label_names", "target_names")
"""Names of arrays that list the classes in order."""


class ArraySet(DataSet):
    """A data set in one .npz file (split by RIB, or used whole for tuning and testing) or in two.

    The file holds `images` uint8 (N, H, W, 3) or (N, H, W), and `labels` (N,) as class names or as integers that index
    `classes`. It may hold `classes` (names, in order) and `sources` (N,), the source image of each example.

    Args: as `ContainedSet`, with files in place of containers, and
        cells: names of arrays (N,) that together name the cell of each image, such as corruption and severity.
        groups: name of the array (N,) that names the group of each image; None for no groups.

    Raises:
        UserError: a file is unreadable, its arrays have other shapes or types, or as `ContainedSet`.
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
        cells: Sequence[str] = (),
        groups: str | None = None,
    ) -> None:
        self.name, self.family, self.units = name, family or name, family or name
        files = [_load(each, name, cells, groups) for each in (file, test_file) if each]
        if classes is None and not any(each.named for each in files):
            raise UserError(
                f"data set {name!r}: integer labels without class names",
                got=f"whole numbers in {file}",
                valid="`classes` in the suite file or an array `classes` in the .npz file",
                remedy='name the classes in the order of their numbers: classes = ["…", "…"] in the set\'s row',
            )
        found = name_classes(name, [each.labelled for each in files], classes)
        self.classes, self.left_out = found.names, found.left_out
        self.disjoint = bool(test_file or test_fraction)
        self.matched = files[0].sources is not None
        self._files = file, test_file or file
        tune, index, rows = _chosen(name, files[0], found.label_of[0])
        if test_file:
            tested, test_index, test_rows = _chosen(name, files[1], found.label_of[1])
            if files[1].sources is None:
                index, test_index = apart(index, test_index, None)
            self._parts = {"tune": (tune, index), "test": (tested, test_index)}
            self._rows = {"tune": rows, "test": test_rows}
        else:
            split = (
                divided(index, test_fraction)
                if family and self.matched
                else carve(index, test_fraction, 0, "test part")
            )
            first, second = split
            whole = (tune[second], index.take(second)) if self.disjoint else (tune, index)
            self._parts = {"tune": (tune[first], index.take(first)), "test": whole}
            self._rows = {"tune": rows[first], "test": rows[second if self.disjoint else first]}

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
                        b"" if index.cells is None else index.cells.tobytes() + json.dumps(index.cell_names).encode(),
                        group_bytes(index),
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

    def form(self, part: Part) -> Form:
        images = self._parts[part][0]
        return Form(True, math.prod(images.shape[:3]))

    def pictures(self, part: Part) -> NDArray[np.uint64]:
        return short_digests([picture_digest(_rgb(image)) for image in self._parts[part][0]])

    def names(self, part: Part) -> list[str]:
        file = self._files[part == "test"]
        return [f"{file.name}[{row}]" for row in self._rows[part].tolist()]

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        images, pixels = self._parts[part][0], as_pixels(view, self.name)
        return np.stack([apply_view(_rgb(images[row]), pixels) for row in rows])


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image as (H, W, 3), also if it is grey."""
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


@dataclass(frozen=True)
class _File:
    """Contents of an .npz file.

    Attributes:
        images: uint8 (N, H, W, 3) or (N, H, W).
        labelled: the labels, and the order of the classes if the file states one.
        sources: int64 (N,), or None.
        named: whether the file gives the names of its labels.
        cells: int16 (N,), the cell of each image, or None for a set without cells.
        cell_names: names of the cells.
        groups: the group of each image, and where it stands, if the set has groups.
    """

    images: NDArray[np.uint8]
    labelled: Labelled
    sources: NDArray[np.int64] | None
    named: bool
    cells: NDArray[np.int16] | None = None
    cell_names: tuple[str, ...] = ()
    groups: tuple[Sequence[object], str] | None = None


def _chosen(data: str, file: _File, label_of: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Index, NDArray[np.int64]]:
    """Images, index and rows of the examples whose class is used, in the order of the file."""
    labels = label_of[file.labelled.listing.folder_of]
    rows = np.flatnonzero(labels >= 0)
    sources = file.sources[rows] if file.sources is not None else np.arange(len(rows))
    cells = None if file.cells is None else file.cells[rows]
    index = Index(labels[rows], sources, cells, file.cell_names)
    if file.groups is not None:
        values, where = file.groups
        index = grouped(index, data, [values[row] for row in rows.tolist()], where)
    return (file.images if len(rows) == len(labels) else file.images[rows]), index, rows


def _load(file: Path, data: str, cells: Sequence[str], groups: str | None) -> _File:
    arrays = _arrays(file, data)
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None or labels is None:
        raise UserError(
            f"data set {data!r}: {file} lacks arrays",
            got=", ".join(arrays),
            valid="images, labels",
            remedy="save images and labels of one part under these names: np.savez(FILE, images=…, labels=…); "
            "another part goes into a file of its own, under test_arrays",
        )
    _require_form(images, labels, file, data)
    beside = _companions(arrays, len(labels))
    require_rows_of_one_split(beside, file, data)
    names = _stated_names(arrays, file, data)
    words = _words(labels, names, file, data)
    if names is None and (said := names_beside(words, beside, file, data)):
        words, names = renamed(words, said, data)
    found, inverse = np.unique(np.array(words), return_inverse=True)
    listing = Listing(tuple(found.tolist()), inverse.astype(np.int32), [str(row) for row in range(len(words))])
    named = names is not None or labels.dtype.kind in "USO"
    says = f"the array `classes` in {file}" if names is not None else ""
    sources = _sources(arrays["sources"], len(labels), file, data) if "sources" in arrays else None
    labelled = Labelled(file, listing, names, says, beside=orders_beside(file), folders=near_folders(file)[1:])
    found_file = _File(np.ascontiguousarray(images), labelled, sources, named)
    if groups is not None:
        found_file = replace(found_file, groups=_groups(arrays, groups, len(labels), file, data))
    if not cells:
        return found_file
    cell_names, cell_of = _cells(arrays, cells, len(labels), file, data)
    require_every_class(data, file, listing, cell_names, cell_of)
    return replace(found_file, cells=cell_of, cell_names=cell_names)


def _arrays(file: Path, data: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by name."""
    try:
        with plain(file).open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        remedy = with_near_path(file, MISPLACED)
        raise UserError(f"data set {data!r}: file not found", got=file, remedy=remedy) from None
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        cause = kind_of_file(file, besides="a zip archive") or (str(error), "save the file again with np.savez")
        if "Object arrays" in cause[0]:
            cause = "an array of Python objects", "save the arrays as numbers and strings, without objects"
        elif "allow_pickle" in cause[0]:  # NumPy's advice to read it all the same
            cause = "a file of another kind", cause[1]
        raise UserError(
            f"data set {data!r}: cannot read {file}", got=cause[0], valid="an .npz file", remedy=cause[1]
        ) from None
    return arrays


def _cells(
    arrays: Mapping[str, NDArray[Any]], fields: Sequence[str], count: int, file: Path, data: str
) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    """Names of the cells, and the cell of each row, from the named arrays."""
    for field in (*fields, "sources"):
        _named(
            arrays,
            field,
            count,
            "iuUS",
            f"data set {data!r}: {file}",
            valid=f"{', '.join(fields)} ({count},), which name the cell, and sources ({count},), the source images",
            remedy="save the file with these arrays",
        )
    columns = [
        _texts(values, file, data) if values.dtype.kind in "US" else [str(value) for value in values.tolist()]
        for values in (arrays[field] for field in fields)
    ]
    return number_cells(data, joined(data, columns))


def _groups(
    arrays: Mapping[str, NDArray[Any]], field: str, count: int, file: Path, data: str
) -> tuple[list[object], str]:
    """The group of each row, and where it stands."""
    found = _named(
        arrays,
        field,
        count,
        "biuUS",
        f"data set {data!r}: {file}",
        valid=f"{field} ({count},)",
        remedy="save the file with this array, or correct group_column",
    )
    values: list[object] = [*(_texts(found, file, data) if found.dtype.kind in "US" else found.tolist())]
    return values, f"the array {field!r} in {file}"


def _require_form(images: NDArray[Any], labels: NDArray[Any], file: Path, data: str) -> None:
    flat = images.ndim == 3 and images.shape[-1] in (1, 3, 4) and images.shape[1] > 4 * images.shape[-1]
    twofold = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[2] > 3  # (N, 3, H, 3): channels first?
    shape_ok = (images.ndim == 3 and not flat) or (images.ndim == 4 and images.shape[-1] == 3 and not twofold)
    fits = labels.ndim == 1 and len(labels) == len(images)
    if images.dtype != np.uint8 or not shape_ok or not fits or not images.size:
        raise UserError(
            f"data set {data!r}: {file} has images or labels of the wrong form",
            got=f"images {images.dtype} {images.shape}, labels {labels.shape}",
            valid="images uint8 (N, H, W, 3) or (N, H, W), labels (N,), N > 0",
            remedy=_way_out(images, labels),
        )
    if 0 < images.max() <= 1:
        raise UserError(
            f"data set {data!r}: {file} has images that are all but black",
            got="values of 0 and 1",
            valid="values from 0 to 255",
            remedy="save them as images * 255",
        )


def _way_out(images: NDArray[Any], labels: NDArray[Any]) -> str | None:
    """Suggest how to bring arrays into the right form; None if there is no suggestion."""
    if images.ndim == 3 and images.shape[-1] in (1, 3, 4) and images.dtype == np.uint8 and images.shape[1] > 4:
        return "give every image its height and width: images.reshape(N, H, W, 3)"
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3):
        return "put the channels last: images.transpose(0, 2, 3, 1)"
    if images.ndim == 4 and images.shape[-1] == 1:
        return "grey images have no axis of channels: images[..., 0]"
    if images.ndim == 4 and images.shape[-1] == 4:
        return "leave alpha out: images[..., :3]"
    if images.dtype.kind == "f":
        whole = "images" if images.size and images.max() > 1 else "(images * 255)"
        return f"save whole numbers from 0 to 255: {whole}.round().astype('uint8'), after undoing any normalisation"
    if labels.ndim == 2 and labels.shape[1] == 1:
        return "labels have one axis: labels[:, 0]"
    return "of one-hot labels or scores, save labels.argmax(1)" if labels.ndim == 2 else None


def _companions(arrays: Mapping[str, NDArray[Any]], count: int) -> dict[str, list[Any]]:
    """Arrays that may say the split of a row or the name of its class."""
    named = {key: arrays[key] for key in may_speak(arrays)}
    return {
        key: [value.decode(errors="replace") if isinstance(value, bytes) else value for value in array.tolist()]
        for key, array in named.items()
        if array.shape == (count,)
    }


def _stated_names(arrays: Mapping[str, NDArray[Any]], file: Path, data: str) -> tuple[str, ...] | None:
    """Names of the classes, in order, where an array lists them. Raises UserError if two arrays differ."""
    found = {key: _class_names(arrays[key], key, file, data) for key in CLASS_ARRAYS if key in arrays}
    if len(set(found.values())) > 1:
        raise UserError(
            f"data set {data!r}: two arrays name the classes differently",
            got=f"{' and '.join(found)} in {file}",
            valid="one array `classes`",
            remedy="save the file without the wrong one",
        )
    return next(iter(found.values()), None)


def _class_names(names: NDArray[Any], key: str, file: Path, data: str) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise UserError(
            f"data set {data!r}: the array `{key}` in {file} is not a list of names",
            got=f"{names.dtype} {names.shape}",
            valid="strings (number of classes,)",
        )
    return tuple(_texts(names, file, data))


def _texts(values: NDArray[Any], file: Path, data: str) -> list[str]:
    if values.dtype.kind == "U":
        return [str(value) for value in values]
    try:
        return [value.decode() for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise UserError(
            f"data set {data!r}: a name in {file} is not UTF-8", got=ascii(error.object), remedy="save the names as str"
        ) from None


def _words(labels: NDArray[Any], names: tuple[str, ...] | None, file: Path, data: str) -> list[str]:
    """The label of every row as text: a class name, or a whole number if the file gives no names."""
    total = len(labels)
    if labels.dtype.kind in "US":
        return _texts(labels, file, data)
    if labels.dtype.kind not in "iu":
        fault = f"are of type {labels.dtype}, neither whole numbers nor names"
        raise refuse_labels(data, file, total, total, fault, PLAIN_LABELS)
    if (bad := int((labels < 0).sum())) > 0:
        raise refuse_labels(data, file, bad, total, f"are negative ({labels.min()})")
    if names is not None and (bad := int((labels >= len(names)).sum())) > 0:
        fault = f"are out of range ({labels.max()}, where {len(names):,} classes are named)"
        raise refuse_labels(data, file, bad, total, fault)
    return [names[label] if names is not None else str(label) for label in labels.tolist()]


def _sources(sources: NDArray[Any], count: int, file: Path, data: str) -> NDArray[np.int64]:
    """The source image of each row. Whole numbers are kept; a name becomes the same number in every file."""
    if sources.shape == (count,) and sources.dtype.kind in "US":
        return numbered(data, _texts(sources, file, data), f"the array `sources` in {file}")
    if sources.shape != (count,) or sources.dtype.kind not in "iu":
        raise UserError(
            f"data set {data!r}: the array `sources` in {file} does not give the source of every image",
            got=f"{sources.dtype} {sources.shape}",
            valid=f"whole numbers or names ({count},), one for each image",
        )
    whole = sources.astype(np.int64)  # a conversion would turn a number of 2**63 or more into a negative one
    if (whole < 0).any():
        numbered(data, whole.tolist(), f"the array `sources` in {file}")  # raises an error that names the unknown ones
    return whole


def _named(
    arrays: Mapping[str, NDArray[Any]], field: str, count: int, kinds: str, where: str, *, valid: str, remedy: str
) -> NDArray[Any]:
    """The array of a name, with one number or name for each image. Raises UserError if it is another or missing."""
    found = arrays.get(field)
    if found is None or found.shape != (count,) or found.dtype.kind not in kinds:
        raise UserError(
            f"{where} lacks an array {field!r} of whole numbers or names, one for each image",
            got=", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items()),
            valid=valid,
            remedy=remedy,
        )
    return found
