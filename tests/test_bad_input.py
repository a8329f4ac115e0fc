"""What the user gets wrong: exit code, what was got, what is valid, what to do, and never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import CLASSES, Said, Say, classifier, document, toml, write_arrays, write_tree
from rib.errors import with_near_path
from rib.models.weights import take_weights
from rib.plan import make_plan
from rib.store.store import Store
from rib.suite.load import load_suite


def written(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda made: None, **fields: Any) -> Path:
    """A suite file, changed."""
    made = document(folder, **fields)
    change(made)
    file = folder / "tiny.toml"
    file.write_text(toml(made))
    return file


def assert_said(said: Said, code: int, *texts: str) -> None:
    assert said[0] == code, said[1]
    for text in texts:
        assert text in said[1], said[1]


# -- paths -------------------------------------------------------------------------------------------------------------


def test_the_nearest_path_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "images" / "photo").mkdir(parents=True)
    (tmp_path / "images" / "a.npz").touch()
    there = str(tmp_path / "images")
    assert with_near_path(tmp_path / "imges") == f"did you mean {there!r}?"
    assert with_near_path(tmp_path / "imges" / "photo") == f"did you mean {there + '/photo'!r}?", "the first wrong part"
    assert with_near_path(tmp_path / "imges" / "sketch") == f"did you mean {there!r}?"
    assert with_near_path(tmp_path / "images" / "a.npy", "look") == f"did you mean {there + '/a.npz'!r}?; look"
    assert with_near_path(tmp_path / "zzz", "look") == "look"
    assert with_near_path(tmp_path / "zzz") is None
    assert with_near_path(tmp_path / ("a" * 300), "look") == "look", "no file system has such a name"
    assert with_near_path(tmp_path / "images", "look") == "look", "it exists"
    assert with_near_path(tmp_path / "images" / "a.npz" / "x", "look") == "look", "a file in the place of a folder"


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["plan", "tny.toml"], "tiny.toml"),
        (["plan", "tiny.tml"], "tiny.toml"),
        (["plan", "./tiny"], "tiny.toml"),
        (["compare", "tiny.toml", "resnet", "./resnet-1.safetensors"], "resnet-0.safetensors"),
        (["suite", "new", "tre"], "tree"),
    ],
)
def test_commands_suggest_the_nearest_path(rib_says: Say, tmp_path: Path, words: list[str], near: str) -> None:
    written(tmp_path)
    (tmp_path / "tree").mkdir()
    assert_said(rib_says(*words), 2, "did you mean", near, "remedy:")


@pytest.mark.parametrize(
    ("kind", "there"),
    [
        ("folder", "photos"),
        ("arrays", "photos.npz"),
        ("parquet", "photos"),
        ("shards", "photos"),
        ("text", "prose.csv"),
    ],
)
def test_data_sets_suggest_the_nearest_path(rib_says: Say, tmp_path: Path, kind: str, there: str) -> None:
    (tmp_path / there).mkdir()
    row = {kind: there.replace("o", "", 1)}
    file = written(tmp_path, lambda made: made["data"].update(part=row))
    assert_said(rib_says("plan", file), 2, "did you mean", f"{there}'?")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", [{"hf": "nett"}, {"timm": "test_resnet", "size": 32, "weights": "nett.pth"}], ids=["folder", "checkpoint"]
)
def test_models_suggest_the_nearest_path(rib_says: Say, tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net.pth").touch()
    near = "net.pth" if "weights" in row else "net"
    file = written(tmp_path, lambda made: made["model"].update(resnet=row))
    assert_said(rib_says("plan", file), 2, "did you mean", f"{near}'?")


def test_unknown_suite(rib_says: Say) -> None:
    code, said = rib_says("plan", "nonexist")
    assert (code, "unknown suite 'nonexist'" in said, "did you mean" in said) == (2, True, False), "nothing is near"
    assert_said(rib_says("plan", "digit"), 2, "unknown suite 'digit'", "got:", "digits-quick", "did you mean 'digits'?")
    assert_said(rib_says("plan", "no/such.toml"), 2, "suite file not found", "no/such.toml", "remedy:")


@pytest.mark.parametrize(
    ("change", "what", "suggestion"),
    [
        ({"runs": [{"methods": ["finetun"]}]}, "unknown method 'finetun'", "'finetune'"),
        ({"models": ["digits:resnet_larg"]}, "unknown model 'digits:resnet_larg'", "'digits:resnet_large'"),
        ({"reference": "clea"}, "unknown data set 'clea'", "'clean'"),
        ({"downstream": ["whole", "prat"]}, "unknown data set 'prat'", "'part'"),
        ({"evaluate": ["digits:sketchh"]}, "unknown data set 'digits:sketchh'", "'digits:sketch'"),
    ],
)
def test_unknown_names(rib_says: Say, tmp_path: Path, change: dict[str, Any], what: str, suggestion: str) -> None:
    said = rib_says("plan", written(tmp_path, lambda made: made.update(change)))
    assert_said(said, 2, what, "got:", "valid:", f"did you mean {suggestion}")


def test_unknown_timm_model_names_near_ones_only(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, lambda made: made["model"].update(resnet={"timm": "resnet18x"}))
    code, text = rib_says("plan", file)
    assert_said((code, text), 2, "unknown timm model 'resnet18x'", "'resnet18'")
    assert len(text) < 1000  # there are more than a thousand


# -- the suite file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "wrong", "place", "valid", "suggestion"),
    [
        ((), "downstreem", "downstreem", "downstream, evaluate", "downstream"),
        (("recipe",), "epoch", "recipe.epoch", "epochs, steps", "epochs"),
        (("data", "part"), "folde", "data.part.folde", "folder", "folder"),
        (("model", "resnet"), "weight", "model.resnet.weight", "weights", "weights"),
        (("runs", 0), "size", "runs.0.size", "methods, sizes", "sizes"),
        (("model", "resnet", "pretrain"), "sed", "model.resnet.pretrain.sed", "data, seed, recipe", "seed"),
        (("model", "resnet", "pretrain", "recipe"), "lrr", "model.resnet.pretrain.recipe.lrr", "lr, momentum", "lr"),
    ],
)
def test_unknown_keys_at_every_level(
    rib_says: Say, tmp_path: Path, where: tuple[Any, ...], wrong: str, place: str, valid: str, suggestion: str
) -> None:
    def change(made: dict[str, Any]) -> None:
        if "pretrain" in where:
            made["model"]["resnet"].pop("weights")
            made["model"]["resnet"]["pretrain"] = {"recipe": {}}
        table: Any = made
        for part in where:
            table = table[part]
        table[wrong] = 3

    said = rib_says("plan", written(tmp_path, change))
    assert_said(said, 2, f"unknown key {place!r}", f"got:    {wrong}", valid, f"did you mean {suggestion!r}?")


def test_unknown_hyper_parameter(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, method={"mine": {"kind": "wise_ft", "alpa": 0.3}}, runs=[{"methods": ["mine"]}])
    assert_said(rib_says("plan", file), 2, "unknown key 'alpa'", "alpha, tuned", "did you mean 'alpha'?")
    file = written(tmp_path, method={"mine": {"kind": "wise_ft", "alpha": 3}}, runs=[{"methods": ["mine"]}])
    assert_said(rib_says("plan", file), 2, "method 'mine'", "alpha", "less than or equal to 1", "got:    3")
    file = written(tmp_path, method={"mine": {"kind": 3}}, runs=[{"methods": ["mine"]}])
    assert_said(rib_says("plan", file), 2, "unknown method '3'")


@pytest.mark.parametrize("text", ["name = ", "[suite\nname = 1", "name = 'a'\nname = 'b'", "\x00"])
def test_malformed_toml(rib_says: Say, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    assert_said(rib_says("plan", "bad.toml"), 2, "cannot read the suite file bad.toml", "got:", "valid:  TOML")


def test_a_suite_file_that_is_no_text(rib_says: Say, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    assert_said(rib_says("plan", "bad.toml"), 2, "cannot read the suite file")
    (tmp_path / "folder.toml").mkdir()
    assert_said(rib_says("plan", "folder.toml"), 2, "cannot read the suite file")


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"downstream": []}, ["downstream needs at least two data sets"]),
        ({"downstream": ["part"]}, ["downstream needs at least two data sets"]),
        ({"downstream": ["part", "part"]}, ["downstream names 'part' twice"]),
        ({"seeds": [0, 1, 0]}, ["seed 0 is named twice"]),
        ({"runs": [{"methods": ["finetune"], "seeds": [2, 2]}]}, ["seed 2 is named twice"]),
        ({"merges": [{"methods": ["soup"], "sizes": [0]}]}, ["sizes are positive numbers of images"]),
        ({"downstream": ["part", "clean"]}, ["cannot be a downstream set as well", "[[runs]] downstream"]),
        ({"models": []}, ["models"]),
        ({"runs": [{"methods": []}]}, ["runs.0.methods"]),
        ({"runs": [{"methods": ["finetune"], "sizes": [0]}]}, ["sizes are positive"]),
        ({"runs": [{"methods": ["finetune"], "sizes": ["most"]}]}, ["runs.0.sizes", "got:    most"]),
        ({"runs": [{"methods": ["finetune"], "downstream": ["other"]}]}, ["'other' is not among"]),
        ({"recipe": {"lr": -1.0}}, ["recipe.lr", "greater than 0", "got:    -1.0"]),
        ({"name": "a/b"}, ["name", "got:    a/b"]),
    ],
)
def test_values_that_make_no_sense(rib_says: Say, tmp_path: Path, change: dict[str, Any], texts: list[str]) -> None:
    assert_said(rib_says("plan", written(tmp_path, lambda made: made.update(change))), 2, *texts)


def test_a_missing_key(rib_says: Say, tmp_path: Path) -> None:
    said = rib_says("plan", written(tmp_path, lambda made: made.pop("reference")))
    assert_said(said, 2, "'reference' is missing", "got:", "valid:", "remedy: add 'reference'")


@pytest.mark.parametrize("change", [lambda made: made.pop("models"), lambda made: made.update(models=[])])
def test_a_suite_without_models(rib_says: Say, tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    said = rib_says("plan", written(tmp_path, change))
    assert_said(said, 2, "'models' is", "got:", "valid:", "remedy:", "'models'")


def test_a_size_that_cannot_be_drawn(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, runs=[{"methods": ["finetune"], "sizes": [9999], "downstream": ["whole"]}])
    texts = ["a tuning set of 9999 cannot be drawn from 'whole'", "got:    9999", "valid:", "remedy:"]
    assert_said(rib_says("plan", file), 2, *texts)


def test_choices_without_held_out_images(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, held_out=0.0, runs=[{"methods": ["greedy_soup"]}])
    assert_said(rib_says("plan", file), 2, "'greedy_soup' chooses on held-out", "got:    held_out = 0", "remedy:")


def test_a_tuning_pattern_that_fits_no_model(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, tuning={"restnet*": {"lr": 0.1}})
    assert_said(rib_says("plan", file), 2, "tuning: 'restnet*' matches none of the models")


def test_an_ingredient_with_a_name_close_to_the_suites_own(rib_says: Say, tmp_path: Path) -> None:
    method = {"gentle": {"kind": "finetune", "lr": 0.001}, "wise": {"kind": "wise_ft", "tuned": "gentel"}}
    file = written(tmp_path, runs=[{"methods": ["wise"]}], method=method)
    assert_said(rib_says("plan", file), 2, "unknown method 'gentel'", "did you mean 'gentle'?")


def test_weights_that_were_not_kept_cannot_be_exported(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, runs=[{"methods": ["finetune", "wise_ft"], "sizes": [8]}])
    assert rib_says("run", file, "--keep", "none")[0] == 0
    assert_said(rib_says("export", tmp_path / "out", file), 2, "were dropped", "remedy: run the suite with --keep all")
    assert not (tmp_path / "out").exists()


def test_a_soup_of_itself(rib_says: Say, tmp_path: Path) -> None:
    stew = {"kind": "soup", "members": ["pretrained", "stew"]}
    file = written(tmp_path, runs=[{"methods": ["stew"]}], method={"stew": stew})
    assert_said(rib_says("plan", file), 2, "method 'stew' is an ingredient of itself", "remedy:")


# -- data --------------------------------------------------------------------------------------------------------------


def tree(folder: Path, change: Callable[[Path], Any]) -> Path:
    """A suite file of which `part` is a folder tree, spoilt."""
    root = write_tree(folder / "tree")
    change(root)
    return written(folder, lambda made: made["data"].update(part={"folder": "tree", "test_fraction": 0.5}))


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (shutil.rmtree, ["folder not found", "--data"]),
        (lambda root: [shutil.rmtree(root / name) for name in CLASSES], ["no class folders", "<root>/<class>/<image>"]),
        (lambda root: [image.unlink() for image in (root / "bee").iterdir()], ["'bee' has no images", "remedy:"]),
        (lambda root: (root / "Bee").mkdir(), ["differ only in case", "'Bee' and 'bee'"]),
        (lambda root: (root / "zebra").mkdir(), ["'zebra'"]),
        (lambda root: [(root / n).rename(root / f"x{n}") for n in CLASSES], ["does not cover class 'xant'", "labels]"]),
    ],
    ids=["missing", "no classes", "empty class", "case", "empty extra class", "not covered"],
)
def test_spoilt_trees(rib_says: Say, tmp_path: Path, change: Callable[[Path], Any], texts: list[str]) -> None:
    assert_said(rib_says("plan", tree(tmp_path, change)), 2, "'part'", *texts)


def test_a_tree_one_level_too_deep(rib_says: Say, tmp_path: Path) -> None:
    def nest(root: Path) -> None:
        (root / "train").mkdir()
        for name in CLASSES:
            (root / name).rename(root / "train" / name)

    assert_said(rib_says("plan", tree(tmp_path, nest)), 2, "'train' has no images", "remedy:", "one level deeper")


def cut(root: Path) -> None:
    file = root / "cat" / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    Image.fromarray(noise).save(file, quality=95)
    file.write_bytes(file.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (lambda root: (root / "cat" / "0.png").write_text("no image"), "cat/0.png"),
        (lambda root: (root / "cat" / "0.png").write_bytes(b""), "cat/0.png"),
        (cut, "cat/photo.jpg"),
    ],
    ids=["text", "empty", "truncated"],
)
def test_images_that_cannot_be_read_are_named(
    rib_says: Say, tmp_path: Path, change: Callable[[Path], Any], file: str
) -> None:
    said = rib_says("run", tree(tmp_path, change), "--workers", 1)
    assert_said(said, 2, "cannot read the image", file, "got:", "remedy:")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": np.zeros((4, 8, 8, 3), np.uint8)}, "lacks arrays"),
        ({"images": np.zeros((4, 8, 8, 3), np.float32), "labels": np.arange(4)}, "float32"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.arange(3)}, "labels (3,)"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.arange(4)}, "without class names"),
        (
            {"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.arange(4), "classes": np.array(["ant", "bee"])},
            "out of range",
        ),
        ({"images": np.zeros((1, 8, 8), np.uint8), "labels": np.array(["zebra"])}, "does not cover class 'zebra'"),
    ],
)
def test_spoilt_arrays(rib_says: Say, tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    file = written(tmp_path)
    np.savez(tmp_path / "part.npz", **arrays)
    assert_said(rib_says("plan", file), 2, "'part'", text)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_arrays_that_are_no_archive(rib_says: Say, tmp_path: Path, content: bytes) -> None:
    file = written(tmp_path)
    (tmp_path / "part.npz").write_bytes(content)
    assert_said(rib_says("plan", file), 2, "data set 'part': cannot read", "part.npz", "an .npz file")
    (tmp_path / "part.npz").unlink()
    assert_said(rib_says("plan", file), 2, "data set 'part': file not found", "--data")


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        ({"bee": "wasp"}, ["does not cover class 'bee'", "got:    wasp"]),
        ({"zebra": "ant"}, ["names a class that the data set does not have", "zebra"]),
        ({"bee": "ant"}, ["gives the reference class 'ant' to two classes"]),
    ],
)
def test_label_maps_that_do_not_fit(rib_says: Say, tmp_path: Path, labels: Any, texts: list[str]) -> None:
    file = written(tmp_path, lambda made: made["data"]["part"].update(labels=labels))
    assert_said(rib_says("plan", file), 2, "label map of 'part'", *texts)


# -- models ------------------------------------------------------------------------------------------------------------


def narrow() -> dict[str, torch.Tensor]:
    return take_weights(classifier("resnet", classes=3).net)


def nan() -> dict[str, torch.Tensor]:
    found = take_weights(classifier("resnet").net)
    found["norm.weight"][0] = float("nan")
    return found


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (narrow, ["another number of classes", "3 outputs (head.weight is (3, 32))", "valid:", "remedy:"]),
        (lambda: narrow() | {"a": torch.ones(2)}, ["does not fit the model", "a is not part of the model"]),
        (lambda: {"a": torch.ones(2)}, ["does not fit the model", "stem.weight is missing", "20 differences"]),
        (nan, ["not finite", "NaN or infinity in norm.weight"]),
        (lambda: [1, 2, 3], ["does not hold a state dict", "got:    list"]),
        (lambda: torch.nn.Linear(2, 2), ["cannot read the checkpoint", "model.state_dict()"]),
        (None, ["cannot read the checkpoint"]),
    ],
    ids=["wrong head", "another name", "no name", "nan", "list", "pickled module", "text"],
)
def test_checkpoints_that_do_not_fit(rib_says: Say, tmp_path: Path, content: Any, texts: list[str]) -> None:
    file = written(tmp_path, lambda made: made["model"]["resnet"].update(weights="mine.pth"))
    if content is None:
        (tmp_path / "mine.pth").write_text("no checkpoint")
    else:
        torch.save(content(), tmp_path / "mine.pth")
    for command in ("plan", "run"):
        code, text = rib_says(command, file)
        assert_said((code, text), 2, *texts)
        assert text.count(texts[0]) == 1


def test_every_model_that_cannot_be_used_is_named_at_once(rib_says: Say, tmp_path: Path) -> None:
    def change(made: dict[str, Any]) -> None:
        made["model"] = {name: made["model"]["resnet"] | {"weights": f"{name}.pth"} for name in ("one", "two", "good")}
        made["models"] = ["one", "good", "two"]
        for row in made["model"].values():
            row.pop("pretrain", None)

    file = written(tmp_path, change)
    torch.save(narrow(), tmp_path / "one.pth")
    torch.save(nan(), tmp_path / "two.pth")
    torch.save(take_weights(classifier("resnet").net), tmp_path / "good.pth")
    code, text = rib_says("plan", file)
    assert_said((code, text), 2, "2 models cannot be used", "3 outputs (head.weight", "NaN or infinity in norm.weight")
    assert text.count("model 'one'") == text.count("model 'two'") == 1
    assert "good" not in text


def test_a_checkpoint_that_is_not_there(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path, lambda made: made["model"]["resnet"].update(weights="mine.pth"))
    assert_said(rib_says("plan", file), 2, "no weights for model 'resnet'", "mine.pth", "remedy:")


USER_MODULE = """
import torch
def nothing(num_classes): return None
def headless(num_classes): return torch.nn.Conv2d(3, 4, 3)
def strict(num_classes, width): return torch.nn.Linear(3, num_classes)
def faulty(num_classes): return torch.nn.Linear(3, num_classes // 0)
def flat(num_classes): return torch.nn.Linear(3, num_classes)
class Bare: name = "bare"
"""


@pytest.mark.parametrize(
    ("row", "code", "texts"),
    [
        ({"build": "mine:nothing"}, 2, ["built no torch.nn.Module", "got:    NoneType"]),
        ({"build": "mine:headless"}, 2, ["no linear head with one output per class", "4 outputs", "remedy:"]),
        ({"build": "mine:strict"}, 2, ["cannot build the model 'mine:strict'", "width", "num_classes"]),
        ({"build": "mine:faulty"}, 2, ["cannot build the model 'mine:faulty'", "ZeroDivisionError", "(mine.py:6)"]),
        ({"build": "mine:lost"}, 2, ["has no 'lost'"]),
        ({"build": "nowhere:lost"}, 2, ["nowhere", "PYTHONPATH"]),
        ({"build": "mine"}, 2, ["package.module:name"]),
    ],
)
def test_builders_that_do_not_build(
    rib_says: Say, tmp_path: Path, row: dict[str, Any], code: int, texts: list[str]
) -> None:
    (tmp_path / "mine.py").write_text(USER_MODULE)
    file = written(tmp_path, lambda made: made["model"].update(resnet=row | {"size": 12, "pretrain": {"seed": 0}}))
    assert_said(rib_says("run", file, "--workers", 1), code, *texts)


TIMM, TINY = "vit_tiny_patch16_224", {"img_size": 12, "patch_size": 4, "depth": 1}
BUILT = "rib.models.small:small_resnet"


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        (
            {"build": BUILT, "arguments": {"width": 0}},
            ["cannot build the model", "check `arguments`"],
        ),
        ({"build": BUILT, "arguments": {"width": -1}}, ["cannot build the model", "negative dimension"]),
        ({"build": BUILT, "arguments": {"width": 0.5}}, ["cannot build the model", "ValueError: out_channels"]),
        ({"build": "mine:flat"}, ["the model 'mine:flat' fails at an image of 12 pixels", "RuntimeError", "remedy:"]),
        ({"timm": TIMM, "arguments": TINY | {"depth": "x"}}, ["timm cannot build 'vit_tiny", "TypeError"]),
        ({"timm": TIMM, "arguments": TINY | {"num_heads": 0}}, ["timm cannot build", "ZeroDivision"]),
        ({"timm": TIMM, "arguments": TINY | {"img_size": 32}}, ["fails at an image of 12 pixels"]),
        (
            {"build": "mine:flat", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
            ["model.resnet.mean: these numbers are for pixels from 0 to 255", "divide them by 255"],
        ),
        ({"build": "mine:flat", "mean": [0.5, 0.5, 0.5]}, ["needs both `mean` and `std`"]),
        ({"build": "mine:flat", "mean": [0.5], "std": [0.5]}, ["model.resnet.mean has too few entries"]),
    ],
)
def test_models_that_a_plan_cannot_count(rib_says: Say, tmp_path: Path, row: dict[str, Any], texts: list[str]) -> None:
    (tmp_path / "mine.py").write_text(USER_MODULE)
    file = written(tmp_path, lambda made: made["model"].update(resnet=row | {"size": 12, "pretrain": {"seed": 0}}))
    assert_said(rib_says("plan", file), 2, *texts)


@pytest.mark.parametrize(
    ("module", "kind", "texts"),
    [
        ("raise ValueError('my fault')", "mine:Mine", ["fails when it is imported", "ValueError: my fault", "remedy:"]),
        ("def broken(:", "mine:Mine", ["fails when it is imported", "SyntaxError"]),
        ("x = 1", "mine:Mine", ["module 'mine' has no 'Mine'"]),
        (USER_MODULE, "mine:Bare", ["'mine:Bare' is no method", "rib.methods.Method"]),
        (
            "from rib.methods import Method\nclass Mine(Method):\n    name = 'mine'",
            "mine:Mine",
            ["is not complete", "no fit"],
        ),
        ("", "nowhere:Mine", ["cannot import the method 'nowhere:Mine'", "PYTHONPATH"]),
    ],
)
def test_methods_of_the_users_with_faults(
    rib_says: Say, tmp_path: Path, module: str, kind: str, texts: list[str]
) -> None:
    (tmp_path / "mine.py").write_text(module)
    file = written(tmp_path, method={"faulty": {"kind": kind}}, runs=[{"methods": ["faulty"]}])
    assert_said(rib_says("plan", file), 2, *texts)


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('{"format": 99}', ["written by a newer version", "got:    format 99", "install the newer RIB"]),
        ('{"format": "x"}', ["is damaged", "--store"]),
        ("{", ["is damaged", "--store"]),
    ],
)
def test_a_store_that_cannot_be_used(rib_says: Say, tmp_path: Path, content: str, texts: list[str]) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text(content)
    assert_said(rib_says("run", written(tmp_path), "--store", "store"), 2, *texts)
    assert [entry.name for entry in (tmp_path / "store").iterdir()] == ["store.json"]


def test_a_store_that_is_a_file(rib_says: Say, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    file = written(tmp_path)
    assert_said(rib_says("run", file, "--store", "store"), 2, "the store is not a folder", "--store")
    assert_said(rib_says("run", file, "--store", "store/inside"), 2, "cannot write", "--store")


@pytest.mark.parametrize(
    ("number", "code", "texts"),
    [(errno.EROFS, 2, ["cannot write", "--store"]), (errno.ENOSPC, 2, []), (errno.EACCES, 2, ["cannot write"])],
)
def test_a_store_that_is_read_only(
    rib_says: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, texts: list[str]
) -> None:
    file = written(tmp_path)

    def refuse(self: Path, *args: Any, **words: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        said = rib_says("run", file, "--store", tmp_path / "store", "--workers", 1)
    if number == errno.ENOSPC:
        assert_said(said, 1, "the disk is full", "free some space and run again")
    else:
        assert_said(said, code, *texts)


def test_a_full_disk_loses_nothing(rib_says: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in mid-run: what was finished is kept, and the run goes on when there is space."""
    file = written(tmp_path, runs=[{"methods": ["finetune", "wise_ft"]}])
    plan = make_plan(load_suite(file))
    replace, space = Path.replace, [24]

    def until_full(self: Path, target: Any) -> Any:
        space[0] -= 1
        if space[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until_full)
        code, text = rib_says("run", file, "--store", "store", "--workers", 1)
    assert code in (1, 2)
    assert "the disk is full" in text or "cannot write" in text
    kept = Store(tmp_path / "store").keys()
    assert 0 < len(kept) < len(plan.steps)
    code, text = rib_says("run", file, "--store", "store", "--workers", 1)
    assert_said((code, text), 0, f"{len(plan.steps) - len(kept)} steps done, {len(kept)} done before")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs the right to mount")
@pytest.mark.parametrize("kilobytes", [16, 60, 150])
def test_a_disk_that_is_really_full(rib_says: Say, tmp_path: Path, kilobytes: int) -> None:
    """At packs, at weights, at records: an error in words, not a process killed through a mapped file."""
    file = written(tmp_path)
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        code, text = rib_says("run", file, "--store", place / "store", "--workers", 1)
        assert code in (1, 2), text
        assert "disk is full" in text or "no room for the packs" in text, text
        subprocess.run(["mount", "-o", "remount,size=20m", str(place)], check=True)
        assert_said(rib_says("run", file, "--store", place / "store", "--workers", 1), 0, "steps done")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["run", "--device", "gpu"], ["unknown device", "got:    gpu", "auto, cpu"]),
        (["run", "--device", "meta"], ["unknown device", "got:    meta"]),
        (["run", "--workers", "0"], ["Invalid value for '--workers'"]),
        (["run", "--workers", "many"], ["Invalid value for '--workers'"]),
        (["run", "--keep", "some"], ["unknown --keep", "all, pretrained, none"]),
        (["run", "--bogus"], ["--bogus"]),
        (["bogus"], ["bogus"]),
    ],
)
def test_options_that_make_no_sense(rib_says: Say, words: list[str], texts: list[str]) -> None:
    assert_said(rib_says(*words), 2, *texts)


def test_a_device_that_is_not_there(rib_says: Say) -> None:
    if torch.cuda.is_available():
        pytest.skip("it is there")
    assert_said(rib_says("run", "--device", "cuda"), 2, "no CUDA device is available", "valid:  auto, cpu")


def test_a_report_of_nothing(rib_says: Say, tmp_path: Path) -> None:
    said = rib_says("report", written(tmp_path), "--store", "store")
    assert_said(said, 2, "the store has no records of suite 'tiny'", "remedy: run it: rib run")


def test_steps_that_failed_show_in_the_exit_code(rib_says: Say, tmp_path: Path) -> None:
    def change(made: dict[str, Any]) -> None:
        made["method"] = {"wild": {"kind": "finetune", "lr": 1e6}}
        made["runs"] = [{"methods": ["wild", "linear_probe"]}]

    file = written(tmp_path, change)
    assert_said(rib_says("run", file, "--workers", 1), 1, "failed: finetune resnet on whole", "diverged", "8 failed")
    code, text = rib_says("status", file)
    assert_said((code, text), 1, "and 7 more steps", "diverged")
    assert text.count("failed: ") == 1
    assert_said(rib_says("plan", file), 0)
    code, _ = rib_says("report", file)
    assert code == 0


def test_data_elsewhere(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path)
    (tmp_path / "suites").mkdir()
    moved = file.rename(tmp_path / "suites" / "tiny.toml")
    assert_said(rib_says("plan", moved), 2, "file not found", "--data")
    assert_said(rib_says("plan", moved, "--data", tmp_path), 0)


def test_a_set_of_one_class_is_named_because_every_model_is_right_there(rib_says: Say, tmp_path: Path) -> None:
    file = written(tmp_path)
    assert "one class" not in rib_says("plan", file)[1]
    write_arrays(tmp_path / "part.npz", 1, ("bee",), 12)
    assert_said(rib_says("plan", file), 0, "part: all images have one class")
    write_arrays(tmp_path / "clean.npz", 2, ("bee",), 12)
    assert_said(rib_says("plan", file), 2, "the reference set 'clean' has one class")
