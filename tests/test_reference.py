"""Tuned on the reference set: its small subsets, RI over all downstream sets, in one shipped suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rib
from helpers import document
from rib.data.catalogue import ROWS
from rib.data.check import check
from rib.errors import UserError
from rib.plan import make_plan
from rib.results.results import Results
from rib.steps import How
from rib.store.store import Store
from rib.studies import find_study
from rib.suite.load import load_suite, parse_suite
from rib.suite.suite import Suite


def suite_of(folder: Path, **fields: Any) -> Suite:
    given = {"runs": [{"methods": ["finetune"], "sizes": [8, 16], "downstream": ["clean"]}], "seeds": [0, 1]}
    return parse_suite(document(folder) | given | fields).based_at(folder)


def test_ri_is_the_mean_change_over_all_downstream_sets_and_never_of_the_reference(tmp_path: Path) -> None:
    finished = rib.run(suite_of(tmp_path), store=tmp_path / "store", how=How(workers=1))
    results = finished.results
    assert {(run.tuned_on, run.size) for run in results.plan.runs if run.tuned_on} == {("clean", 8), ("clean", 16)}
    masked = {(score.method, score.size, score.seed, score.tested_on): score.masked for score in results.scores}
    for summary in results.summaries[1:]:
        changes = [
            masked["finetune", summary.size, seed, name] - masked["pretrained", None, None, name]
            for seed in (0, 1)
            for name in ("whole", "part")
        ]
        assert summary.ri["clean"].value == pytest.approx(np.mean(changes))
        assert summary.mri.value == pytest.approx(np.mean(changes))
        own = np.mean([masked["finetune", summary.size, seed, "clean"] for seed in (0, 1)])
        assert summary.own_after.value == pytest.approx(own)
        assert summary.own_before.value == pytest.approx(masked["pretrained", None, None, "clean"])
    assert results.estimates.own_before("resnet").value == pytest.approx(masked["pretrained", None, None, "clean"])
    assert {one.role for one in results.scores if one.tested_on == "clean"} == {"own", "reference"}


def test_no_image_tuned_on_is_tested_on(tmp_path: Path) -> None:
    data = make_plan(suite_of(tmp_path)).world["clean"]
    assert not set(data.index("tune").sources.tolist()) & set(data.index("test").sources.tolist())


def test_a_study_of_it_tunes_on_the_reference_too(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    derived = find_study("size", suite).suite(suite)
    assert {name for block in derived.runs for name in block.downstream} == {"clean"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"downstream": ["clean", "whole", "part"]}, "to tune on it, name it in the runs"),
        ({"runs": [{"methods": ["finetune"], "downstream": ["clean", "whole"]}]}, "would mix the two"),
        (
            {"runs": [{"methods": ["finetune"]}, {"methods": ["finetune"], "sizes": [8], "downstream": ["clean"]}]},
            "would mix the two",
        ),
        ({"runs": [{"methods": ["finetune"], "downstream": ["nothing"]}]}, "'nothing' is not among"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        suite_of(tmp_path, **fields)


@pytest.mark.parametrize("role", ["downstream", "evaluate"])
def test_a_pretraining_set_has_nothing_to_test_on(role: str, tmp_path: Path) -> None:
    given = {"downstream": ["whole", "part"], "evaluate": []}
    given[role] = [*given[role], "digits:pretrain_small"]
    classes = {
        "reference": "digits:ref",
        "downstream": ["digits:v2", "digits:sketch"],
        "models": ["digits:resnet_small"],
    }
    given = {name: [*names, *classes.get(name, [])][-3:] for name, names in given.items()}
    given["downstream"] = [name for name in given["downstream"] if name.startswith("digits:")]
    made = document(tmp_path) | classes | given
    with pytest.raises(UserError, match="'digits:pretrain_small' has no test part"):
        make_plan(parse_suite(made).based_at(tmp_path), tmp_path / "facts")


def test_a_pretraining_set_can_be_checked(tmp_path: Path) -> None:
    found = check("digits:pretrain_small", ROWS["digits:pretrain_small"], tmp_path)
    assert found.fine
    assert found.survey.images == 3000


def test_the_shipped_suite_tunes_on_the_reference_set_and_on_nothing_else(tmp_path: Path) -> None:
    suite = load_suite("digits-reference")
    assert suite.roles.tuned == (suite.reference,)
    assert len(suite.downstream) == 7
    results = Results(make_plan(suite, tmp_path / "facts"), Store(tmp_path))
    assert len(results.plan.steps) == 300
