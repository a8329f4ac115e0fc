"""A study's answer as text: for a terminal, in sentences, and as JSON types."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rib.metrics.intervals import Interval
from rib.report.grid import ABSENT, cut, grid, wrapped
from rib.results.answer import RULE, Answer, AnswerPanel, AnswerVerdict
from rib.results.words import lacking, signed, spanned

STYLES: dict[AnswerVerdict, str] = {"shown": "green", "reversed": "red", "not shown": "", "incomplete": "yellow"}


def said(answer: Answer) -> str:
    """The verdicts in one sentence: of the whole claim, of its contrasts and of each family."""
    counts = Counter(one.verdict for one in answer.contrasts)
    order: tuple[AnswerVerdict, ...] = ("shown", "not shown", "reversed", "incomplete")
    parts = ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
    text = f"The claim is {answer.verdict}"
    if len(answer.contrasts) > 1:
        text += f": of its {len(answer.contrasts)} contrasts, {parts}"
    if len(answer.families) > 1:
        text += "; " + ", ".join(f"{family}: {found}" for family, found in answer.families.items())
    return text + "."


def answer_lines(answer: Answer, width: int = 80) -> Lines:
    """The question, the verdict, the contrasts and the points.

    Args:
        answer: the answer to show.
        width: columns of the terminal.
    """
    lines: list[RenderableType] = [
        *wrapped(f"{answer.study} · {answer.question}", width, "bold"),
        *wrapped(f"claim: {answer.claim}", width, "dim"),
        Text(),
        *wrapped(said(answer), width, f"bold {STYLES[answer.verdict]}".strip()),
        Text(),
        _contrasts(answer),
        Text(),
        *wrapped(f"{answer.measure}, ± half of the 95 % interval; ≈: it holds 0", width, "dim"),
    ]
    for panel in answer.panels:
        lines += [Text(), Text(panel.title, style="bold"), *_panel(panel, width)]
    lines.append(Text())
    for note in answer.notes:
        lines += wrapped(note, width, "")
    lines += wrapped(f"Rule: {RULE}", width, "dim")
    lines += wrapped(answer.power, width, "dim")
    lines += wrapped(lacking(one.interval for one in answer.contrasts), width, "dim")
    for limit in answer.limits:
        lines += wrapped(f"Limit: {limit}", width, "dim")
    for caveat in answer.caveats:
        lines += wrapped(f"data: {caveat}", width, "yellow")
    for hole in answer.missing:
        lines += wrapped(f"missing: {hole}", width, "yellow")
    return Lines(*(cut(line, width) if isinstance(line, Text) else line for line in lines))


def _contrasts(answer: Answer) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("models", no_wrap=True)
    table.add_column("contrast", overflow="fold")
    table.add_column("points [95 %]", no_wrap=True, justify="right")
    table.add_column("claimed", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in answer.contrasts:
        points = spanned(one.interval) if one.interval else "missing"
        side = "> 0" if one.claimed == "above" else "< 0"
        table.add_row(one.family, one.says, points, side, Text(one.verdict, style=STYLES[one.verdict]))
    return table


def _panel(panel: AnswerPanel, width: int) -> list[Text]:
    """A panel as a table with one row per line and one column per tick, or transposed if that is narrower."""
    names = [line.name for line in panel.lines]
    cells = [[_cell(span) for span in line.spans] for line in panel.lines]
    if len(panel.ticks) > max(len(names), 5):
        flipped = [list(column) for column in zip(*cells, strict=True)]
        return grid(panel.across, list(panel.ticks), names, flipped, width)
    return grid("", names, list(panel.ticks), cells, width)


def _cell(span: Interval | None) -> Text:
    if span is None:
        return Text(ABSENT, style="dim")
    style = "" if not span.excludes_zero else "green" if span.value > 0 else "red"
    return Text(f"{'' if span.excludes_zero else '≈'}{signed(span.value)} ±{half(span):z.1f}", style=style)


def half(span: Interval) -> float:
    """Half the length of an interval."""
    return (span.high - span.low) / 2


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as JSON types; intervals as value, low, high, in points."""
    contrasts = [asdict(one) | {"verdict": one.verdict, "alone": one.alone} for one in answer.contrasts]
    return asdict(answer) | {
        "verdict": answer.verdict,
        "families": answer.families,
        "said": said(answer),
        "rule": RULE,
        "contrasts": contrasts,
    }
