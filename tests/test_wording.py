"""A suite of texts is reported in the words of texts, wherever a person reads; a suite of images as before."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from helpers import CLASSES, TEXT, write_texts
from rib.cli.suite import explained
from rib.data.catalogue import DataRow
from rib.data.check import check
from rib.plan.cost import CostEstimate
from rib.report.cost import cost_lines
from rib.report.data_check import check_table
from rib.report.headline import headline
from rib.report.latex import write_latex
from rib.report.model_folders import model_card
from rib.report.page import unpacked, write_page
from rib.report.plan_status import plan_table
from rib.report.recommend import advice_lines
from rib.report.settings import settings_lines
from rib.results.recommendation import advise
from rib.results.results import Results
from rib.studies import STUDIES
from rib.text.wording import about
from test_report import SETS, made_up

IMAGE = re.compile(r"(?<!--)(?<![\w./])images?\b", re.IGNORECASE)
RUNS = ({"methods": ["finetune", "linear_probe", "wise_ft"], "sizes": [20, 40]},)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("on unseen images of the set", "on unseen texts of the set"),
        ("an image, one image; Images", "a text, one text; Texts"),
        ("rib recommend --images 3; one.images; `images`", "rib recommend --images 3; one.images; `images`"),
        ("ImageNet, imagery and a/images/b", "ImageNet, imagery and a/images/b"),
    ],
)
def test_a_sentence_about_images_is_said_of_texts(sentence: str, expected: str) -> None:
    assert about("texts", sentence) == expected
    assert about("images", sentence) == sentence


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("texts")
    for place, name in enumerate(SETS):
        write_texts(folder / f"{name}.jsonl", place, per_class=40)
    row = {"classes": list(CLASSES), "test_fraction": 0.5}
    return made_up(
        folder,
        runs=RUNS,
        seeds=(0, 1),
        data={name: row | {"text": f"{name}.jsonl"} for name in SETS},
        model={name: TEXT | {"pretrain": {"seed": place}} for place, name in enumerate(("small", "large"))},
    )


def shown(thing: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(thing)
    found = console.file
    assert isinstance(found, io.StringIO)
    return found.getvalue()


def test_nobody_reads_of_images_in_a_suite_of_texts(results: Results, tmp_path: Path) -> None:
    plan = results.plan
    write_page(results, tmp_path / "page.html")
    write_latex(results, tmp_path / "table.tex")
    page = (tmp_path / "page.html").read_text("utf-8")
    bare = html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(script|style)[^>]*>.*?</\1>", " ", page)))
    read = {
        "page": bare,
        "figures": "".join(re.findall(r'axis\("[^"]*"', unpacked(page, "script"))),
        "terminal": shown(headline(results, 120)),
        "latex": (tmp_path / "table.tex").read_text("utf-8"),
        "card": model_card(results, next(run for run in plan.runs if run.tuned_on)),
        "advice": shown(advice_lines(advise(results, 30), 120)) + shown(advice_lines(advise(results, 4000), 120)),
        "plan": shown(plan_table(plan, results.store, every=False)),
        "cost": cost_lines(CostEstimate(plan, results.store).cost, "tiny", "cpu", plan.noun),
        "settings": "\n".join(settings_lines(plan)),
        "suite": "\n".join(explained(plan)),
    }
    for where, text in read.items():
        assert [text[max(0, found.start() - 40) : found.end() + 40] for found in IMAGE.finditer(text)] == [], where
        assert re.search(r"\btexts?\b", text) or where == "settings", where


def test_the_check_of_data_counts_texts(tmp_path: Path) -> None:
    write_texts(tmp_path / "t.jsonl", 0)
    found = check("mine", DataRow(text="t.jsonl", classes=CLASSES), tmp_path)
    lost = check("lost", DataRow(text="lost.jsonl"), tmp_path)
    head = shown(check_table([found, lost])).splitlines()[0]
    assert head.split() == ["set", "state", "texts", "classes"]


@pytest.mark.parametrize("name", sorted(STUDIES.classes))
def test_studies_ask_about_texts(name: str) -> None:
    study = STUDIES.classes[name]
    said = about("texts", " ".join((study.question, study.claim, study.measure, study.intervals, *study.limits)))
    assert not IMAGE.search(said)
