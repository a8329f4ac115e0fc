"""Model families of timm, torchvision and open_clip: a small model of each, as RIB has it and as its library does."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from helpers import odd_images, pictures
from rib import _compat
from rib.data.examples import Examples, Index
from rib.data.images import apply_view
from rib.data.labels import LabelMap
from rib.methods.ewc import diagonal_fisher
from rib.models.build import build
from rib.models.catalogue import Architecture, ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.skeleton import skeleton
from rib.models.weights import interpolate, put_weights, take_weights
from rib.recipe import LastBlock, Recipe
from rib.training.loop import train
from rib.training.predict import collect, predict
from rib.training.training import Training

_compat.declare_missing_operators()

CLASSES = 5
IMAGES = 3
LARGEST = 150_000_000
"""Parameters of the largest model that is tried."""

SIDE = 128
"""Side of the images of models that take any."""

SLIM = 12_000_000
"""Parameters of the largest model that is tried at its full depth, where its library takes another one."""

MAP = LabelMap("whole", tuple((index,) for index in range(CLASSES)), CLASSES)


@dataclass(frozen=True)
class Family:
    """A model of a family.

    Attributes:
        library: timm, torchvision or open_clip.
        name: the library's for the model.
        family: the library's for the module that it is in.
        arguments: of the library's builder, which make it smaller.
        size: of its images; None for the library's own.
    """

    library: str
    name: str
    family: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def row(self) -> ModelRow:
        """As a suite would have it."""
        return ModelRow.model_validate({self.library: self.name, "arguments": self.arguments, "size": self.size})

    def net(self) -> nn.Module:
        """The library's own, with fresh weights."""
        return LIBRARIES[self.library](self.name, **self.arguments)


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
        labels = np.arange(IMAGES, dtype=np.int64) % CLASSES
        self.examples = Examples.whole(pictures(labels, seed, side=side), Index(labels, np.arange(IMAGES)))
        self.fresh = build(self.architecture)
        net = deepcopy(self.fresh.net)
        put_weights(net, scrambled(take_weights(net), seed))
        self.state = take_weights(net)  # where modules are shared, one value under several names
        self.library = family.net()

    def ours(self, last_block: LastBlock | None = None) -> Classifier:
        """RIB's, with the random weights."""
        classifier = build(self.architecture, last_block=last_block) if last_block else deepcopy(self.fresh)
        put_weights(classifier.net, self.state)
        return classifier.eval()

    @cached_property
    def theirs(self) -> nn.Module:
        """The library's own, with the same weights; for open_clip, its image tower and a head in plain words."""
        return self.own(self.state)

    def own(self, state: Mapping[str, Tensor]) -> nn.Module:
        """The library's own net, new, with weights of some state."""
        net = deepcopy(self.library)
        values = net.state_dict()
        assert values.keys() == state.keys(), sorted(values.keys() ^ state.keys())[:5]
        with torch.no_grad():
            for name, value in values.items():
                value.copy_(state[name])
        return net.eval()

    @cached_property
    @torch.no_grad()
    def answer(self) -> Tensor:
        """The library's logits of the images."""
        found: Tensor = self.theirs(self.pixels)
        return found

    @cached_property
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
    expected = pair.answer
    near(pair.ours()(torch.from_numpy(np.array(pair.examples.images))), expected, "logits")
    assert (expected[0] - expected[1]).abs().max() > 0, "all images look alike"


@torch.no_grad()
def features(pair: Pair) -> None:
    """Where RIB takes a net for head(features), the head's layer on them gives the library's answer."""
    net = pair.ours()
    if net.direct:
        seen = collect(net, net.features, pair.examples, 2)
        near(net.head(seen), pair.answer, "head(features)")


def frozen(pair: Pair) -> None:
    """Predictions from kept features, or, of a net that has none, from its own forward pass: the library's."""
    net = pair.ours()
    known = collect(net, net.features, pair.examples, 2) if net.direct else None
    found = predict(net, pair.examples, MAP, batch_size=2, features=known)
    expected = pair.answer.softmax(dim=1)
    near(torch.from_numpy(found.unmasked_confidence), expected.max(dim=1).values, "confidence")


def probe(pair: Pair) -> None:
    """A linear probe: plain steps on all of the head's parameters alone, with the library's net in evaluation mode."""
    recipe = Recipe(steps=2, batch_size=4, lr=0.05, momentum=0.0)
    net = pair.ours()
    train(net, Training(pair.examples, MAP, recipe, seed=0, trainable=net.head_parameters))
    theirs = pair.own(pair.state)
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
    net = pair.ours()
    put_weights(net.net, merged)
    theirs = pair.own(
        {name: (value + other[name]) / 2 if value.is_floating_point() else value for name, value in pair.state.items()}
    )
    images = torch.from_numpy(np.array(pair.examples.images))
    near(net(images), theirs(pair.pixels), "merged logits")
    put_weights(net.net, pair.state)  # into a net that has answered before
    near(net(images), pair.answer, "logits of weights put back")


def fisher(pair: Pair) -> None:
    """The Fisher of EWC: squares of the library's own gradients for an image, in a batch of two of which one counts."""
    net, seed = pair.ours(), 3
    found = diagonal_fisher(net, pair.examples.take(np.arange(2)), MAP, seed)
    theirs, pixels = pair.theirs, pair.pixels[:2]
    for value in theirs.parameters():
        value.requires_grad_()
    with torch.no_grad():
        chances = theirs(pixels).softmax(dim=1)
    labels = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    expected: dict[str, Tensor] = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    for place, label in enumerate(labels):
        theirs.train().eval().zero_grad()  # timm keeps biases of attention in evaluation mode
        F.cross_entropy(theirs(pixels)[place, None], label[None]).backward()
        for name, parameter in theirs.named_parameters():
            if parameter.grad is not None:
                expected[name] += parameter.grad.square() / 2
    scale = max(float(value.max()) for value in expected.values()) or 1.0  # 0 where the softmax is one and zeros
    for name, ours in found.items():
        gap = float((ours - expected[name]).abs().max()) / scale
        assert gap <= 2e-3, f"Fisher of {name}: differs by {gap:.2g} of the largest value"


@torch.no_grad()
def pooled(pair: Pair) -> None:
    """The last block computed for what is pooled alone gives the same answer."""
    images = torch.from_numpy(np.array(pair.examples.images))
    near(pair.ours(last_block="pooled")(images), pair.answer, "logits of the pooled last block")


@torch.no_grad()
def preprocessing(pair: Pair) -> None:
    """What RIB's net sees of odd images is what the library's own transform makes of them."""
    theirs, net = TRANSFORMS[pair.family.library](pair), pair.fresh
    view = describe(replace(pair.family, size=None).row, CLASSES).view
    for image in odd_images():
        found = net.prepared(torch.from_numpy(np.array(apply_view(image, view))[None]))[0]
        near(found, theirs(image), f"pixels of an image of {image.size}", 1e-5)


CHECKS: tuple[Callable[[Pair], None], ...] = (preprocessing, logits, features, frozen, probe, merge, fisher, pooled)
"""What is held of every family; each raises AssertionError in words."""


def timm_net(name: str, **arguments: Any) -> nn.Module:
    """timm's own."""
    import timm

    return timm.create_model(name, num_classes=CLASSES, **arguments)


def torchvision_net(name: str, **arguments: Any) -> nn.Module:
    """torchvision's own, built as it builds a net for its published weights: without the heads that train others."""
    import torchvision

    if name not in ("googlenet", "inception_v3"):
        return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **arguments)
    own = {"transform_input": True, "aux_logits": True, "init_weights": False}
    net: Any = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **own)
    net.aux_logits = False
    for head in ("aux1", "aux2") if name == "googlenet" else ("AuxLogits",):
        setattr(net, head, None)
    return net


class Tower(nn.Module):
    """open_clip's image tower, and a head on its normalised features."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import open_clip

        model = open_clip.create_model(name)
        self.visual = model.visual
        self.head = nn.Linear(open_clip.get_model_config(name)["embed_dim"], CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        seen = self.visual(pixels)
        latent = seen[0] if getattr(self.visual, "output_tokens", False) else seen
        found: Tensor = self.head(F.normalize(latent, dim=-1))
        return found


LIBRARIES: dict[str, Callable[..., nn.Module]] = {
    "timm": timm_net,
    "torchvision": torchvision_net,
    "open_clip": Tower,
}

Transform = Callable[[Image.Image], Tensor]


def timm_transform(pair: Pair) -> Transform:
    """timm's own for evaluation, as its validation script has it."""
    from timm.data import create_transform, resolve_data_config

    transform: Transform = create_transform(**resolve_data_config({}, model=pair.library), is_training=False)
    return transform


def torchvision_transform(pair: Pair) -> Transform:
    """torchvision's own for the newest of the published weights."""
    import torchvision

    transform: Transform = torchvision.models.get_model_weights(pair.family.name).DEFAULT.transforms()
    return transform


def open_clip_transform(pair: Pair) -> Transform:
    """open_clip's own for evaluation."""
    import open_clip

    transform: Transform = open_clip.create_model_and_transforms(pair.family.name)[2]
    return transform


TRANSFORMS: dict[str, Callable[[Pair], Transform]] = {
    "timm": timm_transform,
    "torchvision": torchvision_transform,
    "open_clip": open_clip_transform,
}


def parameters(family: Family) -> int:
    """How many parameters the library's own has."""
    try:
        with torch.device("meta"):
            net = family.net()
    except NotImplementedError:  # some of torchvision's compute with tensors while they are built
        net = family.net()
    return sum(value.numel() for value in net.parameters())


@dataclass(frozen=True)
class Candidates:
    """Small models of a family.

    Attributes:
        library, family: as in `Family`.
        names: the library's for the models.
    """

    library: str
    family: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.library}:{self.family}"

    def smallest(self) -> Family:
        """The one with the fewest parameters; of timm's, shallow where it is large, with images of `SIDE` if it can."""
        found = min((Family(self.library, name, self.family) for name in self.names), key=parameters)
        return found if self.library != "timm" else narrow(shallow(found))


SMALL = ("test_", "atto", "nano", "xx", "pico", "femto", "tiny", "mini", "micro", "_t", "_s", "small", "18", "b0")
"""Parts of the libraries' names of small models, the smallest first."""

SHALLOW: tuple[Mapping[str, Any], ...] = (
    {"depth": 2},
    {"stages": (1, 1, 1, 1)},
    {"layers": (1, 1, 1, 1)},
    {"depths": (1, 1, 1, 1)},
    {"depth": (1, 1, 1)},
)
"""Arguments that make a model of timm's shallow; each is for other families."""


def timm_families() -> Iterator[Candidates]:
    """Small architectures of every module of timm that has models."""
    import timm
    from timm.models import _registry

    modules: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        modules[_registry._model_to_module[name]].append(name)
    for module, names in sorted(modules.items()):
        yield Candidates("timm", module, tuple(sorted(names, key=rank)[:3]))


def rank(name: str) -> int:
    """Place of a name among `SMALL`."""
    return next((at for at, part in enumerate(SMALL) if part in name), len(SMALL))


def shallow(family: Family) -> Family:
    """A family at a smaller depth, if it is large and its library takes one."""
    whole = parameters(family)
    if whole <= SLIM:
        return family
    for arguments in SHALLOW:
        less = replace(family, arguments=arguments)
        try:
            if parameters(less) < whole:
                return less
        except (TypeError, ValueError, AssertionError, IndexError):  # it has no such argument, or not of that form
            continue
    return family


def narrow(family: Family) -> Family:
    """A family of timm's with images of `SIDE`, if they are smaller than its own and it takes them."""
    import timm

    config = timm.get_pretrained_cfg(family.name)
    if config.fixed_input_size or config.input_size[-1] <= SIDE:
        return family
    try:
        with torch.device("meta"), torch.no_grad():
            family.net().eval()(torch.zeros(1, 3, SIDE, SIDE))
    except (RuntimeError, AssertionError, ValueError, NotImplementedError):  # windows that do not fit, or no meta run
        return family
    return replace(family, size=SIDE)


def torchvision_families() -> Iterator[Candidates]:
    """Small classifiers of every module of torchvision."""
    import torchvision

    modules: dict[str, list[str]] = defaultdict(list)
    for name in torchvision.models.list_models(module=torchvision.models):
        modules[torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]].append(name)
    for module, names in sorted(modules.items()):
        yield Candidates("torchvision", module, tuple(sorted(names, key=rank)[:3]))


SIZES = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
"""Fields of open_clip's configurations that say how large a tower is, and not of which kind."""


def tower_kind(config: Mapping[str, Any]) -> str:
    """Which kind of image tower a configuration of open_clip's has."""
    from timm.models import _registry

    vision = config["vision_cfg"]
    if name := vision.get("timm_model_name"):
        return f"{_registry._model_to_module[name]}, pool {vision['timm_pool'] or None}, proj {vision['timm_proj']}"
    own = {name: value for name, value in vision.items() if name not in SIZES}
    own |= {"quick_gelu": True} if config.get("quick_gelu") else {}
    stem = "ResNet" if isinstance(vision["layers"], list) else "ViT"
    return ", ".join([stem, *(f"{name} {value}" for name, value in sorted(own.items()))])


def open_clip_families() -> Iterator[Candidates]:
    """Image towers of every kind that open_clip has: small forms of its own, and those that timm builds as they are."""
    import open_clip

    kinds: dict[str, list[str]] = defaultdict(list)
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if "hf_model_name" not in config["text_cfg"]:  # text towers of another library
            kinds[tower_kind(config)].append(name)
    for kind, names in sorted(kinds.items()):
        if kind.startswith(("ViT", "ResNet")):
            yield Candidates("open_clip", kind, (small_tower(sorted(names)[0]),))
        else:
            yield Candidates("open_clip", kind, (min(names, key=tower_parameters),))


@cache
def tower_parameters(name: str) -> int:
    """Parameters of an image tower that timm builds, without the text tower beside it: the largest take 20 GB."""
    import open_clip
    import timm

    with torch.device("meta"):
        net = timm.create_model(open_clip.get_model_config(name)["vision_cfg"]["timm_model_name"], num_classes=0)
    return sum(value.numel() for value in net.parameters())


@cache
def _towers() -> TemporaryDirectory[str]:
    """A folder of configurations that open_clip is told of; it is removed when the process ends."""
    return TemporaryDirectory(prefix="rib-towers-")


def small_tower(name: str) -> str:
    """A model of open_clip's own with two narrow layers: its name, under which open_clip knows it from now on."""
    import open_clip

    config = open_clip.get_model_config(name)
    layers = [1, 1, 1, 1] if isinstance(config["vision_cfg"]["layers"], list) else 2
    config["vision_cfg"] |= {"layers": layers, "width": 32 if isinstance(layers, list) else 128, "head_width": 64}
    for part in ("text_cfg", "multimodal_cfg"):
        if part in config:
            config[part] |= {"layers": 1}
    file = Path(_towers().name, f"small-{name}.json")
    file.write_text(json.dumps(config))
    open_clip.add_model_config(file)
    return file.stem


def families() -> Iterator[Candidates]:
    """Every family."""
    yield from timm_families()
    yield from torchvision_families()
    yield from open_clip_families()
