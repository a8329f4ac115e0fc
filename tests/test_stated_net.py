"""A checkpoint that names another net than the one it is read into, with tensors of the same names and shapes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from rib.errors import UserError
from rib.models.catalogue import ModelRow
from rib.models.describe import describe
from rib.models.loading import load_pretrained


def in_a_script_checkpoint(folder: Path, weights: dict[str, Tensor], name: str) -> str:
    torch.save({"epoch": 1, "state_dict": weights, "args": argparse.Namespace(model=name)}, folder / "w.pth.tar")
    return "w.pth.tar"


def as_arch(folder: Path, weights: dict[str, Tensor], name: str) -> str:
    torch.save({"arch": name, "state_dict": weights}, folder / "w.pth")
    return "w.pth"


def in_a_configuration(folder: Path, weights: dict[str, Tensor], name: str) -> str:
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": name}))
    return "model.safetensors"


def in_notes(folder: Path, weights: dict[str, Tensor], name: str) -> str:
    save_file(weights, folder / "w.safetensors", {"architecture": name})
    return "w.safetensors"


FORMS = (in_a_script_checkpoint, as_arch, in_a_configuration, in_notes)


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_a_net_with_the_same_tensors_are_refused(
    form: Callable[[Path, dict[str, Tensor], str], str], tmp_path: Path
) -> None:
    weights = timm.create_model("tf_efficientnet_lite0", num_classes=4).state_dict()
    file = form(tmp_path, weights, "tf_efficientnet_lite0")
    row = ModelRow(timm="efficientnet_lite0", weights=file)
    with pytest.raises(UserError, match="is of another net, whose tensors have the same names and shapes") as caught:
        load_pretrained("mine", row, describe(row, 4), tmp_path)
    assert "'tf_efficientnet_lite0' in `" in str(caught.value)
    right = ModelRow(timm="tf_efficientnet_lite0", weights=file)
    load_pretrained("mine", right, describe(right, 4), tmp_path)


def test_an_activation_tells_nets_apart_too(tmp_path: Path) -> None:
    small = {"depth": 1, "embed_dim": 16, "num_heads": 2}
    weights = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=4, **small).state_dict()
    file = as_arch(tmp_path, weights, "vit_base_patch16_clip_quickgelu_224.openai")
    row = ModelRow(timm="vit_base_patch16_clip_224", arguments=small, weights=file)
    with pytest.raises(UserError, match="is of another net"):
        load_pretrained("mine", row, describe(row, 4), tmp_path)


@pytest.mark.parametrize(
    "name", ["resnet18.tv_in1k", "resnet18", "my_own_net", "gluon_resnet18_v1b", "local-dir:/x", ""]
)
def test_another_name_of_the_same_net_or_an_unknown_one_is_taken(name: str, tmp_path: Path) -> None:
    file = as_arch(tmp_path, timm.create_model("resnet18", num_classes=4).state_dict(), name)
    row = ModelRow(timm="resnet18.a1_in1k", weights=file)
    load_pretrained("mine", row, describe(row, 4), tmp_path)
