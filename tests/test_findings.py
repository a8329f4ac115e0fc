"""The numbers of docs/findings.md as Markdown, and the verdicts that changed."""

from __future__ import annotations

from typing import Any

from soak.findings import CONTRASTS, VERDICTS, changes, tables

from rib.metrics.intervals import Interval
from rib.report.answer import Answer, Contrast
from rib.report.answer_text import answer_json
from rib.report.finding import signed
from rib.studies import STUDIES, names


def answered(study: str, value: float, says: str = "large minus small") -> dict[str, Any]:
    span = Interval(value, value - 1, value + 1, "images and seeds", (), 0.5, 4.0, 0.01, 0.02)
    contrasts = (Contrast("resnet", says, "above", span),)
    return answer_json(Answer(study, "suite", "Is it so?", "It is.", "points", contrasts, ()))


def test_every_number_of_an_answer_is_in_its_table() -> None:
    text = "\n".join(tables([answered("forgetting", 3.0)]))
    assert "## forgetting: Is it so?" in text
    assert f"| resnet | large minus small | above | {signed(3.0)} [+2.0, +4.0] | 0.010 (0.020) | shown |" in text


def test_verdicts_that_changed_are_listed() -> None:
    assert changes([answered("forgetting", 3.0)]) == ["forgetting, vit: shown, now incomplete"]
    assert "forgetting, resnet: shown, now not shown" in changes([answered("forgetting", 0.5)])
    moved = changes([answered("rate", 0.5, "best rate: largest minus smallest pretraining set")])
    assert "rate, resnet, best rate: largest minus smallest pretraining set: reversed, now not shown" in moved


def test_it_speaks_of_studies_that_there_are() -> None:
    assert {*VERDICTS, *(study for study, _, _ in CONTRASTS)} <= {*names()}
    assert all(STUDIES.find(study).question for study in VERDICTS)
