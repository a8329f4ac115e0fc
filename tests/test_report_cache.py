"""A finished run that is asked for again shows the same report, and works nothing out that has not changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers import Say, document, toml
from rib.report import cache, page
from rib.results.results import Results
from rib.store.record import encode_record


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite file with a finished run in `store` beside it."""
    file = tmp_path / "tiny.toml"
    file.write_text(toml(document(tmp_path, runs=[{"methods": ["finetune"]}])))
    return file


class Asked:
    """How often numbers were worked out and pages written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.summaries = self.pages = 0
        summaries, write = vars(Results)["summaries"].func, page.write_page

        def count(results: Results) -> Any:
            self.summaries += 1
            return summaries(results)

        def count_page(results: Results, path: Path) -> None:
            self.pages += 1
            write(results, path)

        monkeypatch.setattr(Results, "summaries", property(count))
        monkeypatch.setattr(page, "write_page", count_page)


def test_nothing_is_worked_out_again_until_something_changes(
    suite: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = suite.parent / "store"
    words = ("run", suite, "--store", store, "--workers", 1)
    code, first = rib_says(*words)
    assert code == 0
    asked = Asked(monkeypatch)
    assert told(rib_says(*words)) == told((0, first))
    assert (asked.summaries, asked.pages) == (0, 0)

    written = store / "reports" / "tiny.html"
    text = written.read_text()
    written.write_text("by another hand")
    assert told(rib_says(*words)) == told((0, first))
    assert asked.pages == 1
    assert written.read_text() == text
    written.unlink()
    rib_says(*words)
    assert asked.pages == 2
    rib_says(*words)
    assert asked.pages == 2

    record = next((store / "records").rglob("*.json"))
    values = json.loads(record.read_text())
    del values["digest"]
    record.write_bytes(encode_record(values | {"images": values["images"] + 1000}))
    rib_says(*words)
    assert asked.pages == 3
    assert written.read_text() != text


def test_another_form_or_suite_or_code_is_another_report(
    suite: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", suite, "--store", suite.parent / "store", "--workers", 1)
    rib_says(*words)
    asked = Asked(monkeypatch)
    code, printed = rib_says(*words, "--json")
    assert code == 0
    assert '"summaries"' in printed
    assert asked.pages == 1
    suite.write_text(suite.read_text().replace('name = "tiny"', 'name = "tiny"\nnote = "mind this"', 1))
    assert "mind this" in rib_says(*words)[1]
    assert asked.pages == 2
    monkeypatch.setattr(cache, "LIBRARIES", ("numpy",))
    rib_says(*words)
    assert asked.pages == 3


def test_a_run_with_a_hole_is_not_kept(suite: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails is tried and told again."""
    words = ("run", suite, "--store", suite.parent / "store", "--workers", 1)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bad day")

    with monkeypatch.context() as patch:
        patch.setattr("rib.steps.predict.predict", broken)
        assert rib_says(*words)[0] == 1
        assert "a bad day" in rib_says(*words)[1]
    assert rib_says(*words)[0] == 0
    assert "a bad day" not in rib_says(*words)[1]


def told(said: tuple[int, str]) -> str:
    """What was said, less how many steps were done now and before."""
    assert said[0] == 0
    return "\n".join(line for line in said[1].splitlines() if "steps done" not in line)


def page_path(said: tuple[int, str]) -> Path:
    return Path(next(line for line in said[1].splitlines() if line.startswith("page: ")).removeprefix("page: "))


def test_two_suites_of_one_name_have_a_page_each(rib_says: Say, tmp_path: Path, suite: Path) -> None:
    store = ("--store", tmp_path / "store")
    first = rib_says("run", suite, *store)
    before = page_path(first).read_bytes()
    other = tmp_path / "other.toml"
    other.write_text(toml(document(tmp_path, runs=[{"methods": ["linear_probe"]}])))
    second = rib_says("run", other, *store)
    assert page_path(first).name == "tiny.html"
    assert page_path(second) != page_path(first)
    assert "is the page of another suite" in second[1]
    assert page_path(first).read_bytes() == before
    for said in (first, second):
        assert page_path(rib_says("run", other if said is second else suite, *store)) == page_path(said)
    suite.write_text(toml(document(tmp_path, runs=[{"methods": ["pretrained"]}])))
    assert page_path(rib_says("run", suite, *store)) == page_path(first)


def test_a_suite_keeps_its_page_where_it_is_moved_and_takes_that_of_nobody(
    rib_says: Say, tmp_path: Path, suite: Path
) -> None:
    store = ("--store", tmp_path / "store")
    first = page_path(rib_says("run", suite, *store))
    moved = suite.rename(tmp_path / "moved.toml")
    assert page_path(rib_says("run", moved, *store)) == first
    first.unlink()
    other = tmp_path / "other.toml"
    other.write_text(toml(document(tmp_path, runs=[{"methods": ["linear_probe"]}])))
    assert page_path(rib_says("run", other, *store)) == first
