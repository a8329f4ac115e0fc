"""Files of any name beside images, texts or checkpoints that list the classes: they state the order, or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import holders
from helpers import RESNET, write_texts
from holders import items, members, table
from rib.data.base import DataSet
from rib.data.catalogue import DataRow, open_data
from rib.data.class_lists import lists_of
from rib.errors import UserError
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.describe import describe
from rib.models.loading import weights_identity

NAMES = ("cat", "ant", "bee")
"""In the author's order, which is not that of the alphabet."""

MADE = items(NAMES)
TABLE = {str(number): name for number, name in enumerate(NAMES)}
NUMBERS = {name: number for number, name in enumerate(NAMES)}

FILES = {
    "label_map.json": json.dumps(NUMBERS),
    "labels.json": json.dumps(NAMES),
    "id2label.json": json.dumps(TABLE),
    "imagenet_class_index.json": json.dumps({number: [f"n{number}", name] for number, name in TABLE.items()}),
    "config.json": json.dumps({"id2label": TABLE, "num_labels": 3}),
    "categories.json": json.dumps({"categories": [{"id": 3 * i + 1, "name": name} for i, name in enumerate(NAMES)]}),
    "names.txt": "cat\nant\nbee\n",
    "Classes.TXT": "\ufeffcat\r\nant\r\nbee",
    "LOC_synset_mapping.txt": "cat tabby, tabby cat\nant emmet\nbee a flying one\n",
    "words.txt": "cat\ttabby\nant\temmet\nbee\thoney bee\n",
    "labelmap.txt": "1 cat\n2 ant\n3 bee\n",
    "index.csv": "class,index\nant,1\nbee,2\ncat,0\n",
    "one.csv": "class\ncat\nant\nbee\n",
    "class_dict.csv": "class_index;class\n0;cat\n1;ant\n2;bee\n",
    "synsets": "cat\nant\nbee\n",
    "data.yaml": "train: images/train\nnames: [cat, 'ant', bee]  # three\n",
    "dataset.yaml": "path: x\nnames:\n  0: cat\n  1: ant\n  2: bee\nnc: 3\n",
    "listed.yml": "names:\n- cat\n- ant\n- bee\n",
    "numbered.yml": "classes:\n  ant: 1\n  bee: 2\n  cat: 0\n",
    "classes.names": "cat\nant\nbee\n",
    "label_map.pbtxt": "".join(f"item {{\n  id: {i + 1}\n  name: '{name}'\n}}\n" for i, name in enumerate(NAMES)),
}


def opened(base: Path, **row: str) -> DataSet:
    return open_data("x", DataRow.model_validate(row), base, None)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_name_states_the_order(tmp_path: Path, name: str) -> None:
    holders.tree(tmp_path / "s" / "x", MADE)
    (tmp_path / "s" / "x" / name).write_text(FILES[name], "utf-8")
    assert opened(tmp_path, folder="s/x").classes == NAMES
    (tmp_path / "s" / "x" / name).rename(tmp_path / "s" / name)
    assert opened(tmp_path, folder="s/x").classes == NAMES
    (tmp_path / "s" / "meta").mkdir()
    (tmp_path / "s" / name).rename(tmp_path / "s" / "meta" / name)
    assert opened(tmp_path, folder="s/x").classes == NAMES


HOLDERS: dict[str, Callable[[Path], dict[str, str]]] = {
    "parquet": lambda root: {"parquet": str(holders.parquet(root, table(MADE, [one.label for one in MADE])))},
    "shards": lambda root: {"shards": str(holders.shard(root / "a.tar", members(MADE)))},
    "arrays": lambda root: {"arrays": str(holders.arrays(root / "x.npz", MADE))},
    "text": lambda root: {"text": str(write_texts(root / "x.jsonl", 0, NAMES))},
}


@pytest.mark.parametrize("form", HOLDERS)
def test_whatever_holds_the_examples(tmp_path: Path, form: str) -> None:
    row = HOLDERS[form](tmp_path / "s")
    assert opened(tmp_path, **row).classes == ("ant", "bee", "cat")
    (tmp_path / "s" / "label_map.json").write_text(json.dumps(NUMBERS))
    assert opened(tmp_path, **row).classes == NAMES


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("counts.csv", "cat,40\nant,20\nbee,30\n"),
        ("counts.json", '{"cat": 40, "ant": 20, "bee": 30}'),
        ("accuracies.txt", "cat 0.9\nant 0.8\nbee 0.7\ndog 0.6\n"),
        ("notes.txt", "cat\nant\nbee\nand others\n"),
        ("pairs.txt", "cat\ncat\nant\n"),
        ("half.json", "["),
        ("bytes.txt", "\0cat\nant\nbee"),
    ],
)
def test_what_lists_no_classes_is_let_be(tmp_path: Path, name: str, text: str) -> None:
    holders.tree(tmp_path / "x", MADE)
    (tmp_path / "x" / name).write_text(text)
    assert opened(tmp_path, folder="x").classes == ("ant", "bee", "cat")


def test_two_orders_are_refused_and_a_row_decides(tmp_path: Path) -> None:
    holders.tree(tmp_path / "x", MADE)
    (tmp_path / "x" / "label_map.json").write_text(json.dumps(NUMBERS))
    (tmp_path / "x" / "names.txt").write_text("bee\ncat\nant\n")
    with pytest.raises(UserError, match=r"two files list its classes in different orders"):
        opened(tmp_path, folder="x")
    (tmp_path / "x" / "names.txt").unlink()
    (tmp_path / "x" / "dataset_info.json").write_text('{"features": {"label": {"names": ["bee", "cat", "ant"]}}}')
    with pytest.raises(UserError, match=r"two files list its classes|in different orders"):
        opened(tmp_path, folder="x")
    row = DataRow(folder="x", classes=("ant", "cat", "bee"))
    assert open_data("x", row, tmp_path, None).classes == ("ant", "cat", "bee")


@pytest.mark.parametrize("name", ["label_map.json", "names.txt", "labels.json", "class_dict.csv", "data.yaml"])
def test_numbers_that_a_file_may_name_are_refused(tmp_path: Path, name: str) -> None:
    numbers = table(MADE, [NUMBERS[one.label] for one in MADE])
    holders.parquet(tmp_path / "x", numbers)
    (tmp_path / "x" / "notes.txt").write_text("a\nb\nc\n")
    assert opened(tmp_path, parquet="x").classes == ("0", "1", "2")
    (tmp_path / "x" / name).write_text(FILES[name])
    if name == "data.yaml":
        (tmp_path / "x" / name).rename(tmp_path / "x" / "classes.yaml")
    with pytest.raises(UserError, match="the labels are numbers") as found:
        opened(tmp_path, parquet="x")
    assert "classes = ['cat', 'ant', 'bee']" in str(found.value.remedy)


def test_too_many_and_too_large_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\nant\nbee" + "\n" * (1 << 20))
    assert lists_of((tmp_path,), NAMES) == []
    (tmp_path / "names.txt").write_text("cat\nant\nbee")
    assert lists_of((tmp_path, tmp_path / "gone"), NAMES) == [(NAMES, tmp_path / "names.txt")]
    assert lists_of((tmp_path,), ["cat"]) == []


@pytest.mark.parametrize("name", ["labels.txt", "label_map.json", "class_names.txt", "data.yaml", "index.csv"])
def test_a_list_beside_a_checkpoint_in_another_order_is_refused(tmp_path: Path, name: str) -> None:
    row = ModelRow.model_validate(RESNET | {"weights": "run/mine.pth"})
    architecture = describe(row, 3, tmp_path)
    (tmp_path / "run").mkdir()
    torch.save(build(architecture).net.state_dict(), tmp_path / "run" / "mine.pth")

    def identity(classes: tuple[str, ...], **fields: object) -> str:
        return weights_identity("mine", row.model_copy(update=fields), architecture, tmp_path, classes, tmp_path / "c")

    plain = identity(("ant", "bee", "cat"))
    (tmp_path / "run" / name).write_text(FILES.get(name, "cat\nant\nbee\n"))
    with pytest.raises(UserError, match=r"beside the checkpoint mine\.pth lists .* in another order"):
        identity(("ant", "bee", "cat"))
    assert identity(NAMES) == plain
    assert identity(("ant", "bee", "cat"), outputs=NAMES) != plain
    assert identity(("ant", "bee", "cat"), outputs=("ant", "bee", "cat")) == plain
