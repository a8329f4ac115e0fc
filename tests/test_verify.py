"""Verify: published numbers beside measured ones, on made-up records."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import Say, document, toml
from rib.errors import UserError
from rib.models.catalogue import ROWS
from rib.report.verify import checks_json, checks_table, summary
from rib.results.published import Check, PublishedNumbers, checks, read_numbers
from rib.results.results import Results
from rib.steps import Step
from rib.suite.load import load_suite
from test_report import made_up


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return made_up(tmp_path_factory.mktemp("verify"))


def measured(results: Results, model: str, name: str) -> float:
    score = next(
        score for score in results.scores if (score.model, score.method, score.tested_on) == (model, "pretrained", name)
    )
    assert score.masked is not None
    return score.masked


def numbers(results: Results, shift: float = 0.0) -> PublishedNumbers:
    row = next(row for row in results.summaries if (row.model, row.method) == ("small", "finetune"))
    assert row.ood_before
    assert row.ood_after
    return PublishedNumbers(
        ood_sets=results.suite.downstream,
        accuracy={"small": {name: measured(results, "small", name) + shift for name in ("clean", "sketch")}},
        ood={"small": (row.ood_before.value + shift, row.ood_after.value - shift)},
    )


def test_numbers_that_are_met_agree(results: Results) -> None:
    found = checks(results, numbers(results))
    assert [check.what for check in found] == ["clean", "sketch", "OOD before", "OOD after"]
    assert {check.verdict for check in found} == {"agrees"}
    assert summary(found) == "4 published numbers: 4 agree, 0 differ (!), 0 missing"


def test_the_tolerance_is_a_tenth_for_accuracies_and_three_tenths_for_means(results: Results) -> None:
    verdicts = {check.what: check.verdict for check in checks(results, numbers(results, 0.2))}
    assert verdicts == {"clean": "differs", "sketch": "differs", "OOD before": "agrees", "OOD after": "agrees"}
    found = checks(results, numbers(results, 0.4))
    assert {check.verdict for check in found} == {"differs"}
    assert found[0].difference == pytest.approx(-0.4)


def test_a_difference_of_exactly_the_tolerance_agrees() -> None:
    assert Check("m", "val", 79.15, 79.25, 0.1).verdict == "agrees"
    assert Check("m", "val", 79.15, 79.26, 0.1).verdict == "differs"


def test_the_change_of_a_mean_is_compared_where_it_has_a_tolerance(results: Results) -> None:
    """Both means are 5 points off in the same direction: their change is right."""
    both = numbers(results)
    before, after = both.ood["small"]
    shifted = both.model_copy(update={"ood": {"small": (before + 5, after + 5)}, "ood_change_tolerance": 0.5})
    verdicts = {check.what: check.verdict for check in checks(results, shifted) if check.what.startswith("OOD")}
    assert verdicts == {"OOD before": "differs", "OOD after": "differs", "OOD change": "agrees"}
    wrong = shifted.model_copy(update={"ood": {"small": (before, after + 0.6)}})
    assert checks(results, wrong)[-1].verdict == "differs"


def test_published_means_are_compared_as_far_as_their_sets_are_known() -> None:
    """Of the seven sets without ImageNet-C, 39.8 is what the paper's own accuracies by set give for 42.8."""
    known = read_numbers()
    assert (
        Check("m", "OOD before", known.ood["imagenet:vit_b16_in1k"][0], 39.8, known.ood_tolerance).verdict == "agrees"
    )
    assert known.ood_change_tolerance == 1.6
    assert known.accuracy_tolerance == 0.1


def test_what_was_not_run_is_missing_and_no_difference(results: Results, tmp_path: Path) -> None:
    def lost(step: Step) -> bool:
        return "finetune" in step.title

    found = checks(made_up(tmp_path, lost=lost), numbers(results))
    assert [check.verdict for check in found if check.what == "OOD after"] == ["missing"]
    assert next(row for row in checks_json(found) if row["what"] == "OOD after")["difference"] is None


def test_means_are_compared_over_the_same_sets_only(results: Results) -> None:
    other = numbers(results).model_copy(update={"ood_sets": ("clean", "sketch")})
    assert {check.what for check in checks(results, other)} == {"clean", "sketch"}


def test_a_suite_without_published_numbers_is_refused(results: Results) -> None:
    with pytest.raises(UserError, match="no number is published"):
        checks(results, read_numbers())


def test_the_table_shows_differences_and_marks_those_too_large(results: Results) -> None:
    from rich.console import Console

    console = Console(width=100, record=True, force_terminal=False)
    console.print(checks_table(checks(results, numbers(results, -0.2))))
    text = console.export_text()
    assert "small" in text
    assert "+0.20 !" in text


def test_the_published_numbers_are_of_the_catalogue_and_the_suite() -> None:
    published, suite = read_numbers(), load_suite("imagenet_rib")
    assert set(published.accuracy) | set(published.ood) <= set(ROWS)
    assert set(published.accuracy) <= set(suite.models)
    assert set(published.ood_sets) == set(suite.downstream)
    assert all(set(row) <= set(suite.tested) for row in published.accuracy.values())
    assert published.accuracy["imagenet:vit_b16_in21k_augreg"]["imagenet:val"] == 84.53
    assert published.ood["imagenet:vit_b16_laion2b"] == (61.5, 23.4)
    assert (published.accuracy_tolerance, published.ood_tolerance) == (0.1, 3.3)


def test_a_file_of_numbers_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "numbers.toml").write_text("[acuracy]\n")
    with pytest.raises(UserError, match="unknown key 'acuracy'"):
        read_numbers(tmp_path / "numbers.toml")


def test_the_command_fails_where_nothing_was_compared(rib_says: Say, tmp_path: Path) -> None:
    made = document(tmp_path, runs=[])
    (tmp_path / "tiny.toml").write_text(toml(made))
    (tmp_path / "numbers.toml").write_text("[accuracy.resnet]\nclean = 25.0\n")
    words = ["verify", "tiny.toml", "--numbers", "numbers.toml"]
    code, said = rib_says(*words)
    assert code == 1
    assert "nothing was compared" in said
    assert rib_says("run", "tiny.toml", "--workers", 1)[0] == 0
    code, said = rib_says(*words)
    assert "nothing was compared" not in said
    assert code == (0 if "1 agree" in said else 1)
