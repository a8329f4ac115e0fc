"""Tutorials: every block of each runs, in order, in a folder with what the page says that the reader has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from torch import Tensor

import trees
from helpers import Say, module_at, pictures
from rib.models.weights import write_weights
from tutorials import DOCS, Reader, Tutorial, commands

ANIMALS = ("cat", "dog", "horse", "owl")
SETS = {"photos": 0, "sketches": 1, "paintings": 2, "scans": 3}
"""Name and seed of each set."""

MOST_LINES = 15
"""Commands and lines of code from a folder of images to the comparison."""


# -- what readers have -------------------------------------------------------------------------------------------------


def write_images(folder: Path, name: str, classes: Sequence[str] = ANIMALS, per_class: int = 10) -> None:
    """A set of images as a folder tree, 32 pixels wide; `kitty` looks like a cat."""
    labels = np.repeat([max(ANIMALS.index(each.replace("kitty", "cat")), 0) for each in classes], per_class)
    for count, image in enumerate(pictures(labels, SETS[name], 40)):
        place = folder / name / classes[count // per_class]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((32, 32)).save(place / f"{count}.png")


def a_net(classes: int) -> torch.nn.Module:
    """The small net that stands for a large one."""
    from timm import create_model

    torch.manual_seed(0)
    net: torch.nn.Module = create_model("test_resnet", num_classes=classes)
    return net


def images_and_checkpoint(place: Path) -> None:
    """Four sets, and weights of 1000 classes whose features tell the four classes apart."""
    for name in SETS:
        write_images(place / "images", name)
    torch.save(trained(place / "images" / "photos", a_net(1000)).state_dict(), place / "test_resnet.pth")


def pets(place: Path) -> None:
    """Three sets with other names and numbers of classes, and weights of ImageNet's 1000 classes."""
    write_images(place / "pets", "photos")
    write_images(place / "pets", "sketches", ("kitty", *ANIMALS[1:]))
    write_images(place / "pets", "scans", ("dog", "horse"), per_class=20)
    torch.save(a_net(1000).state_dict(), place / "pets" / "test_resnet.pth")


def images(place: Path) -> None:
    """Three sets."""
    for name in ("photos", "sketches", "scans"):
        write_images(place / "images", name)


def two_checkpoints(place: Path) -> None:
    """Three sets, a net that knows their classes, and the same net after a tuning that prefers cats."""
    for name in ("photos", "sketches", "scans"):
        write_images(place / "robustness", name)
    net = trained(place / "robustness" / "photos", a_net(4))
    (place / "models").mkdir()
    torch.save(net.state_dict(), place / "models" / "base.pth")
    with torch.no_grad():
        logits = net.eval()(tensors(place / "robustness" / "photos")[0])
        margin = logits[:, 1:].max(dim=1).values - logits[:, 0]
        net.get_classifier().bias[0] += margin.quantile(0.4)  # cats were 25 % of the images, and are 40 % now
    torch.save(net.state_dict(), place / "models" / "tuned.pth")


def tensors(folder: Path) -> tuple[Tensor, Tensor]:
    """The images of a set as timm's test_resnet takes them, and their labels."""
    found = [(file, label) for label, name in enumerate(ANIMALS) for file in sorted((folder / name).iterdir())]
    seen = (Image.open(file).resize((33, 33), Image.Resampling.BILINEAR).crop((0, 0, 32, 32)) for file, _ in found)
    stacked = np.stack([np.asarray(image) for image in seen])
    net = a_net(4)
    mean, std = (torch.tensor(net.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (torch.tensor(stacked).permute(0, 3, 1, 2) / 255 - mean) / std, torch.tensor([each for _, each in found])


def trained(folder: Path, net: torch.nn.Module) -> torch.nn.Module:
    """The net after some steps on a set."""
    seen, labels = tensors(folder)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.005)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(seen), labels).backward()
        optimizer.step()
    return net


def imagenet(place: Path) -> None:
    """A few images of each set, laid out as published, and weights of a small ViT."""
    from timm import create_model

    trees.lay_out_all(place / "data", classes=6, images=1, names=[name for name in trees.NAMES if name != "c"])
    torch.manual_seed(0)
    write_weights(place / "data" / "vit.safetensors", create_model("test_vit", num_classes=1000).state_dict())


def tuned_elsewhere(place: Path) -> None:
    """What a user's own code may have made of the suite's model: the trained head's net, changed a little."""
    from rib.plan import make_plan
    from rib.store.store import Store
    from rib.suite.load import load_suite

    store = Store(place / "rib-store")
    plan = make_plan(load_suite(place / "images" / "suite.toml"), store.facts)
    weights = store.weights(plan.runs[0].fit.start.key)
    write_weights(place / "new.safetensors", {name: _moved(value) for name, value in weights.items()})
    (place / "new.safetensors").rename(place / "tuned.pth")


def _moved(value: Tensor) -> Tensor:
    return value * 1.01 if value.is_floating_point() else value


# -- the pages ---------------------------------------------------------------------------------------------------------

SMALL_NET = {"resnet18": "test_resnet", "--size 64": "--size 32"}

TUTORIALS = (
    Tutorial(
        "tutorial.md",
        images_and_checkpoint,
        SMALL_NET,
        before={"rib compare": tuned_elsewhere},
        says={"rib suite check": "32", "rib run": "mRI", "rib compare": "both see 32 pixels"},
    ),
    Tutorial(
        "tutorials/classes.md",
        pets,
        {"resnet18": "test_resnet", "size = 64": "size = 32"},
        says={"rib plan pets/suite.toml": "NewHead", "rib plan pets/wrong.toml": "kitty", "rib run": "linear_probe"},
    ),
    Tutorial(
        "tutorials/model.md",
        images,
        says={"rib plan": "0.25", "rib run": "wise_ft", "rib export": ".safetensors", "python use.py": "wise_ft"},
    ),
    Tutorial("tutorials/method.md", says={"rib run": "bias_only", "python script.py": "right"}),
    Tutorial(
        "tutorials/ci.md",
        two_checkpoints,
        {"resnet18": "test_resnet", "size = 64": "size = 32"},
        says={"rib compare robustness/suite.toml base models/tuned.pth --fail-if": "broken"},
    ),
    Tutorial("tutorials/cluster.md", says={"rib run": "linear_probe", "rib status": "done"}),
    Tutorial(
        "tutorials/imagenet.md",
        imagenet,
        {"vit_base_patch16_224": "test_vit"},
        says={"rib data check": "incomplete", "rib run": "wise_ft"},
    ),
)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: Path(tutorial.page).stem)
def test_every_block_runs(tutorial: Tutorial, tmp_path: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    tutorial.lay_out(tmp_path)
    reader = Reader(tutorial, tmp_path, rib_says, monkeypatch)
    reader.follow()
    for start in (*tutorial.says, *tutorial.before):
        assert any(line.startswith(start) for line in reader.said), f"no command starts with {start!r}"


def test_every_tutorial_is_run() -> None:
    pages = {f"tutorials/{page.name}" for page in (DOCS / "tutorials").glob("*.md")} - {"tutorials/README.md"}
    assert {tutorial.page for tutorial in TUTORIALS} == (pages | {"tutorial.md"}) - {"tutorials/notebook.md"}


def test_the_first_tutorial_is_short() -> None:
    """From a folder of images to the comparison in fifteen lines at most."""
    lines = [line for kind, text in TUTORIALS[0].blocks() if kind in ("bash", "python") for line in commands(text)]
    assert len(lines) <= MOST_LINES


# -- the notebook ------------------------------------------------------------------------------------------------------


def test_the_notebook_is_its_page() -> None:
    """If not: python docs/tutorials/make_notebook.py."""
    maker = module_at(DOCS / "tutorials" / "make_notebook.py")
    assert maker.NOTEBOOK.read_text("utf-8") == maker.notebook_text()
    blocks = Tutorial("tutorials/notebook.md").blocks()
    assert {kind for kind, _ in blocks} == {"python"}
    code = [cell.source for cell in nbformat.read(maker.NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert code == [text.strip() for _, text in blocks]


SMALLER_CELLS = {"resnet_large": "resnet_small", "rib.run(suite)": "rib.run(suite, how=rib.How(workers=1))"}


def test_every_cell_of_the_notebook_runs(tmp_path: Path) -> None:
    text = (DOCS.parent / "examples" / "first_look.ipynb").read_text("utf-8")
    for name, smaller in SMALLER_CELLS.items():
        assert name in text
        text = text.replace(name, smaller)
    notebook = nbformat.reads(text, 4)
    NotebookClient(
        notebook, timeout=500, startup_timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    plan, found, table, changes, drawn, plot, page = (cell.outputs for cell in code)
    assert "Fit finetune" in plan[-1].data["text/plain"]
    assert "mRI" in found[-1].data["text/html"]
    assert "mri_low" in table[-1].data["text/html"]
    assert "wise_ft" in changes[-1].data["text/html"]
    assert "image/png" in drawn[-1].data
    assert "image/png" in plot[-1].data
    assert not page
    assert (tmp_path / "first_look.html").stat().st_size > 100_000
