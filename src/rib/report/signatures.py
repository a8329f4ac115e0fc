"""The signs of lost robustness for a terminal, one line per model."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from rib.analysis.signatures import Signature
from rib.report.grid import ABSENT, grid, wrapped
from rib.results.inside.signatures import HEADS, VERDICTS, SignatureRow, measured, signature_rows, telling
from rib.results.results import Results
from rib.results.words import size_name

SIGNS = {
    "present": ("●", "red"),
    "suggested": ("◐", "yellow"),
    "absent": ("○", ""),
    "unknown": (ABSENT, "dim"),
}
"""Mark and colour of each verdict on a signature."""

SHORTER = {"late-layer shift": "late shift", "negative RI": "neg. RI", "reference loss": "ref. loss"}
"""Heads of columns for a narrow terminal."""


def signature_lines(results: Results, width: int) -> list[Text]:
    """The signs of lost robustness, one line per model; empty without evidence."""
    rows = telling(results, signature_rows(results))
    if not rows:
        return []
    made = {(row.method, row.size) for row in rows}
    names = [(row.model if len(made) == 1 else f"{row.model} {row.method}") + _collapsed(row) for row in rows]
    what = f": {rows[0].method}, n = {size_name(rows[0].size)}" if len(made) == 1 else ""
    shown = [at for at, name in enumerate(HEADS) if name != "statistics" or any(row.signs[at].evidence for row in rows)]
    cells = [[_sign(row.signs[at]) for at in shown] for row in rows]
    used = {row.signs[at].verdict for row in rows for at in shown}
    legend = ", ".join(f"{mark} {VERDICTS[verdict]}" for verdict, (mark, _) in SIGNS.items() if verdict in used)
    units = "Drop, RI, loss and statistics in points; CKA, mean over layers; share of the change in late layers."
    if "statistics" in [list(HEADS)[at] for at in shown]:
        units += " Statistics: their share of the change, mean over all analysed sets but the one tuned on."
    return [
        Text(),
        *wrapped(f"Signatures of lost robustness{what}", width, "bold"),
        *grid("", names, _heads([list(HEADS.values())[at] for at in shown], names, cells, width), cells, width),
        *wrapped(f"{legend}. {units}", width, "dim"),
    ]


def _heads(heads: list[str], names: list[str], cells: list[list[Text]], width: int) -> list[str]:
    """The heads of the columns, the longest in fewer letters if one line does not hold them all."""
    columns = zip(heads, *cells, strict=True)
    wide = max(map(cell_len, names)) + sum(2 + max(cell_len(str(each)) for each in column) for column in columns)
    return [SHORTER.get(head, head) for head in heads] if wide > width else heads


def _collapsed(row: SignatureRow) -> str:
    return " (ended at chance)" if row.at_chance else " (diverged)" if row.diverged else ""


def _sign(sign: Signature) -> Text:
    mark, style = SIGNS[sign.verdict]
    return Text(f"{mark} {measured(sign, sign.evidence.value)}" if sign.evidence else mark, style=style)
