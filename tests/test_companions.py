"""What columns, fields and files beside the labels say: the names of numbers, splits, the other text of a pair."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import holders
from holders import Item, items
from rib.data.base import DataSet
from rib.data.catalogue import DataRow, open_data
from rib.data.companions import require_rows_of_one_split
from rib.errors import UserError
from rib.files import parse_json

ORDER = ("dog", "ant", "bee")
"""Class k is the number k, as the set's author counts."""

MADE = items(("ant", "bee", "dog"))
NUMBERS = [ORDER.index(item.label) for item in MADE]
NAMES = [item.label for item in MADE]


def opened(root: Path, **row: Any) -> DataSet:
    return open_data("x", DataRow.model_validate(row), root, None)


def pairs(data: DataSet) -> set[tuple[str, str]]:
    """The class of each image, and the name of its file."""
    labels = data.index("tune").labels.tolist()
    return {(data.classes[label], path) for label, path in zip(labels, data.names("tune"), strict=True)}


def as_parquet(root: Path, numbers: Sequence[int], names: Sequence[str | None], files: int = 1) -> DataSet:
    whole = holders.table(MADE, numbers).append_column("label_name", pa.array(names, pa.string()))
    holders.parquet(root / "p", whole, files)
    return opened(root, parquet="p")


def as_shards(root: Path, numbers: Sequence[int], names: Sequence[str | None], files: int = 1) -> DataSet:
    size = len(MADE) // files
    for file in range(files):
        content = []
        for place in range(file * size, (file + 1) * size):
            key = f"{MADE[place].label}_{MADE[place].name.removesuffix('.png')}"
            said = {"label": numbers[place]} | ({"class_name": names[place]} if names[place] else {})
            content += [(f"{key}.png", MADE[place].content), (f"{key}.json", json.dumps(said).encode())]
        holders.shard(root / "s" / f"x-{file}.tar", content)
    return opened(root, shards="s")


def as_arrays(root: Path, numbers: Sequence[int], names: Sequence[str | None], files: int = 1) -> DataSet:
    holders.arrays(root / "x.npz", MADE, labels=np.array(numbers), label_text=np.array(names, str))
    return opened(root, arrays="x.npz")


def as_texts(root: Path, numbers: Sequence[int], names: Sequence[str | None], files: int = 1) -> DataSet:
    size = len(MADE) // files
    for file in range(files):
        rows = [
            [f"text {place}", numbers[place], names[place] or ""] for place in range(file * size, (file + 1) * size)
        ]
        write_csv(root / "t" / f"x-{file}.csv", ["text", "label", "label_text"], rows)
    return opened(root, text="t")


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


KINDS = {"parquet": as_parquet, "shards": as_shards, "arrays": as_arrays, "texts": as_texts}


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_beside_each_number_is_the_name_of_the_class(tmp_path: Path, kind: str) -> None:
    files = 1 if kind == "arrays" else 3  # each of one class: no file has the whole order
    data = KINDS[kind](tmp_path, NUMBERS, NAMES, files)
    assert data.classes == ORDER
    assert data.index("tune").labels.tolist() == (
        sorted(NUMBERS) if kind in ("parquet", "shards") else NUMBERS
    )  # rows of containers are in the order of the classes
    if kind in ("parquet", "shards"):
        assert all(name in path for name, path in pairs(data))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_may_have_gaps_where_each_has_a_name(tmp_path: Path, kind: str) -> None:
    data = KINDS[kind](tmp_path, [7 * number + 3 for number in NUMBERS], NAMES)
    assert data.classes == ORDER


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_with_two_names_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"disagree|name the classes differently"):
        KINDS[kind](tmp_path, NUMBERS, ["wasp", *NAMES[1:]])


@pytest.mark.parametrize("kind", KINDS)
def test_two_numbers_with_one_name_stay_numbers(tmp_path: Path, kind: str) -> None:
    if kind == "arrays":  # whose numbers need names
        with pytest.raises(UserError, match="integer labels without class names"):
            as_arrays(tmp_path, NUMBERS, ["crane"] * 12)
        return
    data = KINDS[kind](tmp_path, NUMBERS, ["crane" if name != "bee" else name for name in NAMES])
    assert data.classes == ("0", "1", "2")


@pytest.mark.parametrize("kind", ["parquet", "shards", "texts"])
def test_names_in_some_files_alone_are_refused(tmp_path: Path, kind: str) -> None:
    names = [name if name != "bee" else None for name in NAMES]
    with pytest.raises(UserError, match=r"only some of its files name the classes|differ in their columns or classes"):
        KINDS[kind](tmp_path, NUMBERS, names, 3)


def test_names_beside_names_change_nothing(tmp_path: Path) -> None:
    wnids = [f"n{number:08d}" for number in NUMBERS]
    whole = holders.table(MADE, wnids).append_column("class_name", pa.array(NAMES))
    holders.parquet(tmp_path / "p", whole)
    assert opened(tmp_path, parquet="p").classes == ("n00000000", "n00000001", "n00000002")


def test_a_mapping_of_numbers_to_names_in_the_metadata(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": {str(k): name for k, name in enumerate(ORDER)}}}
    whole = holders.table(MADE, NUMBERS)
    holders.parquet(
        tmp_path / "p",
        whole.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}),
    )
    assert opened(tmp_path, parquet="p").classes == ORDER


def categories(order: Sequence[str], made: Sequence[Item], ordered: bool = False) -> pa.Table:
    """A table whose labels are codes and a list of names, as Pandas and Polars write categories."""
    codes = pa.array([order.index(item.label) for item in made], pa.int8())
    column = pa.DictionaryArray.from_arrays(codes, pa.array(list(order)), ordered=ordered)
    return holders.table(made, [item.label for item in made]).set_column(1, "label", column)


@pytest.mark.parametrize(
    ("listed", "ordered", "mixed", "expected"),
    [
        (ORDER, True, False, ORDER),
        (ORDER, False, True, ORDER),
        (("ant", "bee", "dog"), False, True, ("ant", "bee", "dog")),
    ],
    ids=["ordered", "chosen", "alphabet"],
)
def test_the_order_of_categories_is_the_authors(
    tmp_path: Path, listed: Sequence[str], ordered: bool, mixed: bool, expected: Sequence[str]
) -> None:
    made = holders.shuffled(MADE) if mixed else MADE
    assert not mixed or tuple(dict.fromkeys(item.label for item in made)) not in (listed, expected)
    holders.parquet(tmp_path / "p", categories(listed, made, ordered), 2)
    data = opened(tmp_path, parquet="p")
    assert data.classes == expected
    assert all(name in path for name, path in pairs(data))


def test_categories_in_the_order_of_their_first_rows_say_no_order(tmp_path: Path) -> None:
    """Libraries make such lists by themselves; rows of a class after the other give the list's order."""
    first = tuple(dict.fromkeys(item.label for item in holders.shuffled(MADE)))
    assert first != ("ant", "bee", "dog")
    holders.parquet(tmp_path / "p", categories(first, holders.shuffled(MADE)))
    assert opened(tmp_path, parquet="p").classes == ("ant", "bee", "dog")


def test_files_with_categories_in_two_orders_are_refused(tmp_path: Path) -> None:
    holders.parquet(tmp_path / "p", categories(ORDER, MADE, ordered=True), name="train")
    holders.parquet(
        tmp_path / "p", categories(ORDER[::-1], items(("ant", "bee", "dog"), seed=3), ordered=True), name="a"
    )
    with pytest.raises(UserError, match="give the classes in different orders"):
        opened(tmp_path, parquet="p")


@pytest.mark.parametrize("kind", ["tree", "numbers"])
def test_a_data_card_says_the_order(tmp_path: Path, kind: str) -> None:
    if kind == "tree":
        holders.tree(tmp_path / "x", MADE)
    else:
        holders.parquet(tmp_path / "x", holders.table(MADE, NUMBERS))
    (tmp_path / "x" / "README.md").write_text(holders.card(ORDER))
    data = opened(tmp_path, **({"folder": "x"} if kind == "tree" else {"parquet": "x"}))
    assert data.classes == ORDER
    (tmp_path / "x" / "README.md").write_text(holders.card(ORDER) + "\n" + holders.card(ORDER[::-1]))
    assert opened(tmp_path, **({"folder": "x"} if kind == "tree" else {"parquet": "x"})).classes == ORDER


@pytest.mark.parametrize("text", ["# A set\n", "---\nlicense: mit\n---\n", holders.card(ORDER).replace("'1'", "'7'")])
def test_a_card_that_says_no_order_is_let_be(tmp_path: Path, text: str) -> None:
    holders.tree(tmp_path / "x", MADE)
    (tmp_path / "x" / "README.md").write_text(text)
    assert opened(tmp_path, folder="x").classes == tuple(sorted(ORDER))


def test_numbers_and_a_list_above_them_that_fits_no_set_of_that_size(tmp_path: Path) -> None:
    """As many names as numbers are refused, a list of another length is another set's."""
    holders.parquet(tmp_path / "x", holders.table(MADE, NUMBERS))
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\ndog\n")
    assert opened(tmp_path, parquet="x").classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("dog\nant\nbee\n")
    with pytest.raises(UserError, match=r"as many names[\s\S]*classes = \['dog', 'ant', 'bee'\]"):
        opened(tmp_path, parquet="x")
    assert opened(tmp_path, parquet="x", classes=ORDER).classes == ORDER


def test_lists_of_class_names_in_arrays_by_their_usual_names(tmp_path: Path) -> None:
    for name in ("classes", "class_names", "label_names", "target_names"):
        holders.arrays(tmp_path / f"{name}.npz", MADE, labels=np.array(NUMBERS), **{name: np.array(ORDER)})
        assert opened(tmp_path, arrays=f"{name}.npz").classes == ORDER


# -- tables of texts ---------------------------------------------------------------------------------------------------

Table = tuple[list[str], Sequence[Sequence[object]], dict[str, str], str]
ROWS = [[f"text {row}", ("pos", "neg")[row % 2]] for row in range(8)]


def with_column(name: str, values: Sequence[object], words: str, **row: str) -> Table:
    return (["text", "label", name], [[*each, value] for each, value in zip(ROWS, values, strict=True)], row, words)


TABLES: dict[str, Table] = {
    "splits": with_column("split", ["train"] * 4 + ["dev"] * 4, "split is train and dev"),
    "a flag": with_column("is_valid", ["False"] * 6 + ["True"] * 2, "is_valid is false and true"),
    "two texts": with_column("content", ["more"] * 8, "several columns of texts"),
    "numbered texts": with_column("text_b", ["more"] * 8, "may hold pairs"),
    "a premise": (
        ["premise", "hypothesis", "label"],
        [["if", *each] for each in ROWS],
        {"text_column": "hypothesis"},
        'pair_column = "premise"',
    ),
    "questions": (
        ["question1", "question2", "label"],
        [["if", *each] for each in ROWS],
        {"text_column": "question1"},
        'pair_column = "question2"',
    ),
    "a missing group": with_column("g", ["a"] * 7 + ["NaN"], "'g' is empty in 1 rows", group_column="g"),
    "groups alike": with_column("g", ["a", "A "] * 4, "two groups differ only in case or spaces", group_column="g"),
    "no numbers": (["text", "label"], [[text, float(name == "pos")] for text, name in ROWS], {}, "are fractions"),
    "powers": (["text", "label"], [[text, "1e0" if name == "pos" else "0"] for text, name in ROWS], {}, "fractions"),
    "nan": (["text", "label"], [["x", "nan"], *ROWS], {}, "1 of 9 labels are words for a missing value"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, name: str) -> None:
    header, rows, row, words = TABLES[name]
    write_csv(tmp_path / "x.csv", header, rows)
    with pytest.raises(UserError) as caught:
        opened(tmp_path, text="x.csv", **row)
    assert words in str(caught.value)


def test_the_way_out_of_each_is_taken(tmp_path: Path) -> None:
    """The remedies that the refusals name: single texts, a named column, a column under another name."""
    write_csv(tmp_path / "a.csv", ["premise", "hypothesis", "label"], [["if", *each] for each in ROWS])
    single = opened(tmp_path, text="a.csv", text_column="hypothesis", pair_column="")
    assert single.classes == ("neg", "pos")
    write_csv(tmp_path / "b.csv", ["text", "content", "label"], [["if", *each] for each in ROWS])
    assert opened(tmp_path, text="b.csv", text_column="content").classes == ("neg", "pos")
    write_csv(tmp_path / "c.csv", ["text", "label", "my_split"], [[*each, "train"] for each in ROWS])
    assert opened(tmp_path, text="c.csv").classes == ("neg", "pos")
    write_csv(tmp_path / "d.csv", ["text", "label", "split"], [[*each, "train"] for each in ROWS])
    assert opened(tmp_path, text="d.csv").classes == ("neg", "pos")


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\nb", "\u202egnp", "x" * 201])
@pytest.mark.parametrize("what", ["group", "cell", "class"])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path, what: str, name: str) -> None:
    rows = [[*each, name if row < 4 else "plain", row % 4] for row, each in enumerate(ROWS)]
    write_csv(tmp_path / "x.csv", ["text", "kind" if what == "class" else "label", "g", "s"], rows)
    options: dict[str, Any] = {
        "group": {"group_column": "g"},
        "cell": {"cells": ("g",), "source_column": "s"},
        "class": {"label_column": "g"},
    }
    with pytest.raises(UserError, match=rf"{what}( name)? has (control characters|more than 200)") as caught:
        opened(tmp_path, text="x.csv", **options[what])
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_labels_of_two_kinds_in_json_lines(tmp_path: Path) -> None:
    mixed = [{"text": text, "label": 1 if name == "pos" else "negative"} for text, name in ROWS]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    with pytest.raises(UserError, match="4 of 8 labels are names, where others are numbers"):
        opened(tmp_path, text="x.jsonl")
    written = [{"text": text, "label": 1 if row < 4 else "1"} for row, (text, _) in enumerate(ROWS)]
    (tmp_path / "y.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*written, {"text": "z", "label": 0}]))
    assert opened(tmp_path, text="y.jsonl").classes == ("0", "1")


def test_a_field_that_stands_there_twice_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a", "label": "pos", "label": "neg"}\n')
    with pytest.raises(UserError, match="the field 'label' stands there twice"):
        opened(tmp_path, text="x.jsonl")
    with pytest.raises(ValueError, match="'b' stands there twice"):
        parse_json('{"a": {"b": 1, "c": 2, "b": 1}}')


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_table_beside_the_classes_may_use_other_words(tmp_path: Path) -> None:
    holders.tree(tmp_path / "x", MADE)
    rows = [[f"{item.label}/{item.name}", f"n0000{ORDER.index(item.label)}"] for item in MADE]
    write_csv(tmp_path / "x" / "metadata.csv", ["file_name", "label"], [*rows, ["gone/1.png", "ant"]])
    assert opened(tmp_path, folder="x").classes == ("ant", "bee", "dog")
    write_csv(tmp_path / "x" / "metadata.csv", ["file_name", "label"], [*rows[:-1], [rows[-1][0], rows[0][1]]])
    with pytest.raises(UserError, match=r"metadata\.csv says other classes than the folders"):
        opened(tmp_path, folder="x")


def test_lists_of_splits_beside_the_classes_are_said(tmp_path: Path) -> None:
    holders.tree(tmp_path / "x", MADE)
    (tmp_path / "x" / "train.txt").write_text("ant/000.png\n")
    assert opened(tmp_path, folder="x").left_out == ()
    (tmp_path / "x" / "test.txt").write_text("ant/001.png\n")
    assert "test.txt and train.txt, which may name images to test on" in opened(tmp_path, folder="x").left_out


def test_thumbnails_of_a_file_server_are_no_class(tmp_path: Path) -> None:
    holders.tree(tmp_path / "x", [*MADE, Item("@eaDir", "000.png", MADE[0].pixels)])
    assert opened(tmp_path, folder="x").classes == ("ant", "bee", "dog")


@pytest.mark.parametrize(
    ("name", "values", "refused"),
    [
        ("Split", ["train", "test"], True),
        ("usage", ["Training", "PublicTest", None], True),
        ("split", ["train", "training"], False),
        ("fold", [0, 1, 2], False),
        ("is_test", [True, True], False),
        ("is_test", [0, 1], True),
        ("set", ["red", "blue"], False),
        ("label", ["train", "test"], False),
    ],
)
def test_which_columns_name_splits(name: str, values: list[Any], refused: bool) -> None:
    if not refused:
        return require_rows_of_one_split({name: values}, "x.csv", "x")
    with pytest.raises(UserError, match="rows of several splits"):
        require_rows_of_one_split({name: values}, "x.csv", "x")
    return None


@pytest.mark.parametrize("name", ["metadata.csv", "list_eval_partition.csv"])
@pytest.mark.parametrize(("column", "values"), [("split", ["train", "test"]), ("partition", [0, 2])])
def test_columns_of_splits_beside_the_classes_are_said(
    tmp_path: Path, name: str, column: str, values: list[Any]
) -> None:
    holders.tree(tmp_path / "x", MADE)
    rows = [f"{item.label}/{item.name},{values[place % 2]}" for place, item in enumerate(MADE)]
    (tmp_path / "x" / name).write_text(f"img_filename,{column}\n" + "\n".join(rows))
    said = f"the splits in `{column}` of {name}: all images are taken as one set"
    assert said in opened(tmp_path, folder="x").left_out
    (tmp_path / "x" / name).write_text(f"img_filename,{column}\n" + rows[0])
    assert opened(tmp_path, folder="x").left_out == ()


def test_a_table_of_any_name_that_contradicts_the_folders_is_refused(tmp_path: Path) -> None:
    holders.tree(tmp_path / "x", MADE)
    rows = [f"{item.label}/{item.name},{item.label}" for item in MADE]
    (tmp_path / "x" / "train.csv").write_text("image,label\n" + "\n".join(rows))
    (tmp_path / "x" / "half.jsonl").write_text("{")
    assert opened(tmp_path, folder="x").classes == ("ant", "bee", "dog")
    (tmp_path / "x" / "train.csv").write_text("image,label\n" + "\n".join([*rows[:-1], rows[-1][:-3] + "ant"]))
    with pytest.raises(UserError, match=r"train\.csv says other classes than the folders"):
        opened(tmp_path, folder="x")


def in_shards(root: Path, numbers: dict[str, int]) -> dict[str, str]:
    files = holders.members(MADE, numbers)
    named = [(f"{name.partition('_')[0]}/{name}", data) for name, data in files]
    return {"shards": str(holders.shard(root / "a.tar", named))}


def in_parquet(root: Path, numbers: dict[str, int]) -> dict[str, str]:
    return {"parquet": str(holders.parquet(root, holders.table(MADE, [numbers[item.label] for item in MADE])))}


@pytest.mark.parametrize("write", [in_shards, in_parquet])
def test_numbers_that_mean_other_folders_in_the_test_part_are_refused(
    tmp_path: Path, write: Callable[[Path, dict[str, int]], dict[str, str]]
) -> None:
    numbers, others = {"ant": 0, "bee": 1, "dog": 2}, {"ant": 1, "bee": 0, "dog": 2}
    tune = write(tmp_path / "a", numbers)
    for folder, codes in (("b", numbers), ("c", others)):
        test = {f"test_{kind}": place for kind, place in write(tmp_path / folder, codes).items()}
        if codes is numbers:
            assert opened(tmp_path, **tune, **test).classes == ("0", "1", "2")
            continue
        with pytest.raises(UserError, match="labels and the folders of the images disagree"):
            opened(tmp_path, **tune, **test)
    assert opened(tmp_path, **tune, classes=["ant", "bee", "dog"]).classes == ("ant", "bee", "dog")
    with pytest.raises(UserError, match="from folder 'ant' have label '0', which is class 'dog'"):
        opened(tmp_path, **tune, classes=["dog", "bee", "ant"])
