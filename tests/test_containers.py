"""Containers: the same images and labels give the same tables, whatever holds them; the order of the classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holders
from helpers import document
from holders import Item, items, members, shuffled, table
from rib.data.base import DataSet
from rib.data.catalogue import DataRow, open_data
from rib.data.check import check
from rib.data.views import Pixels
from rib.errors import UserError
from rib.execute.run import execute
from rib.plan import Plan, make_plan
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import parse_suite

VIEW = Pixels(holders.SIDE)

ORDERS = {
    "alphabet": (("ant", "bee", "cat"), ()),
    "the author's": (("cat", "ant", "bee"), ("cat", "ant", "bee")),
    "numbers": (tuple(str(number) for number in range(12)), ()),
    "beyond ASCII": (("Zürich", "Äpfel", "éclair"), ()),  # by code point
}
"""Classes in the order that is right, and what the author says of it."""


def write_all(
    root: Path, made: list[Item], classes: tuple[str, ...], said: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """A row of a suite for each container. Where the author says no order, no container has one."""
    place = {name: number for number, name in enumerate(classes)}
    mixed = shuffled(made)
    labels, numbers = [item.label for item in mixed], [place[item.label] for item in mixed]
    plain = sorted(made, key=lambda item: (place[item.label], item.name))
    text = [item.label for item in plain]
    rows: dict[str, dict[str, Any]] = {
        "tree": {"folder": holders.tree(root / "tree", mixed, said)},
        "strings": {"parquet": holders.ordered(holders.parquet(root / "strings", table(mixed, labels), 3), said)},
        "bytes": {"parquet": holders.ordered(holders.parquet(root / "bytes", table(plain, text, paths=False)), said)},
        "ClassLabel": {"parquet": holders.parquet(root / "numbers", table(mixed, numbers, names=classes), 2)},
        "dictionary": {
            "parquet": holders.ordered(
                holders.parquet(root / "dictionary", table(mixed, labels).set_column(1, "label", _dictionary(labels))),
                said,
            )
        },
        "numbers and a list": {
            "parquet": holders.ordered(holders.parquet(root / "listed", table(mixed, numbers)), classes)
        },
        "cls": {"shards": holders.ordered(_shards(root / "cls", mixed), said)},
        "json": {"shards": holders.ordered(_shards(root / "json", mixed, form="json"), said)},
        "cls numbers": {"shards": holders.ordered(_shards(root / "n", mixed, place), classes)},
        "npz names": {
            "arrays": holders.arrays(root / "names.npz", plain, **({"classes": np.array(said)} if said else {}))
        },
        "npz numbers": {
            "arrays": holders.arrays(
                root / "n.npz", plain, labels=np.array([place[one] for one in text]), classes=np.array(classes)
            )
        },
    }
    return {name: {kind: str(path.relative_to(root)) for kind, path in row.items()} for name, row in rows.items()}


def _dictionary(labels: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(labels).dictionary_encode()


def _shards(root: Path, made: list[Item], labels: dict[str, int] | None = None, form: str = "cls") -> Path:
    """Two shards."""
    half = len(made) // 2
    holders.shard(root / "set-000.tar", holders.members(made[:half], labels, form))
    return holders.shard(root / "set-001.tar", holders.members(made[half:], labels, form))


def opened(root: Path, row: dict[str, Any], **fields: Any) -> DataSet:
    return open_data("x", DataRow.model_validate(row | fields), root, None)


def assert_equal(one: DataSet, other: DataSet, name: str) -> None:
    """The same classes, parts, labels, sources, pixels."""
    assert other.classes == one.classes, name
    for part in one.parts:
        index, same = one.index(part), other.index(part)
        assert same.labels.tolist() == index.labels.tolist(), name
        assert same.sources.tolist() == index.sources.tolist(), name
        rows = range(len(index))
        assert np.array_equal(other.read(part, rows, VIEW), one.read(part, rows, VIEW)), name


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fields", [{}, {"test_fraction": 0.5}], ids=["whole", "split"])
def test_every_container_gives_the_same_table(tmp_path: Path, order: str, fields: dict[str, Any]) -> None:
    classes, said = ORDERS[order]
    made = items(classes)
    rows = write_all(tmp_path, made, classes, said)
    sets = {name: opened(tmp_path, row, **fields) for name, row in rows.items()}
    first = sets["tree"]
    assert first.classes == classes
    if not fields:
        expected = sorted(made, key=lambda item: (classes.index(item.label), item.name))
        assert first.index("tune").labels.tolist() == [classes.index(item.label) for item in expected]
        assert np.array_equal(first.read("tune", range(len(made)), VIEW), [item.pixels for item in expected])
    for name, data in sets.items():
        assert_equal(first, data, name)
        assert not data.left_out
        if "npz" not in name:  # that of an array is made of pixels, those of the others of files
            assert data.fingerprint("tune") == first.fingerprint("tune"), name
        assert check("x", DataRow.model_validate(rows[name] | fields), tmp_path).fine


@pytest.mark.parametrize("chosen", [("bee", "cat", "ant"), ("cat", "ant")])
def test_classes_of_the_row_come_first_in_every_container(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    classes, said = ORDERS["the author's"]
    made = items(classes)
    rows = write_all(tmp_path, made, classes, said)
    del rows["numbers and a list"], rows["cls numbers"]  # there a row's classes say what the numbers mean
    sets = {name: opened(tmp_path, row, classes=chosen) for name, row in rows.items()}
    for name, data in sets.items():
        assert data.classes == chosen
        if "npz" not in name:  # its rows keep their own order
            assert_equal(sets["tree"], data, name)
        order = np.argsort(data.index("tune").labels, kind="stable")
        whole = range(4 * len(chosen))
        assert np.array_equal(data.read("tune", order, VIEW), sets["tree"].read("tune", whole, VIEW)), name
        wanted = 4 * (len(classes) - len(chosen))
        assert [f"{wanted} images" in note for note in data.left_out] == ([True] if wanted else []), name


def test_classes_without_images_keep_their_place(tmp_path: Path) -> None:
    names = ("ant", "bee", "cat", "dog", "elk")
    rows = write_all(tmp_path, items(("bee", "elk")), ("bee", "elk"), ())
    for name, row in rows.items():
        if "arrays" in row or "number" in name or name == "ClassLabel":
            continue
        data = opened(tmp_path, row, classes=names, absent_classes=True)
        assert data.classes == names, name
        assert set(data.index("test").labels.tolist()) == {1, 4}, name
        with pytest.raises(UserError, match="no folder or label for class 'ant'") as caught:
            opened(tmp_path, row, classes=names)
        assert "absent_classes" in str(caught.value)
        with pytest.raises(UserError, match="no folder or label"):
            opened(tmp_path, row, classes=("wasp", "yak"), absent_classes=True)


def test_numbers_mean_the_classes_of_the_row(tmp_path: Path) -> None:
    classes, said = ORDERS["the author's"]
    made = items(classes)
    rows = write_all(tmp_path, made, classes, said)
    for name in ("numbers and a list", "cls numbers"):
        data = opened(tmp_path, rows[name], classes=("x", "y", "z"))
        assert data.classes == ("x", "y", "z")
        assert_equal(opened(tmp_path, rows[name], classes=classes), opened(tmp_path, rows["tree"]), name)
        assert data.index("tune").labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def planned(folder: Path, row: dict[str, Any]) -> Plan:
    made = document(folder, runs=[{"methods": ["finetune"]}])
    made["recipe"]["epochs"] = 1
    made["data"]["part"] = row | {"test_fraction": 0.5}
    return make_plan(parse_suite(made).based_at(folder))


def test_a_run_is_the_same_from_every_container(tmp_path: Path) -> None:
    """From files there is one set of steps; from an array another, with the same predictions."""
    classes = ("dog", "bee", "ant")
    made = items(classes, per_class=8)
    rows = write_all(tmp_path, made, classes, classes)
    plans = {name: planned(tmp_path, row) for name, row in rows.items()}
    keys = {name: {step.key for step in plan.steps} for name, plan in plans.items()}
    assert all(keys[name] == keys["tree"] for name in rows if "npz" not in name)
    assert keys["npz names"] == keys["npz numbers"]
    assert keys["npz names"] != keys["tree"]
    store = Store(tmp_path / "store")
    for name in ("tree", "npz names"):
        assert not execute(plans[name], store, How(workers=1)).failed
    for one, other in zip(plans["tree"].steps, plans["npz names"].steps, strict=True):
        mine, theirs = store.record(one.key), store.record(other.key)
        assert mine is not None
        assert theirs is not None
        assert mine.values == theirs.values, one.title


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "cat\nant\nbee\n"),
        ("classes.txt", "\ufeffcat\r\nant\r\n\r\nbee"),
        ("classes.txt", "1 cat\n2 ant\n3 bee\n"),
        ("labels.txt", "0 cat\n1 ant\n2 bee\n"),
        ("classnames.txt", "cat\nant\nbee"),
        ("classes.json", '["cat", "ant", "bee"]'),
        ("class_to_idx.json", '{"ant": 1, "bee": 2, "cat": 0}'),
        ("classes.json", '{"0": "cat", "1": "ant", "2": "bee"}'),
        (
            "dataset_info.json",
            '\ufeff{"features": {"image": {}, "label": {"names": ["cat", "ant", "bee"], "_type": "ClassLabel"}}}',
        ),
    ],
)
def test_a_file_beside_the_images_says_the_order(tmp_path: Path, name: str, text: str) -> None:
    holders.tree(tmp_path / "t", items(("ant", "bee", "cat")))
    (tmp_path / "t" / name).write_text(text, "utf-8")
    assert opened(tmp_path, {"folder": "t"}).classes == ("cat", "ant", "bee")
    assert opened(tmp_path, {"folder": "t"}, classes=("bee", "ant", "cat")).classes == ("bee", "ant", "cat")


BESIDE = {
    "folder": lambda root: {"folder": holders.tree(root / "s" / "train", items(("ant", "bee", "cat")))},
    "two folders": lambda root: {
        "folder": holders.tree(root / "s" / "train", items(("ant", "bee", "cat"))),
        "test_folder": holders.tree(root / "s" / "val", items(("ant", "bee", "cat"), seed=1)),
    },
    "Parquet": lambda root: {"parquet": _in_files(root / "s" / "data")},
    "shards": lambda root: {
        "shards": holders.shard(root / "s" / "data" / "a.tar", members(items(("ant", "bee", "cat"))))
    },
    "arrays": lambda root: {"arrays": holders.arrays(root / "s" / "x.npz", items(("ant", "bee", "cat")))},
}


def _in_files(root: Path) -> Path:
    made = items(("ant", "bee", "cat"))
    return holders.parquet(root, table(made, [item.label for item in made]))


@pytest.mark.parametrize("form", BESIDE)
def test_a_file_beside_the_set_says_the_order_if_it_names_its_classes(tmp_path: Path, form: str) -> None:
    row = {key: str(place) for key, place in BESIDE[form](tmp_path).items()}
    (tmp_path / "s" / "classes.txt").write_text("cat\nant\nbee\n")
    (tmp_path / "s" / "labels.txt").write_text("nothing\nnothing\n")  # no order, and maybe of another set
    assert opened(tmp_path, row).classes == ("cat", "ant", "bee")
    assert opened(tmp_path, row, classes=("bee", "ant", "cat")).classes == ("bee", "ant", "cat")
    (tmp_path / "s" / "classes.txt").write_text("dog\nhen\n")
    assert opened(tmp_path, row).classes == ("ant", "bee", "cat")
    (tmp_path / "s" / "classes.txt").write_text("ant\nbackground\nbee\ncat\n")
    assert opened(tmp_path, row).classes == ("ant", "bee", "cat")


@pytest.mark.parametrize("text", ["background\ncat\nant\nbee\n", "cat\nbee\n", "Cat\nAnt\nBee\n"])
@pytest.mark.parametrize("form", BESIDE)
def test_a_file_beside_the_set_in_another_order_with_other_classes_is_refused(
    tmp_path: Path, form: str, text: str
) -> None:
    row = {key: str(place) for key, place in BESIDE[form](tmp_path).items()}
    (tmp_path / "s" / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=r"(?s)in different orders.*classes\.txt, which names other classes too"):
        opened(tmp_path, row)


def test_a_file_beside_the_set_does_not_contradict_the_one_in_it(tmp_path: Path) -> None:
    holders.tree(tmp_path / "s" / "train", items(("ant", "bee", "cat")), ("cat", "ant", "bee"))
    (tmp_path / "s" / "classes.txt").write_text("cat\nant\nbee\n")
    assert opened(tmp_path, {"folder": "s/train"}).classes == ("cat", "ant", "bee")
    (tmp_path / "s" / "classes.txt").write_text("ant\nbee\ncat\n")
    with pytest.raises(UserError, match="in different orders"):
        opened(tmp_path, {"folder": "s/train"})


def test_what_says_no_order_is_let_be(tmp_path: Path) -> None:
    holders.tree(tmp_path / "t", items(("ant", "bee", "cat")))
    (tmp_path / "t" / "dataset_info.json").write_text('{"description": "insects", "features": {"image": {}}}')
    (tmp_path / "t" / "README.md").write_text("cat ant bee")
    data = opened(tmp_path, {"folder": "t"})
    assert data.classes == ("ant", "bee", "cat")
    assert not data.left_out


def test_numbers_that_are_padded_or_mixed_with_names(tmp_path: Path) -> None:
    holders.tree(tmp_path / "padded", items(("002", "010", "001")))
    assert opened(tmp_path, {"folder": "padded"}).classes == ("001", "002", "010")
    holders.tree(tmp_path / "mixed", items(("2", "10", "x")))
    assert opened(tmp_path, {"folder": "mixed"}).classes == ("10", "2", "x")


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été")
    assert composed != apart
    holders.tree(tmp_path / "a", items(("ant", composed)))
    holders.tree(tmp_path / "b", items(("ant", apart), seed=5))
    for first, second in (("a", "b"), ("b", "a")):
        data = opened(tmp_path, {"folder": first, "test_folder": second})
        assert data.classes == ("ant", composed)
        assert len(data.index("test")) == 8
    made = document(tmp_path)
    holders.tree(tmp_path / "ref", items((*"abc", composed), seed=6))
    made["data"] |= {"clean": {"folder": "ref"}, "part": {"folder": "b", "labels": {apart: composed, "ant": "a"}}}
    made["data"]["whole"] = {"folder": "ref2", "test_fraction": 0.5}
    holders.tree(tmp_path / "ref2", items((*"abc", apart), seed=7))
    world = make_plan(parse_suite(made).based_at(tmp_path)).world
    assert world.part("part", "test").label_map.groups == ((0,), (3,))
    assert world.part("whole", "test").label_map.groups == ((0,), (1,), (2,), (3,))


def test_the_order_is_part_of_what_a_step_is(tmp_path: Path) -> None:
    """Two authors' orders are two references: what one tuned is not taken for the other's."""
    made = items(("ant", "bee", "cat"))
    holders.tree(tmp_path / "a", made)
    holders.tree(tmp_path / "b", made, ("cat", "ant", "bee"))
    one, other = (opened(tmp_path, {"folder": name}) for name in "ab")
    assert one.fingerprint("tune") != other.fingerprint("tune")


# -- parts and names ---------------------------------------------------------------------------------------------------


def in_parquet(root: Path, name: str) -> dict[str, Any]:
    made = items(("ant", "bee"), 2)
    holders.parquet(root / name, table(made, [item.label for item in made]))
    return {"parquet": name}


def in_shards(root: Path, name: str) -> dict[str, Any]:
    holders.shard(root / name / "x.tar", holders.members(items(("ant", "bee"), 2)))
    return {"shards": name}


def in_tree(root: Path, name: str) -> dict[str, Any]:
    holders.tree(root / name, items(("ant", "bee"), 2))
    return {"folder": name}


@pytest.mark.parametrize(
    "name", ["pa [v2]", "pa{1}", "pa{1..3}", "what?", "star*", "pa$HOME", "$x", "a b", "été", "[ab]"]
)
@pytest.mark.parametrize("kind", [in_tree, in_parquet, in_shards])
def test_a_name_that_is_there_is_taken_as_it_stands(
    tmp_path: Path, kind: Callable[[Path, str], dict[str, Any]], name: str
) -> None:
    for inside, asked in ((tmp_path, name), (tmp_path / name, "inner")):
        data = opened(inside, kind(inside, asked))
        assert data.classes == ("ant", "bee")
        assert len(data.index("tune")) == 4
    if kind is not in_tree:
        suffix = "*.parquet" if kind is in_parquet else "*.tar"
        (field,) = kind(tmp_path, name)
        assert len(opened(tmp_path, {field: f"{name}/{suffix}"}).index("tune")) == 4


def test_brackets_in_the_folder_of_a_suite_match_no_other_folder(tmp_path: Path) -> None:
    in_parquet(tmp_path / "exp1", "pa")
    in_parquet(tmp_path / "exp[1]", "pb")
    with pytest.raises(UserError, match=r"no \.parquet files"):
        opened(tmp_path / "exp[1]", {"parquet": "pa"})
    with pytest.raises(UserError, match=r"no \.parquet files"):
        opened(tmp_path / "gone[1]" / ".." / "exp[2]", {"parquet": "pa/*.parquet"})
    assert (
        len(opened(tmp_path, {"parquet": "exp[12]/pa/*.parquet"}).index("tune")) == 4
    )  # a pattern, where nothing has that name


def test_variables_are_expanded_and_missing_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parquet(tmp_path, "pa")
    monkeypatch.setenv("RIB_TEST_PLACE", str(tmp_path))
    assert len(opened(tmp_path / "elsewhere", {"parquet": "$RIB_TEST_PLACE/pa"}).index("tune")) == 4
    monkeypatch.delenv("RIB_TEST_PLACE")
    with pytest.raises(UserError, match="RIB_TEST_PLACE is not set"):
        opened(tmp_path, {"parquet": "$RIB_TEST_PLACE/pa"})


def test_files_are_found_in_either_case_through_links_and_once(tmp_path: Path) -> None:
    root = tmp_path / "pa"
    in_parquet(tmp_path, "pa")
    (root / "train-00000-of-00001.parquet").rename(root / "TRAIN.PARQUET")
    (root / "._TRAIN.PARQUET").write_bytes(b"junk of a system")
    (tmp_path / "other").symlink_to(root)
    (root / "again").symlink_to(root)  # in a circle
    assert len(opened(tmp_path, {"parquet": "other"}).index("tune")) == 4


def test_numberings_that_are_whole_are_taken(tmp_path: Path) -> None:
    made = items(("ant", "bee"), 6)
    for place, name in enumerate(("t-098.tar", "t-099.tar", "t-100.tar")):
        holders.shard(tmp_path / "s" / name, holders.members(made[place::3]))
    assert len(opened(tmp_path, {"shards": "s"}).index("tune")) == 12
    for year in ("2019", "2021"):
        holders.shard(
            tmp_path / "y" / f"{year}.tar", holders.members(items(("ant", "bee"), 2, seed=int(year)), form="json")
        )
    assert len(opened(tmp_path, {"shards": "y"}).index("tune")) == 8  # keys begin anew in each
    (tmp_path / "s" / "t-099.tar").unlink()
    assert len(opened(tmp_path, {"shards": "s/t-[01]*.tar"}).index("tune")) == 8  # said by hand


def test_parts_with_a_digest_in_their_names_are_counted(tmp_path: Path) -> None:
    """As Hugging Face's library once named them."""
    made = items(("ant", "bee"), 6)
    holders.parquet(tmp_path / "pa", table(made, [item.label for item in made]), files=3)
    for place, file in enumerate(sorted((tmp_path / "pa").iterdir())):
        file.rename(file.with_name(f"train-{place:05d}-of-00003-{place}a1b2c3d4e5f6071.parquet"))
    assert len(opened(tmp_path, {"parquet": "pa"}).index("tune")) == 12
    next((tmp_path / "pa").glob("train-00001*")).unlink()
    with pytest.raises(UserError, match="1 of 3 numbered files are missing"):
        opened(tmp_path, {"parquet": "pa"})
