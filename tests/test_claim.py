"""The headline in words: what was gained and what it cost comes first, and learning nothing wins nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from handmade import CLASSES, handmade
from rib.analysis.signatures import Signature
from rib.gates import parse_gate
from rib.metrics.intervals import Interval
from rib.plan.pair import OWN_DATA, TUNED, Pair
from rib.report.comparison_json import comparison_json
from rib.report.headline import headline
from rib.report.latex import write_latex
from rib.report.page import typeset, write_page
from rib.report.parquet import write_parquet
from rib.report.results_json import results_json
from rib.results.comparison import Comparison, gate_names, knows
from rib.results.comparison_finding import comparison_claim, comparison_finding, reason
from rib.results.finding import claim, finding
from rib.results.results import Results
from rib.steps import Fit, Predict
from rib.suite.load import load_suite
from test_report import printed

SETS = dict.fromkeys(("clean", "one", "two", "three"), CLASSES)
PRETRAINED = 60.0


def results(folder: Path, moves: Mapping[str, tuple[float, float]], **more: Any) -> Results:
    """Results in which each method changes accuracy by (points on the set tuned on, points elsewhere) from 60 %.

    A method's name may be preceded by a model: "small finetune".
    """

    def skill(step: Predict) -> float:
        seen = step.fit.tuned_on
        if seen is None:
            return PRETRAINED
        name = next(name for name, method in methods.items() if method == step.fit.method.name)
        model = step.fit.start.model
        own, elsewhere = moves.get(f"{model} {name}") or moves[name]
        return PRETRAINED + (own if seen.name == step.data.name else elsewhere)

    methods = {name.rpartition(" ")[2]: name.rpartition(" ")[2] for name in moves}
    return handmade(folder, skill, **{"sets": SETS, "methods": list(methods), "seeds": (0, 1, 2)} | more)


def said(found: Results, width: int = 200) -> str:
    return " ".join(" ".join(printed(headline(found, width), width)).split())


def test_what_was_gained_and_what_it_cost_comes_first(tmp_path: Path) -> None:
    """Gained 20 points and lost 1: the probe, which lost nothing because it learned nothing, is no winner."""
    found = results(tmp_path, {"finetune": (20, -1), "linear_probe": (1, 0)})
    text = finding(found)
    assert claim(found).lead == "finetune gained +20.0 points on the set tuned on and lost 1.0 elsewhere, on net."
    assert text.startswith(f"{claim(found).lead} With 95 % intervals: +20.0 (+")
    assert ") on the set tuned on, -1.0 (-" in text
    assert text.endswith(
        "No other method gained as much as finetune (+20.0); what kept more learned less: "
        "linear_probe (+0.0) gained +1.0."
    )
    assert "highest" not in text


def test_among_those_that_learned_the_one_that_keeps_most_is_named(tmp_path: Path) -> None:
    moves = {"finetune": (20, -8), "l2_sp": (20, -3), "lwf": (19.5, -1), "wise_ft": (12, 0), "linear_probe": (1, 0)}
    text = finding(results(tmp_path, moves))
    assert text.startswith("finetune gained +20.0 points on the set tuned on and ")
    assert "lost 8.0 elsewhere" in text
    assert "Of the 3 methods that gained as much as any, lwf kept most elsewhere: -1.0 points" in text
    assert "distinguishably ahead of the rest" in text
    assert "what kept more learned less: wise_ft (+0.0) gained +12.0 and linear_probe (+0.0) gained +1.0." in text


def test_only_one_model_gained(tmp_path: Path) -> None:
    moves = {"finetune": (20, -8), "lwf": (19.5, -1), "large finetune": (0, -1), "large lwf": (0, 0)}
    text = finding(results(tmp_path, moves, models=["small", "large"]))
    assert "small (+20.0) gained most and large (+0.0) least (on large no distinguishable gain)" in text
    assert "; small (-8.0) lost most elsewhere and large (-1.0) least. Only small" in text
    assert (
        "Only small shows a distinguishable gain there. Of the 2 methods that gained as much as any, lwf kept" in text
    )


def test_tuning_that_helps_elsewhere(tmp_path: Path) -> None:
    text = finding(results(tmp_path, {"finetune": (20, 4), "l2_sp": (20, 7)}))
    assert text.startswith("finetune gained +20.0 points on the set tuned on and gained +4.0 elsewhere, on net. ")
    assert "l2_sp kept most elsewhere: +7.0 points" in text


def test_where_nothing_is_learned_nothing_is_ranked(tmp_path: Path) -> None:
    found = results(tmp_path, {"finetune": (0, -0.25), "linear_probe": (0, 0)}, per_class=40)
    assert finding(found) == (
        "finetune shows no distinguishable gain on the set tuned on and shows no distinguishable change elsewhere, on "
        "net. With 95 % intervals: +0.0 (+0.0 to +0.0) on the set tuned on, +0.0 (+0.0 to +0.0) elsewhere. No method "
        "shows a distinguishable gain on the set tuned on, so none is ranked by what it kept elsewhere."
    )


@pytest.mark.parametrize("two", [-12.0, -1.0])
def test_a_certain_loss_after_tuning_on_one_set_is_not_hidden_by_the_mean(two: float, tmp_path: Path) -> None:
    """Elsewhere: +6 after tuning on one and on three, `two` after tuning on two; so the mean is 0 or is a gain."""
    moves = {"one": 6.0, "two": two, "three": 6.0}

    def skill(step: Predict) -> float:
        seen = step.fit.tuned_on
        return 60.0 + (0 if seen is None else 20 if seen.name == step.data.name else moves[seen.name])

    found = handmade(tmp_path, skill, sets=SETS, methods=["finetune"], seeds=(0, 1, 2))
    hidden = " But tuned on two, it lost 12.0 points elsewhere."
    assert (hidden in claim(found).lead) == (two == -12.0)
    if two == -12.0:
        assert claim(found).lead.startswith(
            "finetune gained +20.0 points on the set tuned on and shows no distinguishable change elsewhere, on net."
        )


def test_a_model_without_finetune_is_shown_by_another_method_and_the_sentence_says_so(tmp_path: Path) -> None:
    """ewc gained more than finetune on small, and yet small is shown by finetune."""
    moves = {"small finetune": (20, -8), "small ewc": (25, -6), "large ewc": (10, -2), "large finetune": (0, 0)}
    runs = [{"methods": ["finetune", "ewc"], "models": ["small"]}, {"methods": ["ewc"], "models": ["large"]}]
    text = finding(results(tmp_path, moves, models=["small", "large"], runs=runs))
    assert text.startswith(
        "finetune, or the method that gained most where it was not run, gained +10.0 to +20.0 points on the set tuned "
        "on and lost 2.0 to 8.0 points elsewhere"
    )


def test_a_loss_that_the_mean_shows_is_said_once(tmp_path: Path) -> None:
    assert "uned on t" not in finding(results(tmp_path, {"finetune": (20, -8)}))


def collapsed(fit: Fit) -> dict[str, Any]:
    """What a training leaves that answers one class for every image of the set `two`, with one seed."""
    at_chance = fit.method.name == "finetune" and fit.data and fit.data.name == "two" and fit.seed == 1
    return {"chance": 25.0, "at_chance": float(bool(at_chance))}


def test_a_training_that_ends_at_chance_is_marked_everywhere(tmp_path: Path) -> None:
    moves = {"finetune": (-35, -35), "linear_probe": (1, 0)}
    found = results(tmp_path, moves, notes=collapsed)
    row = found.summaries[1]
    assert row.at_chance == ("two (seed 1)",)
    assert claim(found).lead == (
        "finetune lost 35.0 points on the set tuned on and lost 35.0 elsewhere, on net. On the reference set it lost "
        "35.0 points."
    )
    assert "finetune of net ended at chance on two (seed 1)." in finding(found)
    text = said(found)
    assert "✗ a training ended at chance" in text
    assert "net (ended at chance)" in text
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("ended at chance</em>") == 2  # its row, and its signatures
    assert 'title="two (seed 1)"' in page


def test_several_models(tmp_path: Path) -> None:
    moves = {
        "small finetune": (20, -8),
        "small ewc": (20, -3),
        "small linear_probe": (1, 0),
        "large finetune": (10, -2),
        "large ewc": (10, -1),
        "large linear_probe": (0, 0),
        "idle finetune": (0, 0),
        "idle ewc": (0, 0),
        "idle linear_probe": (0, 0),
    }
    text = finding(results(tmp_path, moves, models=("small", "large", "idle")))
    assert text.startswith(
        "finetune gained +0.0 to +20.0 points on the set tuned on and changed by -8.0 to +0.0 points elsewhere: a "
        "distinguishable loss on 2 of 3 models. On the reference set 1 of 3 models lost 8.0 points. small (+20.0) "
        "gained most and idle (+0.0) least (on idle no distinguishable gain); small (-8.0) lost most elsewhere and "
        "idle (+0.0) least."
    )
    assert "At matched gain, on the 2 that gained, ewc kept most on both models, distinguishably ahead on both" in text
    assert text.endswith("What kept more on some learned less there: linear_probe.")


PACS = {
    "resnet finetune": (21, 3.5),
    "resnet linear_probe": (4.5, 3.5),
    "resnet lp_ft": (19.5, 7),
    "vit finetune": (10, 0.5),
    "vit linear_probe": (3.5, 2.5),
    "vit lp_ft": (15, 4.5),
}
"""Points that examples/pacs.toml gains with one seed, to half a point (docs/examples.md); its nets start at chance."""

DIGITS = {
    "small finetune": (2.5, -5),
    "small wise_ft": (3, 0),
    "small linear_probe": (1.5, 0),
    "large finetune": (2.5, -1),
    "large wise_ft": (1.5, 0),
    "large linear_probe": (0, 0),
    "vit finetune": (3, -9.5),
    "vit wise_ft": (2.5, -4.5),
    "vit linear_probe": (0.5, 0),
}
"""Those of the suite `digits`, three of its models, to half a point."""


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        (
            PACS,
            "finetune gained +10.0 to +21.0 points on the set tuned on and gained +0.5 to +3.5 points elsewhere: a "
            "distinguishable gain on both models.",
        ),
        (
            DIGITS,
            "finetune gained +2.5 to +3.0 points on the set tuned on and lost 1.0 to 9.5 points elsewhere: a "
            "distinguishable loss on all 3 models. On the reference set 2 of 3 models lost 5.0 to 9.5 points.",
        ),
    ],
    ids=["PACS", "digits"],
)
def test_the_first_sentence_of_suites(moves: dict[str, tuple[float, float]], said: str, tmp_path: Path) -> None:
    """With the accuracies of those runs. Their tables mark what the sentence calls distinguishable."""
    models = list(dict.fromkeys(name.partition(" ")[0] for name in moves))
    found = results(tmp_path, moves, models=models, per_class=200, seeds=(0, 1, 2))
    assert claim(found).lead == said
    assert all(row.mri.marked for row in found.summaries if row.method == "finetune" and row.mri)


def test_losses_on_all_models_are_called_losses(tmp_path: Path) -> None:
    moves = {"small finetune": (20, -8), "large finetune": (10, -2)}
    assert claim(results(tmp_path, moves, models=("small", "large"))).lead == (
        "finetune gained +10.0 to +20.0 points on the set tuned on and lost 2.0 to 8.0 points elsewhere: a "
        "distinguishable loss on both models. On the reference set 1 of 2 models lost 8.0 points."
    )


def test_the_headline_tests_what_it_says_and_no_more(tmp_path: Path) -> None:
    """4 of 100 images become wrong on each of two sets: distinguishable by itself, and not among 19 rows.

    The row that the sentence is about comes before the others, and its mark says what the sentence says.
    """
    sets = dict.fromkeys(("clean", "one", "two"), CLASSES)
    runs = [{"methods": ["finetune"], "sizes": list(range(50, 70))}]
    found = results(tmp_path, {"finetune": (20, -4.0)}, sets=sets, runs=runs, seeds=(0,), per_class=25)
    *others, last = [row.mri for row in found.summaries if row.mri]
    assert len(others) == 19
    assert all(row.excludes_zero and not row.marked for row in others)
    assert last.marked
    assert " and lost 4.0 elsewhere, on net." in claim(found).lead


def test_the_page_begins_with_the_short_sentence(tmp_path: Path) -> None:
    """Short enough for five lines of a telephone; what is behind it stands below, with its intervals."""
    found = results(tmp_path, {"finetune": (20, -1), "linear_probe": (1, 0)})
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    lead, detail = typeset(claim(found).lead), typeset(claim(found).detail)
    assert f"<h1>{lead}</h1>" in page
    assert f'<p class="detail">{detail}</p>' in page
    assert len(lead) < 160
    assert "[" not in lead


def test_images_tuned_on_are_not_taken_for_unseen_ones(tmp_path: Path) -> None:
    """Sets tuned on whole: 60 % before, 80 % on the very images tuned on; the probe 61 %. It ranks nothing."""
    found = results(tmp_path, {"finetune": (20, -1), "linear_probe": (1, 0)}, test_fraction=None)
    start, tuned, probe = found.summaries
    for row, after in ((tuned, 80.0), (probe, 61.0)):
        assert row.seen_before
        assert row.seen_after
        assert row.seen_gain
        assert (row.seen_before.value, row.seen_after.value) == pytest.approx((60.0, after))
        assert row.seen_gain.value == pytest.approx(after - 60)
        assert row.seen_gain.low < row.seen_gain.value < row.seen_gain.high or row.seen_gain.se == 0
        assert (row.gain, row.own_after, row.matched) == (None, None, None)
    assert (start.seen_after, start.missing) == (None, ())
    assert tuned.mri
    assert tuned.mri.value == pytest.approx(-1.0)
    text = finding(found)
    assert text.startswith("finetune gained +20.0 points on the very images tuned on and lost 1.0 elsewhere, on net. ")
    assert "No images of the sets tuned on were kept apart, so that gain may be learned by heart." in text
    assert "What each method gained on unseen images is not known, so none is ranked" in text
    assert "60.0 → 80.0" in said(found)
    assert "seen: accuracy on the very images tuned on" in said(found)
    scored = [score for score in found.scores if score.role == "seen"]
    assert [score.masked for score in scored if score.method == "finetune"] == pytest.approx([80.0] * 9)
    assert all(score.tuned_on == score.tested_on for score in scored)
    assert not [score for score in found.scores if score.role == "own"]
    assert {change.role for change in found.changes} == {"downstream", "reference"}
    write_page(found, tmp_path / "page.html")
    assert 'data-seen="80.0"' in (tmp_path / "page.html").read_text("utf-8")


def test_images_tuned_on_are_in_every_table(tmp_path: Path) -> None:
    """Counted from the rows of single images, in plain Python."""
    found = results(tmp_path, {"finetune": (20, -1)}, test_fraction=None, seeds=(0,), per_class=20)
    write_parquet(found, tmp_path)
    rows = [row for row in pq.read_table(tmp_path / "predictions.parquet").to_pylist() if row["role"] == "seen"]
    assert 100 * sum(row["masked_right"] for row in rows) / len(rows) == pytest.approx(80.0)
    assert len(rows) == 3 * 4 * 20
    summary = pq.read_table(tmp_path / "summaries.parquet").to_pylist()[1]
    assert (summary["seen_before"], summary["seen_after"], summary["seen_gain"]) == pytest.approx((60, 80, 20))
    assert json.loads(json.dumps(results_json(found)))["summaries"][1]["seen_gain"]["value"] == pytest.approx(20)
    write_latex(found, tmp_path / "table.tex")
    assert "Seen & Reference" in (tmp_path / "table.tex").read_text()


@pytest.mark.parametrize(
    ("fields", "whole"),
    [
        ({"test_fraction": None}, True),
        ({}, False),  # unseen images are kept apart
        ({"test_fraction": None, "held_out": 0.2}, False),  # some of the images were not tuned on
        ({"test_fraction": None, "runs": [{"methods": ["finetune"], "sizes": [40]}]}, False),
    ],
)
def test_only_sets_tuned_on_whole_are_asked_again(tmp_path: Path, fields: dict[str, Any], whole: bool) -> None:
    found = results(tmp_path, {"finetune": (20, -1)}, seeds=(0,), per_class=20, **fields)
    tuned = [run for run in found.plan.runs if run.tuned_on]
    assert all((run.seen is not None) == whole for run in tuned)
    assert all(run.seen is None or run.seen.fit == run.fit for run in tuned)
    assert all(run.seen is None or run.seen.data.name == run.tuned_on for run in tuned)


def test_what_was_not_measured_is_not_claimed(tmp_path: Path) -> None:
    """Sets tuned on whole, to a size: nothing is known of unseen images."""
    runs = [{"methods": ["finetune", "linear_probe"], "sizes": [40]}]
    found = results(tmp_path, {"finetune": (20, -1), "linear_probe": (1, 0)}, test_fraction=None, runs=runs)
    assert claim(found).lead == "finetune lost 1.0 points on the other sets, on net."
    assert "What it gained on the set tuned on was not measured on unseen images." in finding(found)
    assert "so none is ranked by what it kept elsewhere." in finding(found)
    assert "∅" not in said(found)


def test_marks_of_who_learned_less_stand_in_table_and_legend(tmp_path: Path) -> None:
    found = results(tmp_path, {"finetune": (20, -1), "l2_sp": (19, -1), "linear_probe": (1, 0)})
    assert [row.matched for row in found.summaries] == [None, True, True, False]
    text = said(found)
    assert text.count("∅") >= 2
    assert "∅ gained distinguishably less on the set tuned on than 90 % of the most that a method gained there" in text


# -- compare -----------------------------------------------------------------------------------------------------------


def compared(folder: Path, own: float, elsewhere: float, *gates: str, tuned_on: str | None = "one") -> Comparison:
    """A comparison of two checkpoints of which the second, tuned on `one`, differs by these points."""
    found = results(folder, {"finetune": (own, elsewhere)}, seeds=(0,))
    before, after = found.plan.runs[:2]
    run = replace(after, method=TUNED, seed=None, tuned_on=tuned_on or OWN_DATA)
    plan = replace(found.plan, runs=(before, run))
    pair = Pair(plan, "net", "tuned", tuned_on, 400)
    return Comparison(pair, Results(plan, found.store, 400), [parse_gate(text, gate_names(pair)) for text in gates])


def test_compare_says_the_gain_before_the_cost(tmp_path: Path) -> None:
    found = compared(tmp_path, 20, -1)
    assert comparison_claim(found).lead == (
        "tuned gained +20.0 points on one, the set tuned on, and lost robustness: -1.0 points on average on the 2 "
        "other downstream sets. The largest loss is on two: -1.0 points, which chance may explain."
    )
    detail = comparison_claim(found).detail
    assert detail.startswith("Changes of accuracy against net, with 95 % intervals: +20.0 (+")
    assert ") on one, -1.0 (-" in detail
    assert ") on the 2 other downstream sets" in detail


def test_compare_of_a_model_that_learned_nothing(tmp_path: Path) -> None:
    text = comparison_finding(compared(tmp_path, 0, 0))
    assert text.startswith(
        "tuned shows no distinguishable gain on one, the set tuned on, and neither lost nor gained robustness for "
        "certain: +0.0 points on average on the 2 other downstream sets. Changes of accuracy against net, with 95 % "
        "intervals: +0.0 (+0.0 to +0.0) on one, +0.0 (+0.0 to +0.0) on the 2 other downstream sets"
    )


def test_compare_of_a_model_at_chance(tmp_path: Path) -> None:
    """Its gain is a loss, and what it lost elsewhere is said in the same sentence."""
    found = compared(tmp_path, -35, -35)
    assert comparison_claim(found).lead == (
        "tuned lost 35.0 points on one, the set tuned on, and lost robustness: -35.0 points on average on the 2 other "
        "downstream sets. The largest loss is on one, the set tuned on: -35.0 points."
    )
    assert found.errors


def test_a_model_at_chance_on_the_set_tuned_on_passes_no_gate(tmp_path: Path) -> None:
    """Elsewhere it lost nothing, so the gate on RI alone would hold."""
    found = compared(tmp_path, -35, 0, "ri < -2")
    assert [verdict.failed for verdict in found.verdicts] == [False]
    assert not found.passed
    assert "TUNED is right on 25.0 %" in found.errors[0]
    assert "its training ended at chance" in comparison_json(found)["errors"][0]
    (tmp_path / "more").mkdir()
    assert compared(tmp_path / "more", -20, 0, "ri < -2").passed


def test_a_model_that_forgot_all_but_the_set_tuned_on_is_a_result_and_no_mistake(tmp_path: Path) -> None:
    """At chance on the reference set; but 80 % of the set tuned on show that classes and training are right."""
    found = compared(tmp_path, 20, -35, "ri < -2")
    assert found.forgotten == "one"
    assert found.errors == ()
    assert not found.passed, "the gate"
    assert "it is right on 25.0 %, no better than chance, though on 80.0 % of one." in comparison_claim(found).lead
    (tmp_path / "more").mkdir()
    assert compared(tmp_path / "more", -35, -35).forgotten == "", "nothing shows that it learned"
    (tmp_path / "kept").mkdir()
    assert compared(tmp_path / "kept", 20, -5).forgotten == "", "it is better than chance everywhere"


@pytest.mark.parametrize(("images", "classes"), [(30, 2), (126, 2), (126, 7)])
def test_a_model_that_guesses_is_hardly_ever_said_to_know_a_set(images: int, classes: int) -> None:
    """At least one of five sets in at most 2.5 % of 1,000 draws; at most 1.1 % of 2,000 were when it was measured."""
    generator, sets, wrong = np.random.default_rng(3), 5, 0
    for _ in range(1000):
        labels, answers = generator.integers(0, classes, (2, sets, images))
        shares = (labels == answers).mean(axis=1)
        levels = [max(np.bincount(row).max() / images, 1 / classes) for row in labels]
        found = [Interval(100 * p, 0, 0, se=100 * float(np.sqrt(p * (1 - p) / images))) for p in shares.tolist()]
        pairs = zip(found, levels, strict=True)
        wrong += any(knows(each, 100 * float(level), sets) for each, level in pairs)
    assert wrong <= 25
    assert knows(Interval(80, 0, 0, se=4), 100 / classes, sets)


def test_another_order_of_classes_is_a_mistake_even_where_one_set_is_known(tmp_path: Path) -> None:
    found = compared(tmp_path, 20, -35)
    found.results.__dict__["orders"] = ((found.pair.after, "probably another order of classes"),)
    assert found.forgotten == ""
    assert "probably another order of classes" in found.errors[0]
    assert comparison_claim(found).lead == f"No comparison: {found.errors[0]}."


@pytest.mark.parametrize(("own", "on", "hint"), [(20, None, True), (20, "one", False), (-5, None, False)])
def test_a_gain_without_a_named_set_may_be_of_the_set_tuned_on(
    tmp_path: Path, own: float, on: str | None, hint: bool
) -> None:
    said = comparison_finding(compared(tmp_path, own, -5, tuned_on=on))
    assert ("No set is named as the one tuned on; if it is one (+20.0), give --tuned-on one." in said) == hint
    assert ("No set is named" in said) == hint


def test_signs_inside_the_model_alone_are_no_sign_of_a_loss(tmp_path: Path) -> None:
    found = compared(tmp_path, 20, 0)
    shift = Signature("late shift", "present", 0.5, None, "")
    for more, expected in (
        ((), "No sign of a lost robustness; inside the model: late shift."),
        (
            (Signature("negative RI", "suggested", 0, None, ""),),
            "No sign of a lost robustness is certain: negative RI (",
        ),
        ((Signature("negative RI", "present", 0, None, ""),), "Signs of a lost robustness: late shift, negative RI."),
    ):
        found.__dict__["signs"] = (shift, *more)
        assert reason(found).startswith(expected)


@pytest.mark.parametrize("name", ["digits", "digits-quick"])
def test_the_shipped_suites_can_say_what_was_gained(name: str) -> None:
    """They hold test images of every set tuned on apart, and tune several methods to one size."""
    suite = load_suite(name)
    assert "finetune" in suite.runs[0].methods
    assert len(suite.runs[0].methods) > 2
