"""Folders whose names look like addresses: data, store and exports in a path with colons."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

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
