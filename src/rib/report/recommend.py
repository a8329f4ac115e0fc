"""The output of `rib recommend`, as text and as JSON types."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from rib.results.recommendation import Advice, Candidate
from rib.results.words import signed, spanned
from rib.text.wording import about

ROOMY = 100
"""Minimum number of columns that shows the tuned set with the lowest RI."""


def advice_lines(advice: Advice, width: int = 80) -> Lines:
    """The advice for a terminal with `width` columns."""
    reach = [Text(line, style="dim") for line in advice.reach]
    reach += [Text(f"data: {caveat}", style="yellow") for caveat in advice.caveats]
    if advice.declined:
        reasons = [Text(f"  {reason}") for reason in advice.declined]
        head = Text(f"No recommendation for {advice.images:,} {advice.noun}: the evidence is too thin.", style="bold")
        return Lines(head, *reasons, Text(), *reach)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("  model and method", overflow="fold")
    roomy = width >= ROOMY
    apart = roomy and any(item.absent for item in advice.candidates)
    more = [*(["present, absent"] if apart else []), *(["lowest RI of a set"] if roomy else [])]
    for column in ("own %", "OOD %", "mRI, points [95 %]", *more):
        table.add_column(column, justify="right", no_wrap=True)
    for item in advice.candidates:
        parts = [signed(part.value) if part else "–" for part in (item.present, item.absent)]
        low = f"{signed(item.worst[1])} {item.worst[0]}" if item.worst else "–"
        table.add_row(
            f"{'●' if item.front else '○'} {item.model} {item.method}",
            f"{item.own.value:z.1f} [{item.own.low:z.1f}, {item.own.high:z.1f}]",
            f"{item.ood.value:z.1f}",
            spanned(item.mri) if item.worst else "0",
            *([", ".join(parts) if item.absent else "–"] if apart else []),
            *([low] if roomy else []),
            style="bold" if item.front else "dim",
        )
    asked = f"For {advice.images:,} {advice.noun}" + (
        f" (measured at {advice.measured_at:,})" if advice.measured_at != advice.images else ""
    )
    key = (
        "● on the front: nothing has both a higher own and a higher OOD accuracy. ○ behind it, but not "
        "distinguishably. own: accuracy on unseen images of the set tuned on. OOD: on the other sets after tuning; "
        "mRI: its change, which orders the methods of one model as OOD does."
    )
    if apart:
        key += " present, absent: mRI over images whose class was tuned on, and over those whose class was not."
    if worst_part := _worst_absent(advice):
        reach.append(Text(worst_part, style="dim"))
    return Lines(
        Text(f"{asked}: accuracy downstream against robustness kept", style="bold"),
        *(Text(sentence) for sentence in advised(advice)),
        Text(),
        table,
        Text(),
        Text(f"{advice.beaten} more were compared and are beaten.", style="dim"),
        Text(about(advice.noun, key), style="dim"),
        *reach,
    )


def advised(advice: Advice) -> list[str]:
    """The recommendation in sentences: the candidate with the highest own accuracy, and the one that keeps most
    elsewhere."""
    front = [item for item in advice.candidates if item.front]
    if not front:
        return []
    first, kept = max(front, key=lambda item: item.own.value), max(front, key=lambda item: item.ood.value)
    said = [f"Most accurate on the set tuned on: {_in_words(first)}."]
    return said if kept is first else [*said, f"Most accurate on the other sets: {_in_words(kept)}."]


def _in_words(item: Candidate) -> str:
    name = f"{item.model} {item.method}"
    if item.gain is None:
        return f"{name}, without tuning: {item.own.value:z.1f} % there, {item.ood.value:z.1f} % on the others"
    return (
        f"{name}, {item.own.value:z.1f} %: {spanned(item.gain)} points over {item.model} pretrained, and "
        f"{spanned(item.mri)} points on the other sets, to {item.ood.value:z.1f} %"
    )


def _worst_absent(advice: Advice) -> str:
    """The candidate on the front with the largest loss on classes that were not in the tuning set; empty without
    such classes."""
    known = [(item.absent.value, item) for item in advice.candidates if item.front and item.absent]
    if not known:
        return ""
    value, item = min(known, key=lambda pair: pair[0])
    return (
        f"Some sets tuned on lack classes of the others: on {advice.noun} of those classes, the front changes by "
        f"{signed(value)} points at worst ({item.model} {item.method})."
    )


def advice_json(advice: Advice) -> dict[str, Any]:
    """Advice as JSON types."""
    return asdict(advice)
