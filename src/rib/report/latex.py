"""Results as a LaTeX table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rib.files import write_aside
from rib.metrics.intervals import Interval
from rib.report.targets import LATEX_START, require_kind
from rib.results.results import Results
from rib.results.rows import Summary
from rib.results.words import extent, ordered, signed, size_name

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$",
    "≈": r"$\approx$", "−": "$-$", "·": r"$\cdot$", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def latex(text: str) -> str:
    """Escape text so that LaTeX prints it literally."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def write_latex(results: Results, path: Path) -> None:
    """Write the headline table for a paper; it needs \\usepackage{booktabs}, and longtable if it is long.

    Args:
        results: the results to write.
        path: the file.

    Raises:
        UserError: the file cannot be written.
    """
    require_kind(path, LATEX_START)
    write_aside(path, _latex_table(results).encode())


def _latex_table(results: Results) -> str:
    tuned = [row for _, row in ordered(results) if row.method != "pretrained"]
    shown = _Shown(
        sizes=len({row.size for row in tuned}) > 1,
        own=any(row.own_after for row in tuned),
        seen=any(row.seen_after for row in tuned),
        classes=any(row.mri_absent for row in tuned),
        lacking=any(row.mri and row.mri.lacks for row in tuned),
    )
    heads = shown.heads
    if len(tuned) > MOST_ROWS:
        return _long_table(results, shown)
    lines = [
        "% needs \\usepackage{booktabs}",
        *_comments(results),
        "\\begin{table}",
        "\\centering",
        "\\begin{tabular}{l" + "r" * (len(heads) - 1) + "}",
        "\\toprule",
        " & ".join(heads) + r" \\",
    ]
    lines += _latex_rows(results, len(heads), shown)
    lines += ["\\bottomrule", "\\end{tabular}", f"\\caption{{{_caption(results, shown)}}}"]
    lines += [f"\\label{{tab:{results.suite.name}}}", "\\end{table}", ""]
    return "\n".join(lines)


MOST_ROWS = 30
"""Maximum rows of tuned models on one page. A longer table is a longtable, which breaks across pages."""


def _comments(results: Results) -> list[str]:
    about = f"% {results.suite.name}, {extent(results)}".replace("\n", " ")
    return [about, *(f"% data: {' '.join(caveat.split())}" for caveat in results.caveats)]


def _long_table(results: Results, shown: _Shown) -> str:
    """The table over several pages, with its head on each."""
    width, head = len(shown.heads), " & ".join(shown.heads) + r" \\"
    caption = f"\\caption{{{_caption(results, shown)}}}\\label{{tab:{results.suite.name}}}"
    lines = ["% needs \\usepackage{booktabs,longtable}", *_comments(results)]
    lines += ["\\begin{longtable}{l" + "r" * (width - 1) + "}", caption + r" \\", "\\toprule", head, "\\endfirsthead"]
    lines += ["\\toprule", head, "\\endhead", "\\bottomrule", "\\endfoot"]
    return "\n".join([*lines, *_latex_rows(results, width, shown), "\\end{longtable}", ""])


@dataclass(frozen=True)
class _Shown:
    """Which optional columns a table has."""

    sizes: bool
    own: bool
    seen: bool
    classes: bool
    lacking: bool

    @property
    def heads(self) -> list[str]:
        """The headings, in LaTeX."""
        size, own = ["$n$"] if self.sizes else [], [*(["Own"] if self.own else []), *(["Seen"] if self.seen else [])]
        return [
            "Method",
            *size,
            "OOD",
            "mRI [95\\,\\%]" + ("$^{\\circ}$" if self.lacking else ""),
            *(["Present", "Absent"] if self.classes else []),
            *own,
            "Reference",
        ]


def _latex_rows(results: Results, width: int, shown: _Shown) -> Iterator[str]:
    for (_, method, _), row in ordered(results):
        if method == "pretrained":
            yield "\\midrule"
            yield f"\\multicolumn{{{width}}}{{l}}{{\\textbf{{{latex(row.model)}}}}} \\\\"
        cells = [
            latex(row.method),
            *([("" if method == "pretrained" else size_name(row.size))] if shown.sizes else []),
            _latex_level(row, row.ood_after),
            "" if method == "pretrained" else _latex_points(row),
            *([_latex_part(row.mri_present), _latex_part(row.mri_absent)] if shown.classes else []),
            *([_latex_level(row, row.own_after)] if shown.own else []),
            *([_latex_level(row, row.seen_after)] if shown.seen else []),
            _latex_level(row, row.reference_after),
        ]
        yield " & ".join(cells) + r" \\"


def _latex_level(row: Summary, interval: Interval | None) -> str:
    return f"{interval.value:z.1f}" if interval else "missing" if row.missing else "--"


def _latex_part(interval: Interval | None) -> str:
    return f"${signed(interval.value)}$" if interval else ""


def _latex_points(row: Summary) -> str:
    if not row.mri:
        return "missing"
    mark = "" if row.mri.marked else r"^{\approx}"
    lacks = r"$^{\circ}$" if row.mri.lacks else ""
    return f"${signed(row.mri.value)}{mark}$ [${signed(row.mri.low)}$, ${signed(row.mri.high)}$]{lacks}"


def _caption(results: Results, shown: _Shown) -> str:
    noun = results.plan.noun
    classes = f"Present, Absent: mRI on {noun} whose class was tuned on, and on the others. " if shown.classes else ""
    seen = f"Seen: accuracy (\\%) on the very {noun} tuned on. " if shown.seen else ""
    seeds = f" $^{{\\circ}}$: interval over {noun} only, from one seed." if shown.lacking else ""
    return (
        f"{latex(results.suite.name)}. OOD: mean accuracy (\\%) on the downstream sets not tuned on. mRI: its change "
        "against the pretrained model, in percentage points, with its paired 95\\,\\% interval; "
        f"$\\approx$: not distinguishable from 0. {classes}Own: accuracy (\\%) on unseen {noun} of the set tuned on. "
        f"{seen}Reference: accuracy (\\%) on {latex(results.set_name(results.suite.reference))}.{seeds}"
    )
