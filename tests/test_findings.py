"""docs/findings.md is what its script makes of the answers of the studies: no number is copied by hand."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from soak.findings import BEFORE, KEPT, PAGE, Numbers, before, moved, page, starts, stripped
from soak.methods import kept as kept_methods
from soak.photographs import photographs

from rib.metrics.intervals import Interval
from rib.report.answer_text import answer_json
from rib.results.answer import Answer, AnswerLine, AnswerPanel, Contrast
from rib.studies import STUDIES, names
from rib.suite.load import load_suite

ROOT = Path(__file__).parents[1]


def answered(study: str, value: float, says: str = "large minus small", family: str = "resnet") -> dict[str, Any]:
    span = Interval(value, value - 1, value + 1, "images and seeds", (), 0.5, 4.0, 0.01, 0.02)
    contrasts = (Contrast(family, says, "above", span),)
    panel = AnswerPanel("resnet, n = 50", "set", ("small", "large"), (AnswerLine("one", 0, 0, (span, None)),))
    return answer_json(Answer(study, "suite", "Is it so?", "It is.", "points", contrasts, (panel,)))


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text("utf-8"))
    return found


def test_the_page_is_what_the_script_writes(kept: dict[str, Any]) -> None:
    assert PAGE.read_text("utf-8") == page(kept)


def test_every_study_is_answered_and_every_contrast_is_on_the_page(kept: dict[str, Any]) -> None:
    assert sorted(answer["study"] for answer in kept["answers"]) == sorted(names(of_all=True))
    text = PAGE.read_text("utf-8")
    for answer in (*kept["answers"], *kept.get("texts", ())):
        assert not answer["missing"]
        assert STUDIES.find(answer["study"]).question == answer["question"]
        for one in answer["contrasts"]:
            span = one["interval"]
            ends = (f"{span[name]:+.1f}".replace("-", "−").replace("−0.0", "0.0") for name in ("value", "low", "high"))
            row = "{} [{}, {}]".format(*ends)
            assert re.search(
                rf"\| {re.escape(one['says'])} \| .* \| {re.escape(row)}°? \| .* \| {one['verdict']} \|", text
            )


def test_verdicts_follow_from_the_numbers_that_are_kept(kept: dict[str, Any]) -> None:
    """Shown: p among all contrasts of the study is at most 0.05, and the value lies on the claimed side."""
    for one in (one for answer in kept["answers"] for one in answer["contrasts"]):
        span = one["interval"]
        claimed = (span["value"] > 0) == (one["claimed"] == "above")
        if one["verdict"] == "not shown":
            assert span["lacks"] or span["adjusted"] > 0.049 or span["low"] <= 0 <= span["high"]
        else:
            assert one["verdict"] == ("shown" if claimed else "reversed")
            assert span["adjusted"] <= 0.05
            assert not span["lacks"]


def test_each_figure_of_the_page_is_there() -> None:
    drawn = re.findall(r"!\[[^]]*\]\((images/[^)]+)\)", PAGE.read_text("utf-8"))
    assert sorted(Path(name).stem for name in drawn) == sorted(names(of_all=True))
    assert all((PAGE.parent / name).is_file() for name in drawn)


def test_numbers_are_asked_for_by_name() -> None:
    numbers = Numbers(stripped([answered("forgetting", 3.0)]))
    assert numbers.number("forgetting", "resnet", "LARGE minus") == "+3.0 [+2.0, +4.0]"
    assert numbers.value("forgetting", "resnet", "small") == "+3.0"
    assert numbers.point("forgetting", "resnet, n = 50", "one", "small") == "+3.0 [+2.0, +4.0]"
    assert numbers.count("forgetting", "shown") == "1 of 1"
    assert "| resnet | large minus small | > 0 | +3.0 [+2.0, +4.0] | 0.010, 0.020 | shown |" in numbers.table(
        "forgetting"
    )
    for wrong in (("size", "resnet", "large"), ("forgetting", "vit", "large"), ("forgetting", "resnet", "huge")):
        with pytest.raises(KeyError):
            numbers.number(*wrong)
    with pytest.raises(KeyError):
        numbers.point("forgetting", "resnet, n = 50", "one", "large")  # a hole


def test_the_page_needs_every_number_that_it_names() -> None:
    with pytest.raises((KeyError, UndefinedError)):
        page({"answers": stripped([answered("size", 3.0)]), "reference": []})


def test_verdicts_that_changed_are_listed() -> None:
    moves = [*moved(stripped([answered("curriculum", 3.0), answered("forgetting", 3.0)]))]
    assert moves == [("curriculum", "resnet", "large minus small", "reversed", "shown")]
    assert before("rate", "vit", "best rate: largest minus smallest pretraining set") == "reversed"
    assert before("methods", "vit", "lp_ft minus finetune") == "not shown"
    assert before("methods", "resnet", "lp_ft minus finetune") == "shown"
    assert before("nothing", "vit", "") == ""


def test_the_rule_before_speaks_of_contrasts_that_there_are(kept: dict[str, Any]) -> None:
    there = [(answer["study"], one["family"], one["says"]) for answer in kept["answers"] for one in answer["contrasts"]]
    assert all(before(*one) for one in there)
    for study, family, words in BEFORE:
        assert any(one[0] == study and family in ("", one[1]) and words in one[2].lower() for one in there)


def test_rows_of_the_reference_suite_are_kept() -> None:
    span = {"value": 1.23456, "low": 0.0, "high": 2.0, "p": None, "adjusted": None, "lacks": []}
    row = {"method": "finetune", "model": "m", "size": 50, "mri": span, "gain": span, "ood_before": span}
    found = starts({"summaries": [row, row | {"method": "pretrained"}]})
    assert [(one["model"], one["size"], one["mri"]["value"]) for one in found] == [("m", 50, 1.235)]


def test_the_readme_describes_the_suite_that_is_shipped() -> None:
    """Its figure and its list of commands name the models, methods and seeds of `digits`."""
    suite = load_suite("digits")
    methods, seeds = len(suite.runs[0].methods), len(suite.seeds)
    words = {2: "two", 3: "three", 4: "four", 6: "six", 9: "nine"}
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"{words[len(suite.models)]} pretrained models, {words[methods]} methods, {words[seeds]} seeds" in text
    assert (
        f"mRI of {words[len(suite.models)]} small models by method on the embedded suite, {words[seeds]} seeds" in text
    )


def test_photos_are_copied_from_reports() -> None:
    span = {"value": 1.23456, "low": 0.0, "high": 2.0, "p": None, "adjusted": None, "lacks": []}
    row = {"method": "finetune", "size": 17, "mri": span, "own_after": span | {"value": 40.0}, "gain": None}
    notes = [
        {"method": "best_rate", "values": {"held_out_accuracy_at_0.001": accuracy, "chosen_lr": 0.001}}
        for accuracy in (50.0, 61.0)
    ]
    corners = {"before": {"value": 70.0}, "weights": {"value": 66.6}, "statistics": {"value": 9.0}}
    corners["after"] = {"value": 4.2}
    split = {"tested_on": "photographs", "method": "finetune", "corners": corners}
    split |= {"change": {"value": -65.8}, "of_weights": {"value": -4.1}, "of_statistics": {"value": -61.7}}
    report = {
        "summaries": [row, row | {"method": "pretrained"}],
        "notes": notes,
        "inside": {"statistics": [split, split | {"method": "other", "change": {"value": 0.0}}]},
    }
    short = [
        {"suite": f"last-8-s{seed}", "summaries": [row | {"own_after": {"value": 40.0 + seed}}]} for seed in (0, 1)
    ]
    contrast = {"family": "lite", "says": "n = 24 minus n = 96", "claimed": "below", "verdict": "not shown"}
    contrast |= {"alone": "shown", "interval": span}
    words = {name: name for name in ("question", "claim", "verdict", "said", "power")}
    answer = words | {"study": "size", "families": {"lite": "not shown"}, "contrasts": [contrast], "panels": []}
    found = photographs(
        [
            report | {"suite": "photos-rates"},
            report | {"suite": "photos"},
            [answer | {"notes": [], "missing": []}],
            *short,
        ]
    )
    numbers = Numbers((), (), found)
    assert numbers.photo("methods", "finetune", "mri") == "+1.2 [0.0, +2.0]".replace("0.0", "+0.0", 1)
    assert numbers.photo("methods", "finetune", "own_after") == "40.0 [0.0, 2.0]"
    assert numbers.photo_value("methods", "finetune", "mri") == "+1.2"
    assert "| updated (default) | **55.5** |" in numbers.held_out_rates()
    assert numbers.split("photographs", "of_statistics") == "−61.7"
    assert numbers.split("photographs", "weights") == "66.6"
    assert numbers.short("last-8", 17) == "40.5 (40.0 to 41.0)"
    assert numbers.of_photos.number("size", "lite", "n = 24") == "+1.2 [+0.0, +2.0]"
    assert numbers.of_photos.families("size") == "lite: **not shown**"
    assert "pretrained" not in found["methods"]
    assert photographs(short).keys() == {"short"}  # what no document has is left as it was


def test_settings_of_photos_are_compared_at_the_better_rate_of_each() -> None:
    """Means by hand: 30 at 0.01, 35 at 0.03. What was not run is empty; a setting without any number has no line."""
    low, high = {"pacs_art": 40.0, "cue": 20.0}, {"pacs_art": 30.0, "cue": 40.0}
    notes = [
        {"model": "lite0", "method": "tuned", "size": 96, "tuned_on": name}
        | {"values": {"held_out_accuracy_at_lr=0.01": low[name], "held_out_accuracy_at_lr=0.03": high[name]}}
        for name in low
    ]
    found = photographs([{"suite": "photos-settings", "notes": [*notes, notes[0] | {"model": "lite0_224"}]}])
    table = Numbers((), (), found).held_out_settings()
    assert "| 128 pixels, 5 epochs, 96 pictures (`photos`) | 0.03 | 30.0 | 40.0 | 35.0 |  |  |  |  |" in table
    assert "224 pixels" not in table


def test_a_folded_net_has_rows_of_its_own() -> None:
    span = {"value": 1.0, "low": 0.0, "high": 2.0}
    row = {"method": "finetune_frozen", "size": 96, "mri": span}
    report = {"suite": "photos-folded", "summaries": [row | {"model": name} for name in ("lite0", "lite0_folded")]}
    numbers = Numbers((), (), photographs([report]))
    assert numbers.folded("lite0_folded", "finetune_frozen", "mri") == "+1.0 [+0.0, +2.0]"


def test_methods_are_copied_from_the_report_of_their_suite() -> None:
    """A difference at equal gain is bold only if it is distinguishable among all; a method that gains less has none."""

    def span(value: float, adjusted: float | None = None) -> dict[str, Any]:
        return asdict(Interval(value, value - 1, value + 1, "images and seeds", (), 0.5, 4.0, 0.01, adjusted))

    def row(method: str) -> dict[str, Any]:
        numbers = {"mri": span(-2.25), "gain": span(7.0), "reference_after": span(80.0)}
        return {"model": "resnet_small", "method": method, **numbers}

    matched = [
        {"model": "resnet_small", "method": "replay", "reach": "reached", "against_finetune": span(4.0, 0.05)},
        {"model": "resnet_small", "method": "lwf", "reach": "reached", "against_finetune": span(4.0, 0.051)},
        {"model": "resnet_small", "method": "ewc", "reach": "never", "against_finetune": None},
    ]
    merge = {"model": "resnet_small", "method": "ties", **dict.fromkeys(("mri", "against_singles", "gain"), span(1.5))}
    summaries = [row(name) for name in ("pretrained", "finetune", "replay", "lwf", "ewc")]
    found = kept_methods({"summaries": summaries, "matched_gain": matched, "merges": [merge]})
    numbers = Numbers((), of_methods=found)
    head, _, *lines = numbers.all_methods("resnet_small").splitlines()
    assert head == "| method | ResNet: gain | ResNet: mRI | ResNet: at equal gain |"
    assert lines == [
        "| `finetune` | +7.0 | −2.2 [−3.2, −1.2] |  |",
        "| `replay` | +7.0 | −2.2 [−3.2, −1.2] | **+4.0 [+3.0, +5.0]** |",
        "| `lwf` | +7.0 | −2.2 [−3.2, −1.2] | +4.0 [+3.0, +5.0] |",
        "| `ewc` | +7.0 | −2.2 [−3.2, −1.2] | gains less |",
    ]
    assert numbers.merged("resnet_small").splitlines()[-1] == "| `ties` | +1.5 [+0.5, +2.5] | +1.5 [+0.5, +2.5] |"


@pytest.mark.parametrize("file", sorted((ROOT / "soak").glob("[!_]*.py")), ids=lambda file: file.stem)
def test_each_script_takes_the_words_of_its_command(file: Path) -> None:
    """`python -m soak NAME …` passes the words after the name to `main`."""
    functions = (one for one in ast.parse(file.read_text("utf-8")).body if isinstance(one, ast.FunctionDef))
    assert [len(one.args.args) for one in functions if one.name == "main"] == [1]
