"""Sources: sets of one family pair by class and file name, a pattern, a column or a file, whatever is missing."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import document, write_tree
from rib.data.base import DataSet
from rib.data.catalogue import DataRow, open_data, with_families
from rib.data.examples import Index
from rib.data.overlap import Roles, overlaps
from rib.data.sources import number, published_sources, stem
from rib.data.splits import divided
from rib.errors import UserError
from rib.plan import make_plan
from rib.suite.load import parse_suite

CLASSES = ("cat", "dog")
PER_CLASS = 20

Files = dict[tuple[str, str], int]
"""Class and name of each file, and the number of its source image among those of the class."""


def files(name: Callable[[int], str] = "{:03d}.png".format, without: Iterable[int] = ()) -> Files:
    return {(one, name(place)): place for one in CLASSES for place in range(PER_CLASS) if place not in set(without)}


def encoded(label: str, place: int, style: int, name: str) -> bytes:
    pixels = np.random.default_rng([CLASSES.index(label), place, style]).integers(0, 255, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG" if name.endswith("jpg") else "PNG")
    return buffer.getvalue()


def folder(root: Path, made: Files, style: int) -> dict[str, Any]:
    for (label, name), place in made.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / name).write_bytes(encoded(label, place, style, name))
    return {"folder": root.name}


def parquet(root: Path, made: Files, style: int) -> dict[str, Any]:
    order = sorted(made, key=lambda one: hash((one, style)) if style else one)
    rows = [{"bytes": encoded(*(one[0], made[one]), style, one[1]), "path": one[1]} for one in order]
    root.mkdir(parents=True)
    numbers = [made[one] + PER_CLASS * CLASSES.index(one[0]) for one in order]
    pq.write_table(pa.table({"image": rows, "label": [one[0] for one in order], "origin": numbers}), root / "x.parquet")
    return {"parquet": root.name}


def shards(root: Path, made: Files, style: int) -> dict[str, Any]:
    root.mkdir(parents=True)
    with tarfile.open(root / "x.tar", "w") as shard:
        for (label, name), place in made.items():
            key, _, suffix = name.rpartition(".")
            contents = ((suffix, encoded(label, place, style, name)), ("cls", label.encode()))
            for end, content in contents:
                member = tarfile.TarInfo(f"{label}/{key}.{end}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return {"shards": root.name}


def arrays(root: Path, made: Files, style: int) -> dict[str, Any]:
    pixels = [np.asarray(Image.open(io.BytesIO(encoded(one[0], place, style, "png")))) for one, place in made.items()]
    labels = [CLASSES.index(label) for label, _ in made]
    sources = [f"{label} {place}" for (label, _), place in made.items()]
    np.savez(root.with_suffix(".npz"), images=np.stack(pixels), labels=labels, classes=CLASSES, sources=sources)
    return {"arrays": root.with_suffix(".npz").name}


CONTAINERS = {"folder": folder, "parquet": parquet, "shards": shards, "arrays": arrays}


def opened(base: Path, name: str, **row: Any) -> DataSet:
    return open_data(name, DataRow.model_validate(row), base, None)


def truths(data: DataSet, made: Files, part: Any) -> list[tuple[str, int]]:
    """Class and source image of each row, as the files were made."""
    found = []
    for name, label in zip(data.names(part), data.index(part).labels.tolist(), strict=True):
        if file := re.fullmatch(r".*\.npz\[(\d+)\]", name):
            found.append((list(made)[int(file[1])][0], list(made.values())[int(file[1])]))
        else:
            found.append((data.classes[label], made[data.classes[label], name.rpartition("/")[2]]))
    return found


def assert_paired(first: DataSet, one: Files, second: DataSet, two: Files) -> None:
    """The numbers are equal exactly where the truth is, and no source is tuned on in one and tested in the other."""
    sides: dict[tuple[str, int], set[str]] = {}
    numbers: dict[int, set[tuple[str, int]]] = {}
    for data, made in ((first, one), (second, two)):
        for part in ("tune", "test"):
            for source, truth in zip(data.index(part).sources.tolist(), truths(data, made, part), strict=True):
                numbers.setdefault(source, set()).add(truth)
                sides.setdefault(truth, set()).add(part)
    assert all(len(meant) == 1 for meant in numbers.values())
    assert len(numbers) == len(sides) == len(set(one) and {(label, place) for (label, _), place in one.items()})
    assert all(len(parts) == 1 for parts in sides.values())
    assert overlaps({"a": first, "b": second}, Roles("", ("a", "b"), (), ("a", "b"))) == []


@pytest.mark.parametrize("missing", [(), (0,), (7,), (3, 4, 19)])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_sets_of_a_family_pair_whatever_is_missing(tmp_path: Path, kind: str, missing: tuple[int, ...]) -> None:
    one, two = files(), files(without=missing)
    make, common = CONTAINERS[kind], {"family": "f", "test_fraction": 0.4}
    first = opened(tmp_path, "a", **make(tmp_path / "a", one, 0), **common)
    second = opened(tmp_path, "b", **make(tmp_path / "b", two, 1), **common)
    assert len(second.index("tune")) + len(second.index("test")) == 2 * (PER_CLASS - len(missing))
    assert_paired(first, one, second, two)


@pytest.mark.parametrize("other", ["parquet", "shards"])
def test_containers_pair_with_each_other_and_with_other_suffixes(tmp_path: Path, other: str) -> None:
    one, two = files(), files("{:03d}.jpg".format, without=(5,))
    common = {"family": "f", "test_fraction": 0.4}
    first = opened(tmp_path, "a", **folder(tmp_path / "a", one, 0), **common)
    second = opened(tmp_path, "b", **CONTAINERS[other](tmp_path / "b", two, 1), **common)
    assert_paired(first, one, second, two)


def test_a_pattern_finds_the_source_in_names_that_sort_otherwise(tmp_path: Path) -> None:
    one = files("{0}.png".format)
    two = files(lambda place: f"{(place * 7) % 11}_sketch-{place}-v2.jpg", without=(2,))
    first = opened(tmp_path, "a", family="f", **folder(tmp_path / "a", one, 0))
    second = opened(tmp_path, "b", family="f", source=r"-(?P<source>\d+)-v", **folder(tmp_path / "b", two, 1))
    found = dict(zip(truths(first, one, "test"), first.index("test").sources.tolist(), strict=True))
    assert [found[truth] for truth in truths(second, two, "test")] == second.index("test").sources.tolist()


def test_a_pattern_keeps_the_frames_of_a_source_on_one_side(tmp_path: Path) -> None:
    made = {(one, f"clip{place // 4}-{place:02d}.png"): place // 4 for one in CLASSES for place in range(PER_CLASS)}
    data = opened(tmp_path, "a", source=r"(?P<source>[a-z]+\d+)-", test_fraction=0.4, **folder(tmp_path / "a", made, 0))
    tune, test = (set(truths(data, made, part)) for part in ("tune", "test"))
    assert not tune & test
    assert len(test) == 4  # 2 of 5 clips of each class
    assert len(data.index("test")) == 16
    assert len(set(data.index("tune").sources.tolist())) == 6


def test_a_column_names_the_source(tmp_path: Path) -> None:
    one, two = files(), files("other{:03d}.png".format, without=(1,))
    common = {"family": "f", "source_column": "origin", "test_fraction": 0.3}
    first = opened(tmp_path, "a", **parquet(tmp_path / "a", one, 0), **common)
    second = opened(tmp_path, "b", **parquet(tmp_path / "b", two, 1), **common)
    assert_paired(first, one, second, two)
    assert set(first.index("test").sources.tolist()) < set(range(2 * PER_CLASS))


def test_a_file_names_the_source(tmp_path: Path) -> None:
    one, two = files(), files("other{:03d}.png".format, without=(1,))
    common = {"family": "f", "source_file": "s.csv", "test_fraction": 0.3}
    lines = [f"{label}/{name},{label} {place}" for made in (one, two) for (label, name), place in made.items()]
    (tmp_path / "s.csv").write_text("\n".join(["file,source", *dict.fromkeys(lines)]), "utf-8-sig")
    first = opened(tmp_path, "a", **folder(tmp_path / "a", one, 0), **common)
    second = opened(tmp_path, "b", **shards(tmp_path / "b", two, 1), **common)
    assert_paired(first, one, second, two)
    (tmp_path / "s.csv").write_text("\n".join(["file,source", *lines[:-1]]))
    with pytest.raises(UserError, match="names no source for 1 of 38 images"):
        opened(tmp_path, "b", shards="b", **common)
    (tmp_path / "s.csv").write_text("\n".join(["file,source", *lines, lines[0] + "x"]))
    with pytest.raises(UserError, match="names two sources for"):
        opened(tmp_path, "b", shards="b", **common)


def test_classes_of_another_name_pair_through_the_label_map(tmp_path: Path) -> None:
    folder(tmp_path / "a", files(), 0)
    folder(tmp_path / "b", files(), 1)
    (tmp_path / "b" / "cat").rename(tmp_path / "b" / "kitty")
    first = opened(tmp_path, "a", family="f", folder="a")
    second = opened(tmp_path, "b", family="f", folder="b", labels={"kitty": "cat"})
    assert set(first.index("test").sources.tolist()) == set(second.index("test").sources.tolist())


def test_numbers_that_begin_again_in_the_second_tree_name_other_images(tmp_path: Path) -> None:
    rows = {}
    for place, name in enumerate("ab"):
        folder(tmp_path / name / "train", files(without=(place,)), 2 * place)
        folder(tmp_path / name / "test", files(), 2 * place + 1)
        rows[name] = opened(tmp_path, name, family="f", folder=f"{name}/train", test_folder=f"{name}/test")
    first, second = rows["a"], rows["b"]
    assert not set(first.index("tune").sources.tolist()) & set(first.index("test").sources.tolist())
    assert set(first.index("test").sources.tolist()) == set(second.index("test").sources.tolist())
    assert len(np.intersect1d(first.index("tune").sources, second.index("tune").sources)) == 2 * (PER_CLASS - 2)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**62), st.integers(0, 3)), min_size=2, max_size=60, unique_by=lambda row: row[0]
    ),
    st.floats(0.05, 0.9),
    st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_a_source_is_on_one_side_wherever_it_is(rows: list[tuple[int, int]], fraction: float, random: Any) -> None:
    """In any order, and whatever else is there, as long as no class is too small to be split by chance."""

    def side(given: list[tuple[int, int]]) -> dict[int, bool]:
        index = Index(np.array([row[1] for row in given]), np.array([row[0] for row in given], np.int64))
        first, second = divided(index, fraction)
        assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(given)))
        for label in {row[1] for row in given}:
            there = [int((index.labels[part] == label).sum()) for part in (first, second)]
            assert sum(there) < 2 or all(there)
        return {given[row][0]: part is second for part in (first, second) for row in part.tolist()}

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert side(shuffled) == side(rows)


def test_a_split_by_source_holds_its_share_and_loses_one_image_without_moving_another() -> None:
    sources = np.array([number("", f"cat/{place}") for place in range(4000)], np.int64)
    index = Index(np.zeros(4000, np.int64), sources)
    test = set(sources[divided(index, 0.3)[1]].tolist())
    assert abs(len(test) - 1200) < 4 * (4000 * 0.3 * 0.7) ** 0.5
    less = index.take(np.delete(np.arange(4000), 1234))
    assert set(less.sources[divided(less, 0.3)[1]].tolist()) == test - {int(sources[1234])}


# -- refused -----------------------------------------------------------------------------------------------------------


def shared(first: DataSet, second: DataSet) -> str:
    found = overlaps({"a": first, "b": second}, Roles("", ("a", "b"), (), ("a", "b")))
    return found[0].words if found and found[0].refused else ""


def test_a_family_whose_images_do_not_pair_is_refused(tmp_path: Path) -> None:
    first = opened(tmp_path, "a", family="f", **folder(tmp_path / "a", files(), 0))
    second = opened(tmp_path, "b", family="f", **folder(tmp_path / "b", files("x{}.png".format), 1))
    assert "0 of 40 source images are in both" in shared(first, second)
    half = opened(tmp_path, "c", family="f", **folder(tmp_path / "c", files(without=range(10)), 2))
    assert shared(first, half) == ""  # all of the smaller set's


def test_rows_without_names_pair_only_where_their_labels_are_the_same(tmp_path: Path) -> None:
    """As CIFAR-10-C's arrays are aligned with the test set's."""
    made = {}
    for name, labels in (("a", [0, 1] * 10), ("b", [0, 1] * 10), ("c", [0, 1] * 9 + [0])):
        images = np.random.default_rng(len(made)).integers(0, 255, (len(labels), 8, 8, 3), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels, classes=CLASSES)
        made[name] = opened(tmp_path, name, arrays=f"{name}.npz", family="f", test_fraction=0.3)
    assert shared(made["a"], made["b"]) == ""
    assert np.array_equal(made["a"].index("test").sources, made["b"].index("test").sources)
    assert "labels of their rows differ" in shared(made["a"], made["c"])
    named = opened(tmp_path, "d", family="f", **folder(tmp_path / "d", files(), 5))
    assert "the other by row only" in shared(made["a"], named)


def test_images_without_names_are_refused_in_a_family(tmp_path: Path) -> None:
    content = [encoded("cat", place, 0, "png") for place in range(4)]
    pq.write_table(pa.table({"image": content, "label": ["cat", "dog"] * 2}), tmp_path / "x.parquet")
    assert len(opened(tmp_path, "a", parquet="x.parquet").index("test")) == 4
    with pytest.raises(UserError, match="no file names"):
        opened(tmp_path, "a", parquet="x.parquet", family="f")


def test_two_images_of_one_class_and_name_are_refused_until_they_are_said_to_be_one_source(tmp_path: Path) -> None:
    row = folder(tmp_path / "a", files() | files("{:03d}.jpg".format, without=range(1, 20)), 0)
    with pytest.raises(UserError, match="have one name"):
        opened(tmp_path, "a", family="f", **row)
    data = opened(tmp_path, "a", family="f", source="(?P<source>.*)[.]", **row)
    assert len(set(data.index("test").sources.tolist())) == 2 * PER_CLASS
    assert len(data.index("test")) == 2 * PER_CLASS + 2
    opened(tmp_path, "a", **row)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"folder": "a", "source": "(?P<source>"}, "no regular expression"),
        ({"folder": "a", "source": r"(\d+)"}, "no group"),
        ({"folder": "a", "source": "(?P<source>.)", "source_file": "s.csv"}, "at most one of"),
        ({"folder": "a", "source_column": "x"}, "goes with parquet"),
        ({"arrays": "a.npz", "source": "(?P<source>.)"}, "array `sources`"),
        ({"imagenet": "v2", "source": "(?P<source>.)"}, "does not go with imagenet"),
    ],
)
def test_rows_that_say_the_source_in_a_wrong_way(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataRow.model_validate(row)


def test_a_pattern_that_does_not_fit_and_a_column_that_is_not_there(tmp_path: Path) -> None:
    row = folder(tmp_path / "a", files(), 0)
    with pytest.raises(UserError, match="`source` does not match the names of 40 of 40 images"):
        opened(tmp_path, "a", source="x(?P<source>.)", **row)
    parquet(tmp_path / "b", files(), 0)
    with pytest.raises(UserError, match="lacks a column"):
        opened(tmp_path, "b", parquet="b", source_column="nothing")


# -- names that families have ------------------------------------------------------------------------------------------


def test_a_set_that_another_names_as_its_family_is_of_it(tmp_path: Path) -> None:
    folder(tmp_path / "a", files(), 0)
    folder(tmp_path / "b", files(without=(0,)), 1)
    rows = with_families({name: DataRow(folder=name, family=of) for name, of in (("a", None), ("b", "a"))})
    first, second = (open_data(name, row, tmp_path, None) for name, row in rows.items())
    assert shared(first, second) == ""
    assert len(np.intersect1d(first.index("test").sources, second.index("test").sources)) == 2 * PER_CLASS - 2


def test_a_rendering_of_a_published_set_has_its_numbers(tmp_path: Path) -> None:
    made = {("n01440764", f"ILSVRC2012_val_{293 + place:08d}.png"): place for place in range(3)}
    (tmp_path / "a" / "n01440764").mkdir(parents=True)
    for _, name in made:
        (tmp_path / "a" / "n01440764" / name).write_bytes(encoded("cat", 0, 0, name))
    data = opened(tmp_path, "a", folder="a", family="imagenet:val")
    names = [name.replace(".png", ".JPEG") for _, name in made]
    assert data.index("test").sources.tolist() == published_sources("imagenet-val", [""] * 3, names).tolist()
    assert data.index("test").sources.tolist() == [293, 294, 295]


@pytest.mark.parametrize(
    ("name", "expected"), [("a.png", "a"), ("a.b.JPEG", "a.b"), ("a", "a"), (".png", ".png"), ("n-1.2", "n-1.2")]
)
def test_the_stem_of_a_name(name: str, expected: str) -> None:
    assert stem(name) == expected


def test_a_family_changes_keys_of_a_tree_and_its_name_does_not(tmp_path: Path) -> None:
    def keys(**row: Any) -> list[str]:
        made = document(tmp_path)
        write_tree(tmp_path / "tree", per_class=4)
        made["data"]["part"] = {"folder": "tree", "test_fraction": 0.5, **row}
        return [step.key for step in make_plan(parse_suite(made).based_at(tmp_path)).steps]

    assert keys() != keys(family="f")
    assert keys(family="g") == keys(family="f")
