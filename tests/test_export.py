"""Export: what is written loads elsewhere and gives the same logits, with a card that says what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers import Say, command, model_row, toml, world
from rib import _compat
from rib.models.build import build
from rib.models.weights import take_weights, write_weights
from rib.plan import make_plan
from rib.report.model_folders import run_name
from rib.results.results import Results
from rib.steps import How, Workshop
from rib.store.store import Store
from rib.suite.load import load_suite

_compat.declare_missing_operators()

import timm  # noqa: E402

VIT: dict[str, Any] = {
    "timm": "vit_tiny_patch16_224",
    "arguments": {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2},
    "size": 32,
    "crop": 0.95,
    "mean": [0.4, 0.5, 0.6],
    "weights": "vit.safetensors",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of a timm model and one that is not, run and exported."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    write_weights(
        folder / "vit.safetensors", take_weights(timm.create_model(VIT["timm"], num_classes=4, **VIT["arguments"]))
    )
    suite = {
        "name": "tiny",
        "reference": "clean",
        "downstream": ["whole", "part"],
        "models": ["vit", "resnet"],
        "runs": [{"methods": ["finetune", "l2_sp", "lwf", "wise_ft", "soup"], "sizes": [12]}],
        "recipe": {"epochs": 2, "batch_size": 5, "lr": 0.005},
        "data": world(folder),
        "model": {"vit": VIT, "resnet": model_row(folder, "resnet")},
    }
    (folder / "tiny.toml").write_text(toml(suite))
    done = command("run", "tiny.toml", "--workers", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    done = command("export", "out", "tiny.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * (1 + 5 * 2)
    return folder


@pytest.fixture(scope="module")
def results(place: Path) -> Results:
    store = Store(place / "rib-store")
    return Results(make_plan(load_suite(place / "tiny.toml"), store.facts), store)


@pytest.mark.parametrize("method", ["finetune", "wise_ft", "soup", "pretrained"])
def test_a_timm_model_loads_with_plain_timm_and_gives_the_same_logits(
    method: str, place: Path, results: Results
) -> None:
    run = next(run for run in results.plan.runs if (run.model, run.method) == ("vit", method))
    workshop = Workshop(results.suite, results.store, How(device="cpu"), lambda *_: None)
    classifier = build(run.fit.architecture).eval()
    classifier.net.load_state_dict(workshop.weights(run.fit))
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    net = timm.create_model(f"local-dir:{place / 'out' / run_name(results, run)}", pretrained=True).eval()
    seen = timm.data.resolve_model_data_config(net)
    assert (seen["input_size"], seen["crop_pct"], seen["interpolation"]) == ((3, 32, 32), 0.95, "bicubic")
    mean, std = (torch.tensor(seen[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        theirs = net((images.permute(0, 3, 1, 2) / 255 - mean) / std)
        assert torch.allclose(theirs, classifier(images), atol=1e-5)
        assert torch.equal(net(classifier.prepared(images)), classifier(images))


def test_what_was_exported_can_be_a_model_of_another_suite(place: Path, results: Results) -> None:
    from rib.models.catalogue import ModelRow
    from rib.models.describe import describe
    from rib.models.loading import load_pretrained

    run = next(run for run in results.plan.runs if (run.model, run.method) == ("vit", "finetune"))
    row = ModelRow(hf=f"out/{run_name(results, run)}")
    architecture = describe(row, 4, place)
    assert architecture.view == run.fit.architecture.view
    assert architecture.mean == run.fit.architecture.mean
    classes = results.plan.world[results.suite.reference].classes
    assert tuple(json.loads((place / row.hf / "config.json").read_text())["label_names"]) == classes  # type: ignore[operator]
    turned = load_pretrained("mine", row, architecture, place, classes[::-1])
    weights = load_pretrained("mine", row, architecture, place)
    stored = results.store.weights(run.fit.key)
    assert all(torch.equal(weights[name], stored[name]) for name in stored)
    assert torch.equal(turned["head.weight"], stored["head.weight"].flip(0))


def test_the_card_says_what_the_model_is(place: Path, results: Results) -> None:
    run = next(run for run in results.plan.runs if (run.model, run.method, run.tuned_on) == ("vit", "soup", "part"))
    card = (place / "out" / run_name(results, run) / "README.md").read_text("utf-8")
    row = next(row for row in results.summaries if (row.model, row.method) == ("vit", "soup"))
    ri = row.ri["part"]
    assert ri is not None
    assert f"RI {ri.value:+.2f} [{ri.low:+.2f}, {ri.high:+.2f}] points" in card
    for words in ("suite `tiny`", "tuned on `part` by `soup`", "12 images", "library_name: timm", "by name"):
        assert words in card
    assert '"members"' in card
    assert "finetune vit on part (12), recipe" in card
    assert run.fit.key in card
    assert f"torch {torch.__version__}" in card


def test_another_model_keeps_its_file_with_a_description_and_a_card(place: Path, results: Results) -> None:
    run = next(run for run in results.plan.runs if (run.model, run.method) == ("resnet", "wise_ft"))
    file = place / "out" / f"{run_name(results, run)}.safetensors"
    described = json.loads(file.with_suffix(".json").read_text())["architecture"]
    assert described["build"] == "rib.models.small:small_resnet"
    assert described["classes"] == 4
    named = json.loads(file.with_suffix(".json").read_text())["classes"]
    assert tuple(named) == results.plan.world[results.suite.reference].classes
    assert "library_name" not in file.with_suffix(".md").read_text()
    workshop = Workshop(results.suite, results.store, How(device="cpu"), lambda *_: None)
    expected = workshop.weights(run.fit)
    written = load_file(file)
    assert all(torch.equal(written[name], expected[name]) for name in expected)


def test_only_what_was_asked_for_is_written(place: Path) -> None:
    words = ("--model", "vit", "--method", "wise_ft", "--tuned-on", "part")
    done = command("export", "one", "tiny.toml", *words, cwd=place)
    assert [Path(line).name for line in done.stdout.splitlines()] == ["vit-wise_ft-part-12-0"]
    done = command("export", "none", "tiny.toml", "--method", "ewc", cwd=place)
    assert done.returncode == 2


def test_what_is_not_finished_is_counted(place: Path, tmp_path: Path, rib_says: Say) -> None:
    words = ("--store", place / "rib-store", "--model", "resnet", "--method", "finetune", "--seeds", "0,1")
    code, said = rib_says("export", tmp_path / "some", place / "tiny.toml", *words)
    assert code == 0
    assert "2 of the 4 matching models are not finished, and left out" in said
    assert len(list((tmp_path / "some").glob("*.safetensors"))) == 2
