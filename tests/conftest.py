"""One torch thread a test process: nets this small gain nothing from more, and processes share the cores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers import Said, Say
from rib.cli import main

torch.set_num_threads(1)


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
