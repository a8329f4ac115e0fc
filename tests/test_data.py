"""Data: folder trees and arrays in one or two parts, fingerprints of content, the view of a model, packs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from helpers import CLASSES, pictures, write_arrays, write_tree
from rib import _compat  # noqa: F401  # before torchvision
from rib.data.base import DataSet
from rib.data.catalogue import MOST_CLASSES, DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.images import apply_view, read_image
from rib.data.pack import open_pack, pack_file
from rib.data.views import Pixels
from rib.errors import UserError

VIEW = Pixels(12)


def opened(base: Path, cache: Path | None = None, name: str = "x", **row: Any) -> DataSet:
    return open_data(name, DataRow.model_validate(row), base, cache)


def prints(data: DataSet) -> tuple[str, str]:
    return data.fingerprint("tune"), data.fingerprint("test")


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_tree_that_plays_both_roles(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", per_class=3)
    data = opened(tmp_path, folder="t")
    assert data.classes == CLASSES
    assert not data.disjoint
    assert data.index("tune").labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert prints(data)[0] == prints(data)[1]
    assert np.array_equal(data.index("tune").sources, data.index("test").sources)
    pixels = data.read("tune", [0, 5], VIEW)
    assert np.array_equal(pixels[1], np.asarray(Image.open(tmp_path / "t" / "bee" / "2.png")))


def test_a_tree_with_a_share_to_test_on(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", per_class=5)
    data = opened(tmp_path, folder="t", test_fraction=0.4)
    assert data.disjoint
    tune, test = data.index("tune"), data.index("test")
    assert (len(tune), len(test)) == (12, 8)
    assert np.bincount(test.labels).tolist() == [2] * 4
    assert not set(tune.sources.tolist()) & set(test.sources.tolist())
    whole = {image.tobytes() for image in opened(tmp_path, folder="t").read("tune", range(20), VIEW)}
    seen = [{image.tobytes() for image in data.read(part, range(n), VIEW)} for part, n in (("tune", 12), ("test", 8))]
    assert seen[0] | seen[1] == whole
    assert not seen[0] & seen[1]


def test_two_trees(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", per_class=3)
    write_tree(tmp_path / "b", per_class=2, seed=50)
    data = opened(tmp_path, folder="a", test_folder="b")
    assert data.disjoint
    assert (len(data.index("tune")), len(data.index("test"))) == (12, 8)
    assert not set(data.index("tune").sources.tolist()) & set(data.index("test").sources.tolist())
    assert np.array_equal(data.read("test", [2], VIEW)[0], np.asarray(Image.open(tmp_path / "b" / "bee" / "0.png")))


def test_classes_chosen_and_ordered(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", per_class=3)
    data = opened(tmp_path, folder="t", classes=["dog", "bee"])
    assert data.classes == ("dog", "bee")
    assert data.index("tune").labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(data.read("tune", [3], VIEW)[0], np.asarray(Image.open(tmp_path / "t" / "bee" / "0.png")))


@pytest.mark.parametrize("form", ["integers", "names", "grey"])
def test_arrays(tmp_path: Path, form: str) -> None:
    labels = np.tile(np.arange(4), 5)
    images = pictures(labels, 0)
    if form == "grey":
        images = images[..., 0]
    names = np.array(CLASSES)[labels] if form == "names" else labels
    np.savez(tmp_path / "a.npz", images=images, labels=names)
    row = {"arrays": "a.npz"} | ({} if form == "names" else {"classes": CLASSES})
    data = opened(tmp_path, **row)
    assert data.classes == CLASSES
    assert data.index("tune").labels.tolist() == labels.tolist()
    expected = images if form != "grey" else np.repeat(images[..., None], 3, axis=3)
    assert np.array_equal(data.read("tune", range(20), VIEW), expected)
    split = opened(tmp_path, test_fraction=0.4, **row)
    assert (len(split.index("tune")), len(split.index("test"))) == (12, 8)
    rows = np.concatenate([split.index("tune").sources, split.index("test").sources])
    pixels = np.concatenate([split.read("tune", range(12), VIEW), split.read("test", range(8), VIEW)])
    assert np.array_equal(pixels, expected[rows])


def test_arrays_with_sources_never_part_them(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(4), 6)
    np.savez(tmp_path / "a.npz", images=pictures(labels, 0), labels=labels, sources=np.arange(24) // 2, classes=CLASSES)
    data = opened(tmp_path, arrays="a.npz", test_fraction=0.34)
    tune, test = set(data.index("tune").sources.tolist()), set(data.index("test").sources.tolist())
    assert len(test) == 4
    assert tune | test == set(range(12))
    assert not tune & test


# -- fingerprints ------------------------------------------------------------------------------------------------------


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The same data in a tree and in arrays."""
    write_tree(folder / "t", per_class=4)
    write_arrays(folder / "a.npz", 0, per_class=4)
    return {"folder": {"folder": "t", "test_fraction": 0.5}, "arrays": {"arrays": "a.npz", "test_fraction": 0.5}}


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_a_fingerprint_knows_no_path_time_or_name(tmp_path: Path, kind: str) -> None:
    row = rows(tmp_path / "here")[kind]
    before = prints(opened(tmp_path / "here", tmp_path / "cache", family="g", **row))
    assert before[0] != before[1]
    shutil.copytree(tmp_path / "here", tmp_path / "far" / "there")
    for file in (tmp_path / "far").rglob("*.*"):
        os.utime(file, (5, 5))
    assert prints(opened(tmp_path / "far" / "there", tmp_path / "cache", "y", family="f", **row)) == before


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_a_fingerprint_changes_with_a_pixel(tmp_path: Path, kind: str) -> None:
    row = rows(tmp_path)[kind]
    data = opened(tmp_path, tmp_path / "cache", **row)
    before = prints(data)
    if kind == "folder":
        for name in CLASSES:
            for file in (tmp_path / "t" / name).iterdir():
                image = Image.open(file)
                image.putpixel((0, 0), (1, 2, 3))
                image.save(file)
                os.utime(file, (9, 9))
    else:
        with np.load(tmp_path / "a.npz") as archive:
            arrays = dict(archive)
        arrays["images"][:, 0, 0, 0] ^= 1
        np.savez(tmp_path / "a.npz", **arrays)
    after = prints(opened(tmp_path, tmp_path / "cache", **row))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_fingerprint_changes_with_a_label(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", per_class=4)
    before = prints(opened(tmp_path, folder="t"))
    (tmp_path / "t" / "ant").rename(tmp_path / "t" / "swap")
    (tmp_path / "t" / "bee").rename(tmp_path / "t" / "ant")
    (tmp_path / "t" / "swap").rename(tmp_path / "t" / "bee")
    assert prints(opened(tmp_path, folder="t")) != before


def test_trees_whose_files_have_the_same_names_sizes_and_times_are_told_apart(tmp_path: Path) -> None:
    """As bitmaps from an archive without times are: the cache of digests must not take one for the other."""
    found = []
    for number in range(2):
        root = tmp_path / f"t{number}"
        for label, name in enumerate(CLASSES):
            (root / name).mkdir(parents=True)
            for place, image in enumerate(pictures(np.full(2, label), 10 * number + label)):
                Image.fromarray(image).save(root / name / f"{place}.bmp")
                os.utime(root / name / f"{place}.bmp", (0, 0))
        found.append(prints(opened(tmp_path, tmp_path / "cache", folder=f"t{number}")))
    assert found[0] != found[1]


def test_an_unchanged_tree_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "t", per_class=4)
    before = prints(opened(tmp_path, tmp_path / "cache", folder="t"))
    monkeypatch.setattr("rib.data.folders.read_files", lambda paths: pytest.fail(f"{paths} are read again"))
    assert prints(opened(tmp_path, tmp_path / "cache", folder="t")) == before


# -- views -------------------------------------------------------------------------------------------------------------

SIZES = [(224, 224), (225, 301), (500, 333), (97, 640), (61, 60), (7, 5), (300, 256), (1, 9)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [(32, 0.875), (33, 0.9), (28, 1.0), (24, 0.95)])
def test_the_view_is_torchvisions_pixel_by_pixel(
    size: int, crop: float, interpolation: Literal["bilinear", "bicubic"]
) -> None:
    from torchvision import transforms

    theirs = transforms.Compose(
        [
            transforms.Resize(int(size / crop), transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(size),
        ]
    )
    for width, height in SIZES:
        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(noise)
        found = apply_view(image, Pixels(size, crop, interpolation))
        assert found.shape == (size, size, 3)
        assert np.array_equal(found, np.asarray(theirs(image))), (width, height)


@pytest.mark.parametrize("crop", [0.9, 0.95, 1.0])
def test_the_view_is_timms_pixel_by_pixel(crop: float) -> None:
    from timm.data import create_transform

    theirs = create_transform(
        (3, 48, 48), is_training=False, interpolation="bicubic", crop_pct=crop, mean=(0, 0, 0), std=(1, 1, 1)
    )
    for width, height in SIZES:
        noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(noise)
        found = apply_view(image, Pixels(48, crop))
        assert np.array_equal(found, (theirs(image) * 255).round().byte().permute(1, 2, 0).numpy()), (width, height)


def test_images_of_every_mode_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    from torchvision.datasets.folder import default_loader

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 4), np.uint8))
    files = {"grey.png": "L", "palette.png": "P", "alpha.png": "RGBA", "greyalpha.png": "LA", "print.jpg": "CMYK"}
    for name, mode in files.items():
        noise.convert("RGB").convert(mode if mode != "LA" else "L").convert(mode).save(tmp_path / name)
    noise.save(tmp_path / "noise.png")
    for name in (*files, "noise.png"):
        found = read_image(tmp_path / name)
        assert found.mode == "RGB"
        assert np.array_equal(np.asarray(found), np.asarray(default_loader(str(tmp_path / name)))), name


def test_orientation_is_not_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (9, 4)


# -- packs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_a_pack_equals_direct_reading(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(tmp_path, **rows(tmp_path)[kind])
    monkeypatch.setattr(type(data), "chunk", 3)
    view = Pixels(9, 0.8, "bilinear")
    counts: list[int] = []
    pack = open_pack(Decoded(data, "test", view), tmp_path / "packs", counts.append)
    assert counts == [3, 3, 2]
    assert np.array_equal(pack.images, data.read("test", range(8), view))
    assert np.array_equal(pack.labels, data.index("test").labels)
    chosen = pack.take(np.array([5, 0, 5]))
    assert np.array_equal(chosen.batch(slice(None)), pack.images[[5, 0, 5]])
    assert np.array_equal(chosen.take(np.array([2, 1])).batch(np.array([1, 0])), pack.images[[0, 5]])
    again = open_pack(Decoded(data, "test", view), tmp_path / "packs", lambda _: pytest.fail("decoded again"))
    assert np.array_equal(again.images, pack.images)
    assert {path.suffix for path in (tmp_path / "packs").iterdir()} == {".npy", ".crc32", ".checked", ".lock"}


def test_every_view_has_its_own_pack(tmp_path: Path) -> None:
    data = opened(tmp_path, **rows(tmp_path)["folder"])
    views = [
        Pixels(9),
        Pixels(10),
        Pixels(9, 0.9),
        Pixels(9, 0.95),
        Pixels(9, 1.0, "bilinear"),
        Pixels(9, decode="fast"),
    ]
    files = {pack_file(Decoded(data, part, view), tmp_path) for view in views for part in ("tune", "test")}
    assert len(files) == 12


def test_more_classes_than_a_prediction_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.iinfo(np.int16).max == MOST_CLASSES
    monkeypatch.setattr("rib.data.catalogue.MOST_CLASSES", len(CLASSES) - 1)
    write_tree(tmp_path / "t")
    with pytest.raises(UserError, match=r"'t' has too many classes(.|\n)*got: +4(.|\n)*valid: +3 at most"):
        open_data("t", DataRow(folder="t"), tmp_path, None)
