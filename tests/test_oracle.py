"""The report's numbers against a script that reads the exported Parquet and knows nothing of the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rib
from helpers import command, document, toml
from rib.steps import How

SUITE: dict[str, Any] = {
    "downstream": ["whole", "part", "other"],
    "runs": [
        {"methods": ["finetune", "linear_probe", "wise"], "seeds": [0, 1, 2]},
        {"methods": ["finetune"], "sizes": [9], "models": ["vit"]},
    ],
    "method": {"wise": {"kind": "wise_ft", "sweep": {"alpha": [0.3, 0.8]}}},
    "recipe": {"epochs": 4, "batch_size": 5, "lr": 0.05},
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `rib report` says, and what the script makes of its Parquet."""
    folder = tmp_path_factory.mktemp("oracle")
    file = folder / "tiny.toml"
    file.write_text(toml(document(folder, ("resnet", "vit"), per_class=15, **SUITE)))
    assert rib.run(file, store=folder / "store", how=How(workers=1)).failed == {}
    said = command("report", file, "--store", "store", "--parquet", "out", "--json", cwd=folder)
    assert said.returncode == 0, said.stderr
    script = Path(__file__).with_name("oracle.py")
    found = subprocess.run(
        [sys.executable, "-I", str(script), str(folder / "out" / "predictions.parquet")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(said.stdout), json.loads(found.stdout)


def test_accuracies(reported: tuple[dict[str, Any], dict[str, Any]]) -> None:
    names = ("model", "method", "size", "seed", "tuned_on", "tested_on", "role")
    ours, theirs = ({tuple(row[name] for name in names): row for row in found["scores"]} for found in reported)
    assert len(ours) == 2 * 4 + (2 * 4 * 3 * 3 + 3) * 4  # pretrained; 4 methods × 3 sets × 3 seeds; one of nine images
    assert ours.keys() == theirs.keys()
    for place, row in ours.items():
        assert row["masked"] == pytest.approx(theirs[place]["masked"], abs=1e-9)
        assert row["masked"] == pytest.approx(theirs[place]["again"], abs=1e-9)
        assert row["unmasked"] == pytest.approx(theirs[place]["unmasked"], abs=1e-9)
    assert len({round(row["masked"], 6) for row in ours.values()}) > 20


def test_ri_and_mri(reported: tuple[dict[str, Any], dict[str, Any]]) -> None:
    ours, theirs = reported
    ri = {(row["model"], row["method"], row["size"], row["tuned_on"]): row for row in theirs["ri"]}
    mri = {(row["model"], row["method"], row["size"]): row for row in theirs["summaries"]}
    seen = 0
    for row in ours["summaries"]:
        place = (row["model"], row["method"], row["size"])
        if row["method"] == "pretrained":
            assert place not in mri
            continue
        assert row["mri"]["value"] == pytest.approx(mri[place]["mri"], abs=1e-9)
        assert row["mri_unmasked"]["value"] == pytest.approx(mri[place]["mri_unmasked"], abs=1e-9)
        assert row["ri"].keys() == {"whole", "part", "other"}
        for tuned_on, interval in row["ri"].items():
            assert interval["value"] == pytest.approx(ri[(*place, tuned_on)]["masked"], abs=1e-9)
            assert interval["low"] <= interval["value"] <= interval["high"]
        seen += 1
    assert seen == len(mri) == 2 * 4 + 1
