"""docs/tutorial.md: every block runs, in order, on a folder of images, with a checkpoint of other classes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import PATIENCE, Say, pictures, surroundings
from rib.models.weights import write_weights

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"

SMALLER = {"resnet18": "test_resnet", "--size 64": "--size 32"}
"""What the page names, and what stands for it here, so that the test takes seconds."""

MOST_LINES = 15
"""Commands and lines of code from a folder of images to the comparison."""


def blocks(kind: str) -> list[str]:
    text = PAGE.read_text("utf-8")
    for name, smaller in SMALLER.items():
        text = text.replace(name, smaller)
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Images of four classes in four sets; weights of ImageNet's 1000 classes, and of a tuned net of the four."""
    from PIL import Image
    from timm import create_model

    for number, name in enumerate(("photos", "sketches", "paintings", "scans")):
        labels = np.repeat(np.arange(4), 10)
        for count, (image, label) in enumerate(zip(pictures(labels, number, 40), labels, strict=True)):
            folder = tmp_path / "images" / name / ("cat", "dog", "horse", "owl")[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((32, 32)).save(folder / f"{count}.png")
    torch.manual_seed(0)
    torch.save(create_model("test_resnet", num_classes=1000).state_dict(), tmp_path / "test_resnet.pth")
    return tmp_path


def test_every_block_of_the_tutorial_runs(place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]
    (code,) = blocks("python")
    assert len(commands) + len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    assert [words[1] for words in commands] == ["suite", "suite", "run", "compare"]
    for words in commands:
        if words[1] == "compare":
            net = tuned_from(place)
            write_weights(place / "tuned.safetensors", net)
            (place / "tuned.safetensors").rename(place / "tuned.pth")
        more = ["--workers", "1"] if words[1] in ("run", "compare") else []
        status, said = rib_says(*words[1:], *more, *(["--store", "compared"] if words[1] == "compare" else []))
        if words[1] != "compare":  # nets of a few images may be near chance, which the comparison says
            assert status == 0, said
    assert "Both models see" in said or "both see 32 pixels" in said
    (place / "script.py").write_text(code)
    script = [sys.executable, "script.py"]
    done = subprocess.run(
        script, cwd=place, env=surroundings(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout


def tuned_from(place: Path) -> dict[str, torch.Tensor]:
    """The trained head's net, changed a little: what a user's own code may have made of it."""
    from rib.plan import make_plan
    from rib.store.store import Store
    from rib.suite.load import load_suite

    store = Store(place / "rib-store")
    plan = make_plan(load_suite(place / "images" / "suite.toml"), store.facts)
    weights = store.weights(plan.runs[0].fit.start.key)
    return {name: value * 1.01 if value.is_floating_point() else value for name, value in weights.items()}
