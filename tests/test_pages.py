"""The page in a browser: small, shown at once, no table cut off at any width, rows found by filters."""

from __future__ import annotations

import base64
import colorsys
import io
import re
import shlex
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import CLASSES, PATIENCE, Say, document, phrases, tiny, toml
from rib.cli.compare import _words
from rib.data.examples import Index
from rib.data.imagenet_classes import spoken, wnids
from rib.plan import make_plan
from rib.report import figure_data as figure_module
from rib.report import page as page_module
from rib.report.figure_data import GREY, METHOD_COLOURS, figure_data
from rib.report.page import packed, unpacked, write_page
from rib.report.samples import COUNT, LETTERS, SIDE, chosen_rows, samples
from rib.results.results import Results
from test_report import CHROMIUM, FLAGS, made_up

CUT_TABLES = """[...document.querySelectorAll('.scroll > table')].filter((table) =>
  table.parentElement.scrollWidth > table.parentElement.clientWidth + 1).map((table) => table.closest('section').id)"""


CHART = "(({top, bottom}) => [top, bottom])(document.querySelector('#mri .figure').getBoundingClientRect())"
"""Where the first chart begins and ends, in pixels from the top of the page."""


PANELS = """(() => {{
  const figure = document.querySelector('#{} .figure'), shown = figure._fullLayout;
  const panels = Object.keys(shown).filter((key) => /^xaxis\\d*$/.test(key)).length;
  const texts = [...figure.querySelectorAll('.yaxislayer-above')].map((layer) => layer.querySelectorAll('text').length);
  return {{panels, texts: Math.max(...texts)}};
}})()"""
"""The panels of a figure, and the rows that have a name."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many sets, methods and sizes, so that tables are wide and long."""
    folder = tmp_path_factory.mktemp("wide")
    runs = ({"methods": ["finetune", "wise_ft", "linear_probe", "lp_ft"], "sizes": [20, 40]},)
    sets = ("clean", "paint", "foggy", "sketchy", "drawn", "printed")
    results = made_up(folder, models=("first", "second"), sets=sets, runs=runs, seeds=(0, 1))
    write_page(results, folder / "page.html")
    return folder / "page.html"


@pytest.mark.parametrize("text", ["", "</script><script>alert(1)</script>", "ü — 中 \u2028", "x" * 100_000])
def test_what_is_packed_is_unpacked(text: str) -> None:
    page = f'<script type="text/plain" id="packed-figures">{packed(text)}</script>'
    assert unpacked(page, "figures") == text
    assert page.count("<") == 2


def test_the_page_says_what_was_asked_and_what_to_do_next(page: Path) -> None:
    text = page.read_text("utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert header.index('class="asked"') < header.index("<h1>") < header.index("rib recommend")
    main = text[text.index("<main>") :]
    assert main.index('id="mri"') < main.index('id="headline"'), "the chart first"
    assert "present below −10.0" in main
    first = main[: main.index("</section>")]
    assert 'id="mri"' in first
    assert "mean change of accuracy" in first, "the chart's word is explained with the chart"
    assert "https://arxiv.org/abs/2410.21582" in first
    assert text.index("<footer") > text.index("</main>")


def test_the_first_warning_is_in_sight_and_the_others_are_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Results, "caveats", ["one", "two", "three"])
    write_page(made_up(tmp_path, runs=({"methods": ["finetune"]},), images=60), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    first, others = header.split("<summary>2 more warnings</summary>")
    assert "Data: one" in first
    assert "two" not in first
    assert others.index("Data: two") < others.index("Data: three") < others.index("</details>")


def test_an_incomplete_page_proposes_to_finish_the_run(tmp_path: Path) -> None:
    write_page(made_up(tmp_path, lost=lambda step: "linear_probe" in step.title), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert "<code>rib run SUITE</code> does what is missing" in header
    assert "rib recommend" not in header


def test_what_the_page_proposes_is_a_command(page: Path) -> None:
    commands = [shlex.split(found) for found in re.findall(r"<code>(rib [^<]*)</code>", page.read_text("utf-8"))]
    assert [words[1] for words in commands] == ["recommend", "compare"]
    assert _words(commands[1][2:], None) == ("SUITE", "BASE", "TUNED")
    assert commands[0][2] == "SUITE", "this suite is not a shipped one, so its name is no argument"


# -- colours and samples -----------------------------------------------------------------------------------------------


def hue(colour: str) -> float:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 360 * colorsys.rgb_to_hls(red, green, blue)[0]


def test_no_method_has_a_colour_that_means_lost_or_gained() -> None:
    css = (Path(page_module.__file__).parent / "template" / "page.css").read_text("utf-8")
    meant = re.findall(r"--(?:up|down|high|low): (#\w{6});", css)
    assert len(meant) == 12
    for colour in METHOD_COLOURS:
        assert all(15 < abs(hue(colour) - hue(other)) < 345 for other in meant), colour
    assert len({*METHOD_COLOURS, GREY}) == len(METHOD_COLOURS) + 1


def test_every_set_shows_its_own_images(page: Path) -> None:
    text = page.read_text("utf-8")
    strips = re.findall(
        r'<img class="strip" src="data:image/jpeg;base64,([^"]+)" width="(\d+)" height="(\d+)" alt="([^"]*)"', text
    )
    assert [words.split(":")[0] for *_, words in strips] == [
        f"Test images of {name}" for name in ("clean", "paint", "foggy", "sketchy", "drawn", "printed")
    ]
    for data, width, height, words in strips:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (int(width), int(height)) == (4 * SIDE + 9, SIDE), "an image of each of four classes"
        assert words.endswith(": a, b, c, d")
    assert len({data for data, *_ in strips}) == 6
    assert sum(len(data) for data, *_ in strips) < 100_000


def test_samples_are_the_images_that_they_are_said_to_be(tmp_path: Path) -> None:
    """Of an image of one class the picture is the very image, by an oracle of its own."""
    plan = make_plan(tiny(tmp_path))
    (clean, *_) = samples(plan)
    data = plan.world["clean"]
    rows = [int(np.flatnonzero(data.index("test").labels == label)[0]) for label in range(4)]
    side = 12
    with np.load(tmp_path / "clean.npz") as file:
        images = file["images"]
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(clean.picture.split(",")[1]))), float)
    for place, row in enumerate(rows):
        number = int(data.index("test").sources[row])
        shown = seen[:, place * (SIDE + 3) : place * (SIDE + 3) + SIDE]
        expected = np.asarray(Image.fromarray(images[number]).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float)
        others = [
            np.abs(
                np.asarray(Image.fromarray(other).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float) - shown
            ).mean()
            for at, other in enumerate(images)
            if at != number
        ]
        assert np.abs(expected - shown).mean() < min(others) / 2, (row, side)
    assert clean.labels == CLASSES
    assert (clean.role, clean.count) == ("reference", len(data.index("test")))


def test_a_set_of_texts_shows_texts(tmp_path: Path) -> None:
    plan = make_plan(tiny(tmp_path, ("text",)))
    found = samples(plan)
    assert [one.name for one in found] == ["clean", "whole", "part"]
    known = {*phrases(np.tile(np.arange(4), 12), 1, 40.0)}
    assert {*found[0].texts} <= known
    assert len(found[0].texts) == len(found[0].labels) == 4
    assert found[2].labels == ("dog", "bee", "ant")
    assert not any(one.picture for one in found)
    assert all(len(text) <= LETTERS for one in found for text in one.texts)


def test_a_set_that_cannot_be_read_any_more_has_no_samples(tmp_path: Path) -> None:
    folder = tmp_path / "trees"
    from helpers import write_tree

    rows = {
        name: {"folder": str(write_tree(folder / name, per_class=4, seed=at)), "test_fraction": 0.5}
        for at, name in enumerate(("clean", "whole", "part"))
    }
    plan = make_plan(tiny(tmp_path, data=rows))
    assert len(samples(plan)) == 3
    for file in (folder / "whole").rglob("*.png"):
        file.unlink()
    assert [one.name for one in samples(plan)] == ["clean", "part"]


def test_a_page_without_samples_has_no_pixel_of_the_data(tmp_path: Path) -> None:
    results = made_up(tmp_path)
    private = Results(replace(results.plan, suite=results.suite.without_samples()), results.store)
    write_page(results, tmp_path / "open.html")
    write_page(private, tmp_path / "private.html")
    shown, hidden = ((tmp_path / name).read_text("utf-8") for name in ("open.html", "private.html"))
    assert "data:image" in shown
    assert "--no-samples" in shown
    assert "data:image" not in hidden
    assert 'id="samples"' not in hidden
    assert len(results.plan.steps) == len(private.plan.steps), "the option is part of no key"
    assert make_plan(results.suite.without_samples()).steps[0].key == make_plan(results.suite).steps[0].key


def test_every_command_that_writes_a_page_can_leave_the_samples_out(rib_says: Say, tmp_path: Path) -> None:
    suite, store = tmp_path / "tiny.toml", tmp_path / "store"
    suite.write_text(toml(document(tmp_path, runs=[])))
    words, page = ("--store", store, "--no-samples"), store / "reports" / "tiny.html"
    assert rib_says("run", suite, "--store", store, "--workers", 1)[0] == 0
    assert "data:image" in page.read_text("utf-8")
    assert rib_says("run", suite, *words)[0] == 0, "the page that is there is another"
    assert "data:image" not in page.read_text("utf-8")
    assert rib_says("report", suite, *words, "--html", tmp_path / "own.html")[0] == 0
    assert "data:image" not in (tmp_path / "own.html").read_text("utf-8")
    assert rib_says("store", "export", suite, tmp_path / "all.tar.gz", *words)[0] == 0
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        file = archive.extractfile("page.html")
        assert file is not None
        assert b"data:image" not in file.read()
    suite.write_text("samples = false\n" + suite.read_text())
    for verb in (("run", suite), ("report", suite, "--html", page)):
        assert rib_says(*verb, "--store", store)[0] == 0
        assert "data:image" not in page.read_text("utf-8")
    assert "--no-samples" in rib_says("report", suite, "--store", "none", "--no-samples")[1], "the hint keeps it"


def test_samples_are_of_classes_and_cells_apart() -> None:
    labels = np.repeat(np.arange(100), 10)
    rows = chosen_rows(Index(labels, np.arange(1000)))
    assert [int(labels[row]) for row in rows] == [0, 20, 40, 59, 79, 99]
    assert len(rows) == COUNT
    cells = np.tile(np.arange(10, dtype=np.int16), 100)
    found = chosen_rows(Index(labels, np.arange(1000), cells, tuple("abcdefghij")))
    assert [int(labels[row]) for row in found] == [0, 20, 40, 59, 79, 99]
    assert len({int(cells[row]) for row in found}) == COUNT
    assert chosen_rows(Index(np.zeros(0, np.int64), np.zeros(0, np.int64))) == []


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
def test_wordnet_ids_are_shown_as_names() -> None:
    """Two classes are a crane: the id keeps them apart. Names that are no ids of ImageNet stay."""
    shown = {wnid: spoken(wnid) for wnid in wnids()}
    assert shown["n01443537"] == "goldfish"
    assert {shown["n02012849"], shown["n03126707"]} == {"crane (n02012849)", "crane (n03126707)"}
    assert len(set(shown.values())) == 1000
    assert [spoken(name) for name in ("n99999999", "dog", "crane")] == ["n99999999", "dog", "crane"]


def test_no_table_is_cut_off_and_rows_are_filtered(page: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS), timeout=1000 * PATIENCE)
        for width in (390, 1000, 1500):
            view: Any = browser.new_page(viewport={"width": width, "height": 900})
            view.set_default_timeout(1000 * PATIENCE)
            view.goto(page.as_uri())
            view.wait_for_selector("html[data-drawn]")
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            top, bottom = view.evaluate(CHART)
            assert top < 700, "the chart begins on the first screen, below question, answer and next step"
            assert width < 1000 or bottom < 900, "and ends there"
            assert view.evaluate(CUT_TABLES) == [], width
            rows_kept = view.evaluate("!document.querySelector('#ri table').classList.contains('cards')")
            assert rows_kept == (width >= 1000), "intervals go below their numbers before a table becomes a list"
            form = view.evaluate("document.querySelector('#headline table').className")
            assert ("cards" in form) == (width < 1000), "rows can be compared where they fit"
            wider = view.evaluate("document.querySelector('#matrix .scroll').classList.contains('wider')")
            assert not wider, "the sets that are only tested on go below where the box is narrow"
            split = view.evaluate("'yaxis2' in document.querySelector('#matrix .figure')._fullLayout")
            assert split == (width < 1000)
            view.click("#headline .tools button")
            view.wait_for_timeout(50)
            assert view.evaluate(CUT_TABLES) == [], "all columns"
            drawn = {name: view.evaluate(PANELS.format(name)) for name in ("mri", "accuracy")}
            assert all(one == {"panels": 2, "texts": 4} for one in drawn.values()), "a panel for each model"
            rows = "[...document.querySelectorAll('#headline tbody tr')].filter((row) => !row.hidden).length"
            view.select_option("#headline .tools label:nth-child(1) select", "second")
            assert view.evaluate(rows) == 8
            view.select_option("#headline .tools label:nth-child(2) select", "finetune")
            assert view.evaluate(rows) == 2
            assert view.evaluate("document.querySelectorAll('#contents a').length") > 5
            assert view.evaluate(
                "[...document.querySelectorAll('#contents a')].every((a) => document.querySelector(a.hash))"
            )
            said = view.evaluate("[[-0.04, 1], [-0.06, 1], [0.004, 2], [-3, 0]].map((one) => RIB.fixed(...one))")
            assert said == ["0.0", "-0.1", "0.00", "-3"]
            view.close()
        browser.close()


def test_a_chart_of_many_methods_shows_those_that_differ_and_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    sweep = [round(0.04 * place, 2) for place in range(1, 20)]
    runs = ({"methods": ["finetune", "wise"], "sizes": [20]},)
    results = made_up(
        tmp_path,
        models=("only",),
        runs=runs,
        images=60,
        method={"wise": {"kind": "wise_ft", "sweep": {"alpha": sweep}}},
    )
    shown = ("finetune", "wise alpha=0.2")
    monkeypatch.setattr(figure_module, "folded_rows", lambda rows: [row.method not in shown for row in rows])
    first = figure_data(results).first
    names = {row.method for row in results.summaries} - {"pretrained"}
    assert len(names) > 16
    assert first == list(shown)
    write_page(results, tmp_path / "page.html")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS), timeout=1000 * PATIENCE)
        view: Any = browser.new_page(viewport={"width": 1000, "height": 900})
        view.set_default_timeout(1000 * PATIENCE)
        view.goto((tmp_path / "page.html").as_uri())
        view.wait_for_selector("html[data-drawn]")
        assert view.evaluate(PANELS.format("mri"))["texts"] == len(first)
        assert view.inner_text("#mri form button").startswith(f"{len(names) - len(first)} more methods")
        view.click("#mri form button")
        assert [view.evaluate(PANELS.format(name))["texts"] for name in ("mri", "accuracy")] == [len(names)] * 2
        view.click("#accuracy form button")
        assert view.evaluate(PANELS.format("mri"))["texts"] == len(first)
        browser.close()
