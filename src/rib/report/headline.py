"""The headline table for a terminal: model, method, and the robustness that was kept."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Lines
from rich.text import Text

from rib.metrics.intervals import Interval
from rib.report.adapted import adapted_lines
from rib.report.grid import ABSENT, MISSING, cut, first_line, grid, wrapped
from rib.report.matched_gain import matched_lines
from rib.report.merges import merge_lines
from rib.report.signatures import signature_lines
from rib.report.views import unstated
from rib.report.worst_group import group_lines
from rib.results.failures import alike
from rib.results.finding import claim
from rib.results.results import Results
from rib.results.rows import Group, Summary, folded_rows, main_size, unmarked_reason
from rib.results.words import ONE_SEED, extent, holes, lacking, marks, ordered, signed, size_name, spanned
from rib.text.wording import about

LEGEND = (
    "OOD: mean accuracy on the downstream sets not tuned on, before → after. mRI: its change in percentage points. "
    "{learned} reference: accuracy on {reference}. All are means over the "
    "sets tuned on{seeds}.{n} [ ]: 95 % interval over source images{seeds}, paired. "
    "Marks test all rows together."
)
LEARNED = {
    "own": "own: accuracy on unseen images of the set tuned on.",
    "seen": "seen: accuracy on the very images tuned on, which may be learned by heart.",
}
MARKS = {
    "∅": "gained distinguishably less on the set tuned on than 90 % of the most that a method gained there",
    "✗": "a training ended at chance or diverged",
    "≈": "mRI not distinguishable from 0 among all rows, even where its own interval excludes 0",
    "▲": "mRI distinguishably above finetune's",
    "▼": "mRI distinguishably below finetune's",
}


# -- the headline table --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column of text. If columns do not fit, those with the highest `rank` are dropped first."""

    rank: int
    head: str
    cells: list[Text]
    left: bool = False

    @property
    def width(self) -> int:
        return max(cell_len(self.head), *(cell.cell_len for cell in self.cells))


def headline(results: Results, console_width: int = 80, every: bool = False) -> Lines:
    """The headline table, with its legend and the sections around it.

    Args:
        results: the results to show.
        console_width: columns of the terminal; the less important columns are dropped to fit.
        every: whether a long table shows all of its rows; else it counts rows that are like `finetune` (`folded_rows`).
    """
    rows = ordered(results)
    tuned = [row for group, row in rows if group[1] != "pretrained"]
    lines = [*wrapped(f"{results.suite.name} · {extent(results)}", console_width, "bold"), Text()]
    long = len(tuned) > LONG
    lines += _legend(results, tuned, console_width) if long else []
    lines += _tuned_lines(rows, tuned, console_width, every) if tuned else _start_lines(results, console_width)
    lines += matched_lines(results, console_width) + merge_lines(results, console_width)
    lines += adapted_lines(results, console_width)
    lines += signature_lines(results, console_width)
    lines += _class_lines(results, console_width) + group_lines(results, console_width, every)
    said = claim(results)
    lines += [Text(), *wrapped(said.lead, console_width, "bold"), *wrapped(said.detail, console_width, "")]
    lines += _legend(results, tuned, console_width) if not long else []
    lines += [*wrapped(results.suite.note, console_width, "dim")] if results.suite.note else []
    for caveat in results.caveats:
        lines += wrapped(f"data: {caveat}", console_width, "yellow")
    for words in unstated(results.plan):
        lines += wrapped(f"models: {words}", console_width, "yellow")
    lines += _trouble(results, console_width)
    return Lines(*(cut(line, console_width) for line in lines))


LONG = 24
"""Number of rows above which a table starts with its legend, repeats its head for every model, and folds rows that
are like `finetune`."""


def _tuned_lines(rows: list[tuple[Group, Summary]], tuned: list[Summary], width: int, every: bool) -> list[Text]:
    columns = _fitting(_columns(tuned), width)
    long = len(tuned) > LONG
    left_out = folded_rows(tuned) if long and not every else [False] * len(tuned)
    head = Text(_joined([_padded(Text(column.head), column) for column in columns]).plain, style="dim")
    lines, place, folded = [] if long else [head], 0, 0
    for (_, method, _), row in rows:
        if method == "pretrained":
            lines += _folded_line(folded) + ([Text(), head] if long else [])
            lines.append(_model_line(row, width))
            folded = 0
            continue
        folded += left_out[place]
        lines += [] if left_out[place] else [_joined([_padded(column.cells[place], column) for column in columns])]
        place += 1
    return lines + _folded_line(folded)


def _folded_line(count: int) -> list[Text]:
    rows = f"{count:,} more row" + ("s" if count > 1 else "")
    return [Text(f"  … {rows} not distinguishable from finetune's: --all", style="dim")] if count else []


def _model_line(row: Summary, width: int) -> Text:
    """The model's name and its accuracy before tuning."""
    line = Text.assemble((row.model, "bold"), ("   pretrained: OOD ", "dim"), _percent(row.ood_before))
    more = Text.assemble((", reference ", "dim"), _percent(row.reference_before))
    return line + more if line.cell_len + more.cell_len <= width else line


def _columns(rows: list[Summary]) -> list[_Column]:
    several = len({row.size for row in rows}) > 1
    compared = any(row.against_finetune for row in rows)
    learned = _learned(rows)
    columns = [
        _Column(0, "  method", [Text(f"  {row.method}") for row in rows], left=True),
        _Column(0, "n", [Text(size_name(row.size)) for row in rows]) if several else None,
        _Column(1, "OOD %", _pairs(rows, [(row.ood_before, row.ood_after) for row in rows]), left=True),
        _Column(0, _head(rows), _points(rows, [row.mri for row in rows]), left=True),
        _Column(0, "", [Text(marks(row).rjust(2)) for row in rows], left=True),
        _forest(rows),
        _Column(
            2,
            f"{learned} %",
            _pairs(rows, [(getattr(row, f"{learned}_before"), getattr(row, f"{learned}_after")) for row in rows]),
            left=True,
        ),
        _Column(
            4, "reference %", _pairs(rows, [(row.reference_before, row.reference_after) for row in rows]), left=True
        ),
        _Column(4, "present, absent", _by_classes(rows), left=True) if any(row.mri_absent for row in rows) else None,
        _Column(5, "mRI - finetune's", _points(rows, [row.against_finetune for row in rows]), left=True)
        if compared
        else None,
    ]
    return [column for column in columns if column is not None]


def _learned(rows: list[Summary]) -> str:
    """The name of the accuracy on the tuned set that is shown: on unseen images if there are any, else on the tuning
    images."""
    return "seen" if any(row.seen_after for row in rows) and not any(row.own_after for row in rows) else "own"


def _head(rows: list[Summary]) -> str:
    """Heading of the mRI column, with the mark of intervals that lack seeds if one of them does."""
    return f"mRI, points [95 %]{ONE_SEED if any(row.mri and row.mri.lacks for row in rows) else ''}"


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """Drop columns, least important first, until the rest fits."""
    for rank in range(max(column.rank for column in columns), 0, -1):
        if _total(columns) <= width:
            break
        columns = [column for column in columns if column.rank < rank]
    if (excess := _total(columns) - width) > 0:
        first = columns[0]
        room = max(first.width - excess, 10)
        cells = [_shortened(cell, room) for cell in first.cells]
        columns = [_Column(0, first.head, cells, left=True), *columns[1:]]
    return columns


def _total(columns: list[_Column]) -> int:
    return sum(column.width for column in columns) + 2 * (len(columns) - 1)


def _shortened(cell: Text, room: int) -> Text:
    return cell if cell.cell_len <= room else Text(set_cell_size(cell.plain, room - 1) + "…")


def _padded(cell: Text, column: _Column) -> Text:
    padding = " " * (column.width - cell.cell_len)
    return Text.assemble(cell, padding) if column.left else Text.assemble(padding, cell)


def _joined(cells: list[Text]) -> Text:
    line = Text("  ").join(cells)
    line.rstrip()
    return line


def _percent(interval: Interval | None) -> Text:
    return Text(f"{interval.value:z.1f} %") if interval else Text(MISSING, style="yellow")


def _pairs(rows: list[Summary], pairs: list[tuple[Interval | None, Interval | None]]) -> list[Text]:
    """before → after for every row, in percent."""
    width = max((len(f"{level.value:z.1f}") for pair in pairs for level in pair if level), default=0)

    def text(row: Summary, pair: tuple[Interval | None, Interval | None]) -> Text:
        if pair == (None, None):
            return _hole(row)
        return Text(" → ".join(f"{level.value:{width}.1f}" if level else MISSING for level in pair))

    return [text(row, pair) for row, pair in zip(rows, pairs, strict=True)]


def _points(rows: list[Summary], intervals: list[Interval | None]) -> list[Text]:
    """Points with their interval, for every row."""
    numbers = [number for span in intervals if span for number in (span.value, span.low, span.high)]
    width = max((len(signed(number)) for number in numbers), default=0)

    def text(row: Summary, span: Interval | None) -> Text:
        if span is None:
            return _hole(row)
        style = "" if not span.marked else "green" if span.value > 0 else "red"
        return Text(spanned(span, width), style=style)

    return [text(row, span) for row, span in zip(rows, intervals, strict=True)]


def _by_classes(rows: list[Summary]) -> list[Text]:
    """mRI over images of classes in the tuned set, and of other classes."""

    def text(row: Summary) -> Text:
        pair = (row.mri_present, row.mri_absent)
        return Text(", ".join(signed(part.value) if part else ABSENT for part in pair)) if any(pair) else _hole(row)

    return [text(row) for row in rows]


def _class_lines(results: Results, width: int) -> list[Text]:
    """RI by class presence, one line per model: `finetune`, or its first method. Empty if no tuned set lacks
    classes."""
    size = main_size(results.summaries)
    rows: dict[str, Summary] = {}
    for row in results.summaries:
        if (
            row.mri_present
            and row.mri_absent
            and row.size == size
            and (row.method == "finetune" or row.model not in rows)
        ):
            rows[row.model] = row
    said = [
        f"{row.model} {row.method}: present {signed(row.mri_present.value)}, absent {signed(row.mri_absent.value)}"
        for row in rows.values()
        if row.mri_present and row.mri_absent
    ]
    if not said:
        return []
    text = about(
        results.plan.noun,
        "Some sets tuned on lack classes. mRI on images whose class was tuned on (present) or was not (absent): ",
    )
    return [Text(), *wrapped(f"{text}{'; '.join(said)}.", width, "")]


def _hole(row: Summary) -> Text:
    return Text(MISSING, style="yellow") if row.missing else Text(ABSENT, style="dim")


FOREST = 17
"""Width of the drawn intervals, in columns."""


def _forest(rows: list[Summary]) -> _Column:
    """Every mRI as a dot on its interval, on one scale for all rows, with a mark at zero."""
    shown = [row.mri for row in rows if row.mri]
    low = min([0.0, *(interval.low for interval in shown)])
    high = max([0.0, *(interval.high for interval in shown)])
    scale = (FOREST - 1) / ((high - low) or 1.0)

    def at(value: float) -> int:
        return round((value - low) * scale)

    def draw(interval: Interval | None) -> Text:
        if interval is None:
            return Text()
        cells = [" "] * FOREST
        cells[at(0)] = "┊"
        for place in range(at(interval.low), at(interval.high) + 1):
            cells[place] = "┄" if interval.lacks else "─"
        cells[at(interval.value)] = "●"
        return Text("".join(cells))

    left, right = f"{low:.0f}" if at(0) > 2 else "", f"{high:.0f}" if FOREST - at(0) > 3 else ""
    head = [*left.ljust(FOREST)]
    head[FOREST - len(right) :] = right
    head[at(0)] = "0"
    return _Column(3, "".join(head), [draw(row.mri) for row in rows], left=True)


def _start_lines(results: Results, width: int) -> list[Text]:
    """For a suite that tunes nothing: accuracy of every pretrained model on every data set."""
    names = [results.set_name(name) for name in results.suite.tested]
    by_model: dict[str, dict[str, float | None]] = {}
    for score in results.scores:
        by_model.setdefault(score.model, {})[score.tested_on] = score.masked
    cells = [[_level(scores.get(name)) for name in names] for scores in by_model.values()]
    return grid("accuracy, %", list(by_model), names, cells, width)


def _level(value: float | None) -> Text:
    return Text(f"{value:z.1f}") if value is not None else Text(MISSING, style="yellow")


def _legend(results: Results, tuned: list[Summary], width: int) -> list[Text]:
    if not tuned:
        return wrapped("Accuracy over each data set's own classes.", width, "dim")
    several = len({seed for row in tuned for seed in row.seeds}) > 1
    noun = results.plan.noun
    text = about(noun, LEGEND).format(
        reference=results.set_name(results.suite.reference),
        seeds=" and seeds" if several else "",
        learned=about(noun, LEARNED[_learned(tuned)]),
        n=f" n: {noun} tuned on." if len({row.size for row in tuned}) > 1 else "",
    )
    used = {mark for row in tuned for mark in marks(row)}
    said = "; ".join(f"{mark} {meaning}" for mark, meaning in MARKS.items() if mark in used)
    lines = wrapped(text, width, "dim") + (wrapped(f"{said}.", width, "dim") if said else [])
    lines += wrapped(unmarked_reason(tuned), width, "dim")
    return lines + wrapped(lacking(row.mri for row in tuned), width, "dim")


MOST = 6
"""Maximum number of rows with missing predictions, and of failures, that a terminal names."""


def _trouble(results: Results, width: int) -> list[Text]:
    """Missing results and failures, the first few by name."""
    lines, found = [], holes(results)
    for name, missing in found[:MOST]:
        distinct = list(dict.fromkeys(missing))  # name a prediction once if it is missing at several seeds
        listed = ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")
        lines += wrapped(f"missing: {name}: {listed}", width, "yellow")
    if len(found) > MOST:
        count = sum(len(missing) for _, missing in found[MOST:])
        lines += wrapped(f"missing: {count:,} more predictions in {len(found) - MOST} more rows", width, "yellow")
    failures = alike(results.failures)
    for one in failures[:MOST]:
        lines += wrapped(f"failed: {one.who}: {first_line(one.reason)}", width, "red")
    if len(failures) > MOST:
        more = sum(len(one.titles) for one in failures[MOST:])
        lines += wrapped(f"failed: {more:,} more steps; --json and --html name them all", width, "red")
    return [Text(), *lines] if lines else []
