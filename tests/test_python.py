"""RIB from Python: its names, values that show themselves, tables, and modules beside the suite."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rib
from helpers import document, surroundings, tiny, toml
from rib.errors import UserError
from rib.steps import How

BESIDE = """
from rib.models.small import small_resnet
def mine(num_classes, **arguments):
    return small_resnet(num_classes, **arguments)
"""

ONE = How(workers=1, device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> rib.Finished:
    folder = tmp_path_factory.mktemp("python")
    suite = tiny(folder, runs=[{"methods": ["finetune", "linear_probe"], "sizes": [8, 12]}], seeds=[0, 1])
    return rib.run(suite, store=folder / "store", how=ONE)


def test_dir_has_the_names_and_no_others() -> None:
    names = {"Finished", "How", "Suite", "UserError", "compare", "load_suite", "plan", "recommend", "run", "study"}
    assert names <= set(dir(rib)) == {*rib.__all__, "__version__"}
    assert all(getattr(rib, name) is not None for name in dir(rib))


@pytest.mark.parametrize("before", ["", "import rib.plan", "import rib.api"])
def test_plan_is_a_function_and_a_package(tmp_path: Path, before: str) -> None:
    code = f"{before}\nimport rib\nassert callable(rib.plan)\nfrom rib.plan import Plan\nassert callable(rib.plan)"
    environment = surroundings()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_callers_random_numbers_stay_as_they_are() -> None:
    """Rich draws one when it is imported, which happens when a name of rib is first used."""
    code = (
        "import random, sys, rib; random.seed(5); rib.run; assert 'rich.style' in sys.modules; print(random.random())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == random.Random(5).random()


def test_a_plan_says_what_is_to_do(tmp_path: Path, finished: rib.Finished) -> None:
    found = rib.plan(finished.results.suite, store=tmp_path / "empty")
    assert [step.key for step in found.steps] == [step.key for step in finished.results.plan.steps]
    assert found.cost.trained > 0
    assert "Fit finetune" in repr(found)
    assert rib.plan(finished.results.suite, store=finished.results.store.root).cost.trained == 0


def test_results_show_themselves(finished: rib.Finished, capsys: pytest.CaptureFixture[str]) -> None:
    text = repr(finished)
    assert "finetune" in text
    assert "mRI, points [95 %]" in text
    assert "\x1b" not in text
    html = finished._repr_html_()
    assert html.startswith("<pre")
    assert "finetune" in html
    finished.table()
    assert "finetune" in capsys.readouterr().out


def test_the_table_of_mri_has_the_intervals(finished: rib.Finished) -> None:
    rows = finished.rows()
    assert len(rows) == len(finished.summaries)
    for row, summary in zip(rows, finished.summaries, strict=True):
        assert (row["model"], row["method"], row["size"]) == (summary.model, summary.method, summary.size)
        interval = summary.mri
        expected = (None,) * 3 if interval is None else (interval.value, interval.low, interval.high)
        assert (row["mri"], row["mri_low"], row["mri_high"]) == expected
    sets = finished.rows("ri")
    assert {row["tuned_on"] for row in sets} == {"whole", "part"}
    one = next(row for row in sets if row["method"] == "finetune")
    summary = next(s for s in finished.summaries if (s.method, s.size) == (one["method"], one["size"]))
    ri = summary.ri[one["tuned_on"]]
    assert ri is not None
    assert one["ri_low"] == ri.low
    assert len(finished.rows("scores")) == len(finished.results.scores)
    with pytest.raises(UserError, match="did you mean 'mri'"):
        finished.rows("mr")


def test_to_pandas_makes_a_frame_of_the_rows(finished: rib.Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    made: Any = finished.to_pandas("ri")
    assert made == ("frame", finished.rows("ri"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"rib-benchmark\[pandas\]"):
        finished.to_pandas()


def test_pandas_has_the_numbers_of_the_table(finished: rib.Finished) -> None:
    pandas = pytest.importorskip("pandas")
    frame = finished.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert {"model", "method", "size", "mri", "mri_low", "mri_high", "gain", "gain_low", "gain_high"} <= {
        *frame.columns
    }
    tuned = frame[frame.method == "finetune"].set_index("size")
    for row in finished.summaries:
        if row.method == "finetune" and row.mri is not None:
            found = tuned.loc[row.size]
            assert (found.mri, found.mri_low, found.mri_high) == (row.mri.value, row.mri.low, row.mri.high)
    assert {*finished.to_pandas("ri").tuned_on} == {"whole", "part"}


@pytest.mark.parametrize("kind", ["mri", "accuracy", "tradeoff", "sizes"])
def test_plots_are_figures_with_the_names_of_the_rows(finished: rib.Finished, kind: str) -> None:
    pytest.importorskip("matplotlib")
    figure = finished.plot(kind)
    words = {text.get_text() for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    legend = {text.get_text() for drawn in figure.legends for text in drawn.get_texts()}
    shown = {"mri": words, "sizes": legend}.get(kind, words | legend)
    assert "finetune" in shown
    for wrong in ("mir", "tables"):
        with pytest.raises(UserError, match="unknown plot"):
            finished.plot(wrong)


def test_a_plot_that_has_nothing_to_show_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = rib.run(tiny(tmp_path, runs=[]), store=tmp_path / "store", how=ONE)
    with pytest.raises(UserError, match="nothing to show as 'sizes'"):
        found.plot("sizes")


def test_recommend_says_what_the_command_says(tmp_path: Path, finished: rib.Finished) -> None:
    found = rib.recommend(finished.results.suite, images=10, store=finished.results.store.root)
    assert found.advice.declined, "two sets tuned on are too few"
    assert "No recommendation for 10 images" in repr(found)
    with pytest.raises(UserError, match="no records of suite"):
        rib.recommend(finished.results.suite, store=tmp_path / "empty")


def test_a_module_beside_the_suite_is_found(tmp_path: Path) -> None:
    """From another folder, in the workers too."""
    (tmp_path / "suite").mkdir()
    made = document(tmp_path / "suite")
    made["model"]["resnet"]["build"] = "net_beside:mine"
    (tmp_path / "suite" / "net_beside.py").write_text(BESIDE)
    (tmp_path / "suite" / "s.toml").write_text(toml(made))
    script = (
        "import rib\nfound = rib.run('suite/s.toml', store='store', how=rib.How(workers=2))\nassert not found.failed"
    )
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, "script.py"]
    done = subprocess.run(words, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bar" not in done.stderr.lower(), "no progress where there is no terminal"
