"""Tables that are too long for a screen or a sheet: what is folded, and how they break over pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rich.text import Text

from rib.metrics.intervals import Interval
from rib.report import headline, latex
from rib.report.grid import grid
from rib.report.signatures import _heads
from rib.results.rows import Summary, folded_rows, unmarked_reason


def row(method: str, mri: float | None, differs: bool | None = None, model: str = "m", size: int = 10) -> Summary:
    against: Any = None
    if differs is not None:
        against = Interval(1.0, 0.5 if differs else -0.5, 1.5, adjusted=0.001 if differs else 0.9)
        assert against.differs == differs
    return Summary(model, method, size, (0,), mri=mri and Interval(mri, mri - 1, mri + 1), against_finetune=against)


def test_rows_like_finetune_are_folded_and_the_best_is_not() -> None:
    rows = [
        row("finetune", -3.0),
        row("l2_sp", -2.9, False),
        row("ewc", -1.0, True),
        row("best", 0.5, False),
        row("broken", None, None),
        row("worst", -9.0, True),
        row("finetune", -1.0, size=20),
        row("l2_sp", -1.2, False, size=20),
    ]
    assert folded_rows(rows) == [False, True, False, False, False, False, False, True]


@pytest.mark.parametrize("every", [False, True])
def test_a_long_table_repeats_its_head_and_says_what_it_folds(
    monkeypatch: pytest.MonkeyPatch, every: bool, tmp_path: Any
) -> None:
    from test_report import made_up, printed

    results = made_up(tmp_path, models=("a", "b"), seeds=(0, 1))
    tuned = sum(each.method != "pretrained" for each in results.summaries)
    monkeypatch.setattr(headline, "LONG", 3)
    text = printed(headline.headline(results, 120, every), 120)
    heads = [place for place, line in enumerate(text) if line.lstrip().startswith("method")]
    assert len(heads) == 2
    assert next(place for place, line in enumerate(text) if line.startswith("OOD: mean accuracy")) < heads[0]
    shown = sum(" → " in line and line.startswith("  ") and "[" in line for line in text)
    folded = sum(int(line.split()[1]) for line in text if line.startswith("  … "))
    assert shown + folded == tuned
    assert (folded == 0) if every else (folded == sum(folded_rows([s for s in results.summaries if s.mri])))


@pytest.mark.parametrize("width", [40, 50, 60, 80])
def test_a_narrow_table_keeps_mri_with_its_interval(width: int, tmp_path: Any) -> None:
    from test_report import made_up, printed

    results = made_up(tmp_path, runs=({"methods": ["finetune", "linear_probe"], "sizes": [20]},), seeds=(0, 1))
    text = printed(headline.headline(results, width), width)
    whole = r"  (finetune|linear_probe) .* [+-]?\d+\.\d \[ *[+-]?\d+\.\d, +[+-]?\d+\.\d\]"
    assert len([line for line in text if re.match(whole, line)]) == 4, text
    assert max(map(len, text)) <= width


def test_a_long_latex_table_breaks_over_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from test_report import made_up

    results = made_up(tmp_path, models=("a", "b"))
    latex.write_latex(results, tmp_path / "short.tex")
    monkeypatch.setattr(latex, "MOST_ROWS", 2)
    latex.write_latex(results, tmp_path / "long.tex")
    short, long = ((tmp_path / f"{name}.tex").read_text() for name in ("short", "long"))
    body = [line for line in short.splitlines() if line.startswith(("finetune", "pretrained", "linear"))]
    assert body
    assert [line for line in long.splitlines() if line.startswith(("finetune", "pretrained", "linear"))] == body
    assert long.count("\\begin{longtable}") == long.count("\\end{longtable}") == 1
    assert "\\endfirsthead" in long
    assert "\\begin{table}" not in long
    assert "longtable}" in long.splitlines()[0]
    assert short.count("{") - short.count("}") == long.count("{") - long.count("}") == 0


def test_heads_of_signs_are_shortened_where_one_line_does_not_hold_them() -> None:
    heads = ["large drop", "low CKA", "late-layer shift", "negative RI", "reference loss", "statistics"]
    cells = [[Text(each) for each in ("○ -9.4", "○ 0.93", "● 59 %", "● -9.4", "◐ -13.8", "● -12.5")]]
    assert _heads(heads, ["encoder_small"], cells, 140) == heads
    short = _heads(heads, ["encoder_small"], cells, 80)
    assert short == ["large drop", "low CKA", "late shift", "neg. RI", "ref. loss", "statistics"]
    assert len(grid("", ["encoder_small"], short, cells, 80)) == 2, "one line of heads, one of numbers"


def test_a_page_says_why_no_other_row_is_marked() -> None:
    """An interval far from 0 beside a ≈ looks like an error, unless the reason stands beside it."""
    clear, far = Interval(5.0, 4.0, 6.0, adjusted=0.001), Interval(-9.0, -12.0, -6.0, adjusted=0.4)
    unclear, near = Interval(0.5, -1.0, 2.0, adjusted=0.4), Interval(0.1, -1.0, 1.2, adjusted=0.9)

    def rows(first: Interval, other: Interval) -> list[Summary]:
        return [Summary("m", "finetune", 10, (0,), mri=first), Summary("m", "sam", 10, (0,), mri=other)]

    said = unmarked_reason(rows(unclear, far))
    assert "As finetune on m is not distinguishable from 0, all other rows together are tested at 1 %" in said
    assert unmarked_reason(rows(clear, far)) == "", "the other row was tested"
    assert unmarked_reason(rows(unclear, near)) == "", "its own interval says it"
    assert unmarked_reason([]) == ""


@pytest.mark.parametrize(("width", "blocks", "whole"), [(80, 1, True), (44, 1, False), (40, 2, True), (30, 2, False)])
def test_names_are_cut_only_where_they_would_need_another_block(width: int, blocks: int, whole: bool) -> None:
    name = "resnet_small mean"
    lines = [line.plain for line in grid("method", [name], ["one" * 4, "two" * 4], [[Text("1"), Text("2")]], width)]
    assert sum(line.startswith("method") for line in lines) == blocks
    assert all(len(line) <= width for line in lines)
    assert any(name in line for line in lines) == whole
