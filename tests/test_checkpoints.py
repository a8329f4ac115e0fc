"""Checkpoints as training codes leave them: read as their author meant them, or refused in words."""

from __future__ import annotations

import argparse
import json
import os
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from rib.errors import UserError
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.checkpoints import read_checkpoint
from rib.models.describe import describe
from rib.models.fitting import fit_weights
from rib.models.loading import load_pretrained, weights_identity
from rib.models.weights import put_weights, read_weights, write_weights

CLASSES = ("ant", "bee", "cat")


class Net(nn.Module):
    """A small net with BatchNorm, an index buffer, and a head."""

    places: Tensor

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("places", torch.arange(6).view(2, 3))
        self.fc = nn.Linear(4, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.norm(self.conv(pixels)).mean((2, 3)))
        return logits


def drawn(seed: int, classes: int = 3) -> dict[str, Tensor]:
    """A state dict of small whole numbers, which every precision holds exactly."""
    torch.manual_seed(seed)
    net = Net(classes)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randint(1, 8, value.shape))
    return dict(net.state_dict())


T, E = drawn(1), drawn(2)


def with_prefix(prefix: str, state: Mapping[str, Tensor] = T) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def floats(change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {name: change(tensor) if tensor.is_floating_point() else tensor for name, tensor in T.items()}


def fitted(content: Any, folder: Path, key: str | None = None, name: str = "mine.pth") -> dict[str, Tensor]:
    torch.save(content, folder / name)
    return fit_weights(read_checkpoint(folder / name), Net(), "model 'mine'", "fc", key).weights


def averaged() -> dict[str, Tensor]:
    net = Net()
    net.load_state_dict(T)
    return dict(AveragedModel(net).state_dict())


def by_name(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters alone, without buffers."""
    return {name: state[name] for name, _ in Net().named_parameters()}


def parameters(state: Mapping[str, Tensor]) -> list[Tensor]:
    return list(by_name(state).values())


ARGUMENTS = argparse.Namespace(
    lr=np.float64(0.5), seed=np.int32(-3), flag=np.bool_(True), data=Path("/data/x"), more=types.SimpleNamespace(a=[1])
)

SAME: Mapping[str, Callable[[], Any]] = {
    "plain": lambda: T,
    "reversed": lambda: dict(reversed(T.items())),
    "ordered, of a net": lambda: loaded_net().state_dict(),
    "no counters": lambda: {name: tensor for name, tensor in T.items() if "num_batches" not in name},
    "parameters": lambda: floats(nn.Parameter),
    "half": lambda: floats(Tensor.half),
    "bfloat16": lambda: floats(Tensor.bfloat16),
    "double": lambda: floats(Tensor.double),
    "float8": lambda: (
        {
            name: value.to(torch.float8_e4m3fn) if value.ndim > 1 else value
            for name, value in floats(Tensor.float).items()
            if name != "places"
        }
        | {"places": T["places"]}
    ),
    "counters in half": lambda: {name: tensor.half() for name, tensor in T.items()},
    "int32 index": lambda: T | {"places": T["places"].int()},
    "sparse": lambda: T | {"fc.weight": T["fc.weight"].to_sparse()},
    "not contiguous": lambda: T | {"fc.weight": T["fc.weight"].t().contiguous().t()},
    "DataParallel": lambda: with_prefix("module."),
    "compiled": lambda: with_prefix("_orig_mod."),
    "both": lambda: with_prefix("module._orig_mod."),
    "compiled within": lambda: {name.replace("conv.", "conv._orig_mod."): tensor for name, tensor in T.items()},
    "averaged": averaged,
    "Lightning": lambda: {"state_dict": with_prefix("model."), "epoch": 3, "callbacks": {}, "optimizer_states": [{}]},
    "Lightning, another attribute": lambda: {"state_dict": with_prefix("net.")},
    "Lightning, with a loss": lambda: {"state_dict": with_prefix("net.") | {"loss.weight": torch.ones(3)}},
    "DeepSpeed": lambda: OrderedDict(module=T),
    "timm": lambda: {
        "epoch": 1,
        "arch": "x",
        "state_dict": T,
        "args": ARGUMENTS,
        "optimizer": {"state": {0: {"m": E["fc.bias"]}}},
    },
    "torchvision": lambda: {"model": T, "optimizer": {}, "lr_scheduler": {}, "epoch": 1, "args": ARGUMENTS},
    "equal averages": lambda: {"model": T, "model_ema": with_prefix("module.") | {"n_averaged": torch.tensor(3)}},
    "arrays beside": lambda: {"state_dict": T, "rng": np.arange(3)},
    "Apex, with masters": lambda: {"model": floats(Tensor.half), "optimizer": {"fp32_from_fp16": [parameters(T)]}},
    "lists of an optimizer": lambda: {"model": T, "optimizer": {"exp_avg": parameters(E), "ema": parameters(T)}},
    "an equal list": lambda: {"model": T, "ema": {"decay": 0.9, "shadow_params": parameters(T)}},
    "other things of each parameter": lambda: {"model": T, "fisher": by_name(E), "masks": by_name(E), "ema": [0.9]},
}


def loaded_net() -> Net:
    net = Net()
    net.load_state_dict(T)
    return net


@pytest.mark.parametrize("form", SAME)
def test_forms_of_one_set_of_weights(form: str, tmp_path: Path) -> None:
    found = fitted(SAME[form](), tmp_path)
    assert list(found) == list(Net().state_dict())
    for name, tensor in found.items():
        wanted = torch.tensor(0) if form == "no counters" and "num_batches" in name else T[name]
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted), name
        assert tensor.is_contiguous()
        assert not tensor.requires_grad


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch is about to drop such tensors; files with them remain
    QUANTISED = torch.quantize_per_tensor(T["fc.weight"], 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("fc.weight", T["fc.weight"].to(torch.int8), "fc.weight is int8"),
        ("fc.weight", T["fc.weight"].to(torch.int64), "fc.weight is int64"),
        ("norm.running_var", T["norm.running_var"].to(torch.complex64), "norm.running_var is complex64"),
        ("fc.weight", T["fc.weight"] > 3, "fc.weight is bool"),
        ("fc.weight", QUANTISED, "fc.weight is quantised"),
        ("fc.weight", torch.empty(3, 4, device="meta"), "fc.weight holds no values"),
        ("places", T["places"] + 0.5, "places is float32"),
        ("places", T["places"] * 1000000, None),
        ("places", torch.full((2, 3), torch.nan), "places is float32"),
    ],
)
def test_values_that_are_not_the_nets_are_refused_by_name(
    name: str, value: Tensor, text: str | None, tmp_path: Path
) -> None:
    if text is None:
        assert torch.equal(fitted(T | {name: value}, tmp_path)[name], value)
        return
    with pytest.raises(UserError, match="contains values that the net cannot hold") as error:
        fitted(T | {name: value}, tmp_path)
    assert error.value.got == text


SEVERAL: Mapping[str, tuple[Any, str, str]] = {
    "timm": ({"state_dict": T, "state_dict_ema": E}, "state_dict", "state_dict_ema"),
    "torchvision": (
        {"model": T, "model_ema": with_prefix("module.", E) | {"n_averaged": torch.tensor(3)}},
        "model",
        "model_ema",
    ),
    "nested": ({"model": T, "ema": {"decay": 0.9, "shadow": E}}, "model", "ema/shadow"),
    "one dictionary": (
        {"state_dict": with_prefix("model.") | with_prefix("model_ema.", E)},
        "state_dict/model",
        "state_dict/model_ema",
    ),
    "flat": (with_prefix("student.") | with_prefix("teacher.module.", E), "student", "teacher"),
    "DINO": (
        {
            "student": with_prefix("module.backbone.") | {"module.head.mlp.weight": torch.ones(3)},
            "teacher": with_prefix("backbone.", E) | {"head.mlp.weight": torch.ones(3)},
        },
        "student/module.backbone",
        "teacher/backbone",
    ),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_of_several_sets_of_weights_one_is_named(form: str, tmp_path: Path) -> None:
    content, plain, average = SEVERAL[form]
    with pytest.raises(UserError, match="several sets of weights that match") as error:
        fitted(content, tmp_path)
    assert error.value.got == f"{plain}, {average}"
    assert f'weights_key = "{average}"' in str(error.value.remedy)
    assert torch.equal(fitted(content, tmp_path, plain)["fc.weight"], T["fc.weight"])
    assert torch.equal(fitted(content, tmp_path, average)["fc.weight"], E["fc.weight"])
    with pytest.raises(UserError, match="no set of weights 'nothing'") as error:
        fitted(content, tmp_path, "nothing")
    assert "remedy" in str(error.value)


OTHERS: Mapping[str, tuple[Any, str, str]] = {
    "torch_ema": ({"model": T, "ema": {"decay": 0.9, "shadow_params": parameters(E)}}, "model", "ema/shadow_params"),
    "Lightning's callback": (
        {"state_dict": with_prefix("net."), "callbacks": {"EMA": {"ema_weights": parameters(E)}}},
        "state_dict",
        "callbacks/EMA/ema_weights",
    ),
    "NeMo's optimizer": (
        {"state_dict": T, "optimizer_states": [{"state": {0: {"exp_avg": E["fc.bias"]}}, "ema": tuple(parameters(E))}]},
        "state_dict",
        "optimizer_states/0/ema",
    ),
    "without buffers": ({"model": T, "model_ema": with_prefix("module.", by_name(E))}, "model", "model_ema"),
    "Composer": (
        {"state": {"model": T, "algorithms": [["EMA", {"ema_model": {"parameters": by_name(E)}}]]}},
        "state/model",
        "state/algorithms/0/1/ema_model/parameters",
    ),
    "names without dots": (
        {
            "state_dict": with_prefix("model.")
            | {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in by_name(E).items()}
            | {"model_ema.decay": torch.tensor(0.9)}
        },
        "state_dict/model",
        "state_dict/model_ema",
    ),
}


@pytest.mark.parametrize("form", OTHERS)
def test_averages_that_cannot_be_loaded_are_not_overlooked(form: str, tmp_path: Path) -> None:
    content, plain, average = OTHERS[form]
    with pytest.raises(UserError, match="other values for the same parameters") as error:
        fitted(content, tmp_path)
    assert str(error.value.got).startswith(f"{plain}, and {average} (")
    assert f'weights_key = "{plain}"' in str(error.value.remedy)
    assert torch.equal(fitted(content, tmp_path, plain)["fc.weight"], T["fc.weight"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (dict(list(T.items())[:5]), "one of several shards"),
        (
            with_prefix("base_model.model.") | {"base_model.model.fc.lora_A.weight": torch.ones(2, 4)},
            "merge_and_unload",
        ),
        (T | {"fc.extra": torch.zeros(3)}, "check the model's name"),
    ],
    ids=["shard", "adapter", "other"],
)
def test_parts_of_a_model_are_called_so(content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not fit the model") as error:
        fitted(content, tmp_path)
    assert words in str(error.value.remedy)


def test_an_entry_whose_name_says_that_it_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no weights by the name of its only entry"):
        fitted({"delta": T, "base": "x"}, tmp_path)
    assert torch.equal(fitted({"delta": T, "base": "x"}, tmp_path, "delta")["fc.weight"], T["fc.weight"])
    for content in ({"square_avg": T}, {"optimizer": {"by_name": T}}, {"posterior_variance": T}, {"velocity": T}):
        with pytest.raises(UserError, match="holds no weights by the name of its only entry"):
            fitted(content, tmp_path)
    assert torch.equal(fitted({"best_acc_state": {"net": T}}, tmp_path)["fc.weight"], T["fc.weight"])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "an empty file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip -d"),
    ],
)
def test_files_of_another_kind_are_called_by_it(start: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(start)
    with pytest.raises(UserError, match="cannot read the checkpoint") as error:
        read_checkpoint(tmp_path / "mine.pth")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (T | {"fc.extra": torch.zeros(3)}, "fc.extra is not part of the model"),
        ({name: tensor for name, tensor in T.items() if name.startswith("fc")}, "conv.weight is missing"),
        (
            {
                ("head" if name[:2] == "fc" else "backbone.") + name.removeprefix("fc"): value
                for name, value in T.items()
            },
            "is not part of the model",
        ),
        (T | {"conv.bias": torch.zeros(5)}, "conv.bias is (5,), not (4,)"),
        (T | {"n_averaged": torch.zeros(2)}, "n_averaged is not part of the model"),
    ],
)
def test_names_and_shapes_that_do_not_fit(content: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not fit the model") as error:
        fitted(content, tmp_path)
    assert text in str(error.value.got)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin", ".pth.tar", ""])
def test_the_content_says_the_format(suffix: str, tmp_path: Path) -> None:
    tensors, pickled = tmp_path / f"tensors{suffix}", tmp_path / f"pickled{suffix}"
    save_file(T, tensors)
    torch.save(T, pickled)
    for file in (tensors, pickled):
        found = fit_weights(read_checkpoint(file), Net(), "x", "fc").weights
        assert torch.equal(found["fc.weight"], T["fc.weight"])


def test_arguments_are_plain_values(tmp_path: Path) -> None:
    torch.save({"state_dict": T, "args": ARGUMENTS}, tmp_path / "x.pth")
    content = read_checkpoint(tmp_path / "x.pth").content
    assert content["args"] == {"lr": 0.5, "seed": -3, "flag": True, "data": "/data/x", "more": {"a": [1]}}


# -- hostile pickles ---------------------------------------------------------------------------------------------------


class Call:
    """Calls a function when it is unpickled by the usual unpickler."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


def fire(path: str) -> None:
    Path(path).touch()


HOSTILE: Mapping[str, Callable[[str], Any]] = {
    "system": lambda place: Call(os.system, f"touch {place}"),
    "eval": lambda place: Call(eval, f"open({place!r}, 'w')"),
    "a path's method": lambda place: Call(Path.touch, Path(place)),
    "getattr": lambda place: Call(getattr, Path(place), "touch"),
    "a module of the user's": lambda place: Call(fire, place),
    "within arguments": lambda place: argparse.Namespace(lr=Call(fire, place)),
    "within a number": lambda place: Call(np.float64(1).__reduce__()[0], Call(fire, place), b"x"),
    "a set of modules": lambda place: Call(__import__, "antigravity"),
    "a class by name": lambda place: (
        type("Mine", (argparse.Namespace,), {"__module__": "tests.nowhere"})
        and Call(types.SimpleNamespace.__init__, None)
    ),
}


@pytest.mark.parametrize("form", HOSTILE)
def test_nothing_that_a_pickle_names_is_called(form: str, tmp_path: Path) -> None:
    place = tmp_path / "fired"
    torch.save({"state_dict": T, "x": HOSTILE[form](str(place))}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        read_checkpoint(tmp_path / "x.pth")
    assert not place.exists()


def test_only_stand_ins_are_made_of_what_a_pickle_names(tmp_path: Path) -> None:
    """A namespace that says it has another class, a number of objects, and attributes that look like methods."""
    kind = Call(np.dtype, "O", state=(3, "|", None, None, None, -1, -1, 63))
    odd = argparse.Namespace()
    vars(odd).update(__class__="x", __setstate__=[1])
    torch.save(
        {"state_dict": T, "args": odd, "n": Call(np.float64(1).__reduce__()[0], kind, b"\0" * 8)}, tmp_path / "x.pth"
    )
    content = read_checkpoint(tmp_path / "x.pth").content
    assert content["n"] is None
    assert type(content["args"]) is dict
    assert content["args"]["__class__"] == "x"


def test_a_pickle_that_holds_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"state_dict": T}
    loop["loop"] = loop
    torch.save(loop, tmp_path / "x.pth")
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_script_is_named_as_such(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(UserError, match="TorchScript") as error:
        read_checkpoint(tmp_path / "x.pt")
    assert "torch.jit.load(FILE).state_dict()" in str(error.value.remedy)


# -- nets with names like wrappers' ------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["module", "_orig_mod", "model", "net"])
def test_a_net_with_a_wrappers_attribute_is_read_back(attribute: str, tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, attribute, Net())

    net = Wrapped()
    write_weights(tmp_path / "own.safetensors", net.state_dict())
    assert read_weights(tmp_path / "own.safetensors").keys() == net.state_dict().keys()
    put_weights(net, read_weights(tmp_path / "own.safetensors"))
    for prefix in (f"{attribute}.", f"module.{attribute}.", f"{attribute}.module."):
        torch.save(with_prefix(prefix), tmp_path / "x.pth")
        found = fit_weights(read_checkpoint(tmp_path / "x.pth"), Wrapped(), "x").weights
        assert torch.equal(found[f"{attribute}.fc.weight"], T["fc.weight"])


# -- class order -------------------------------------------------------------------------------------------------------

BUILDER = """
from torch import nn
def net(num_classes):
    body = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, num_classes))
"""

OTHER = ("cat", "ant", "bee")
ORDER = [1, 2, 0]
"""The row of OTHER that stands for each of CLASSES."""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelRow, dict[str, Tensor]]:
    (tmp_path / "order_net.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    row = ModelRow(build="order_net:net", size=16, weights="run/mine.pth")
    (tmp_path / "run").mkdir()
    return row, dict(build(describe(row, 3, tmp_path), seed=1).net.state_dict())


def loaded(row: ModelRow, base: Path) -> dict[str, Tensor]:
    return load_pretrained("mine", row, describe(row, 3, base), base, CLASSES)


def identity(row: ModelRow, base: Path) -> str:
    return weights_identity("mine", row, describe(row, 3, base), base, CLASSES)


IN_FILE: Mapping[str, Mapping[str, Any]] = {
    "class_to_idx": {"class_to_idx": {name: place for place, name in enumerate(OTHER)}},
    "classes": {"classes": list(OTHER)},
    "class_names": {"class_names": OTHER},
    "idx_to_class": {"idx_to_class": dict(enumerate(OTHER))},
    "in the arguments": {"args": argparse.Namespace(classes=list(OTHER))},
    "mmcv": {"meta": {"CLASSES": OTHER}},
    "mmengine": {"meta": {"dataset_meta": {"classes": tuple(OTHER)}}},
    "ultralytics": {"names": dict(enumerate(OTHER))},
    "fastai": {"vocab": list(OTHER)},
    "scikit-learn": {"label_encoder": {"classes_": list(OTHER)}},
    "a table of another name": {"class_map": {name: place for place, name in enumerate(OTHER)}},
    "in capitals": {"hyper_parameters": {"CLASS_NAMES": OTHER}},
}

BESIDE: Mapping[str, Mapping[str, Any]] = {
    "id2label": {"id2label": {str(place): name for place, name in enumerate(OTHER)}},
    "label2id": {"label2id": {name: place for place, name in enumerate(OTHER)}},
    "label_names": {"label_names": OTHER},
    "nested": {"pretrained_cfg": {"label_names": OTHER}},
    "descriptions": {"label_names": ["x", "y", "z"], "label_descriptions": dict(zip("xyz", OTHER, strict=True))},
}


@pytest.mark.parametrize("form", [*IN_FILE, *BESIDE, "safetensors", "class map", "the row"])
def test_outputs_in_another_order_are_put_right_exactly(form: str, mine: Any, tmp_path: Path) -> None:
    row, state = mine
    folder = tmp_path / "run"
    torch.save({"state_dict": state}, folder / "mine.pth")
    assert torch.equal(loaded(row, tmp_path)["4.weight"], state["4.weight"])
    plain = identity(row, tmp_path)
    if form in BESIDE:
        (folder / "config.json").write_text(json.dumps(BESIDE[form]))
    elif form == "the row":
        row = row.model_copy(update={"outputs": OTHER})
    elif form == "safetensors":
        save_file(state, folder / "mine.pth", {"classes": json.dumps(OTHER)})
    else:
        (folder / "order.txt").write_text("\n".join(OTHER) + "\n")
        said = IN_FILE.get(form) or {"args": argparse.Namespace(class_map="/elsewhere/order.txt")}
        torch.save({"state_dict": state, **said}, folder / "mine.pth")
    found = loaded(row, tmp_path)
    assert torch.equal(found["4.weight"], state["4.weight"][ORDER])
    assert torch.equal(found["4.bias"], state["4.bias"][ORDER])
    assert torch.equal(found["0.weight"], state["0.weight"])
    assert identity(row, tmp_path) != plain


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"classes": ["ant", "bee", "dog"]}, "are not those of the reference set"),
        ({"classes": ["ant", "bee"]}, "are not those of the reference set"),
        ({"classes": ["ant", "bee", "bee"]}, "are not those of the reference set"),
        ({"classes": OTHER, "class_names": CLASSES}, "states two orders"),
        ({"classes": OTHER, "args": argparse.Namespace(classes=CLASSES)}, "states two orders"),
        ({"names": OTHER, "vocab": CLASSES}, "states two orders"),
        ({"by_frequency": list(OTHER)}, "in another order, and RIB does not know the entry"),
        ({"errors": {"ant": 2, "bee": 0, "cat": 1}}, "in another order, and RIB does not know the entry"),
        ({"class_to_idx": {"ant": 1, "bee": 2, "cat": 3}}, "does not number the outputs"),
        ({"args": argparse.Namespace(class_map="gone.txt")}, "orders its classes, and it is not here"),
    ],
)
def test_other_classes_are_refused(said: dict[str, Any], text: str, mine: Any, tmp_path: Path) -> None:
    row, state = mine
    torch.save({"state_dict": state, **said}, tmp_path / "run" / "mine.pth")
    with pytest.raises(UserError, match=text):
        identity(row, tmp_path)
    if "two" not in text and "number" not in text:
        allowed = row.model_copy(update={"outputs": CLASSES})  # the row has the last word
        assert torch.equal(loaded(allowed, tmp_path)["4.weight"], state["4.weight"])


@pytest.mark.parametrize(
    "said",
    [
        {"classes": 3},
        {"classes": CLASSES},
        {"id2label": {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}},
        {"labels": [1, 2]},
        {"names": ["x", "y", "z"], "vocab": ["x"]},  # no classes of the reference set
        {"sorted": list(CLASSES), "errors": {"ant": 5, "bee": 5, "cat": 5}},
        {"counts": {"ant": torch.tensor(5), "bee": torch.zeros(2), "cat": float("inf")}},
    ],
)
def test_what_says_nothing_of_the_order_changes_nothing(said: dict[str, Any], mine: Any, tmp_path: Path) -> None:
    row, state = mine
    torch.save({"state_dict": state, **said}, tmp_path / "run" / "mine.pth")
    assert torch.equal(loaded(row, tmp_path)["4.weight"], state["4.weight"])


def test_two_heads_are_not_reordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ModelRow(timm="deit_tiny_distilled_patch16_224", weights="mine.pth", outputs=OTHER)
    torch.save(build(describe(row, 3)).net.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(UserError, match="RIB cannot reorder them") as error:
        identity(row, tmp_path)
    assert "head_dist" in str(error.value.got)


# -- what training says of its images ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, "mean"),
        ({"std": (1.0, 1.0, 1.0)}, "std"),
        ({"mean": [127.5, 127.5, 127.5]}, "mean"),
        ({"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}, None),
        ({"crop_pct": 0.95}, "crop"),
        ({"interpolation": "bicubic"}, "interpolation"),
        ({"val_crop_size": 224, "val_resize_size": 232}, "crop"),
        ({"img_size": 96}, "size"),
        ({"input_size": [3, 160, 160]}, "size"),
        ({"mean": None, "std": None, "crop_pct": None, "interpolation": "", "img_size": None}, None),
        ({"mean": [0.485, 0.456, 0.406], "crop_pct": 0.875, "interpolation": "bilinear", "val_crop_size": 224}, None),
        ({"interpolation": "random", "mean": "none", "lr": 0.1}, None),
    ],
)
def test_weights_trained_with_other_images_are_refused(
    arguments: dict[str, Any], field: str | None, tmp_path: Path
) -> None:
    row = ModelRow(torchvision="shufflenet_v2_x0_5", weights="mine.pth")
    net = build(describe(row, 3)).net
    torch.save({"model": net.state_dict(), "args": argparse.Namespace(**arguments)}, tmp_path / "mine.pth")
    if field is None:
        assert loaded(row, tmp_path)
        return
    with pytest.raises(UserError, match=f"was trained with another {field}"):
        identity(row, tmp_path)
    own = getattr(describe(row, 3), field)
    assert loaded(row.model_copy(update={field: own}), tmp_path)  # the row has the last word


# -- what weights are --------------------------------------------------------------------------------------------------


def test_the_way_of_reading_is_part_of_what_weights_are(mine: Any, tmp_path: Path) -> None:
    row, state = mine
    file = tmp_path / "run" / "mine.pth"
    torch.save({"state_dict": state, "state_dict_ema": {name: value + 1 for name, value in state.items()}}, file)
    keyed = [row.model_copy(update={"weights_key": key}) for key in ("state_dict", "state_dict_ema")]
    assert len({identity(one, tmp_path) for one in keyed}) == 2
    torch.save({name: value.half() for name, value in state.items()}, file)
    from rib.files import file_digest

    assert identity(row, tmp_path) != file_digest(file)
    torch.save(state, file)
    assert identity(row, tmp_path) == file_digest(file)


def test_a_checkpoint_is_held_against_its_net_once(mine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rib.models import loading

    row, state = mine
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "run" / "mine.pth")
    architecture = describe(row, 3, tmp_path)
    known = weights_identity("mine", row, architecture, tmp_path, CLASSES, tmp_path / "facts")
    monkeypatch.setattr(loading, "read_checkpoint", lambda _: pytest.fail("read again"))
    assert weights_identity("mine", row, architecture, tmp_path, CLASSES, tmp_path / "facts") == known
