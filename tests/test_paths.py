"""Folders that are odd: a path with colons, which looks like an address, and a working folder that is gone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers import Say, document, toml
from rib.errors import UserError
from rib.files import expanded


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


@pytest.mark.parametrize("row", ["folder", "arrays", "shards", "parquet", "weights", "hf", "map", "text"])
@pytest.mark.parametrize("form", ["$RIB_SECRET", "${RIB_SECRET}/x", "below/$RIB_SECRET"])
def test_a_variable_that_is_no_path_is_shown_by_its_name(
    row: str, form: str, tmp_path: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite of a stranger's may name any variable, and what is printed ends in logs."""
    monkeypatch.setattr("rib.errors._concealed", {})
    monkeypatch.setenv("RIB_SECRET", "wJalrXUtnFEMI/K7MDENG")
    made = document(tmp_path)
    if row in ("weights", "hf"):
        made["model"]["resnet"] = {**(made["model"]["resnet"] if row == "weights" else {}), row: form}
    elif row == "map":
        made["data"]["whole"]["labels"] = f"{form}.json"
    else:
        made["data"]["whole"] = {"text" if row == "text" else row: form, "test_fraction": 0.5}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert "wJalr" not in said
    assert "RIB_SECRET" in said


def test_a_variable_that_is_a_path_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rib.errors._concealed", {})
    monkeypatch.setenv("RIB_DATA", str(tmp_path))
    monkeypatch.setenv("RIB_WHO", "somebody")
    assert expanded(Path("base"), "$RIB_DATA/x") == tmp_path / "x"
    assert expanded(Path("base"), "${RIB_WHO}/x") == Path("base/somebody/x")
    error = UserError("none in base/somebody/x", got=tmp_path)
    assert str(error) == f"none in base/${{RIB_WHO}}/x\n  got:    {tmp_path}"


@pytest.mark.parametrize("target", ["itself", "nowhere"])
def test_a_store_that_is_a_link_to_nothing_is_refused(target: str, tmp_path: Path, rib_says: Say) -> None:
    (tmp_path / "itself").symlink_to(tmp_path / target)
    for words in (("store", "merge", tmp_path / "itself"), ("store", "verify", "--store", tmp_path / "itself")):
        code, said = rib_says(*words)
        assert code == 2
        assert "the store is not a folder" in said
