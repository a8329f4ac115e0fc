"""Extensions: modules that a method adds to a net. The net's own parameters keep their names.

An extension is a function that changes a net in place: it adds a module named `extension` with everything new, and
hooks that call it. Function and arguments are part of the architecture, so every build of the net includes them.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rib.errors import UserError, told
from rib.files import parse_json, read_plain
from rib.identity import import_object
from rib.models.catalogue import Architecture, Extension
from rib.models.channels import block_channels
from rib.models.weights import EXTENSION

LARGEST = 2**16
"""Maximum width, or number of tokens, of an extension."""


@dataclass(frozen=True)
class Site:
    """The net that an extension changes.

    Attributes:
        net: the base, with random weights.
        head: name of its final linear layer.
        blank: prepared inputs (2, ...) for a trial run, on the same device as the net, possibly the meta device.
    """

    net: nn.Module
    head: str
    blank: Tensor

    @property
    def width(self) -> int:
        """Number of features, which are the head's input."""
        head = self.net.get_submodule(self.head)
        assert isinstance(head, nn.Linear)
        return head.in_features

    def add(self, added: nn.Module) -> None:
        """Add the extension to the net."""
        self.net.add_module(EXTENSION, added)

    def before_head(self, merged: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace the head's input when the net is called: `merged` gets the net's prepared inputs and the features (N,
        D).

        A direct call of the head uses its given input.
        """
        kept: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            kept[:] = [inputs[0]]

        def merge(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            return (merged(kept.pop(), inputs[0]),) if kept else None

        self.net.register_forward_pre_hook(keep)
        self.net.get_submodule(self.head).register_forward_pre_hook(merge)


def stated_extension(file: Path) -> Extension | None:
    """The extension of the net of a checkpoint file, from the JSON file that RIB wrote beside it; None without one.

    Raises:
        UserError: the JSON file has another form.
    """
    beside = file.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        document = parse_json(read_plain(beside))
        stated = document.get("architecture", {}).get("extension") if isinstance(document, dict) else None
        return Extension.model_validate(stated) if stated else None
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"cannot read what {beside} says of the net", got=told(error), valid="a file that `rib export` wrote"
        ) from None


def extend(architecture: Architecture, site: Site) -> None:
    """Apply the extensions of an architecture to a net.

    Raises:
        UserError: a function cannot be imported, or cannot extend this net.
    """
    extension = architecture.extension
    assert extension is not None
    _require_known(extension)
    function = import_object(extension.function, "extension")
    if isinstance(site.net, nn.Sequential) or hasattr(site.net, EXTENSION):
        raise UserError(
            f"{extension.function} cannot add a module named {EXTENSION!r} to this net",
            got="an nn.Sequential, or a net that has one",
            remedy="wrap the net in a module with a forward of its own",
        )
    if architecture.heads is not None:
        raise UserError(
            f"{extension.function} extends only nets whose output is that of a single head",
            got=", ".join(architecture.heads),
            remedy="leave the method out for this model",
        )
    function(site, **extension.arguments)
    if not isinstance(getattr(site.net, EXTENSION, None), nn.Module):
        raise UserError(f"{extension.function} added no module named {EXTENSION!r} to the net")


def _require_known(extension: Extension) -> None:
    """Refuse unknown functions of RIB, and arguments that are no sizes, because another person's file may name them.

    Raises:
        UserError: the extension is refused.
    """
    if not extension.function.startswith("rib."):
        return
    own = {f"{__name__}:{function.__name__}" for function in (adapter, vpt, side, progressive)}
    if extension.function not in own:
        raise UserError("RIB has no such extension", got=extension.function, valid=", ".join(sorted(own)))
    sizes = extension.arguments.values()
    if not all(isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= LARGEST for size in sizes):
        got = json.dumps(extension.arguments)
        raise UserError(f"{extension.function}: sizes out of range", got=got, valid=f"whole numbers up to {LARGEST}")


# -- adapters ----------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """y + U relu(D y), on tokens or on a map. U starts at zero, so the net's outputs do not change at first.

    Args:
        channels: number of channels of y.
        width: width of the bottleneck.
        dim: the dimension of the channels.

    Source: Houlsby et al. 2019, https://arxiv.org/abs/1902.00751.
    """

    def __init__(self, channels: int, width: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.down = nn.Linear(channels, width)
        self.up = nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, y: Tensor) -> Tensor:
        x = y.movedim(self.dim, -1)
        change: Tensor = self.up(F.relu(self.down(x)))
        return y + change.movedim(-1, self.dim)


def adapter(site: Site, width: int) -> None:
    """Add a bottleneck after every block.

    Raises:
        UserError: the net has no blocks, or the channel dimension of their outputs is unclear.
    """
    added = nn.ModuleDict()
    for name, (channels, dim) in block_channels(site.net, site.blank, "adapter").items():
        added[name.replace(".", "_")] = module = Bottleneck(channels, width, dim)
        site.net.get_submodule(name).register_forward_hook(lambda _, __, output, module=module: module(output))
    site.add(added)


# -- prompts -----------------------------------------------------------------------------------------------------------


class Prompts(nn.Module):
    """Prompt tokens for every block: (blocks, count, D), with the uniform distribution of the paper's code.

    Args:
        blocks: number of blocks.
        count: number of tokens per block.
        width: D.
        patch: side of a patch in pixels, which with D determines the range of the distribution.

    Source: Jia et al. 2022, https://arxiv.org/abs/2203.12119.
    """

    def __init__(self, blocks: int, count: int, width: int, patch: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (3 * patch**2 + width))
        self.tokens = nn.Parameter(torch.empty(blocks, count, width).uniform_(-bound, bound))


def vpt(site: Site, count: int) -> None:
    """Add prompt tokens before every block and remove them after it.

    Raises:
        UserError: the net is no plain vision transformer of timm.
    """
    from timm.models.vision_transformer import VisionTransformer

    net: Any = site.net
    if type(net) is not VisionTransformer:
        raise UserError(
            "vpt adds tokens to the blocks of a vision transformer",
            got=type(net).__name__,
            valid="timm's VisionTransformer",
            remedy="leave vpt out for this model",
        )
    patch = getattr(net.patch_embed, "patch_size", (1, 1))[0]
    prompts = Prompts(len(net.blocks), count, net.embed_dim, patch)
    prefix = net.num_prefix_tokens

    def put(_: nn.Module, inputs: tuple[Tensor, ...], place: int) -> tuple[Tensor, ...]:
        tokens, *rest = inputs
        own = prompts.tokens[place].to(tokens.dtype).expand(len(tokens), -1, -1)
        return (torch.cat([tokens[:, :prefix], own, tokens[:, prefix:]], dim=1), *rest)

    def take(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :prefix], output[:, prefix + count :]], dim=1)

    for place, block in enumerate(net.blocks):
        block.register_forward_pre_hook(lambda module, inputs, place=place: put(module, inputs, place))
        block.register_forward_hook(take)
    site.add(prompts)


# -- columns beside the net --------------------------------------------------------------------------------------------


class Beside(nn.Module):
    """A second net of the same kind, without a head, on the same inputs.

    Args:
        net: the net to copy.
        head: name of the layer that the copy lacks.
    """

    def __init__(self, net: nn.Module, head: str) -> None:
        super().__init__()
        self.column = copy.deepcopy(net)
        place, _, name = head.rpartition(".")
        setattr(self.column.get_submodule(place), name, nn.Identity())


class SideNet(Beside):
    """Features α B(x) + (1 - α) S(x) of the net B and the side net S, with α = σ(a), where a starts at 0."""

    def __init__(self, net: nn.Module, head: str) -> None:
        super().__init__(net, head)
        self.gate = nn.Parameter(torch.zeros(()))

    def merged(self, inputs: Tensor, features: Tensor) -> Tensor:
        """The head's new input, from the net's inputs and the features."""
        alpha = self.gate.sigmoid()
        return alpha * features + (1 - alpha) * self.column(inputs)


def side(site: Site) -> None:
    """Add a side network, whose features are mixed with the net's before the head."""
    added = SideNet(site.net, site.head)
    site.before_head(added.merged)
    site.add(added)


class Lateral(nn.Module):
    """U relu(V a h) from a block's output h in the first column to the next block in the second; U starts at zero.

    Args:
        channels: number of channels of h.
        dim: the dimension of the channels.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.down = nn.Linear(channels, max(1, channels // 2))
        self.up = nn.Linear(max(1, channels // 2), channels, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        lateral: Tensor = self.up(F.relu(self.down(self.scale * h.movedim(self.dim, -1))))
        return lateral.movedim(-1, self.dim)


class NewColumn(Beside):
    """A column that also gets the outputs of the first column's blocks, and whose output is added to the head's input.

    Args:
        net, head: as for `Beside`.
        laterals: the connections from all blocks but the last, by the block's name.
        width: number of the head's inputs.
    """

    def __init__(self, net: nn.Module, head: str, laterals: dict[str, Lateral], width: int) -> None:
        super().__init__(net, head)
        self.laterals = nn.ModuleDict({name.replace(".", "_"): each for name, each in laterals.items()})
        self.output = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.output.weight)

    def merged(self, inputs: Tensor, features: Tensor) -> Tensor:
        """The head's new input, from the net's inputs and the features."""
        added: Tensor = self.output(self.column(inputs))
        return features + added


def progressive(site: Site) -> None:
    """Add a new column beside the net.

    Raises:
        UserError: the net has no blocks, or the channel dimension of their outputs is unclear.
    """
    channels = block_channels(site.net, site.blank, "progressive")
    laterals = {name: Lateral(*channels[name]) for name in list(channels)[:-1]}
    added = NewColumn(site.net, site.head, laterals, site.width)
    seen: dict[str, Tensor] = {}

    def connect(name: str) -> None:
        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            seen[name] = output

        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            h: Tensor = laterals[name](seen.pop(name))
            return output + h

        site.net.get_submodule(name).register_forward_hook(keep)
        added.column.get_submodule(name).register_forward_hook(add)

    for name in laterals:
        connect(name)
    site.before_head(added.merged)
    site.add(added)
