"""Groups of a data set: read from every kind of container, and the worst one's accuracy in every report."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

import rib
from handmade import handmade
from helpers import document, model_row, toml
from rib.data.catalogue import DataRow, open_data
from rib.errors import UserError
from rib.report.comparison_json import comparison_json
from rib.report.headline import headline
from rib.report.page import write_page
from rib.report.parquet import schemas, write_parquet
from rib.report.results_json import results_json
from rib.results.inside.worst_group import worst_groups
from rib.results.results import Results
from rib.steps import How, Predict

SETS = {"ref": "ab", "one": "ab", "two": "ab"}


def skill(step: Predict) -> dict[str, float]:
    """Percent right of the two classes of every set, which are its groups: before 80 and 60, after 50 and 70."""
    return {"a": 80, "b": 60} if step.fit.method.name == "pretrained" else {"a": 50, "b": 70}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Results:
    groups = {"one": ("women", "men"), "two": ("men", "men")}
    folder = tmp_path_factory.mktemp("groups")
    return handmade(folder, skill, sets=SETS, methods=("finetune",), seeds=(0, 1), groups=groups)


def test_the_worst_group_may_be_another_one_after_tuning(found: Results) -> None:
    rows = {(row.method, row.tested_on, row.own): row for row in worst_groups(found)}
    start = rows["pretrained", "one", False]
    assert (start.after.group, start.after.accuracy.value, start.after.images) == ("men", pytest.approx(60), 100)
    assert start.change is None
    for own in (False, True):
        row = rows["finetune", "one", own]
        assert (row.before.group, row.after.group, row.groups) == ("men", "women", 2)
        assert row.before.accuracy.value == pytest.approx(60)
        assert row.after.accuracy.value == pytest.approx(50)
        assert row.after.change is not None
        assert row.after.change.value == pytest.approx(-30)
        assert row.change is not None
        assert row.change.value == pytest.approx(-10)
        assert row.change.low < -10 < row.change.high
    one_group = rows["finetune", "two", False]
    assert one_group.change is not None
    assert one_group.change.value == pytest.approx(-10)
    assert not any(tested_on == "ref" for _, tested_on, _ in rows)


def test_the_interval_of_a_group_is_of_its_own_images(found: Results) -> None:
    """With equal answers for all seeds, the variance is that of 50 % right of 100 images, in points."""
    row = next(row for row in worst_groups(found) if row.method == "finetune" and row.tested_on == "one")
    assert row.after.accuracy.high - row.after.accuracy.low == pytest.approx(2 * 1.96 * 5, rel=0.2)


def test_every_report_has_the_worst_group(found: Results, tmp_path: Path) -> None:
    console = Console(width=90, record=True)
    console.print(headline(found, 90))
    said = console.export_text()
    assert "Worst of 2 groups: one" in said
    assert "men 60.0 → women 50.0" in said
    known = results_json(found)["inside"]
    assert {row["group"] for row in known["groups"] if row["tested_on"] == "one"} == {"women", "men"}
    assert known["worst_groups"][-1]["change"]["value"] == pytest.approx(-10)
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Worst group, before and after" in page
    write_parquet(found, tmp_path / "tables")
    table = pq.read_table(tmp_path / "tables" / "groups.parquet")
    assert table.schema.equals(schemas()["groups"])
    rows = [row for row in table.to_pylist() if (row["method"], row["group"]) == ("finetune", "women")]
    assert [(row["own"], row["accuracy"], row["change"]) for row in rows] == [
        (own, pytest.approx(50), pytest.approx(-30)) for own in (False, True)
    ]


def test_a_suite_without_groups_says_nothing_of_them(tmp_path: Path) -> None:
    plain = handmade(tmp_path, skill, sets=SETS, methods=("finetune",))
    assert worst_groups(plain) == []
    console = Console(width=90, record=True)
    console.print(headline(plain, 90))
    assert "group" not in console.export_text()


# -- containers ----------------------------------------------------------------------------------------------------


def pictures(folder: Path) -> Path:
    """Two classes of three pictures in a tree."""
    for place, name in enumerate(("ant/1", "ant/2", "ant/3", "bee/1", "bee/2", "bee/3")):
        path = folder / "tree" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 30 * place, np.uint8)).save(path)
    return folder / "tree"


WHO = ["x", "y", "x", "y", "y", "x"]


def as_file(folder: Path, who: list[str]) -> DataRow:
    names = sorted(str(path.relative_to(folder / "tree")) for path in pictures(folder).rglob("*.png"))
    with (folder / "who.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("file", "group"), *zip(names, who, strict=True)])
    return DataRow(folder="tree", group_file="who.csv")


def as_parquet(folder: Path, who: list[str]) -> DataRow:
    paths = sorted(pictures(folder).rglob("*.png"))
    table = pa.table(
        {"image": [path.read_bytes() for path in paths], "label": [p.parent.name for p in paths], "who": who}
    )
    pq.write_table(table, folder / "data.parquet")
    return DataRow(parquet="data.parquet", group_column="who")


def as_shards(folder: Path, who: list[str]) -> DataRow:
    """Pictures in two tar files, named as WebDataset does; the groups are in a file beside them."""
    paths = sorted(pictures(folder).rglob("*.png"))
    (folder / "shards").mkdir(exist_ok=True)
    for number in range(2):
        with tarfile.open(folder / "shards" / f"{number:03d}.tar", "w") as tar:
            for path in paths[3 * number : 3 * number + 3]:
                for suffix, content in (("png", path.read_bytes()), ("cls", path.parent.name.encode())):
                    item = tarfile.TarInfo(f"{path.parent.name}-{path.stem}.{suffix}")
                    item.size = len(content)
                    tar.addfile(item, io.BytesIO(content))
    names = [f"{path.parent.name}/{path.parent.name}-{path.name}" for path in paths]
    with (folder / "who.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("file", "group"), *zip(names, who, strict=True)])
    return DataRow(shards="shards", group_file="who.csv")


def as_arrays(folder: Path, who: list[str]) -> DataRow:
    images = np.zeros((6, 4, 4, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    np.savez(folder / "a.npz", images=images, labels=["ant"] * 3 + ["bee"] * 3, who=who)
    return DataRow(arrays="a.npz", group_column="who")


@pytest.mark.parametrize("kind", [as_file, as_parquet, as_arrays, as_shards])
def test_groups_of_images_are_read_and_change_the_key(kind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    row = kind(tmp_path, WHO)
    data = open_data("mine", row, tmp_path, None)
    index = data.index("test")
    assert index.groups is not None
    assert [index.group_names[place] for place in index.groups] == WHO
    bare = open_data("mine", row.model_copy(update={"group_column": None, "group_file": None}), tmp_path, None)
    assert bare.index("test").groups is None
    assert bare.fingerprint("test") != data.fingerprint("test")


@pytest.mark.parametrize("kind", [as_file, as_parquet, as_arrays, as_shards])
def test_a_row_without_a_group_is_refused(kind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="no group"):
        open_data("mine", kind(tmp_path, [*WHO[:5], ""]), tmp_path, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"folder": "x", "group_column": "who"}, "group_file"),
        ({"arrays": "x.npz", "group_file": "who.csv"}, "group_file goes with"),
        ({"parquet": "x", "group_file": "who.csv", "group_column": "who"}, "at most one"),
        ({"imagenet": "r", "group_file": "who.csv"}, "does not go with imagenet"),
    ],
)
def test_groups_that_do_not_go_with_a_container_are_refused(fields: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataRow(**fields)


def test_a_column_of_ids_is_no_column_of_groups(tmp_path: Path) -> None:
    count = 1_001
    images = np.zeros((count, 2, 2), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["a", "b"])[np.arange(count) % 2], who=np.arange(count))
    with pytest.raises(UserError, match="1,001 groups"):
        open_data("mine", DataRow(arrays="a.npz", group_column="who"), tmp_path, None)


# -- two models compared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["resnet", "text"])
def test_a_comparison_has_the_accuracy_of_each_group_and_of_the_worst(family: str, tmp_path: Path) -> None:
    """Of images and of texts: counted from the predictions of each row, by hand."""
    made = document(tmp_path, (family,))
    model_row(tmp_path, family, seed=1)
    row = made["data"]["whole"]
    if family == "text":
        file = tmp_path / row["text"]
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        file.write_text("\n".join(json.dumps({**one, "who": "xyz"[at % 3]}) for at, one in enumerate(rows)), "utf-8")
    else:
        arrays = dict(np.load(tmp_path / row["arrays"]))
        np.savez(tmp_path / row["arrays"], **arrays, who=["xyz"[at % 3] for at in range(len(arrays["labels"]))])
    row["group_column"] = "who"
    (tmp_path / "tiny.toml").write_text(toml(made), "utf-8")
    found = rib.compare(family, str(tmp_path / f"{family}-1.safetensors"), suite=tmp_path / "tiny.toml",
                        store=tmp_path / "store", how=How(workers=1, device="cpu"))  # fmt: skip
    results = found.results
    index = results.plan.world["whole"].index("test")
    assert index.groups is not None
    levels: list[dict[str, float]] = []
    for run in results.plan.runs:
        right = np.array(results.store.predictions(run.scores["whole"].key).to_pydict()["masked_right"])
        levels.append({name: 100 * right[index.groups == at].mean() for at, name in enumerate(index.group_names)})
    before, after = levels
    known = comparison_json(found)
    assert {one["group"]: one["accuracy"]["value"] for one in known["groups"] if one["change"]} == pytest.approx(after)
    (worst,) = (one for one in known["worst_groups"] if one["change"])
    assert worst["before"]["accuracy"]["value"] == pytest.approx(min(before.values()))
    assert worst["after"]["accuracy"]["value"] == pytest.approx(min(after.values()))
    assert worst["change"]["value"] == pytest.approx(min(after.values()) - min(before.values()))
    found.page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Worst group, before and after" in page
    console = Console(width=100, record=True)
    console.print(found.lines(100))
    assert "Worst of 3 groups: whole" in console.export_text()
