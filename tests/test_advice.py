"""Advice: who is on the front, who is beaten, and when there is none."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rib.report.recommend import advice_json, advice_lines
from rib.results.recommendation import Advice, advise
from rib.results.results import Results
from test_report import made_up

OWN_TESTED = ("clean", "sketch", "paint", "stone", "foggy")


def results(folder: Path, **fields: Any) -> Results:
    """Three downstream sets at 20 and 60 images, two models of different skill."""
    runs = [{"methods": ["finetune", "linear_probe", "wise_ft"], "sizes": [20, 60]}]
    return made_up(folder, **{"sets": OWN_TESTED, "runs": runs} | fields)


def text(advice: Advice, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(advice_lines(advice, width))
    return console.export_text()


def test_front_and_beaten_by_brute_force(tmp_path: Path) -> None:
    found = results(tmp_path, seeds=(0, 1, 2))
    advice = advise(found, 60)
    groups = [group for group in found.groups if group[2] == 60 or group[1] == "pretrained"]
    own, ood = {}, {}
    for group in groups:
        before = group[1] == "pretrained"
        own[group] = found.estimates.own_before(group[0]) if before else found.estimates.own(group)
        ood[group] = found.estimates.ood(group) if not before else found.estimates.ood_before(group[0])
    beaten, front = set(), set()
    for a in groups:
        better = [b for b in groups if own[b].value >= own[a].value and ood[b].value >= ood[a].value and b != a]
        if not [b for b in better if own[b].value > own[a].value or ood[b].value > ood[a].value]:
            front.add((a[0], a[1]))
        for b in better:
            lows = [(x[b] - x[a]).interval().low for x in (own, ood)]
            if max(lows) > 0:
                beaten.add((a[0], a[1]))
    assert {(item.model, item.method) for item in advice.candidates} == {g[:2] for g in groups} - beaten
    assert {(item.model, item.method) for item in advice.candidates if item.front} == front - beaten
    assert advice.beaten == len(beaten) > 0
    assert [item.own.value for item in advice.candidates] == sorted(
        (i.own.value for i in advice.candidates), reverse=True
    )


def test_one_seed_beats_nobody(tmp_path: Path) -> None:
    """Between two pretrained models no seed is drawn; of two tuned ones, another seed may say the reverse."""
    found = advise(results(tmp_path), 60)
    beaten = {(item.model, item.method) for item in found.candidates if item.beaten_by}
    assert not beaten
    assert found.beaten <= 1
    assert len([item for item in found.candidates if item.method != "pretrained"]) == 6


def test_own_and_ood_are_those_of_the_table(tmp_path: Path) -> None:
    found = results(tmp_path)
    rows = {(row.model, row.method, row.size): row for row in found.summaries}
    for item in advise(found, 20).candidates:
        if item.method == "pretrained":
            assert (item.mri.value, item.mri.low, item.mri.high, item.worst) == (0, 0, 0, None)
            continue
        row = rows[item.model, item.method, 20]
        assert (item.own, item.ood, item.mri) == (row.own_after, row.ood_after, row.mri)
        worst = min(row.ri, key=lambda name: row.ri[name].value)
        assert item.worst == (worst, row.ri[worst].value)


@pytest.mark.parametrize(("asked", "measured"), [(20, 20), (30, 20), (40, 60), (60, 60), (180, 60), (7, 20)])
def test_the_nearest_size_in_ratio_stands_for_it(tmp_path: Path, asked: int, measured: int) -> None:
    advice = advise(results(tmp_path), asked)
    assert (advice.measured_at, advice.declined) == (measured, ())
    between = [line for line in advice.reach if "between measured sizes" in line]
    assert bool(between) == (20 < asked < 60)


@pytest.mark.parametrize(
    ("asked", "fields", "reason"),
    [
        (181, {}, "more than 3 times away from 181"),
        (6, {}, "nearest measured size is 20 images"),
        (60, {"sets": ("clean", "sketch", "paint", "foggy")}, "tuned on 2 sets only"),
        (60, {"runs": [{"methods": ["finetune"]}]}, "no tuning set of a counted size"),
        (60, {"lost": lambda step: "finetune" in step.title, "runs": [{"methods": ["finetune"], "sizes": [60]}]},
         "no method is complete at 60"),
    ],
)  # fmt: skip
def test_it_declines_where_the_evidence_is_thin(
    tmp_path: Path, asked: int, fields: dict[str, Any], reason: str
) -> None:
    advice = advise(results(tmp_path, **fields), asked)
    assert advice.candidates == ()
    assert any(reason in line for line in advice.declined), advice.declined
    assert "too thin" in text(advice, 80)


@pytest.mark.parametrize("width", [80, 140])
def test_lines_fit(tmp_path: Path, width: int) -> None:
    advice = replace(advise(results(tmp_path), 60), caveats=())  # these may hold an ellipsis of their own
    shown = text(advice, width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert "…" not in shown
    assert json.loads(json.dumps(advice_json(advice)))["measured_at"] == 60
