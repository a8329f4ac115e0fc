"""What the report says of the insides of models, on made-up records: every number against its plain definition."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from handmade import CLASSES, handmade
from rib.analysis.signatures import Evidence, signatures
from rib.metrics.intervals import Interval
from rib.report.figures import write_figures
from rib.report.headline import headline
from rib.report.page import write_page
from rib.report.panels import panel_data, shown_panels
from rib.report.parquet import write_parquet
from rib.report.results_json import results_json
from rib.results.inside import Inside, inside
from rib.results.inside.averages import OTHERS, OWN
from rib.results.inside.distances import REFERENCE, distance_losses
from rib.results.inside.effective import OWN_LINE
from rib.results.inside.layers import ALL
from rib.results.inside.signatures import held_against, signature_rows, telling
from rib.results.results import Results
from rib.results.rows import SeenSet
from rib.steps import Compare, Predict, Step
from rib.store.record import unpack_bits
from test_report import LAYERS, looked, made_up, own_text, printed

TUNED = ("sketch", "paint", "foggy")
ALL_LOOKS = {"names": ["cka", "drift", "connectivity", "forgetting", "distance", "statistics"]}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three models, two seeds, one analysis of each kind of everything."""
    return made_up(
        tmp_path_factory.mktemp("inside"),
        models=("small", "large", "huge"),
        runs=({"methods": ["finetune", "wise_ft"]},),
        analyses=(ALL_LOOKS,),
        seeds=(0, 1),
    )


@pytest.fixture(scope="module")
def found(results: Results) -> Inside:
    return inside(results)


def test_some_values_are_read_without_the_others(results: Results, found: Inside) -> None:
    few = inside(results, ("squares", "distances"))
    assert few == replace(Inside(*[()] * len(fields(Inside))), squares=found.squares, distances=found.distances)
    assert few.squares


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """No analysis was asked for, and no record holds calibration."""
    results = made_up(tmp_path_factory.mktemp("bare"), models=("small",))
    for record in results.records.values():
        for name in ("ece", "nll", "brier"):
            record.values.pop(name, None)
    return results


def one(items: Any, **wanted: Any) -> Any:
    """The only item with these attributes."""
    (item,) = [item for item in items if all(getattr(item, name) == value for name, value in wanted.items())]
    return item


FINETUNE: dict[str, Any] = {"model": "small", "method": "finetune", "size": None}


def runs(results: Results, method: str = "finetune", model: str = "small") -> list[Any]:
    return [run for run in results.plan.runs if (run.model, run.method) == (model, method)]


def bits(results: Results, run: Any, name: str) -> np.ndarray[Any, Any]:
    values = results.records[run.scores[name].key].values
    return unpack_bits(values["masked_right"], values["examples"])


# -- layers ------------------------------------------------------------------------------------------------------------


def test_a_profile_is_the_mean_over_tuned_sets_and_seeds_with_its_range(results: Results, found: Inside) -> None:
    profile = one(found.profiles, what="CKA", model="small", tuned_on=ALL)
    lists = np.array(
        [
            looked(look.step)["diagonal"]
            for look in results.plan.looks
            if (look.name, look.run.model, look.run.method) == ("cka", "small", "finetune")
        ]
    )
    assert lists.shape == (6, 4)
    assert (profile.places, profile.on) == (tuple(LAYERS), "clean")
    line = profile.values[profile.methods.index("finetune")]
    assert [item.value for item in line] == pytest.approx(lists.mean(axis=0))
    assert [item.low for item in line] == pytest.approx(lists.min(axis=0))
    assert [item.high for item in line] == pytest.approx(lists.max(axis=0))
    assert {item.runs for item in line} == {6}
    single = one(found.profiles, what="CKA", model="small", tuned_on="paint")
    assert single.values[0][3].runs == 2


def test_matrices_kinds_without_a_number_and_whole_models(found: Inside) -> None:
    square = one(found.squares, tuned_on=ALL, **FINETUNE)
    assert np.shape(square.cells) == (4, 4)
    assert square.cells[0][1] == pytest.approx(0.1)
    kinds = one(found.profiles, what="drift by kind", model="small", tuned_on=ALL)
    assert kinds.values[0][0].value == pytest.approx(0.1)
    assert kinds.values[0][1] is None
    assert one(found.wholes, what="barrier", on="foggy", **FINETUNE).value.runs == 4  # two sets, two seeds
    way = one(found.profiles, what="accuracy on the way", on="clean", model="large", tuned_on=ALL)
    assert way.places == ("0.0", "0.5", "1.0")
    assert way.values[0][1].value == 50


def test_a_missing_look_leaves_a_hole_and_no_mean_runs_over_it(tmp_path: Path) -> None:
    def lost(step: Step) -> bool:
        return isinstance(step, Compare) and step.title.startswith("cka of finetune small on paint")

    found = inside(made_up(tmp_path, models=("small",), analyses=({"names": ["cka", "drift"]},), lost=lost))
    profile = one(found.profiles, what="CKA", tuned_on=ALL)
    by_method = dict(zip(profile.methods, profile.values, strict=True))
    assert by_method["finetune"] == (None,) * 4
    assert all(by_method["wise_ft"])
    assert not [square for square in found.squares if (square.method, square.tuned_on) == ("finetune", ALL)]
    assert one(found.squares, method="finetune", tuned_on="sketch")
    assert "CKA" not in {whole.what for whole in found.wholes if whole.method == "finetune"}
    row = one(found.signatures, **FINETUNE)
    assert row.signs[1].verdict == "unknown"  # low CKA
    assert "weights" in row.signs[2].words  # late shift is told from drift


# -- answers -----------------------------------------------------------------------------------------------------------


def test_calibration_is_averaged_like_accuracy(results: Results, found: Inside) -> None:
    def level(run: Any, name: str) -> float:
        return float(results.records[run.scores[name].key].values["nll"])

    start = runs(results, "pretrained")[0]
    after = [np.mean([level(run, name) for name in TUNED if name != run.tuned_on]) for run in runs(results)]
    before = [np.mean([level(start, name) for name in TUNED if name != run.tuned_on]) for run in runs(results)]
    row = one(found.calibration, tested_on=OTHERS, score="nll", **FINETUNE)
    assert row.after.value == pytest.approx(np.mean(after))
    assert (row.after.low, row.after.high) == pytest.approx((min(after), max(after)))
    assert row.change.value == pytest.approx(np.mean(after) - np.mean(before))
    assert one(found.calibration, tested_on=OWN, score="ece", **FINETUNE).after.runs == 6
    assert one(found.calibration, tested_on="paint", score="ece", **FINETUNE).after.runs == 4  # not tuned on it


def test_churn_adds_up_to_the_change_of_accuracy(results: Results, found: Inside) -> None:
    row = one(found.churn, tested_on=OTHERS, **FINETUNE)
    start = runs(results, "pretrained")[0]
    lost = [
        (bits(results, start, name) & ~bits(results, run, name)).mean()
        for run in runs(results)
        for name in TUNED
        if name != run.tuned_on
    ]
    assert row.lost.value == pytest.approx(100 * np.mean(lost))
    summary = one(results.summaries, **FINETUNE)
    assert row.gained.value - row.lost.value == pytest.approx(summary.mri.value)
    assert row.lost.low <= row.lost.value <= row.lost.high


def test_the_worst_classes_come_first(results: Results, found: Inside) -> None:
    worst = one(found.classes, **FINETUNE).classes
    start = runs(results, "pretrained")[0]
    labels = {name: results.plan.world[name].index("test").labels for name in TUNED}
    lost = sum(
        int((bits(results, start, name) & ~bits(results, run, name))[labels[name] == "abcd".index(worst[0].name)].sum())
        for run in runs(results)
        for name in TUNED
        if name != run.tuned_on
    )
    assert worst[0].lost == lost
    assert [item.net for item in worst] == sorted(item.net for item in worst)
    assert all(item.lost > item.gained for item in worst)


# -- lines and distances -----------------------------------------------------------------------------------------------


def test_effective_robustness_is_the_distance_from_the_line_of_the_starts(results: Results, found: Inside) -> None:
    about = one(found.effective, tested_on="tiny", source=OWN_LINE, size=None)
    probit = np.vectorize(lambda percent: NormalDist().inv_cdf(percent / 100))
    starts = [point for point in about.points if point.method == "pretrained"]
    slope, intercept = np.polyfit(
        probit([point.reference for point in starts]), probit([point.accuracy for point in starts]), 1
    )
    assert (about.line.slope, about.line.intercept) == pytest.approx((slope, intercept))
    point = one(about.points, model="small", method="finetune")
    expected = 100 * NormalDist().cdf(intercept + slope * float(probit(point.reference)))
    assert point.above.value == pytest.approx(point.accuracy - expected)
    start = one(about.points, model="small", method="pretrained")
    assert point.change.value == pytest.approx(point.above.value - start.above.value)
    assert start.change is None
    assert not about.sensible
    scores = [score.masked for score in results.scores if (score.model, score.method) == ("small", "finetune")
              and score.tested_on == "tiny"]  # fmt: skip
    assert point.accuracy == pytest.approx(np.mean(scores))
    summary = one(results.summaries, **FINETUNE)
    mean = one(one(found.effective, tested_on=OTHERS, source=OWN_LINE).points, model="small", method="finetune")
    assert (mean.reference, mean.accuracy) == (summary.reference_after.value, summary.ood_after.value)


def test_distance_against_loss(results: Results, found: Inside) -> None:
    loss = one(found.distances, measure="frechet", lost_on=OTHERS, **FINETUNE)
    assert len(loss.pairs) == 6
    pair = one(loss.pairs, tuned_on="sketch", tested_on="foggy")
    assert pair.distance == pytest.approx(abs(sum(map(ord, "sketch")) - sum(map(ord, "foggy"))) / 100)
    change = one(results.changes, tuned_on="sketch", tested_on="foggy", **FINETUNE).change
    assert (pair.loss.value, pair.loss.low) == (-change.value, -change.high)
    expected = spearmanr([pair.distance for pair in loss.pairs], [pair.loss.value for pair in loss.pairs]).statistic
    assert loss.spearman.value == pytest.approx(expected)


def test_distance_from_the_reference_against_loss_on_it(results: Results, found: Inside) -> None:
    loss = one(found.distances, measure="frechet", lost_on=REFERENCE, **FINETUNE)
    assert [(pair.tuned_on, pair.tested_on) for pair in loss.pairs] == [(name, "clean") for name in TUNED]
    for pair in loss.pairs:
        assert pair.distance == pytest.approx(abs(sum(map(ord, "clean")) - sum(map(ord, pair.tuned_on))) / 100)
        change = one(results.changes, tuned_on=pair.tuned_on, tested_on="clean", **FINETUNE).change
        assert (pair.loss.value, pair.loss.low) == (-change.value, -change.high)
    assert (loss.spearman, loss.spearman_p) == (None, None), "of three sets there is no correlation"


def test_distance_from_the_reference_by_brute_force(tmp_path: Path) -> None:
    """Five sets: the rank correlation of scipy, and its p value by every one of the 120 orders of the sets."""
    sets = ("clean", *"vwxyz")
    lost = dict(zip(sets[1:], (2.0, 1.0, 7.0, 4.0, 8.0), strict=True))
    results = handmade(
        tmp_path,
        lambda step: 60.0 - (lost[step.fit.tuned_on.name] if step.fit.tuned_on else 0.0),
        sets=dict.fromkeys(sets, CLASSES),
        methods=["finetune"],
    )
    apart = np.random.default_rng(0).random((6, 6)) + np.arange(6)
    values = {"sets": list(sets), "frechet": (apart + apart.T).tolist()}
    results.__dict__["seen"] = lambda kind: [SeenSet("distance", results.plan.runs[0], sets, values)]
    loss = one(list(distance_losses(results)), lost_on=REFERENCE)
    distances, losses = values["frechet"][0][1:], list(lost.values())
    assert [pair.distance for pair in loss.pairs] == distances
    assert [round(pair.loss.value, 9) for pair in loss.pairs] == losses
    value = spearmanr(distances, losses).statistic
    assert loss.spearman.value == pytest.approx(value)
    others = [spearmanr(order, losses).statistic for order in itertools.permutations(distances)]
    assert loss.spearman_p == pytest.approx(min(1.0, 2 * np.mean(np.array(others) >= value - 1e-9)))
    assert loss.pearson.value == pytest.approx(np.corrcoef(distances, losses)[0, 1])


def test_forgetting_is_split(found: Inside) -> None:
    split = one(found.forgetting, tested_on=OTHERS, **FINETUNE)
    assert split.together.value < split.by_features.value < split.by_head.value < 0
    assert split.readings == {"mis-read": 12}


def test_statistics_are_split(results: Results, found: Inside) -> None:
    for name in ("sketch", "clean"):
        split = one(found.statistics, tested_on=name, **FINETUNE)
        assert split.of_statistics.value == pytest.approx(-4 - len(name))
        assert split.of_weights.value == pytest.approx(-1)
        assert split.change.value == pytest.approx(-5 - len(name))
        assert split.corners["after"].value == pytest.approx(split.corners["before"].value + split.change.value)
        tuned_there = sum(run.tuned_on == name for run in runs(results))
        assert split.change.runs == len(runs(results)) - tuned_there
    others = one(found.statistics, tested_on=OTHERS, **FINETUNE)
    lengths = [len(other) for run in runs(results) for other in TUNED if other != run.tuned_on]
    assert others.of_statistics.value == pytest.approx(-4 - np.mean(lengths))


def test_a_missing_analysis_of_statistics_is_a_hole(tmp_path: Path) -> None:
    results = made_up(tmp_path, models=("small",), analyses=({"names": ["statistics"]},))
    lost = next(look for look in results.plan.looks if look.on == ("clean",) and look.run.method == "finetune")
    del results.records[lost.step.key]
    whole = {split.tested_on for split in inside(results).statistics if split.method == "finetune"}
    assert "clean" not in whole
    assert {OTHERS, "sketch"} <= whole
    assert one(signature_rows(results), **FINETUNE).signs[5].verdict == "unknown"


# -- signatures --------------------------------------------------------------------------------------------------------


def test_signatures_weigh_the_evidence(results: Results, found: Inside) -> None:
    row = one(found.signatures, **FINETUNE)
    summary = one(results.summaries, **FINETUNE)
    drop, alike, late, negative, reference, statistics = row.signs
    assert drop.evidence.value == negative.evidence.value == pytest.approx(summary.mri.value)
    assert "60 images" in drop.words or "80 images" in drop.words
    whole = one(found.wholes, what="CKA", **FINETUNE)
    assert alike.evidence.value == pytest.approx(whole.value.value)
    assert (alike.verdict, negative.verdict) == ("absent", "present")
    assert summary.mri.high < 0  # by itself, and among the six rows of the table
    assert summary.mri.marked
    assert held_against(alike) == f"Measured {alike.evidence.value:.2f}; present below 0.50."
    assert 0 < late.evidence.value < 1
    assert reference.evidence.value == pytest.approx(summary.reference_after.value - summary.reference_before.value)
    assert reference.evidence.low < reference.evidence.value < reference.evidence.high
    split = [split for split in found.statistics if (split.model, split.method) == ("small", "finetune")]
    means = {each.tested_on: each.of_statistics.value for each in split}
    sets = [name for name in means if name not in (OTHERS, OWN)]
    by_run = [
        np.mean([-4.0 - len(name) for name in sets if name != results.set_name(run.tuned_on)]) for run in runs(results)
    ]
    assert statistics.evidence.value == pytest.approx(np.mean(by_run))
    assert statistics.verdict == "present"


@pytest.mark.parametrize(("adjusted", "verdict"), [(None, "present"), (0.01, "present"), (0.2, "suggested")])
def test_a_signature_says_no_more_than_the_mark_of_its_table(adjusted: float | None, verdict: str) -> None:
    """Its interval excludes 0; among all rows of the table it may not."""
    *_, negative, _, _ = signatures(Evidence(ri=Interval(-1.0, -1.9, -0.1, p=0.03, adjusted=adjusted)))
    assert negative.verdict == verdict


@pytest.mark.parametrize(("missing", "expected"), [((), 0.9), (("cka",), 0.2), (("cka", "narrow"), None)])
def test_signatures_rest_on_the_whole_analysis_where_it_is_done(
    missing: tuple[str, ...], expected: float | None, tmp_path: Path
) -> None:
    """A narrower one of the same kind stands first in the suite, and finds other numbers."""
    looks = {"analyses": ({"names": ["narrow", "cka"]},), "analysis": {"narrow": {"kind": "cka", "layers": ["head"]}}}
    results = made_up(tmp_path, models=("small",), **looks)
    for look in results.plan.looks:
        results.records[look.step.key].values["diagonal"] = [0.2 if look.name == "narrow" else 0.9] * 4
        if look.name in missing:
            del results.records[look.step.key]
    _, alike, *_ = one(signature_rows(results), **FINETUNE).signs
    assert (alike.evidence and alike.evidence.value) == (expected and pytest.approx(expected))


def test_one_row_a_model_is_shown(results: Results) -> None:
    shown = telling(results, signature_rows(results))
    assert [(row.model, row.method) for row in shown] == [(name, "finetune") for name in ("small", "large", "huge")]


def test_without_finetune_the_method_that_lost_most_is_shown(tmp_path: Path) -> None:
    results = made_up(tmp_path, models=("small",), runs=({"methods": ["wise_ft", "lp_ft", "linear_probe"]},))
    assert [row.method for row in telling(results, signature_rows(results))] == ["lp_ft"]


def test_there_are_no_signatures_without_evidence(tmp_path: Path) -> None:
    results = made_up(tmp_path, models=("small",), lost=lambda step: isinstance(step, Predict))
    assert signature_rows(results) == []
    assert "Signatures" not in "\n".join(printed(headline(results, 80), 80))


# -- what is shown -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 160])
def test_the_terminal_has_the_signatures_in_line(results: Results, width: int) -> None:
    lines = printed(headline(results, width), width)
    start = next(at for at, line in enumerate(lines) if line.startswith("Signatures of lost robustness: finetune"))
    head, *rows = lines[start + 1 : start + 5]
    assert [row.split()[0] for row in rows] == ["small", "large", "huge"]
    ends = [match.end() for match in re.finditer(r"large drop|low CKA|late-layer shift|negative RI", head)]
    for row in rows:
        assert all(row[end - 1] not in " " for end in ends)  # flush right under the heads
    row = one(signature_rows(results), **FINETUNE)
    assert f"◐ {row.signs[3].evidence.value:+.1f}" in rows[0]  # not marked among all rows of the table


def test_what_there_is_no_evidence_of_is_absent(bare: Results, tmp_path: Path) -> None:
    found = inside(bare)
    known = {field.name for field in fields(found) if getattr(found, field.name)}
    assert known == {"signatures", "churn", "classes"}  # older records; too few models for a line
    assert [panel.name for panel, _ in shown_panels(panel_data(found))] == ["churn"]
    assert {sign.verdict for row in found.signatures for sign in row.signs[1:3]} == {"unknown"}
    write_page(bare, tmp_path / "page.html")
    text = own_text(tmp_path / "page.html")
    assert 'id="churn"' in text
    assert 'id="square"' not in text
    assert "no evidence" in text


def test_json_holds_the_insides(results: Results) -> None:
    document = json.loads(json.dumps(results_json(results), allow_nan=False))["inside"]
    assert [name for name, found in document.items() if not found] == ["groups", "worst_groups"]  # no set has groups
    assert document["signatures"][0]["signs"][3]["evidence"]["value"] < 0


def test_every_panel_has_entries_with_its_pickers(results: Results, found: Inside, tmp_path: Path) -> None:
    data = panel_data(found)
    panels = [panel for panel, _ in shown_panels(data)]
    assert len(panels) == len(data) - 1 == 10
    assert all(isinstance(entry[key], str) for panel in panels for entry in data[panel.name] for key in panel.pickers)
    write_page(results, tmp_path / "page.html")
    text = own_text(tmp_path / "page.html")
    assert [name for name in data if f'data-figure="{name}"' in text] == [name for name in data if name != "ticks"]
    assert text.index('id="signatures"') < text.index('id="headline"') < text.index('id="inside"')


def test_figures_for_papers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = ({"methods": ["finetune"]},)
    results = made_up(tmp_path, models=("small",), runs=runs, analyses=({"names": ["cka", "drift", "distance"]},))
    names = {path.stem for path in write_figures(results, tmp_path, ("pdf",))}
    matrix = "cka_matrix_clean_small_nall"
    assert names >= {"cka_clean_nall", "drift_nall", "distance_frechet_nall", "distance_mmd_nall", matrix}


def test_parquet_holds_whatever_was_found(results: Results, tmp_path: Path) -> None:
    write_parquet(results, tmp_path)
    rows = pq.read_table(tmp_path / "analyses.parquet").to_pylist()
    mine = [row for row in rows if (row["analysis"], row["model"], row["method"]) == ("cka", "small", "finetune")]
    first = [row for row in mine if (row["tuned_on"], row["seed"], row["name"]) == ("paint", 1, "matrix")]
    assert [(row["row"], row["column"]) for row in first] == [(row, column) for row in range(4) for column in range(4)]
    assert {row["word"] for row in mine if row["name"] == "layers"} == set(LAYERS)
    assert {row["number"] for row in mine if row["name"] == "images"} == {80.0}
