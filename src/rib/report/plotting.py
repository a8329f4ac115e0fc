"""Drawing: code that the figures for papers share. It imports matplotlib only when it draws."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.errors import UserError
from rib.files import written_aside
from rib.identity import digest
from rib.metrics.intervals import Interval
from rib.report.figure_data import Style
from rib.report.raster import DOTS, has_renderer, lean_fonts, png_of
from rib.report.targets import require_kind
from rib.results.inside.averages import Spread
from rib.text.names import folded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^",
    "cross": "P", "x": "X", "triangle-down": "v", "star": "*",
}  # fmt: skip
"""Marker shapes, by matplotlib's names."""


def write_drawn(
    drawn: Iterable[tuple[str, Figure]],
    folder: Path,
    formats: Sequence[str] = ("pdf", "png"),
    wrote: Callable[[Path], None] = lambda _: None,
) -> list[Path]:
    """Write figures into files.

    Args:
        drawn: names and figures; iterating draws each in the common style.
        folder: target folder; created if missing.
        formats: file suffixes that matplotlib knows.
        wrote: called with each file.

    Raises:
        UserError: matplotlib is not installed, or the folder is not writable.
    """
    written: list[Path] = []
    with in_style():
        for name, figure in apart(drawn):
            for path in _save(figure, folder, name, formats):
                written.append(path)
                wrote(path)
    return written


@contextmanager
def in_style() -> Iterator[None]:
    """Draw in the common style. Raises UserError if matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise UserError(
            "figures need matplotlib, which is not installed", remedy="pip install 'rib-benchmark[figures]'"
        ) from None
    style: dict[Any, Any] = {
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.parse_math": False,  # names may contain a dollar sign
        "pdf.fonttype": 42,
        "ps.fonttype": 42,  # matplotlib 3.11 reads it for PDF too: with 3, a minus sign gets a font of its own
        "svg.hashsalt": "rib",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "figure.autolayout": False,
        "figure.constrained_layout.use": False,
    }
    with mpl.rc_context(style):
        yield


def apart(drawn: Iterable[tuple[str, Figure]]) -> Iterator[tuple[str, Figure]]:
    """The figures, with a number after any name that an earlier one has on a file system that ignores case."""
    taken: set[str] = set()
    for name, figure in drawn:
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        free = next(one for one in names if folded(one) not in taken)
        taken.add(folded(free))
        yield free, figure


STARTS = {"pdf": b"%pdf-", "png": b"\x89png"}
"""First bytes of files by suffix, in lower case."""


def _save(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> Iterable[Path]:
    layout = figure.get_layout_engine()
    if layout is not None:  # once for all formats, not once per format
        layout.execute(figure)
        figure.set_layout_engine(None)  # with "none", matplotlib would draw each file twice
    page = b""
    for suffix in formats:
        path = folder / f"{name}.{suffix}"
        require_kind(path, STARTS.get(suffix, b""))
        with written_aside(path) as aside:
            if suffix == "png" and has_renderer():
                page = page or _drawn(figure, "pdf")
                aside.write_bytes(png_of(page))
            elif suffix == "pdf":
                page = page or _drawn(figure, "pdf")
                aside.write_bytes(page)
            else:
                aside.write_bytes(_drawn(figure, suffix))
        yield path


def _drawn(figure: Figure, suffix: str) -> bytes:
    """The figure as a file of this kind, without a date, so that equal results give equal files."""
    made = io.BytesIO()
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix, {})
    with lean_fonts():
        figure.savefig(made, format=suffix, dpi=DOTS, metadata=metadata)
    return made.getvalue()


LONGEST_NAME = 150
"""Maximum bytes of a figure's name. File systems allow 255, minus those of a temporary suffix."""


def slug(name: str) -> str:
    """A valid file name; a long name is cut and gets a digest of the whole name."""
    plain = re.sub(r"[^\w.-]+", "-", name.replace(",", "")).lstrip(".")
    if len(encoded := plain.encode()) <= LONGEST_NAME:
        return plain
    return f"{encoded[:LONGEST_NAME].decode(errors='ignore')}-{digest(name.encode())[:8]}"


def new(width: float, height: float) -> Figure:
    """A figure of this size in inches, outside matplotlib's global state."""
    from matplotlib.figure import Figure as New

    return New(figsize=(width, height), layout="constrained")


def panels(count: int, width: float, height: float, most: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most `most` per row, each of this size in inches."""
    columns = min(count, most)
    lines = -(-count // columns)
    figure = new(width * columns, height * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def outer(place: int, count: int, most: int = 3) -> tuple[bool, bool]:
    """Whether a panel of `panels` is the first of its row, and the last of its column: only these name their ticks."""
    return place % most == 0, place + most >= count


def whiskers(spans: Iterable[Interval | Spread]) -> tuple[list[float], list[list[float]]]:
    """Values, and their distances to the low and high ends, in the form that matplotlib expects."""
    listed = list(spans)
    below = [max(span.value - span.low, 0.0) for span in listed]
    above = [max(span.high - span.value, 0.0) for span in listed]
    return [span.value for span in listed], [below, above]


def dotted(figure: Figure) -> Figure:
    """The figure with dotted bars and a line that gives the reason: the intervals do not cover the noise of seeds."""
    from matplotlib.container import ErrorbarContainer

    for axes in figure.axes:
        for drawn in axes.containers:
            if isinstance(drawn, ErrorbarContainer):
                for bars in drawn[2]:
                    bars.set_linestyle(":")
    return explained(figure)


def explained(figure: Figure) -> Figure:
    """The figure with a line that explains dotted bars."""
    figure.text(0, 0, "dotted: one draw of seeds, whose noise the 95 % interval lacks", fontsize=5, va="bottom")
    return figure


def legend(figure: Figure, styles: Sequence[Style], shape: str | None = None) -> None:
    """A legend above all panels, as wide as the figure."""
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color=style.colour, marker=shape or MARKERS[style.symbol], ls="", ms=5) for style in styles]
    longest = max(len(style.name) for style in styles)
    columns = max(1, int(figure.get_figwidth() / (0.45 + 0.07 * longest)))
    figure.legend(
        marks, [style.name for style in styles], loc="outside upper center", ncols=min(columns, len(styles)),
        handletextpad=0.2, columnspacing=1.0,
    )  # fmt: skip
