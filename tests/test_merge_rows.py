"""Rows of leave-one-out merges: by hand, apart from those of methods that tune on one set, on every surface."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from handmade import handmade
from helpers import Say, document, toml
from rib.models.weights import read_weights
from rib.plan import make_plan
from rib.report.headline import headline
from rib.report.page import write_page
from rib.report.parquet import write_parquet
from rib.report.results_json import results_json
from rib.results.finding import finding
from rib.results.merges import MergeRow, merge_rows
from rib.results.results import Results
from rib.steps import Predict
from rib.store.store import Store
from rib.suite.load import load_suite

SETS = {"clean": "abcd", "one": "abcd", "two": "abcd", "three": "abcd"}
BEFORE = {"clean": 90, "one": 50, "two": 40, "three": 30}
MERGED = {"one": 53, "two": 49, "three": 30}
"""Accuracy of the merge on the set that it leaves out: changes of +3, +9 and 0, in the mean +4."""


def skill(step: Predict) -> float:
    name, fit = step.data.name, step.fit
    if fit.method.name == "pretrained":
        return BEFORE[name]
    seen = {data.name for data in fit.sets}
    if fit.method.name == "finetune":
        return BEFORE[name] + (20 if name in seen else -2)
    if name == "clean":
        return 80
    return BEFORE[name] + 10 if name in seen else MERGED[name]


def made(folder: Path, seeds: tuple[int, ...] = (0, 1), **fields: object) -> Results:
    merges = [{"methods": ["task_arithmetic", "ties"]}]
    fields = {"sets": SETS, "seeds": seeds, "methods": ["finetune"], "merges": merges} | fields
    return handmade(folder, skill, **fields)  # type: ignore[arg-type]


def value(row: MergeRow, field: str) -> float:
    interval = getattr(row, field)
    assert interval is not None
    return round(float(interval.value), 9)


def test_a_merge_is_scored_on_what_it_left_out(tmp_path: Path) -> None:
    row, other = merge_rows(made(tmp_path))
    assert (row.method, other.method, row.model, row.size, row.seeds) == (
        "task_arithmetic",
        "ties",
        "net",
        None,
        (0, 1),
    )
    assert {name: ri.value for name, ri in row.ri.items() if ri} == pytest.approx({"one": 3, "two": 9, "three": 0})
    assert row.merged == {"one": ("two", "three"), "two": ("one", "three"), "three": ("one", "two")}
    assert value(row, "mri") == 4
    assert value(row, "singles") == -2
    assert value(row, "against_singles") == 6
    assert value(row, "gain") == 10
    assert (value(row, "reference_before"), value(row, "reference_after")) == (90, 80)
    assert row.missing == ()


def test_what_is_missing_leaves_a_hole(tmp_path: Path) -> None:
    results = made(tmp_path)
    merge = next(merge for merge in results.plan.merges if merge.left_out == "two")
    results.store.record_path(merge.score.key).unlink()
    row, other = merge_rows(Results(results.plan, results.store))
    assert row.mri is None
    assert row.against_singles is None
    assert row.ri["two"] is None
    assert row.ri["one"] is not None
    assert row.missing == ("all but two → two",)
    assert other.mri is not None


def test_merges_are_in_no_row_of_the_other_methods(tmp_path: Path) -> None:
    """What they are scored on would rank first among methods that tune on one set."""
    results = made(tmp_path)
    assert {row.method for row in results.summaries} == {"pretrained", "finetune"}
    assert {score.method for score in results.scores} == {"pretrained", "finetune"}
    assert "task_arithmetic" not in finding(results)


def test_every_surface_shows_them_apart(tmp_path: Path) -> None:
    results = made(tmp_path)
    console = Console(width=110, record=True)
    console.print(headline(results, 110))
    text = console.export_text()
    above, _, below = text.partition("Leave-one-out merging")
    assert "ties" not in above
    assert re.search(r"ties +≈?\+4\.0 \[", below)
    assert re.search(r"not\s+ranked\s+with", below)
    rows = results_json(results)["merges"]
    assert [(row["method"], row["protocol"]) for row in rows] == [
        ("task_arithmetic", "leave-one-out"),
        ("ties", "leave-one-out"),
    ]
    assert rows[0]["mri"]["value"] == pytest.approx(4)
    write_page(results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    section = page.partition('<section id="merges"')[2].partition("</section>")[0]
    assert "task_arithmetic" in section
    assert "+4.0" in section
    assert "task_arithmetic" not in page.partition('<section id="headline"')[2].partition("</section>")[0]


def test_a_suite_that_only_merges_says_so(tmp_path: Path) -> None:
    results = made(tmp_path, runs=[], seeds=(0,))
    assert finding(results).startswith("This suite only merges models")
    (row, _) = merge_rows(results)
    assert value(row, "mri") == 4
    assert row.mri is not None
    assert row.mri.lacks == ("tuning seeds",)


def test_a_suite_without_merges_shows_none(tmp_path: Path) -> None:
    results = made(tmp_path, merges=[])
    assert merge_rows(results) == []
    write_page(results, tmp_path / "page.html")
    assert 'id="merges"' not in (tmp_path / "page.html").read_text("utf-8")


def test_parquet_has_them_in_tables_of_their_own(tmp_path: Path) -> None:
    results = made(tmp_path)
    files = {file.stem: pq.read_table(file).to_pylist() for file in write_parquet(results, tmp_path / "out")}
    assert [(row["method"], row["mri"], row["singles"], row["against_singles"]) for row in files["merges"]] == [
        (name, pytest.approx(4), pytest.approx(-2), pytest.approx(6)) for name in ("task_arithmetic", "ties")
    ]
    left = {(row["method"], row["left_out"]): (row["ri"], row["merged"]) for row in files["merge_ri"]}
    assert left["ties", "two"] == (pytest.approx(9), ["one", "three"])
    assert len(left) == 6
    for name in ("summaries", "scores", "changes", "ri", "predictions"):
        assert {row["method"] for row in files[name]} <= {"pretrained", "finetune"}, name
    assert files["adapted"] == []


def test_merged_models_are_exported_with_the_sets_on_their_cards(tmp_path: Path, rib_says: Say) -> None:
    """The weights are those of the merge: half of the sum of two tuned models' changes, by hand."""
    fields = document(
        tmp_path,
        downstream=["whole", "part", "other"],
        merges=[{"methods": ["task_arithmetic"], "sizes": [8]}],
        runs=[{"methods": ["finetune"], "sizes": [8]}],
        method={"task_arithmetic": {"scale": 0.5}},
    )
    (tmp_path / "s.toml").write_text(toml(fields))
    assert rib_says("run", tmp_path / "s.toml", "--store", tmp_path / "store", "--workers", 1)[0] == 0
    words = ("export", tmp_path / "s.toml", tmp_path / "out", "--store", tmp_path / "store")
    code, said = rib_says(*words, "--method", "task_arithmetic")
    assert code == 0
    assert "models: 3 in" in said
    names = {file.stem for file in (tmp_path / "out").glob("*.safetensors")}
    assert names == {f"resnet-task_arithmetic-without-{left}-8-0" for left in ("whole", "part", "other")}
    card = (tmp_path / "out" / "resnet-task_arithmetic-without-part-8-0.md").read_text("utf-8")
    assert "merged by `task_arithmetic` from the models tuned on `whole`, `other` each; `part` is left out" in card
    assert re.search(r"\| part \| left out \| \d+\.\d\d \| \d+\.\d\d \| [+-]?\d", card)
    plan = make_plan(load_suite(tmp_path / "s.toml"))
    store = Store(tmp_path / "store")
    merge = next(each for each in plan.merges if each.left_out == "part")
    start = read_weights(tmp_path / "resnet-0.safetensors")
    tuned = [store.weights(fit.key) for fit in merge.fit.ingredients]
    found = read_weights(tmp_path / "out" / "resnet-task_arithmetic-without-part-8-0.safetensors")
    expected = start["head.weight"] + 0.5 * sum(each["head.weight"] - start["head.weight"] for each in tuned)
    torch.testing.assert_close(found["head.weight"], expected)
    code, said = rib_says(*words, "--method", "finetune", "--tuned-on", "part")
    assert "models: 1 in" in said
