"""Tables: what a terminal shows of the results, and the same as plain values."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group as Lines
from rich.text import Text

from rib.analysis.signatures import Signature
from rib.metrics.estimates import Interval
from rib.metrics.intervals import LEVEL
from rib.report.claim import claim, finding
from rib.report.failures import alike
from rib.report.finding import (
    ONE_SEED,
    extent,
    holes,
    lacking,
    main_size,
    marks,
    ordered,
    signed,
    size_name,
    spanned,
)
from rib.report.inside import inside
from rib.report.inside.signs import HEADS, VERDICTS, SignatureRow, measured, signature_rows, telling
from rib.report.results import Change, Group, Results, Summary
from rib.report.rows import class_lists, rows_json
from rib.report.views import unstated, view_json

MISSING = "missing"
ABSENT = "–"
"""Stands where nothing is to be expected, as opposed to missing."""

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
    "✗": "a training ended at chance",
    "≈": "mRI not distinguishable from 0, though its interval may just exclude 0",
    "▲": "mRI distinguishably above finetune's",
    "▼": "mRI distinguishably below finetune's",
}


# -- the headline table --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """A column of text; the less its `rank`, the later it is dropped."""

    rank: int
    head: str
    cells: list[Text]
    left: bool = False

    @property
    def width(self) -> int:
        return max(cell_len(self.head), *(cell.cell_len for cell in self.cells))


def headline(results: Results, console_width: int = 80) -> Lines:
    """Which model, which method, how much robustness was kept.

    Args:
        results: what to show.
        console_width: columns there are; the less important ones are dropped to fit.
    """
    rows = ordered(results)
    tuned = [row for group, row in rows if group[1] != "pretrained"]
    lines = [*wrapped(f"{results.suite.name} · {extent(results)}", console_width, "bold"), Text()]
    lines += _tuned_lines(rows, tuned, console_width) if tuned else _start_lines(results, console_width)
    lines += _signature_lines(results, console_width)
    lines += _class_lines(results, console_width)
    said = claim(results)
    lines += [Text(), *wrapped(said.lead, console_width, "bold"), *wrapped(said.detail, console_width, "")]
    lines += _legend(results, tuned, console_width)
    lines += [*wrapped(results.suite.note, console_width, "dim")] if results.suite.note else []
    for caveat in results.caveats:
        lines += wrapped(f"data: {caveat}", console_width, "yellow")
    for words in unstated(results.plan):
        lines += wrapped(f"models: {words}", console_width, "yellow")
    lines += _trouble(results, console_width)
    return Lines(*(cut(line, console_width) for line in lines))


def _tuned_lines(rows: list[tuple[Group, Summary]], tuned: list[Summary], width: int) -> list[Text]:
    columns = _fitting(_columns(tuned), width)
    lines = [Text(_joined([_padded(Text(column.head), column) for column in columns]).plain, style="dim")]
    place = 0
    for (_, method, _), row in rows:
        if method == "pretrained":
            lines.append(_model_line(row, width))
            continue
        lines.append(_joined([_padded(column.cells[place], column) for column in columns]))
        place += 1
    return lines


def _model_line(row: Summary, width: int) -> Text:
    """The model's name and where it started."""
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
        _Column(0, "OOD %", _pairs(rows, [(row.ood_before, row.ood_after) for row in rows]), left=True),
        _Column(0, _head(rows), _points(rows, [row.mri for row in rows]), left=True),
        _Column(0, "", [Text(marks(row).rjust(2)) for row in rows], left=True),
        _forest(rows),
        _Column(
            1,
            f"{learned} %",
            _pairs(rows, [(getattr(row, f"{learned}_before"), getattr(row, f"{learned}_after")) for row in rows]),
            left=True,
        ),
        _Column(
            3, "reference %", _pairs(rows, [(row.reference_before, row.reference_after) for row in rows]), left=True
        ),
        _Column(3, "present, absent", _by_classes(rows), left=True) if any(row.mri_absent for row in rows) else None,
        _Column(4, "mRI - finetune's", _points(rows, [row.against_finetune for row in rows]), left=True)
        if compared
        else None,
    ]
    return [column for column in columns if column is not None]


def _learned(rows: list[Summary]) -> str:
    """Which accuracy on the set tuned on is shown: on unseen images where there are any, else on those tuned on."""
    return "seen" if any(row.seen_after for row in rows) and not any(row.own_after for row in rows) else "own"


def _head(rows: list[Summary]) -> str:
    """Head of the column of mRI; it has the mark of intervals that lack seeds, if one does."""
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
    return Text(f"{interval.value:.1f} %") if interval else Text(MISSING, style="yellow")


def _pairs(rows: list[Summary], pairs: list[tuple[Interval | None, Interval | None]]) -> list[Text]:
    """before → after of every row, in percent."""
    width = max((len(f"{level.value:.1f}") for pair in pairs for level in pair if level), default=0)

    def text(row: Summary, pair: tuple[Interval | None, Interval | None]) -> Text:
        if pair == (None, None):
            return _hole(row)
        return Text(" → ".join(f"{level.value:{width}.1f}" if level else MISSING for level in pair))

    return [text(row, pair) for row, pair in zip(rows, pairs, strict=True)]


def _points(rows: list[Summary], intervals: list[Interval | None]) -> list[Text]:
    """Points with their interval, of every row."""
    numbers = [number for span in intervals if span for number in (span.value, span.low, span.high)]
    width = max((len(signed(number)) for number in numbers), default=0)

    def text(row: Summary, span: Interval | None) -> Text:
        if span is None:
            return _hole(row)
        style = "" if not span.marked else "green" if span.value > 0 else "red"
        return Text(spanned(span, width), style=style)

    return [text(row, span) for row, span in zip(rows, intervals, strict=True)]


def _by_classes(rows: list[Summary]) -> list[Text]:
    """mRI over images of the classes tuned on, and of other classes."""

    def text(row: Summary) -> Text:
        pair = (row.mri_present, row.mri_absent)
        return Text(", ".join(signed(part.value) if part else ABSENT for part in pair)) if any(pair) else _hole(row)

    return [text(row) for row in rows]


def _class_lines(results: Results, width: int) -> list[Text]:
    """Results by class presence if tuned sets lack classes, one line per model: `finetune`, or its first method."""
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
    text = "Some sets tuned on lack classes. mRI on images whose class was tuned on (present) or was not (absent): "
    return [Text(), *wrapped(f"{text}{'; '.join(said)}.", width, "")]


def _hole(row: Summary) -> Text:
    return Text(MISSING, style="yellow") if row.missing else Text(ABSENT, style="dim")


FOREST = 17
"""Columns of the drawn intervals."""


def _forest(rows: list[Summary]) -> _Column:
    """Every mRI drawn as a dot on its interval, on one scale for all rows, zero marked."""
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
    return _Column(2, "".join(head), [draw(row.mri) for row in rows], left=True)


SIGNS = {
    "present": ("●", "red"),
    "suggested": ("◐", "yellow"),
    "absent": ("○", ""),
    "unknown": (ABSENT, "dim"),
}
"""Mark and colour of each verdict on a signature."""


def _signature_lines(results: Results, width: int) -> list[Text]:
    """The four signs of lost robustness, one line per model; nothing without evidence."""
    rows = telling(results, signature_rows(results))
    if not rows:
        return []
    made = {(row.method, row.size) for row in rows}
    names = [(row.model if len(made) == 1 else f"{row.model} {row.method}") + _collapsed(row) for row in rows]
    what = f": {rows[0].method}, n = {size_name(rows[0].size)}" if len(made) == 1 else ""
    cells = [[_sign(sign) for sign in row.signs] for row in rows]
    used = {sign.verdict for row in rows for sign in row.signs}
    legend = ", ".join(f"{mark} {VERDICTS[verdict]}" for verdict, (mark, _) in SIGNS.items() if verdict in used)
    units = "Drop and RI in points; CKA, mean over layers; share of the change in late layers."
    return [
        Text(),
        *wrapped(f"Signatures of lost robustness{what}", width, "bold"),
        *grid("", names, list(HEADS.values()), cells, width),
        *wrapped(f"{legend}. {units}", width, "dim"),
    ]


def _collapsed(row: SignatureRow) -> str:
    return " (ended at chance)" if row.at_chance else ""


def _sign(sign: Signature) -> Text:
    mark, style = SIGNS[sign.verdict]
    return Text(f"{mark} {measured(sign, sign.evidence.value)}" if sign.evidence else mark, style=style)


def _start_lines(results: Results, width: int) -> list[Text]:
    """For a suite that tunes nothing: accuracy of every pretrained model on every data set."""
    names = [results.set_name(name) for name in results.suite.tested]
    by_model: dict[str, dict[str, float | None]] = {}
    for score in results.scores:
        by_model.setdefault(score.model, {})[score.tested_on] = score.masked
    cells = [[_level(scores.get(name)) for name in names] for scores in by_model.values()]
    return grid("accuracy, %", list(by_model), names, cells, width)


def _level(value: float | None) -> Text:
    return Text(f"{value:.1f}") if value is not None else Text(MISSING, style="yellow")


def _legend(results: Results, tuned: list[Summary], width: int) -> list[Text]:
    if not tuned:
        return wrapped("Accuracy over each data set's own classes.", width, "dim")
    several = len({seed for row in tuned for seed in row.seeds}) > 1
    text = LEGEND.format(
        reference=results.set_name(results.suite.reference),
        seeds=" and seeds" if several else "",
        learned=LEARNED[_learned(tuned)],
        n=" n: images tuned on." if len({row.size for row in tuned}) > 1 else "",
    )
    used = {mark for row in tuned for mark in marks(row)}
    said = "; ".join(f"{mark} {meaning}" for mark, meaning in MARKS.items() if mark in used)
    lines = wrapped(text, width, "dim") + (wrapped(f"{said}.", width, "dim") if said else [])
    return lines + wrapped(lacking(row.mri for row in tuned), width, "dim")


MOST = 6
"""Rows of missing predictions, and of failures, that a terminal names one by one."""


def _trouble(results: Results, width: int) -> list[Text]:
    """Missing results and failures, the first few by name."""
    lines, found = [], holes(results)
    for name, missing in found[:MOST]:
        distinct = list(dict.fromkeys(missing))  # a prediction missing at several seeds is named once
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


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def wrapped(text: str, width: int, style: str) -> list[Text]:
    return [Text(line, style=style) for line in textwrap.wrap(text, max(width, 20), subsequent_indent="  ")]


def cut(line: Text, width: int) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    line.truncate(width, overflow="ellipsis")
    return line


# -- the change matrix ---------------------------------------------------------------------------------------------


def ri_matrix(results: Results, model: str, method: str, size: int | None = None, console_width: int = 80) -> Lines:
    """Change of accuracy in points by what was tuned on (rows) and tested on (columns), with RI.

    Args:
        results: what to show.
        model: its name, with or without its namespace.
        method: as the suite names it.
        size: images tuned on; None for all.
        console_width: columns there are.
    """
    model = results.model_name(results.suite.model_names.find(model, "model"))
    mine = [change for change in results.changes if (change.model, change.method, change.size) == (model, method, size)]
    row = next(row for row in results.summaries if (row.model, row.method, row.size) == (model, method, size))
    tuned_on = list(row.ri)
    tested_on = [results.set_name(name) for name in results.suite.tested]
    found = {(change.tuned_on, change.tested_on): change for change in mine}
    cells = [
        [*(_change(found.get((tuned, tested))) for tested in tested_on), _point(row.ri[tuned]) + Text(" ")]
        for tuned in tuned_on
    ]
    title = f"{row.model}, {method}, n = {size_name(size)}: change of accuracy in points"
    lines = grid("tuned on \\ tested on", tuned_on, [*tested_on, "RI"], cells, console_width)
    legend = (
        "( ): the set tuned on itself, not part of RI. ≈: not distinguishable from 0 when all cells are tested "
        "together (Holm), and RIs together."
    )
    lines = [Text(title, style="bold"), *lines, *wrapped(legend, console_width, "dim")]
    return Lines(*(cut(line, console_width) for line in lines))


def _change(change: Change | None) -> Text:
    if change is None:
        return Text(ABSENT, style="dim")
    if change.role == "own" and change.change:
        return Text(f"({signed(change.change.value)})")
    return _point(change.change) + Text(" ")


def _point(interval: Interval | None) -> Text:
    if interval is None:
        return Text(MISSING, style="yellow")
    style = "" if not interval.marked else "green" if interval.value > 0 else "red"
    return Text(("" if interval.marked else "≈") + signed(interval.value), style=style)


def grid(
    corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Text]], width: int
) -> list[Text]:
    """Text cells under their headings; columns that do not fit go into a further block below."""
    label = min(max(map(cell_len, [corner, *rows])), max(width // 3, 8))
    widths = [max(cell_len(head), *(line[at].cell_len for line in cells)) + 2 for at, head in enumerate(columns)]
    blocks: list[list[int]] = [[]]
    for at, size in enumerate(widths):
        if blocks[-1] and label + sum(widths[place] for place in blocks[-1]) + size > width:
            blocks.append([])
        blocks[-1].append(at)

    def line(name: Text, texts: Iterable[Text], block: list[int]) -> Text:
        padded = (Text(" " * (widths[at] - text.cell_len)) + text for at, text in zip(block, texts, strict=True))
        name.truncate(label, overflow="ellipsis", pad=True)
        return Text.assemble(name, *padded)

    lines = []
    for block in blocks:
        heads = [Text(columns[at], style="dim") for at in block]
        lines += [Text(), line(Text(corner, style="dim"), heads, block)]
        lines += [line(Text(name), [row[at] for at in block], block) for name, row in zip(rows, cells, strict=True)]
    return lines[1:]


# -- plain values --------------------------------------------------------------------------------------------------


def as_json(results: Results) -> dict[str, Any]:
    """Everything the report knows as JSON types. Accuracies in percent, RI in points, intervals as value, low, high."""
    return {
        "suite": results.suite.name,
        "finding": finding(results),
        "summaries": [asdict(row) for row in results.summaries],
        "changes": [asdict(change) for change in results.changes],
        "scores": [asdict(score) for score in results.scores],
        "notes": [asdict(note) for note in results.notes],
        "inside": asdict(inside(results)),
        "failures": dict(results.failures),
        "unfinished": [step.title for step in results.unfinished()],
        "caveats": list(results.caveats),
        "views": view_json(results.plan),
        "unstated": list(unstated(results.plan)),
        "classes": class_lists(results.plan),
        "tuning": rows_json(results.plan),
        "provenance": provenance(results),
    }


def provenance(results: Results) -> dict[str, Any]:
    """Provenance of the results: suite, versions, machines, data, cost, statistics."""
    made: Counter[tuple[tuple[str, str], ...]] = Counter(
        tuple(sorted((name, str(value)) for name, value in record.made_by.items()))
        for record in results.records.values()
    )
    cost = {
        kind: {"steps": count, "seconds": round(seconds, 3), "images": images}
        for kind, (count, seconds, images) in results.cost().items()
    }
    return {
        "suite": results.suite.model_dump(mode="json"),
        "made_by": [{"steps": count, **dict(fields)} for fields, count in made.most_common()],
        "steps": {"planned": len(results.plan.steps), "done": len(results.records)},
        "cost": cost,
        "data": [_data_row(results, name) for name in results.suite.tested],
        "bootstrap": {"draws": results.draws, "level": 0.95},
        "tests": {"level": LEVEL, "adjusted": "Holm, within each kind of mark of a table", "plain": "p, low, high"},
    }


def _data_row(results: Results, name: str) -> dict[str, Any]:
    data, test, tune = results.plan.world[name], results.plan.world.part(name, "test"), _tune_part(results, name)
    role = "reference" if name == results.suite.reference else "evaluate"
    return {
        "name": name,
        "role": "downstream" if name in results.suite.downstream else role,
        "family": data.family,
        "classes": len(data.classes),
        "tested_images": len(data.index("test")),
        "label_map": test.label_map.name,
        "fingerprint": test.fingerprint,
        "tuning_fingerprint": tune,
    }


def _tune_part(results: Results, name: str) -> str | None:
    """Fingerprint of the pool tuned on; None where nothing is, so that nothing is read for it."""
    tuned = any(run.tuned_on == name for run in results.plan.runs)
    return results.plan.world.part(name, "tune").fingerprint if tuned else None
