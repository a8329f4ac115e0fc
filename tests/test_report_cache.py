"""A finished run that is asked for again shows the same report, and works nothing out that has not changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers import Say, document, toml
from rib.cli import collector
from rib.cli import run as cli_run
from rib.cli.app import app
from rib.errors import UserError
from rib.plan import make_plan
from rib.report import cache, page
from rib.results.results import Results
from rib.store.record import encode_record
from rib.store.store import Store
from rib.suite.load import load_suite, parse_suite


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


OWN = """
name = "own"
reference = "digits:ref"
downstream = ["digits:sketch", "digits:drawing"]
models = ["digits:resnet_small"]
"""


def test_a_finished_suite_of_ribs_own_parts_is_shown_without_a_plan(
    rib_says: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, store = tmp_path / "own.toml", tmp_path / "store"
    suite.write_text(OWN)
    words, plans = ("run", suite, "--store", store, "--workers", 1), []
    plan_of = cli_run.plan_of
    monkeypatch.setattr(cli_run, "plan_of", lambda *given, **more: (plans.append(1), plan_of(*given, **more))[1])
    first = rib_says(*words)
    assert (first[0], len(plans)) == (0, 1)
    again = rib_says(*words)
    assert (told(again), len(plans)) == (told(first), 1)
    assert "0 steps done, 4 done before" in again[1]

    lazily = "import sys; from rib.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", lazily, *map(str, words)], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n"), "neither data nor nets are needed"

    def is_planned(*more: object) -> None:
        before = len(plans)
        assert rib_says(*words, *more)[0] == 0
        assert len(plans) == before + 1

    is_planned("--json")
    is_planned("--profile")
    is_planned("--keep", "none")
    is_planned("--step-limit", 5)
    rib_says(*words)
    record = next((store / "records").rglob("*.json"))
    record.write_bytes(record.read_bytes())
    is_planned()
    record.unlink()
    is_planned()
    for changed in ("_libraries", "_shipped"):
        monkeypatch.setattr(cache, changed, lambda: ["another"])
        is_planned()
    suite.write_text(OWN + "seeds = [1]\n")
    is_planned()
    (fact,) = (store / "facts").glob("plan-own.json")
    fact.write_bytes(fact.read_bytes().replace(b'"keys": ["', b'"keys": ["0'))
    is_planned()


def test_no_plan_is_cached_without_the_versions_of_all_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, store = parse_suite(tomllib.loads(OWN)), Store(tmp_path)
    cache.KeysCache(suite, store).write(["k"])
    assert cache.KeysCache(suite, store).read() == ["k"]
    monkeypatch.setattr(cache, "requires", lambda _: ["torch>=2", "no-such-library; python_version > '3'"])
    unknown = cache.KeysCache(suite, store)
    assert unknown.read() is None
    unknown.write(["other"])
    monkeypatch.undo()
    assert cache.KeysCache(suite, store).read() == ["k"]


@pytest.mark.parametrize(
    ("name", "embedded"),
    [("digits", True), ("digits-quick", True), ("fields", True), ("photos", False), ("imagenet_rib", False),
     ("digits-pretrain", False), ("sentiment", False)],
)  # fmt: skip
def test_only_a_suite_without_anything_of_the_user_is_embedded(name: str, embedded: bool) -> None:
    assert cache.is_embedded(load_suite(name)) == embedded


@pytest.mark.parametrize(
    "more",
    [
        '[[runs]]\nmethods = ["mine:Method"]',
        '[[runs]]\nmethods = ["other"]\n[method.other]\nkind = "mine:Method"',
        '[[runs]]\nmethods = ["finetune"]\n[[analyses]]\nnames = ["mine:Look"]',
        '[data."digits:ref"]\nfolder = "photos"',
        '[model."digits:resnet_small"]\ntimm = "resnet18"',
    ],
)
def test_what_a_user_may_change_is_planned_again(more: str) -> None:
    assert cache.is_embedded(parse_suite(tomllib.loads(OWN)))
    assert not cache.is_embedded(parse_suite(tomllib.loads(OWN + more)))


def told(said: tuple[int, str]) -> str:
    """What was said, less how many steps were done, which a slow run also says meanwhile."""
    assert said[0] == 0
    return "\n".join(line for line in said[1].splitlines() if not re.match(r"\d+ steps done|\d+/\d+ steps", line))


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


# -- short commands ----------------------------------------------------------------------------------------------------


def test_a_short_command_pauses_the_collector_until_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    enabled = True
    monkeypatch.setattr(collector.gc, "isenabled", lambda: enabled)
    for name in ("disable", "enable", "freeze"):
        monkeypatch.setattr(collector.gc, name, lambda name=name: calls.append(name))
    for words in ([], ["run", "digits"], ["compare", "report"], ["--version"]):
        collector.pause_collector(words)
    collector.resume_collector()
    assert calls == []
    collector.pause_collector(["report", "digits"])
    enabled = False
    collector.resume_collector()
    assert calls == ["disable", "freeze", "enable"]


def test_every_short_command_is_one() -> None:
    named = {each.name for each in app.registered_commands}
    assert set(collector.SHORT) <= named


PLANNED = """
import sys
from pathlib import Path
from rib.plan import make_plan
from rib.suite.load import load_suite
suite = load_suite("digits-quick")
plan = make_plan(suite, Path(sys.argv[1]))
print(len(plan.runs), "timm" in sys.modules)
"""


def test_a_shipped_net_is_not_built_for_a_plan(tmp_path: Path) -> None:
    """Neither timm nor torchvision is imported, which take longer than the rest of the plan."""
    done = subprocess.run([sys.executable, "-c", PLANNED, str(tmp_path)], capture_output=True, text=True, check=True)
    count, built = done.stdout.split()
    assert int(count) > 10
    assert built == "False"


def test_a_shipped_net_is_built_for_a_method_that_looks_at_it(tmp_path: Path) -> None:
    suite = load_suite("digits-quick").with_models(["digits:resnet_small"])
    block = suite.runs[0].model_copy(update={"methods": ("lora",)})
    with pytest.raises(UserError, match="lora changes query and value projections, and this model has none"):
        make_plan(suite.model_copy(update={"runs": (block,), "analyses": ()}), tmp_path)
