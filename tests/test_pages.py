"""The page in a browser: small, shown at once, no table cut off at any width, rows found by filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rib.report.page import packed, unpacked, write_page
from test_report import CHROMIUM, FLAGS, made_up

CUT_TABLES = """[...document.querySelectorAll('.scroll > table')].filter((table) =>
  table.parentElement.scrollWidth > table.parentElement.clientWidth + 1).map((table) => table.closest('section').id)"""


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


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
def test_no_table_is_cut_off_and_rows_are_filtered(page: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        for width in (390, 1000, 1500):
            view: Any = browser.new_page(viewport={"width": width, "height": 900})
            view.goto(page.as_uri())
            view.wait_for_selector("html[data-drawn]")
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert view.evaluate(CUT_TABLES) == [], width
            view.click("#headline .tools button")
            view.wait_for_timeout(50)
            assert view.evaluate(CUT_TABLES) == [], "all columns"
            rows = "[...document.querySelectorAll('#headline tbody tr')].filter((row) => !row.hidden).length"
            view.select_option("#headline .tools label:nth-child(1) select", "second")
            assert view.evaluate(rows) == 8
            view.select_option("#headline .tools label:nth-child(2) select", "finetune")
            assert view.evaluate(rows) == 2
            assert view.evaluate("document.querySelectorAll('#contents a').length") > 5
            assert view.evaluate(
                "[...document.querySelectorAll('#contents a')].every((a) => document.querySelector(a.hash))"
            )
            view.close()
        browser.close()
