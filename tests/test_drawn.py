"""What figures show by their strokes: dotted bars lack seeds, bold numbers are distinguishable from 0 among all."""

from __future__ import annotations

import ast
import io
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fontTools.subset import Options
from fontTools.ttLib import TTFont
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

import rib
from handmade import CLASSES, handmade
from rib.metrics.intervals import Interval
from rib.report.answer_figures import _draw_map, _line_figure
from rib.report.answer_page import figures
from rib.report.cell_texts import CellText, CellTexts
from rib.report.figure_data import figure_data
from rib.report.plotting import in_style, new, write_drawn
from rib.report.raster import has_renderer, lean_fonts
from rib.results.answer import Answer, AnswerLine, AnswerPanel
from rib.steps import Predict
from rib.suite.load import SHIPPED, load_suite

WHOLE = Interval(-1.0, -2.0, 0.0, "images and seeds")
ONE_SEED = Interval(-3.0, -4.0, -2.0, "images only", ("tuning seeds",))
NO_BARS = Interval(-3.0, -3.0, -3.0, "nothing", ("tuning seeds",))


def answer(*spans: Interval | None, surface: bool = False) -> Answer:
    lines = (AnswerLine("small", 0, 0, spans), AnswerLine("large", 1, 0, (WHOLE,) * len(spans)))
    panel = AnswerPanel("resnet", "images", tuple(map(str, range(len(spans)))), lines)
    return Answer("size", "suite", "Is it so?", "It is.", "mRI, points", (), (panel,), surface)


def test_a_study_draws_intervals_that_lack_seeds_dotted() -> None:
    figure = _line_figure(answer(WHOLE, None, ONE_SEED, NO_BARS))
    bars = [each for each in figure.axes[0].collections if isinstance(each, LineCollection)]
    solid = [dash is None for _, dash in cast(Any, bars[0]).get_linestyle()]
    assert solid == [True, False, False]
    assert all(dash is None for _, dash in cast(Any, bars[1]).get_linestyle())
    assert any("dotted" in text.get_text() for text in figure.texts)
    whole = _line_figure(answer(WHOLE, None))
    assert not any("dotted" in text.get_text() for text in whole.texts)


def test_a_map_marks_them_and_the_page_knows_them() -> None:
    found = answer(WHOLE, ONE_SEED, surface=True)
    axes = new(3, 3).subplots()
    _draw_map(axes, found.panels[0], 5)
    assert [text.get_text().endswith("°") for text in axes.texts] == [False, True, False, False]
    assert figures(found)["panels"][0]["lines"][0]["lacking"] == [False, True]
    assert figures(answer(None, ONE_SEED))["panels"][0]["lines"][0]["lacking"] == [False, True]


def test_bold_numbers_of_a_matrix_are_those_without_the_mark_in_its_table(tmp_path: Path) -> None:
    """Also where an interval excludes 0 by itself and not among all."""

    def skill(step: Predict) -> dict[str, float]:
        """6 of 400 images become wrong (p = 0.01 by itself), 40, or none."""
        drop = {"one": 6.0, "two": 40.0, "three": 0.0}
        return dict.fromkeys(CLASSES, 60.0) | {"a": 60.0 - (drop[step.fit.tuned_on.name] if step.fit.tuned_on else 0)}

    sets = dict.fromkeys(("clean", "one", "two", "three"), CLASSES)
    found = handmade(tmp_path, skill, sets=sets, methods=["finetune"])
    matrix = figure_data(found).matrices[0]
    changes = {(each.tuned_on, each.tested_on): each.change for each in found.changes if each.method == "finetune"}
    names = [*matrix.downstream, *matrix.others]
    for tuned_on, line in zip(matrix.tuned_on, matrix.marked, strict=True):
        assert line == [changes[tuned_on, name].marked for name in names]
    assert matrix.ri_marked == [each is not None and each.marked for each in found.summaries[1].ri.values()]
    alone = [span.low > 0 or span.high < 0 for line in matrix.cells for span in line if span]
    marked = [flag for line in matrix.marked for flag in line]
    assert sum(alone) > sum(marked) > 0


EXAMPLES = Path(__file__).parents[1] / "examples"
FEWER = {
    "digits-rates": "looks for a learning rate on held-out images and compares no methods",
    "digits-studies": "two, as each of its points is a mean over three pretraining seeds too",
    "fields-rates": "looks for a learning rate on held-out texts and compares no methods",
    "fields-studies": "two, as each of its points is a mean over three pretraining seeds too",
    "photos-settings": "compares settings on held-out images and compares no methods",
}
"""Shipped suites with fewer than three seeds, and why."""


@pytest.mark.parametrize(
    "name", [path.stem for path in SHIPPED.glob("*.toml")] + ["pacs.toml", "imagenet-options.toml"]
)
def test_what_is_shipped_has_three_seeds(name: str) -> None:
    if name in ("digits-pretrain", "fields-pretrain"):
        pytest.skip("it tunes nothing")
    suite = load_suite(EXAMPLES / name if name.endswith(".toml") else name)
    assert (len(suite.seeds) >= 3) == (name not in FEWER)


def triples(tree: ast.AST) -> Iterator[ast.expr]:
    """Tuples and lists of an interval's three numbers, except those that a comprehension runs over to print them."""
    printed = {id(part.iter) for node in ast.walk(tree) for part in getattr(node, "generators", [])}
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List) and id(node) not in printed:
            names = [one.attr for one in node.elts if isinstance(one, ast.Attribute)]
            if names == ["value", "low", "high"]:
                yield node


def test_an_interval_stays_an_interval_up_to_the_page() -> None:
    assert [ast.unparse(one) for one in triples(ast.parse("spans = [(x.value, x.low, x.high) for x in y]"))] != []
    package = Path(rib.__file__).parent
    assert {file.name for file in package.rglob("*.py") if list(triples(ast.parse(file.read_text("utf-8"))))} == set()


# -- files -------------------------------------------------------------------------------------------------------------


def cells(*texts: CellText) -> Figure:
    """A figure of 2 x 1 in with these texts only, on axes from (0, 0) to (2, 1)."""
    with in_style():
        figure = Figure(figsize=(2, 1))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 2), ylim=(0, 1))
    axes.set_axis_off()
    axes.add_artist(CellTexts(texts))
    return figure


def pixels(folder: Path, figure: Figure) -> np.ndarray[Any, Any]:
    (path,) = write_drawn([("cells", figure)], folder, ("png",))
    return np.asarray(Image.open(path).convert("L")).astype(int)


renderers = pytest.mark.parametrize("renderer", ["pypdfium2", "matplotlib"])


def only(renderer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if renderer == "matplotlib":
        monkeypatch.setattr("rib.report.plotting.has_renderer", lambda: False)
    else:
        pytest.importorskip("pypdfium2")


@renderers
@pytest.mark.parametrize("bold", [False, True])
def test_the_number_of_a_cell_is_in_its_centre(
    renderer: str, bold: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(renderer, monkeypatch)
    ink = np.argwhere(pixels(tmp_path, cells(CellText(0.5, 0.75, "0800", bold=bold))) < 128)
    assert len(ink) > 100
    row, column = (ink.min(axis=0) + ink.max(axis=0)) / 2
    assert (row, column) == (pytest.approx(50, abs=1.5), pytest.approx(100, abs=1.5))


@renderers
def test_numbers_are_bold_and_white_where_they_say_so(
    renderer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(renderer, monkeypatch)
    plain, bold, white = (
        (255 - pixels(tmp_path, cells(CellText(1, 0.5, "+1.5", colour, bold=bold)))).sum()
        for colour, bold in (("black", False), ("black", True), ("white", False))
    )
    assert bold > 1.15 * plain > 0
    assert white == 0


@renderers
def test_equal_figures_are_equal_files(renderer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(renderer, monkeypatch)
    texts = [CellText(x / 4, 0.5, f"{x:+.1f}") for x in range(8)]
    once, again = (write_drawn([("a", cells(*texts))], tmp_path / name) for name in ("once", "again"))
    assert [path.name for path in once] == ["a.pdf", "a.png"]
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    with Image.open(once[1]) as found:
        assert found.size == (400, 200)
        assert found.info["dpi"] == pytest.approx((200, 200), abs=0.01)


def test_numbers_of_a_pdf_can_be_searched_and_its_fonts_are_embedded_without_layout_tables(tmp_path: Path) -> None:
    pypdfium2 = pytest.importorskip("pypdfium2")
    (path,) = write_drawn(
        [("a", cells(CellText(0.5, 0.5, "−1.2"), CellText(1.5, 0.5, "miss.", bold=True)))], tmp_path, ("pdf",)
    )
    page = pypdfium2.PdfDocument(path)[0].get_textpage().get_text_range()
    assert sorted(page.split()) == ["miss.", "−1.2"]
    fonts = [
        zlib.decompress(found)
        for found in re.findall(rb"/Length1 .*?stream\n(.*?)\nendstream", path.read_bytes(), re.DOTALL)
    ]
    tables = [set(TTFont(io.BytesIO(font)).keys()) for font in fonts]
    assert len(tables) == 2
    assert all({"glyf", "hmtx"} <= found and not found & {"GPOS", "GSUB", "GDEF", "kern"} for found in tables)


def test_other_uses_of_fonttools_keep_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(Options().drop_tables)
    with lean_fonts():
        assert {"GPOS", "kern"} <= {*Options().drop_tables}
    assert Options().drop_tables == before
    monkeypatch.delattr(Options, "_drop_tables_default")
    with lean_fonts():
        assert not hasattr(Options, "_drop_tables_default")


@pytest.mark.parametrize("fault", [None, ImportError, OSError])  # OSError: its library does not load on this machine
def test_a_png_is_drawn_by_matplotlib_where_pypdfium2_does_not_run(
    fault: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "pypdfium2" and fault:
                raise fault

    if fault is None:
        pytest.importorskip("pypdfium2")
    monkeypatch.delitem(sys.modules, "pypdfium2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert has_renderer.__wrapped__() == (fault is None)
