"""Rows: every prediction leads back to its file, every model to the images it was tuned on and to its classes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from helpers import document, write_tree
from rib.methods.base import Task
from rib.plan import make_plan
from rib.report.model_folders import model_card, release
from rib.report.parquet import write_parquet
from rib.report.results_json import results_json
from rib.results.results import Results
from rib.steps import Fit, How, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite
from test_report import made_up


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results, dict[tuple[Any, ...], list[list[int]]]]:
    """A suite with a tree of three classes, done here; and the rows that each tuning was given."""
    folder = tmp_path_factory.mktemp("rows")
    write_tree(folder / "tree", per_class=9, seed=7)
    runs = [{"methods": ["finetune", "wise_ft"], "sizes": [6, "all"], "downstream": ["part"]}]
    made = document(folder, runs=runs, seeds=[0, 3])
    row = {"folder": "tree", "classes": ["dog", "ant", "cat"], "test_fraction": 0.4, "family": "f"}
    made["data"]["part"] = row | {"labels": {"ant": "bee"}}
    plan = make_plan(parse_suite(made).based_at(folder))
    store = Store(folder / "store")
    given: dict[tuple[Any, ...], list[list[int]]] = {}

    make_task = Fit._task

    def watched(step: Fit, *rest: Any) -> Task:
        task = make_task(step, *rest)
        given[step.size, step.seed] = [task.tuning.rows.tolist(), task.held_out.rows.tolist()]
        return task

    shop = Workshop(plan.suite, store, How(device="cpu"), lambda _images, _passes: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "_task", watched)
        for step in plan.steps:
            shop.do(step)
    results = Results(plan, store)
    write_parquet(results, folder / "out")
    return folder, results, given


def test_every_prediction_names_its_image(done: Any) -> None:
    folder, results, _ = done
    rows = pq.read_table(folder / "out" / "predictions.parquet").to_pylist()
    labels = {
        (row["tested_on"], row["label"]): row for row in pq.read_table(folder / "out" / "labels.parquet").to_pylist()
    }
    seen = set()
    for row in rows:
        data = results.plan.world[row["tested_on"]]
        pixels = data.read("test", [row["example"]], results.plan.runs[0].fit.architecture.view)[0]
        named = labels[row["tested_on"], row["label"]]
        if row["tested_on"] == "part":
            assert row["name"].partition("/")[0] == named["class"]
            assert np.array_equal(pixels, np.asarray(Image.open(folder / "tree" / row["name"])))
            seen.add(row["name"])
        else:
            file, _, place = row["name"].removesuffix("]").partition("[")
            with np.load(folder / file) as arrays:
                assert np.array_equal(pixels, arrays["images"][int(place)])
                assert arrays["classes"][arrays["labels"][int(place)]] == named["class"]
    assert len(seen) == len(results.plan.world["part"].index("test"))


def test_labels_say_what_they_mean(done: Any) -> None:
    folder, results, _ = done
    rows = [row for row in pq.read_table(folder / "out" / "labels.parquet").to_pylist() if row["tested_on"] == "part"]
    assert [(row["label"], row["class"], row["reference_classes"]) for row in rows] == [
        (0, "dog", ["dog"]), (1, "ant", ["bee"]), (2, "cat", ["cat"]),
    ]  # fmt: skip
    reference = results.plan.world["clean"].classes
    assert all([reference[place] for place in row["reference_labels"]] == row["reference_classes"] for row in rows)
    assert results_json(results)["classes"]["part"] == ["dog", "ant", "cat"]


def test_the_images_tuned_on_are_those_that_training_was_given(done: Any) -> None:
    folder, results, given = done
    rows = pq.read_table(folder / "out" / "tuning.parquet").to_pylist()
    assert set(given) == {(6, 0), (6, 3), (None, 0), (None, 3)}
    names = results.plan.world["part"].names("tune")
    for (size, seed), drawn in given.items():
        for held_out in (False, True):
            listed = [row for row in rows if (row["size"], row["seed"], row["held_out"]) == (size, seed, held_out)]
            assert [row["example"] for row in listed] == drawn[held_out]
            assert [row["name"] for row in listed] == [names[place] for place in drawn[held_out]]
            assert {row["tuned_on"] for row in listed} == {"part"}
    tested = {row["name"] for row in pq.read_table(folder / "out" / "predictions.parquet").to_pylist()}
    assert not tested & {row["name"] for row in rows}
    said = {(one["size"], one["seed"]): one for one in results_json(results)["tuning"]}
    assert said[6, 3]["rows"] == given[6, 3][0]
    assert said[None, 0]["rows"] is None
    assert said[None, 0]["images"] == len(given[None, 0][0])


def test_a_model_that_is_handed_on_has_its_classes_and_images_beside_it(done: Any, tmp_path: Path) -> None:
    _, results, given = done
    run = next(run for run in results.plan.runs if (run.method, run.size, run.seed) == ("wise_ft", 6, 3))
    shop = Workshop(results.suite, results.store, How(device="cpu"), lambda _images, _passes: None)
    file = release(results, run, shop.weights(run.fit), tmp_path)
    with file.with_name(f"{file.stem}.tuned_on.csv").open() as text:
        listed = list(csv.DictReader(text))
    assert [int(row["example"]) for row in listed] == given[6, 3][0]
    assert [row["class"] for row in listed] == [row["name"].partition("/")[0] for row in listed]
    card = model_card(results, run)
    assert "in this order: ant, bee, cat, dog." in card
    assert "Tuned on 6 images, listed in tuned_on.csv." in card
    start = model_card(results, results.plan.runs[0])
    assert "tuned_on.csv" not in start


def test_a_card_has_the_numbers_of_the_tables_and_computes_no_other_rows(tmp_path: Path) -> None:
    results = made_up(tmp_path, seeds=(0, 1, 2))
    run = next(run for run in results.plan.runs if run.method == "wise_ft" and run.seed == 1)
    card = model_card(results, run)
    assert not {"summaries", "changes"} & vars(results).keys()
    row = next(row for row in results.summaries if (row.model, row.method) == (run.model, "wise_ft"))
    ri = row.ri[results.set_name(str(run.tuned_on))]
    assert ri is not None
    assert f"{ri.value:+.1f}".replace("-0.0", "0.0") in next(
        line for line in card.splitlines() if line.startswith("RI ")
    )
    assert "mean over seeds 0, 1, 2" in card
    own = [change for change in results.changes if (change.model, change.method) == (run.model, "wise_ft")]
    shown = [change for change in own if change.tuned_on == results.set_name(str(run.tuned_on))]
    assert len([line for line in card.splitlines() if line.startswith("| ")]) - 1 == len(shown)
