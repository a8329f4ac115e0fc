"""Folders that are odd: a path with colons, which looks like an address, and a working folder that is gone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers import Say, document, toml


def test_a_store_and_an_export_in_a_folder_with_a_colon(rib_says: Say, tmp_path: Path) -> None:
    made = document(tmp_path)
    made["runs"] = [{"methods": ["linear_probe"], "sizes": ["all"]}]
    file = tmp_path / "s.toml"
    file.write_text(toml(made))
    store = "runs-2024-06-01T12:30"
    code, said = rib_says("run", file, "--workers", 1, "--store", store)
    assert code == 0, said
    code, said = rib_says("report", file, "--store", store, "--parquet", "out:1")
    assert code == 0, said
    assert {path.name for path in Path("out:1").iterdir()} >= {"predictions.parquet", "scores.parquet"}
    with Path("out:1/predictions.parquet").open("rb") as source:
        assert pq.read_table(source).num_rows > 0


def test_a_working_folder_that_was_removed_is_named(
    rib_says: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert rib_says("list", "suites") == (
        2,
        "error: the working folder was removed\n  remedy: cd to a folder that is there\n",
    )
