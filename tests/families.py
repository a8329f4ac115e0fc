"""Model families of timm, torchvision and open_clip: a small model of each, as RIB has it and as its library does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import pictures
from rib import _compat
from rib.data.examples import Examples, Index
from rib.data.labels import LabelMap
from rib.methods.ewc import diagonal_fisher
from rib.models.catalogue import Architecture, ModelRow
from rib.models.classifier import Classifier
from rib.models.loading import build, describe
from rib.models.skeleton import skeleton
from rib.models.weights import interpolate, put_weights, take_weights
from rib.recipe import Recipe
from rib.training.loop import train
from rib.training.predict import collect, predict
from rib.training.training import Training

_compat.declare_missing_operators()

CLASSES = 5
LARGEST = 100_000_000
"""Parameters of the largest model that is tried."""

MAP = LabelMap("whole", tuple((index,) for index in range(CLASSES)), CLASSES)


@dataclass(frozen=True)
class Family:
    """A model of a family.

    Attributes:
        library: timm, torchvision or open_clip.
        name: the library's for the model.
        family: the library's for the module that it is in.
    """

    library: str
    name: str
    family: str

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def row(self) -> ModelRow:
        """As a suite would have it."""
        return ModelRow.model_validate({self.library: self.name})


class Pair:
    """A model of a family with random weights, as RIB has it and as its library does; and images for it.

    Raises:
        UserError: RIB refuses the family.
    """

    def __init__(self, family: Family, seed: int = 0) -> None:
        self.family, self.seed = family, seed
        found = skeleton(describe(family.row, CLASSES))
        assert found is not None
        self.architecture: Architecture = found.architecture
        side = self.architecture.size
        labels = np.arange(4, dtype=np.int64) % CLASSES
        self.examples = Examples.whole(pictures(labels, seed, side=side), Index(labels, np.arange(4)))
        net = build(self.architecture).net
        net.load_state_dict(scrambled(take_weights(net), seed))
        self.state = take_weights(net)  # where modules are shared, one value under several names

    def ours(self, **options: Any) -> Classifier:
        """RIB's, with the random weights."""
        classifier = build(self.architecture, **options)
        classifier.net.load_state_dict(self.state)
        return classifier.eval()

    @cached_property
    def theirs(self) -> nn.Module:
        """The library's own, with the same weights; for open_clip, its image tower and a head in plain words."""
        net = LIBRARIES[self.family.library](self.family.name)
        net.load_state_dict(self.state)
        return net.eval()

    @property
    def pixels(self) -> Tensor:
        """The images, normalised in plain words: float32 (N, 3, H, W)."""
        images = torch.from_numpy(np.array(self.examples.images)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (self.architecture.mean, self.architecture.std))
        return ((images - mean) / std).contiguous()


def scrambled(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random weights near fresh ones, of which none is zero or one: an unused layer would not show otherwise."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=generator) * 0.02
        return (value + noise).abs() if name.endswith("running_var") else value + noise

    return {name: drawn(name, value) for name, value in state.items()}


def near(found: Tensor, expected: Tensor, what: str, tolerance: float = 2e-4) -> None:
    """Hold that two tensors are equal but for rounding, on the scale of the larger values."""
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}, not {tuple(expected.shape)}"
    assert torch.isfinite(expected).all(), f"{what}: the library's own is not finite"
    scale = float(expected.abs().max()) + 1e-6
    gap = float((found - expected).abs().max()) / scale
    assert gap <= tolerance, f"{what}: differs by {gap:.2g} of the largest value"


@torch.no_grad()
def logits(pair: Pair) -> None:
    """What RIB's net answers is what the library's does, and differs between images."""
    expected = pair.theirs(pair.pixels)
    near(pair.ours()(torch.from_numpy(np.array(pair.examples.images))), expected, "logits")
    assert (expected[0] - expected[1]).abs().max() > 0, "all images look alike"


@torch.no_grad()
def features(pair: Pair) -> None:
    """Where RIB takes a net for head(features), the head's layer on them gives the library's answer."""
    net = pair.ours()
    if net.direct:
        seen = collect(net, net.features, pair.examples, 2)
        near(net.head(seen), pair.theirs(pair.pixels), "head(features)")


def frozen(pair: Pair) -> None:
    """Predictions from kept features, or, of a net that has none, from its own forward pass: the library's."""
    net = pair.ours()
    known = collect(net, net.features, pair.examples, 2) if net.direct else None
    found = predict(net, pair.examples, MAP, batch_size=2, features=known)
    with torch.no_grad():
        expected = pair.theirs(pair.pixels).softmax(dim=1)
    near(torch.from_numpy(found.unmasked_confidence), expected.max(dim=1).values, "confidence")


def probe(pair: Pair) -> None:
    """A linear probe: plain steps on all of the head's parameters alone, with the library's net in evaluation mode."""
    recipe = Recipe(steps=2, batch_size=4, lr=0.05, momentum=0.0)
    net = pair.ours()
    train(net, Training(pair.examples, MAP, recipe, seed=0, trainable=net.head_parameters))
    theirs = LIBRARIES[pair.family.library](pair.family.name)
    theirs.load_state_dict(pair.state)
    theirs.eval()
    for name, value in theirs.named_parameters():
        value.requires_grad_(name in net.head_parameters)
    optimizer = torch.optim.SGD([theirs.get_parameter(name) for name in sorted(net.head_parameters)], lr=1.0)
    for rate in (0.05, 0.025):  # half a cosine over two steps
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(theirs(pair.pixels), torch.from_numpy(pair.examples.labels)).backward()
        optimizer.step()
    for name, value in theirs.state_dict().items():
        if name in net.head_parameters:
            moved, expected = net.net.state_dict()[name] - pair.state[name], value - pair.state[name]
            near(moved, expected, f"probe's change of {name}", 5e-3)
            assert expected.abs().max() > 0, f"the probe leaves {name} as it was"
        else:
            assert torch.equal(net.net.state_dict()[name], pair.state[name]), f"the probe changes {name}"


@torch.no_grad()
def merge(pair: Pair) -> None:
    """WiSE-FT half-way between two random states: the library's net with the mean of both."""
    other = scrambled(pair.state, pair.seed + 1)
    merged = interpolate(pair.state, other, 0.5)
    net, theirs = pair.ours(), LIBRARIES[pair.family.library](pair.family.name).eval()
    net.net.load_state_dict(merged)
    theirs.load_state_dict(
        {name: (value + other[name]) / 2 if value.is_floating_point() else value for name, value in pair.state.items()}
    )
    images = torch.from_numpy(np.array(pair.examples.images))
    near(net(images), theirs(pair.pixels), "merged logits")
    put_weights(net.net, pair.state)  # into a net that has answered before
    near(net(images), pair.theirs(pair.pixels), "logits of weights put back")


def fisher(pair: Pair) -> None:
    """The Fisher of EWC: squares of the library's own gradients, an image at a time."""
    net, seed = pair.ours(), 3
    found = diagonal_fisher(net, pair.examples.take(np.arange(2)), MAP, seed)
    theirs, pixels = pair.theirs, pair.pixels[:2]
    for value in theirs.parameters():
        value.requires_grad_()
    with torch.no_grad():
        chances = theirs(pixels).softmax(dim=1)
    labels = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    expected = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    for image, label in zip(pixels, labels, strict=True):
        theirs.train().eval().zero_grad()  # timm keeps biases of attention in evaluation mode
        F.cross_entropy(theirs(image[None]), label[None]).backward()
        for name, value in theirs.named_parameters():
            if value.grad is not None:
                expected[name] += value.grad.square() / 2
    scale = max(float(value.max()) for value in expected.values())
    for name, value in found.items():
        assert float((value - expected[name]).abs().max()) <= 2e-3 * scale, f"Fisher of {name}"


@torch.no_grad()
def pooled(pair: Pair) -> None:
    """The last block computed for what is pooled alone gives the same answer."""
    images = torch.from_numpy(np.array(pair.examples.images))
    near(pair.ours(last_block="pooled")(images), pair.theirs(pair.pixels), "logits of the pooled last block")


CHECKS: tuple[Callable[[Pair], None], ...] = (logits, features, frozen, probe, merge, fisher, pooled)
"""What is held of every family; each raises AssertionError in words."""


def timm_net(name: str) -> nn.Module:
    """timm's own."""
    import timm

    return timm.create_model(name, num_classes=CLASSES)


def torchvision_net(name: str) -> nn.Module:
    """torchvision's own."""
    import torchvision

    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


class Tower(nn.Module):
    """open_clip's image tower, and a head on its normalised features."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import open_clip

        model = open_clip.create_model(name)
        self.visual = model.visual
        self.head = nn.Linear(open_clip.get_model_config(name)["embed_dim"], CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.head(F.normalize(self.visual(pixels), dim=-1))
        return found


LIBRARIES: dict[str, Callable[[str], nn.Module]] = {
    "timm": timm_net,
    "torchvision": torchvision_net,
    "open_clip": Tower,
}


def parameters(family: Family) -> int:
    """How many parameters the library's own has."""
    try:
        with torch.device("meta"):
            net = LIBRARIES[family.library](family.name)
    except NotImplementedError:  # some of torchvision's compute with tensors while they are built
        net = LIBRARIES[family.library](family.name)
    return sum(value.numel() for value in net.parameters())


SMALL = (
    "test_",
    "atto",
    "nano",
    "xx",
    "pico",
    "femto",
    "tiny",
    "mini",
    "micro",
    "_t",
    "_s",
    "small",
    "18",
    "050",
    "b0",
)
"""Parts of timm's names of small models, the smallest first."""


def timm_families() -> Iterator[Family]:
    """One of the smallest architectures of every module of timm that has models."""
    import timm
    from timm.models import _registry

    modules: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        modules[_registry._model_to_module[name]].append(name)
    for module, names in sorted(modules.items()):
        ranked = sorted(names, key=lambda name: next((at for at, part in enumerate(SMALL) if part in name), len(SMALL)))
        tried = [Family("timm", name, module) for name in ranked[:4]]
        yield min(tried, key=parameters)


def torchvision_families() -> Iterator[Family]:
    """The smallest classifier of every module of torchvision."""
    import torchvision

    modules: dict[str, list[str]] = defaultdict(list)
    for name in torchvision.models.list_models(module=torchvision.models):
        modules[torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]].append(name)
    for module, names in sorted(modules.items()):
        ranked = sorted(names, key=lambda name: next((at for at, part in enumerate(SMALL) if part in name), len(SMALL)))
        yield min((Family("torchvision", name, module) for name in ranked[:3]), key=parameters)


def open_clip_families() -> Iterator[Family]:
    """Every image tower of open_clip whose configuration is of another kind: one name each, the first."""
    import open_clip

    kinds: dict[str, str] = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        vision = config["vision_cfg"]
        kind = vision.get("timm_model_name") or f"{type(vision['layers']).__name__} {sorted(set(vision) - SIZES)}"
        kinds.setdefault(kind.partition("_")[0], name)
    for kind, name in sorted(kinds.items()):
        yield Family("open_clip", name, kind)


SIZES = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
"""Fields of open_clip's configurations that say how large a tower is, and not of which kind."""


def families() -> Iterator[Family]:
    """One model of every family."""
    yield from timm_families()
    yield from torchvision_families()
    yield from open_clip_families()
