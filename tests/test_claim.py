"""The headline in words: what was gained and what it cost comes first, and learning nothing wins nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handmade import CLASSES, handmade
from rib.gates import parse_gate
from rib.pair import TUNED, Pair
from rib.report.claim import finding
from rib.report.comparison import Comparison, comparison_finding, comparison_json, gate_names
from rib.report.page import write_page
from rib.report.results import Results
from rib.report.tables import headline
from rib.steps import Fit, Predict
from rib.suite import load_suite
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
    assert text.startswith("finetune gained +20.0 points on the set tuned on (+")
    assert ") and lost 1.0 elsewhere (-" in text
    assert text.endswith(
        "No other method gained as much as finetune (+20.0); what kept more learned less: "
        "linear_probe (+0.0) gained +1.0."
    )
    assert "highest" not in text


def test_among_those_that_learned_the_one_that_keeps_most_is_named(tmp_path: Path) -> None:
    moves = {"finetune": (20, -8), "l2_sp": (20, -3), "lwf": (19.5, -1), "wise_ft": (12, 0), "linear_probe": (1, 0)}
    text = finding(results(tmp_path, moves))
    assert text.startswith("finetune gained +20.0 points")
    assert "lost 8.0 elsewhere" in text
    assert "Of the 3 methods that gained as much as any, lwf kept most elsewhere: -1.0 points" in text
    assert "distinguishably ahead of the rest" in text
    assert "what kept more learned less: wise_ft (+0.0) gained +12.0 and linear_probe (+0.0) gained +1.0." in text


def test_only_one_model_gained(tmp_path: Path) -> None:
    moves = {"finetune": (20, -8), "lwf": (19.5, -1), "large finetune": (0, -1), "large lwf": (0, 0)}
    text = finding(results(tmp_path, moves, models=["small", "large"]))
    assert "(not distinguishable from none on large)" in text
    assert (
        "Only small shows a distinguishable gain there. Of the 2 methods that gained as much as any, lwf kept" in text
    )


def test_tuning_that_helps_elsewhere(tmp_path: Path) -> None:
    text = finding(results(tmp_path, {"finetune": (20, 4), "l2_sp": (20, 7)}))
    assert ") and gained +4.0 elsewhere (" in text
    assert "l2_sp kept most elsewhere: +7.0 points" in text


def test_where_nothing_is_learned_nothing_is_ranked(tmp_path: Path) -> None:
    found = results(tmp_path, {"finetune": (0, -0.25), "linear_probe": (0, 0)}, per_class=40)
    assert finding(found) == (
        "finetune shows no distinguishable gain on the set tuned on (+0.0, +0.0 to +0.0) and shows no distinguishable "
        "change elsewhere (+0.0, +0.0 to +0.0), on net. No method shows a distinguishable gain on the set tuned on, so "
        "none is ranked by what it kept elsewhere."
    )


def collapsed(fit: Fit) -> dict[str, Any]:
    """What a training leaves that answers one class for every image of the set `two`, with one seed."""
    at_chance = fit.method.name == "finetune" and fit.data and fit.data.name == "two" and fit.seed == 1
    return {"chance": 25.0, "at_chance": float(bool(at_chance))}


def test_a_training_that_ends_at_chance_is_marked_everywhere(tmp_path: Path) -> None:
    moves = {"finetune": (-35, -35), "linear_probe": (1, 0)}
    found = results(tmp_path, moves, notes=collapsed)
    row = found.summaries[1]
    assert row.at_chance == ("two (seed 1)",)
    assert finding(found).startswith("finetune lost 35.0 points on the set tuned on (-")
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
        "finetune gained +0.0 (idle) to +20.0 (small) points on the set tuned on (not distinguishable from none on "
        "idle) and changed by -8.0 (small) to +0.0 (idle) elsewhere: a distinguishable loss on 2 of 3 models."
    )
    assert "At matched gain ewc kept most on 2 of 3 models, distinguishably ahead on both" in text
    assert text.endswith("linear_probe kept more on some and learned less.")


def test_what_was_not_measured_is_not_claimed(tmp_path: Path) -> None:
    """Sets tuned on whole, to a size: nothing is known of unseen images."""
    runs = [{"methods": ["finetune", "linear_probe"], "sizes": [40]}]
    found = results(tmp_path, {"finetune": (20, -1), "linear_probe": (1, 0)}, test_fraction=None, runs=runs)
    assert finding(found).startswith("finetune was not measured on unseen images of the set tuned on and lost 1.0")
    assert "so none is ranked by what it kept elsewhere." in finding(found)
    assert "∅" not in said(found)


def test_marks_of_who_learned_less_stand_in_table_and_legend(tmp_path: Path) -> None:
    found = results(tmp_path, {"finetune": (20, -1), "l2_sp": (19, -1), "linear_probe": (1, 0)})
    assert [row.matched for row in found.summaries] == [None, True, True, False]
    text = said(found)
    assert text.count("∅") >= 2
    assert "∅ gained distinguishably less on the set tuned on than 90 % of the most that a method gained there" in text


# -- compare -----------------------------------------------------------------------------------------------------------


def compared(folder: Path, own: float, elsewhere: float, *gates: str, tuned_on: str = "one") -> Comparison:
    """A comparison of two checkpoints of which the second differs by these points."""
    found = results(folder, {"finetune": (own, elsewhere)}, seeds=(0,))
    before, after = found.plan.runs[:2]
    plan = replace(found.plan, runs=(before, replace(after, method=TUNED, seed=None)))
    pair = Pair(plan, "net", "tuned", tuned_on, 400)
    return Comparison(pair, Results(plan, found.store, 400), [parse_gate(text, gate_names(pair)) for text in gates])


def test_compare_says_the_gain_before_the_cost(tmp_path: Path) -> None:
    text = comparison_finding(compared(tmp_path, 20, -1))
    assert text.startswith("tuned gained +20.0 points on one, the set tuned on, and lost robustness: against net, ")
    assert "changed by -1.0 points on average" in text


def test_compare_of_a_model_that_learned_nothing(tmp_path: Path) -> None:
    text = comparison_finding(compared(tmp_path, 0, 0))
    assert text.startswith("tuned shows no distinguishable gain on one, the set tuned on (+0.0, +0.0 to +0.0), and ")
    assert "neither lost nor gained robustness" in text


def test_a_model_at_chance_on_the_set_tuned_on_passes_no_gate(tmp_path: Path) -> None:
    """Elsewhere it lost nothing, so the gate on RI alone would hold."""
    found = compared(tmp_path, -35, 0, "ri < -2")
    assert [verdict.failed for verdict in found.verdicts] == [False]
    assert not found.passed
    assert "TUNED is right on 25.0 %" in found.errors[0]
    assert "its training ended at chance" in comparison_json(found)["errors"][0]
    (tmp_path / "more").mkdir()
    assert compared(tmp_path / "more", -20, 0, "ri < -2").passed


@pytest.mark.parametrize("name", ["digits", "digits-quick"])
def test_the_shipped_suites_can_say_what_was_gained(name: str) -> None:
    """They hold test images of every set tuned on apart, and tune several methods to one size."""
    suite = load_suite(name)
    assert "finetune" in suite.runs[0].methods
    assert len(suite.runs[0].methods) > 2
