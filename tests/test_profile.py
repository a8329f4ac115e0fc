"""Where the time of a run went: summed from its records, and held against what a worker's clock says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import Say, document, tiny, toml
from rib.plan import make_plan
from rib.report.profile import profile_lines, row_cells, summary
from rib.results.profile import ProfileLine, profile
from rib.results.results import Results
from rib.steps import Fit, Predict
from rib.steps.workshop import Stopwatch
from rib.store.store import Store


@pytest.fixture
def made(tmp_path: Path) -> tuple[Results, set[str]]:
    """Records by hand: a second and a half a fit, a quarter a prediction; those of one data set are old ones."""
    plan, store = make_plan(tiny(tmp_path, runs=[{"methods": ["finetune", "l2_sp"]}])), Store(tmp_path / "store")
    now = set()
    for step in plan.steps:
        if isinstance(step, Fit):
            store.write(step, {}, 1.5, 10, "cpu", cpu=1.25, loading=0.125)
        elif isinstance(step, Predict) and step.data.name == "clean":
            store.write(step, {}, 0.25, 3, "cpu")  # as a version of RIB before the field
        else:
            store.write(step, {}, 0.25, 3, "cpu", cpu=0.2, loading=0.05)
            now.add(step.key)
    return Results(plan, store), now


def by_title(lines: tuple[ProfileLine, ...]) -> dict[str, ProfileLine]:
    return {line.title: line for line in lines}


def test_lines_add_up_the_records(made: tuple[Results, set[str]]) -> None:
    results, now = made
    found = profile(results, now, workers=2, decoding=0.5, working=4.0)
    lines = by_title(found.lines)
    assert list(lines) == [
        "fitting pretrained",
        "fitting finetune",
        "fitting l2_sp",
        "predicting whole",
        "predicting part",
        "predicting clean",
    ]
    # two sets tuned on; five models scored on each set
    assert lines["fitting l2_sp"] == ProfileLine("fitting", "l2_sp", 2, 3.0, 2.5, 0.25, 20, 0, 0.0)
    assert lines["predicting part"] == ProfileLine("predicting", "part", 5, 1.25, 1.0, 0.25, 15, 5, 1.25)
    assert lines["predicting clean"] == ProfileLine("predicting", "clean", 5, 1.25, None, None, 15, 0, 0.0)
    assert found.total == ProfileLine("all", "", 20, 5 * 1.5 + 15 * 0.25, None, None, 95, 10, 2.5)
    assert found.waiting == 2 * 4.0 - 2.5
    assert sum(line.steps for line in found.lines) == found.total.steps == len(results.records)


def test_what_people_are_told(made: tuple[Results, set[str]]) -> None:
    results, now = made
    found = profile(results, now, workers=2, decoding=0.5, working=4.0)
    assert summary(found) == (
        "This run made 10 of these steps in 4.0 s with 2 workers (10 were there): 2.5 s at work, 5.5 s starting or "
        "waiting (69 %). Decoding before: 0.5 s."
    )
    assert row_cells(by_title(found.lines)["predicting clean"], found.total) == (
        *("5", "1.2 s", "11.1 %", "–", "–", "0", "0.0 s"),
    )
    idle = profile(results, set(), workers=0, decoding=0.0, working=0.0)
    assert summary(idle) == "This run made no step: all of them were there."
    for width in (60, 80, 120):
        lines = [line.plain for line in profile_lines(found, width)]
        assert max(map(len, lines)) <= width
        assert any(line.startswith("predicting clean") and "11.1 %" in line for line in lines)
    table = [line for line in lines if line.startswith(("where", "fitting", "predicting", "all"))]
    assert len(table) == 1 + len(found.lines) + 1
    assert len(set(map(len, table))) == 1  # aligned


def test_a_failed_or_overlapping_count_never_waits_less_than_nothing(made: tuple[Results, set[str]]) -> None:
    results, now = made
    assert profile(results, now, workers=1, decoding=0.0, working=1.0).waiting == 0


def test_records_hold_processor_and_loading_time(tmp_path: Path, rib_says: Say) -> None:
    """Of a real run; then of one that goes on where another stopped."""
    suite = tmp_path / "tiny.toml"
    suite.write_text(toml(document(tmp_path, runs=[{"methods": ["finetune"]}], analyses=[{"names": ["drift"]}])))
    words = ("run", suite, "--store", "store", "--workers", 1)
    code, printed = rib_says(*words, "--profile")
    assert code == 0
    assert "comparing drift" in printed
    store, plan = Store(tmp_path / "store"), make_plan(tiny(tmp_path, analyses=[{"names": ["drift"]}]))
    records = [store.record(step.key) for step in plan.steps]
    for record in records:
        assert record is not None
        assert record.cpu is not None
        assert record.loading is not None
        assert 0 <= record.loading <= record.seconds + 0.002  # both are rounded
    assert any(record.loading for record in records if record)
    page = (tmp_path / "store" / "reports" / "tiny.html").read_text()
    assert "Where the time went" in page
    assert f"This run made {len(plan.steps)} of these steps" in page

    predictions = [step for step in plan.steps if isinstance(step, Predict)]
    for step in predictions[:2]:
        store.record_path(step.key).unlink()
    code, printed = rib_says(*words, "--profile", "--json")
    assert code == 0
    found = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])["profile"]
    assert found["total"]["now"] == 2
    assert found["total"]["steps"] == len(plan.steps)
    assert found["workers"] == 1
    assert sum(line["now"] for line in found["lines"] if line["kind"] == "predicting") == 2

    rib_says(*words)
    assert "Where the time went" not in (tmp_path / "store" / "reports" / "tiny.html").read_text()


def test_an_old_record_is_still_one(tmp_path: Path) -> None:
    plan, store = make_plan(tiny(tmp_path)), Store(tmp_path / "store")
    step = plan.steps[0]
    store.write(step, {"a": 1}, 1.0, 5, "cpu", cpu=0.5, loading=0.0)
    path = store.record_path(step.key)
    values = json.loads(path.read_text())
    assert (values.pop("cpu"), values.pop("loading")) == (0.5, 0.0)
    del values["files"], values["digest"]
    path.write_text(json.dumps(values))
    record = store.record(step.key)
    assert record is not None
    assert (record.values, record.cpu, record.loading) == ({"a": 1}, None, None)
    del values["seconds"]
    path.write_text(json.dumps(values))
    assert store.record(step.key) is None


def test_a_stopwatch_adds_up_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.0, 1.5, 7.0, 9.0])
    monkeypatch.setattr("rib.steps.workshop.time.perf_counter", lambda: next(ticks))
    watch = Stopwatch()
    with watch:
        pass
    with pytest.raises(ValueError), watch:
        raise ValueError
    assert watch.seconds == 2.5
