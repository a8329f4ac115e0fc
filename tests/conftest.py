"""One torch thread a test process: nets this small gain nothing from more, and processes share the cores."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers import Said, Say
from rib.cli import main

torch.set_num_threads(1)

ROOMS = {
    "analysis": "analyses analysis_data analysis_weights correlation orders",
    "cli": "bad_input grammar printing python tutorials user_code wheel",
    "data": (
        "alike caches cells containers corruptions damages data digits drawn feed hostile_images imagenet_data labels "
        "lite modes overlap packs photos sources splits texts views"
    ),
    "execute": "clusters executors linear memory oom processes ray_token resume scale sharing soak",
    "house": "bench fuzz glossary map names oracle paths plain_files promises rooms security site sizes",
    "methods": "hooks merging methods peft protocol terms",
    "metrics": "intervals metrics noise",
    "models": (
        "batchnorm builders checkpoints export extensions families folding heads imagenet_models nets new_head "
        "one_image preprocessing stated_net transformers zoo"
    ),
    "objectives": "objectives",
    "plan": "identity rates reference seeds",
    "report": (
        "advice claim classes compare compare_view findings long_tables pages profile reference_page report "
        "report_cache sinks verify"
    ),
    "results": "analysis_values groups inside matched_gain merge_rows rows",
    "steps": "old_store recipe",
    "store": "faults_storage remote",
    "studies": "inside_studies studies trajectory",
    "suite": "imagenet_suite suite_files",
    "training": "training",
    "upkeep": "spot upkeep",
}
"""Which room a test file is about, by its name without `test_`: `pytest -m data` runs those of `data/`."""

QUICK = {
    "identity",
    "intervals",
    "labels",
    "metrics",
    "names",
    "orders",
    "plain_files",
    "recipe",
    "rooms",
    "sizes",
    "splits",
}
"""Test files of numbers, keys, names and rules: `make quick`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m quick`, import only the files of `make quick`: the others import every library."""
    name = collection_path.stem.removeprefix("test_")
    listed = collection_path.is_file() and collection_path.name.startswith("test_")
    return True if config.getoption("markexpr") == "quick" and listed and name not in QUICK else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its room, and those of `make quick`."""
    rooms = {name: room for room, names in ROOMS.items() for name in names.split()}
    for item in items:
        name = item.path.stem.removeprefix("test_")
        if item.path.parent == Path(__file__).parent:
            item.add_marker(rooms.get(name, "house"))
        if name in QUICK:
            item.add_marker("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Give Ray a folder of these tests' own: its default one has a file that names the machine's one cluster."""
    folder = tempfile.mkdtemp(prefix="rr", dir="/tmp")  # the path of a socket in it has room for 107 characters
    os.environ["RAY_TMPDIR"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture
def rib_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """Run the command in this process, in an empty folder: exit code and all that was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    path, modules = list(sys.path), set(sys.modules)

    def say(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["rib", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(stop.value.code or 0), out + err

    yield say
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
