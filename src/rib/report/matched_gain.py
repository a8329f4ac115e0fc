"""Methods at the gain of plain fine-tuning, as text for a terminal."""

from __future__ import annotations

from rich.text import Text

from rib.metrics.intervals import Interval
from rib.plan import swept
from rib.report.grid import ABSENT, grid, wrapped
from rib.results.matched_gain import FINETUNE, MatchedGain, matched_gains
from rib.results.results import Results
from rib.results.words import signed, size_name, spanned
from rib.text.wording import about

HEADS = ("lost per point", "mRI there [95 %]", "- finetune's [95 %]", "")
LEGEND = (
    "lost per point: points of OOD accuracy lost for each point gained on the set tuned on, at the strongest setting. "
    "there: at finetune's gain, on straight lines between the strengths of a sweep; below the weakest, from "
    "the pretrained model. ▲ ▼: distinguishably above or below finetune when all rows are tested together (Holm); "
    "△ ▽: by itself only."
)


IDLE = (
    "Methods are not compared at the gain of finetune: it shows none that is distinguishable on unseen images of the "
    "set tuned on."
)


def matched_lines(results: Results, width: int) -> list[Text]:
    """Methods at the gain of `finetune`, for suites that sweep a strength."""
    rows = matched_gains(results)
    if not rows and swept(results.suite) and any(method == FINETUNE for _, method, _ in results.groups):
        return [Text(), *wrapped(about(results.plan.noun, IDLE), width, "dim")]
    if not any(row.field for row in rows):
        return []
    several = {field: len({getattr(row, field) for row in rows}) > 1 for field in ("model", "size")}
    names = [
        (f"{row.model} " if several["model"] else "")
        + row.method
        + (f" ({row.field})" if row.field else "")
        + (f" n={size_name(row.size)}" if several["size"] else "")
        for row in rows
    ]
    cells = [
        [
            _ratio(row),
            _span(row.mri),
            _span(row.against_finetune),
            Text(sign(row.against_finetune) or note(row)),
        ]
        for row in rows
    ]
    gains = sorted({signed(row.target.value) for row in rows}, key=float)
    there = gains[0] if len(gains) == 1 else f"{gains[0]} to {gains[-1]}"
    return [
        Text(),
        Text(f"At the gain of finetune ({there} points)", style="bold"),
        *grid("method", names, HEADS, cells, width),
        *wrapped(LEGEND, width, "dim"),
    ]


def note(row: MatchedGain) -> str:
    """Why there is no mRI at the target gain; empty if there is one."""
    most = signed(row.most.value) if row.most else "an unknown amount"
    if row.reach == "never":
        return f"never reaches it: gains {most} at most"
    if row.reach == "beyond":
        return f"gains {most} at its one strength: sweep it"
    if row.reach == "uncertain":
        return f"gains {most} at most: too uncertain"
    return "missing, or other seeds" if row.reach == "unknown" else ""


BRIEF = {
    "never": "gains less",
    "beyond": "gains more: sweep it",
    "uncertain": "too uncertain",
    "unknown": "missing, or other seeds",
}
"""Why there is no mRI at the target gain, by `reach`, where the method's own gain stands beside it."""


def sign(against: Interval | None) -> str:
    """▲ ▼ if a difference is distinguishable among all rows, △ ▽ if it is distinguishable only by itself."""
    if against is None or not against.tests or not against.excludes_zero:
        return ""
    above = against.value > 0
    return ("▲" if above else "▼") if against.marked else ("△" if above else "▽")


def _ratio(row: MatchedGain) -> Text:
    """The points lost per point gained, at the largest strength that has this ratio."""
    found = [point.lost_per_point for point in row.points if point.lost_per_point]
    return Text(f"{found[-1].value + 0.0:z.2f}") if found else Text(ABSENT, style="dim")


def _span(interval: Interval | None) -> Text:
    return Text(spanned(interval)) if interval else Text(ABSENT, style="dim")
