"""Gradients of one image, which torch's norms get wrong on a CPU in some layouts, against a batch of two."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from helpers import SIDE, document
from rib.models.classifier import Classifier
from rib.models.weights import take_weights, write_weights
from rib.plan import make_plan
from rib.steps.fit import Fit
from rib.suite.load import parse_suite

HALF = (0.5, 0.5, 0.5)


class Tokens(nn.Module):
    """A convolution, a norm, and a head on the mean of tokens after a LayerNorm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), norm
        self.mix, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.stem(images).contiguous())
        tokens = self.mix(maps.flatten(2).transpose(1, 2)).tanh()
        logits: Tensor = self.head(tokens.square().mean(dim=1))
        return logits


class Volume(nn.Module):
    """A norm of volumes, here of what is 6 × 6 as 6 × 2 × 3."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.norm(maps.unflatten(3, (2, 3)))
        return found.flatten(3)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch": lambda: nn.BatchNorm2d(8),
    "batch without weights": lambda: nn.BatchNorm2d(8, affine=False),
    "synchronised batch": lambda: nn.SyncBatchNorm(8),
    "batch of volumes": lambda: Volume(nn.BatchNorm3d(8)),
    "instance of volumes": lambda: Volume(nn.InstanceNorm3d(8, affine=True)),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True),
    "group": lambda: nn.GroupNorm(2, 8),
}


@pytest.fixture(params=NORMS)
def nets(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """A net of a classifier, and torch's own, in evaluation mode and float64."""
    torch.manual_seed(0)
    own = Tokens(NORMS[request.param]()).double().eval()
    for value in own.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value))
    return Classifier(deepcopy(own), 4, HALF, HALF).net, own


def wanted(net: nn.Module, images: Tensor, labels: Tensor, place: int) -> dict[str, Tensor]:
    """The gradient for one image of a batch of two, whose other image does not count."""
    net.zero_grad()
    F.cross_entropy(net(images)[place, None], labels[place, None]).backward()
    return {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}


def test_gradients_of_one_image_are_right_in_every_way_of_taking_them(nets: tuple[nn.Module, nn.Module]) -> None:
    net, own = nets
    images, labels = torch.randn(2, 3, 12, 12, dtype=torch.float64), torch.tensor([1, 3])
    theta = {name: value.detach() for name, value in net.named_parameters()}

    def loss(theta: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, theta, (image[None],)), label[None])

    together = vmap(grad(loss), in_dims=(None, 0, 0))(theta, images, labels)
    for place in range(2):
        right = wanted(own, images, labels, place)
        net.zero_grad()
        F.cross_entropy(net(images[place, None]), labels[place, None]).backward()
        single = grad(loss)(theta, images[place], labels[place])
        for name, value in net.named_parameters():
            for found in (value.grad, single[name], together[name][place]):
                torch.testing.assert_close(found, right[name], rtol=1e-9, atol=1e-12)


def test_answers_and_batches_of_several_are_as_they_were(nets: tuple[nn.Module, nn.Module]) -> None:
    net, own = nets
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(net(images[:1]), own(images[:1]))
    for each in (net, own):
        each(images).square().sum().backward()
    for mine, theirs in zip(net.parameters(), own.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)  # type: ignore[arg-type]


def batch_normed(num_classes: int) -> nn.Module:
    """A builder."""
    return Tokens(nn.BatchNorm2d(8))


def group_normed(num_classes: int) -> nn.Module:
    """A builder."""
    return Tokens(nn.GroupNorm(2, 8))


def marks(folder: Path, builder: str, methods: list[str], **fields: Any) -> dict[str, str | None]:
    """What a plan's steps say of gradients of single images, by method."""
    write_weights(folder / "net.safetensors", take_weights(globals()[builder](4)))
    row = {"build": f"test_one_image:{builder}", "size": SIDE, "weights": "net.safetensors"}
    made = document(folder, runs=[{"methods": methods}], **fields) | {"models": ["own"], "model": {"own": row}}
    steps = make_plan(parse_suite(made).based_at(folder)).steps
    return {step.method.name: step.one_image for step in steps if isinstance(step, Fit) and step.recipe}


def test_gradients_of_single_images_through_a_batch_norm_stand_in_the_key(tmp_path: Path) -> None:
    methods = ["finetune", "ewc", "linear_probe"]
    assert marks(tmp_path, "batch_normed", methods) == {"finetune": None, "ewc": "dense", "linear_probe": None}
    assert marks(tmp_path, "group_normed", methods) == dict.fromkeys(methods)
    singles = {"recipe": {"epochs": 1, "batch_size": 1, "lr": 0.01}, "method": {"finetune": {"freeze": ["norm"]}}}
    assert marks(tmp_path, "batch_normed", ["finetune"], **singles) == {"finetune": "dense"}
