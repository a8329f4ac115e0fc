"""RI taken apart: over images of classes that the model was tuned on, and of classes that it was not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from handmade import CLASSES, handmade
from rib.errors import UserError
from rib.gates import parse_gate
from rib.plan.pair import TUNED, Pair
from rib.report.comparison_page import write_comparison
from rib.report.headline import headline
from rib.report.latex import write_latex
from rib.report.page import write_page
from rib.report.parquet import write_parquet
from rib.report.results_json import results_json
from rib.results.comparison import Comparison, gate_names
from rib.results.presence import outputs_tuned_on
from rib.results.results import Results
from rib.steps import Predict
from test_report import printed

SETS = {"clean": CLASSES, "whole": CLASSES, "part": ("a", "b", "c"), "other": CLASSES}
"""`part` lacks the class d."""


def skill(step: Predict) -> float | Mapping[str, float]:
    """60 % before. Tuned on `part`: 50 % of a, b, c and 20 % of d elsewhere. Tuned on another set: 70 % elsewhere."""
    seen = step.fit.tuned_on
    if seen is None:
        return 60
    if seen.name == step.data.name:
        return 90
    if seen.name == "part":
        return {"a": 50, "b": 50, "c": 50, "d": 20}
    return 70


def shown(results: Results, width: int) -> str:
    return " ".join(" ".join(printed(headline(results, width), width)).split())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return handmade(tmp_path_factory.mktemp("classes"), skill, sets=SETS, methods=["finetune"])


def test_a_set_that_lacks_a_class_computed_by_hand(results: Results) -> None:
    """Tuned on `part`: on each other set −10 for three classes and −40 for one, so RI is −17.5."""
    row = results.summaries[1]
    value = {name: None if ri is None else round(ri.value, 9) for name, ri in row.ri.items()}
    assert value == {"whole": 10, "part": -17.5, "other": 10}
    assert {name: ri and round(ri.value, 9) for name, ri in row.ri_present.items()} == {
        "whole": 10,
        "part": -10,
        "other": 10,
    }
    assert {name: ri and round(ri.value, 9) for name, ri in row.ri_absent.items()} == {
        "whole": None,
        "part": -40,
        "other": None,
    }
    assert row.mri
    assert row.mri_present
    assert row.mri_absent
    assert round(row.mri.value, 9) == round((10 - 17.5 + 10) / 3, 9)
    assert round(row.mri_present.value, 9) == round((10 - 10 + 10) / 3, 9)
    assert round(row.mri_absent.value, 9) == -40
    assert row.mri_absent.low < -40 < row.mri_absent.high


def test_parts_and_their_draws_by_brute_force(tmp_path: Path) -> None:
    """Two seeds and ragged skills: every part equals a loop over images, and so does every draw of it."""

    def ragged(step: Predict) -> Mapping[str, float]:
        place = sum(map(ord, step.title + str(step.fit.seed)))
        return {name: 20 + (place * (at + 3)) % 61 for at, name in enumerate(CLASSES)}

    found = handmade(tmp_path, ragged, sets=SETS, methods=["finetune"], seeds=[0, 1], per_class=20)
    world, group = found.plan.world, ("net", "finetune", None)
    for tuned_on, presence in (("part", "present"), ("part", "absent"), ("whole", "present")):
        changes = []
        for run in (run for run in found.groups[group] if run.tuned_on == tuned_on):
            known, by_set = set(SETS[tuned_on]), []
            for name in (name for name in ("whole", "part", "other") if name != tuned_on):
                names = [SETS[name][label] for label in world[name].index("test").labels.tolist()]
                before, after = (
                    found.accuracies.right(found.groups["net", "pretrained", None][0], name),
                    found.accuracies.right(run, name),
                )
                assert before is not None
                assert after is not None
                rows = [at for at, label in enumerate(names) if (label in known) == (presence == "present")]
                if rows:
                    by_set.append(np.mean([100.0 * after[at] - 100.0 * before[at] for at in rows]))
            changes.append(np.mean(by_set))
        estimate = found.estimates.ri_by_presence(group, tuned_on, presence)
        assert estimate is not None
        assert estimate.value == pytest.approx(np.mean(changes), abs=1e-9)
    absent = found.estimates.ri_by_presence(group, "whole", "absent")
    assert absent is None


def test_few_images_of_many_classes_leave_the_others_absent(tmp_path: Path) -> None:
    """100 images drawn from 120 classes are of 100 classes: what counts is the images drawn, not the set."""
    many = tuple(f"c{place:03}" for place in range(120))
    sets = {"clean": many, "whole": many, "part": many[:110]}
    runs = [{"methods": ["finetune"], "sizes": [100, "all"]}]
    found = handmade(tmp_path, lambda step: 50, sets=sets, runs=runs, per_class=2)
    world = found.plan.world
    assert [len(outputs_tuned_on(world, "whole", size, 0)) for size in (100, None)] == [100, 120]
    assert outputs_tuned_on(world, "whole", 100, 0) != outputs_tuned_on(world, "whole", 100, 1)
    assert len(outputs_tuned_on(world, "part", None, None)) == 110
    small, whole = found.summaries[1:3]
    assert (small.size, whole.size) == (100, None)
    assert None not in small.ri_absent.values()
    assert whole.ri_absent["whole"] is None


def test_it_is_everywhere_that_ri_is(results: Results, tmp_path: Path) -> None:
    write_parquet(results, tmp_path)
    summary = pq.read_table(tmp_path / "summaries.parquet").to_pylist()[1]
    assert (round(summary["mri_present"], 6), summary["mri_absent"]) == (3.333333, -40)
    rows = {row["tuned_on"]: row for row in pq.read_table(tmp_path / "ri.parquet").to_pylist()}
    assert (rows["part"]["ri_present"], rows["part"]["ri_absent"], rows["whole"]["ri_absent"]) == (-10, -40, None)
    found = json.loads(json.dumps(results_json(results)))["summaries"][1]
    assert (found["ri_present"]["part"]["value"], found["ri_absent"]["whole"]) == (-10, None)
    write_latex(results, tmp_path / "table.tex")
    assert "Present & Absent" in (tmp_path / "table.tex").read_text()
    assert "$+3.3$ & $-40.0$" in (tmp_path / "table.tex").read_text()
    write_page(results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'data-key="absent"' in page
    assert "−40.0" in page
    assert "present +3.3, absent -40.0" in shown(results, 100)


def compared(results: Results, tuned_on: str, *gates: str) -> Comparison:
    """A comparison of the pretrained model with one that was tuned on a set of the suite."""
    runs = results.plan.runs
    after = next(run for run in runs if run.tuned_on == tuned_on)
    plan = replace(results.plan, runs=(runs[0], replace(after, method=TUNED, seed=None)))
    pair = Pair(plan, "net", "tuned", tuned_on, None)
    return Comparison(pair, Results(plan, results.store, 100), [parse_gate(text, gate_names(pair)) for text in gates])


def test_gates_can_be_on_either_part(results: Results) -> None:
    found = compared(results, "part", "ri_absent < -30", "ri_absent.low < -50", "ri_present < -10.5", "ri < -17.6")
    assert [(verdict.number, verdict.failed) for verdict in found.verdicts] == [
        (pytest.approx(-40), True),
        (pytest.approx(found.by_classes["absent"].low), False),
        (pytest.approx(-10), False),
        (pytest.approx(-17.5), False),
    ]
    lost = compared(results, "part", "ri_absent < -30")
    del lost.results.records[lost.pair.after.scores["other"].key]
    assert lost.verdicts[0].words.startswith("requires ri_absent ≥ -30; ri_absent is missing (no prediction on other)")


def test_the_page_of_a_comparison_shows_either_part(results: Results, tmp_path: Path) -> None:
    """By hand: -10 on images of the classes tuned on, -40 on the others."""
    for tuned_on, shown_there in (("part", True), ("whole", False)):
        write_comparison(compared(results, tuned_on), tmp_path / f"{tuned_on}.html")
        page = (tmp_path / f"{tuned_on}.html").read_text("utf-8")
        rows = dict(re.findall(r"<b>RI (present|absent)</b>.*?>(?:≈ )?(−[0-9.]+)</span>", page, re.DOTALL))
        assert rows == ({"present": "−10.0", "absent": "−40.0"} if shown_there else {})


@pytest.mark.parametrize("name", ["ri_present", "ri_absent"])
def test_a_gate_on_a_part_that_is_none_is_refused(results: Results, name: str) -> None:
    with pytest.raises(UserError, match=f"unknown quantity of --fail-if: '{name}'") as error:
        compared(results, "whole", f"{name}.high < 0")  # `whole` lacks no class
    assert "where it lacks none, gate on ri" in str(error.value)


def test_nothing_is_said_where_no_class_is_absent(tmp_path: Path) -> None:
    found = handmade(tmp_path, skill, sets=dict.fromkeys(SETS, CLASSES), per_class=20)
    row = found.summaries[1]
    assert (row.mri, row.mri_absent) == (row.mri_present, None)
    assert "present, absent" not in shown(found, 200)
    assert "lack classes" not in shown(found, 200)
