"""ImageNet-RIB from end to end on small trees: the shipped suite, its commands, its report and its page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import trees
from helpers import Say, command, toml
from rib import _compat
from rib.data.published import PUBLISHED
from rib.models.weights import take_weights, write_weights
from rib.plan import make_plan
from rib.results.results import Results
from rib.store.store import Store
from rib.suite.load import SHIPPED, load_suite, parse_suite

_compat.declare_missing_operators()

import timm  # noqa: E402
import torchvision  # noqa: E402

METHODS = ("finetune", "linear_probe", "lp_ft", "l2_sp", "ewc", "lwf", "wise_ft", "soup")
SIDE = 32
MODELS: dict[str, dict[str, Any]] = {
    "vit": {
        "timm": "vit_tiny_patch16_224",
        "arguments": {"img_size": SIDE},
        "size": SIDE,
        "weights": "vit.safetensors",
    },
    "resnet": {"torchvision": "resnet18", "size": SIDE, "weights": "resnet.pth"},
}


def suite_document(name: str) -> dict[str, Any]:
    """A shipped ImageNet suite, with two local models, one seed, one epoch in fp32, and leave to be incomplete."""
    shipped = load_suite(name)
    sets = {f"imagenet:{key}": {"imagenet": key, "allow_incomplete": True} for key in PUBLISHED}
    own = {
        "models": list(MODELS),
        "seeds": [0],
        "recipe": {"base": "paper", "precision": "fp32", "epochs": 1, "eval_batch_size": 100},
        "model": MODELS,
        "data": {key: sets[key] for key in shipped.tested},
    }
    kept = shipped.model_dump(exclude={*own, "method", "held_out"}, exclude_defaults=True, mode="json")
    for block in kept.get("analyses", ()):
        if "cka" in block["names"]:
            block["on"] = ["imagenet:c"]  # three images of the reference set are too few for CKA
            block["downstream"] = ["imagenet:v2"]
    return kept | {"name": f"small-{name}", "runs": kept["runs"]} | own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small trees of all nine sets, a ViT-Tiny and a ResNet-18 with random weights, and a suite file."""
    folder = tmp_path_factory.mktemp("imagenet")
    trees.lay_out_all(folder, classes=3, images=1)
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=1000, img_size=SIDE)
    write_weights(folder / "vit.safetensors", take_weights(vit))
    torch.save(torchvision.models.resnet18(num_classes=1000).state_dict(), folder / "resnet.pth")
    (folder / "small.toml").write_text(toml(suite_document("imagenet_rib")))
    return folder


@pytest.fixture(scope="module")
def ran(place: Path) -> Path:
    """The store of the whole suite, run by the command."""
    done = command("run", "small.toml", "--data", ".", "--keep", "none", "--workers", 2, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "mRI" in done.stdout
    return place / "rib-store"


@pytest.mark.parametrize("name", ["imagenet_rib", "imagenet_rib_8", "imagenet_rib_lite", "imagenet_sizes"])
def test_the_shipped_suites_are_what_they_say(name: str) -> None:
    suite = load_suite(name)
    seven = {f"imagenet:{key}" for key in ("v2", "a", "r", "sketch", "objectnet", "cartoon", "drawing")}
    more = {"imagenet_rib_8": {"imagenet:c_5k"}, "imagenet_sizes": {"imagenet:train_120k"}}.get(name, set())
    assert set(suite.downstream) == seven | more
    assert suite.evaluate == (("imagenet:c",) if name == "imagenet_rib" else ())
    assert suite.reference == "imagenet:val"
    assert suite.seeds == (0, 1, 2)
    assert suite.recipe == parse_suite({**suite_document(name), "recipe": "paper"}).recipe
    assert (SHIPPED / f"{name}.toml").read_text().count("\n") < 40


def test_every_cell_of_the_published_protocol_is_there(ran: Path, place: Path) -> None:
    suite = load_suite(place / "small.toml", place)
    store = Store(ran)
    plan = make_plan(suite, store.facts)
    results = Results(plan, store, draws=50)
    assert not results.unfinished()
    assert not results.failures
    assert len(plan.runs) == len(MODELS) * (1 + 7 * len(METHODS))
    for run in plan.runs:
        assert len(run.scores) == 9 - (run.tuned_on is not None)  # a set tuned on whole has no unseen images
        assert (run.seen is None) == (run.tuned_on is None)
    for row in results.summaries:
        assert row.missing == ()
        assert row.method == "pretrained" or None not in (row.mri, row.seen_gain)
    roles = {score.tested_on: score.role for score in results.scores if score.method == "pretrained"}
    assert (roles["val"], roles["c"]) == ("reference", "evaluate")
    corrupted = next(score for score in results.scores if score.tested_on == "c")
    assert corrupted.examples == 75 * 3


def test_the_page_and_the_table_are_written(ran: Path, place: Path) -> None:
    assert "<html" in (ran / "reports" / "small-imagenet_rib.html").read_text("utf-8")
    done = command("report", "small.toml", "--data", ".", "--latex", "table.tex", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "linear" in (place / "table.tex").read_text("utf-8")


def test_verify_compares_what_was_run_with_given_numbers(ran: Path, place: Path) -> None:
    numbers = {"accuracy": {"vit": {"imagenet:val": 0.0, "imagenet:a": 100.0}}}
    (place / "numbers.toml").write_text(toml(numbers))
    done = command("verify", "small.toml", "--data", ".", "--numbers", "numbers.toml", "--json", cwd=place)
    found = {check["what"]: check for check in json.loads(done.stdout)}
    assert found["a"]["verdict"] == "differs"
    assert done.returncode == 1


def test_a_finished_suite_has_nothing_to_do_and_costs_nothing(ran: Path, place: Path) -> None:
    done = command("plan", "small.toml", "--data", ".", "--json", cwd=place)
    facts = json.loads(done.stdout)
    assert not any(step["to do"] for step in facts["steps"])
    assert facts["cost"]["flops"] == facts["cost"]["decoded"] == 0


def test_data_check_names_what_is_incomplete(place: Path) -> None:
    done = command("data", "check", "imagenet_rib_lite", "--data", ".", cwd=place)
    assert done.returncode == 1
    assert "imagenet:sketch" in done.stdout


@pytest.mark.parametrize(("free", "streamed_sets"), [(10**12, ()), (10**11, ("c",)), (10**10, ("c", "val"))])
def test_the_cost_is_known_before_data_and_weights_are_there(
    free: int, streamed_sets: tuple[str, ...], rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ViT-B/16 as performance models put it: 2.17 M image-epochs a method and seed, 27.9 M evaluations."""
    monkeypatch.setenv("HF_HOME", "hf")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2 * free, free, free))  # type: ignore[attr-defined]
    code, said = rib_says("plan", "imagenet_rib", "--models", "vit_b16_in21k_augreg", "--json")
    assert code == 0, said
    cost = json.loads(said)["cost"]
    images = 10_000 + 7_500 + 30_000 + 50_889 + 18_574 + 50_000 + 50_000
    tested = {"val": 50_000, "c": 3_750_000}
    assert cost["decoded"] == images + sum(tested[name] for name in tested if name not in streamed_sets)
    nets, tuned = 1 + 3 * 7 * 7, 3 * 7  # heads and LwF ride on the pretrained passes; three seeds
    assert cost["streamed"] == -(-nets // 16) * sum(tested[name] for name in streamed_sets)
    evaluated = nets * (images + 50_000 + 3_750_000)  # a tuned one on the images tuned on too
    looks = tuned * 2 * 2_000 + 9 * 1_000  # CKA of every fine-tuned model, distances once
    fisher = tuned * 200  # of EWC: a draw of the labels, then a gradient
    assert cost["forward"] == evaluated + looks + fisher
    assert cost["trained"] == 3 * 5 * 10 * images + fisher
    assert cost["flops"] == pytest.approx(35.13e9 * (cost["forward"] + 3 * cost["trained"]), rel=1e-3)
    assert cost["weights"] == 3 * 6 * 7 * 4 * 86_567_656
    assert len(cost["assumed"]) == 10
    assert cost["hours"] is None
    _, lines = rib_says("plan", "imagenet_rib", "--models", "vit_b16_in21k_augreg")
    assert "weights of imagenet:vit_b16_in21k_augreg" in lines
    assert "--calibrate" in lines


def test_calibration_gives_hours(place: Path) -> None:
    words = ("plan", "small.toml", "--data", ".", "--store", "fresh", "--calibrate", "--device", "cpu", "--json")
    done = command(*words, cwd=place)
    assert 0 < json.loads(done.stdout)["cost"]["hours"] < 1


def test_a_run_without_data_says_what_is_missing(tmp_path: Path) -> None:
    done = command("run", "imagenet_rib", cwd=tmp_path)
    assert done.returncode == 2
    assert "imagenet:val" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_example_of_options_plans(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "examples" / "imagenet-options.toml"
    plan = make_plan(load_suite(file, tmp_path), assume=True)
    assert {run.method for run in plan.runs} == {
        *("pretrained", "finetune", "norms_frozen", "head_frozen", "best_rate", "lora")
    }


def test_models_can_be_chosen(place: Path) -> None:
    suite = load_suite(place / "small.toml", place).with_models(["resnet", "imagenet:resnet50", "vit_b32_openai"])
    assert suite.models == ("resnet", "imagenet:resnet50", "imagenet:vit_b32_openai")
    with pytest.raises(Exception, match="unknown model 'resnet51'"):
        suite.with_models(["resnet51"])
