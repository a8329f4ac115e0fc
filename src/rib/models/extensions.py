"""Extensions: modules that a method adds to a net, whose own parameters keep their names.

An extension is a function that changes a net in place: it gives it a module named `extension` with all that is new,
and hooks that use it. With its arguments it is part of the architecture, so whatever builds the net builds it too.
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
"""Largest width or number of tokens that an extension takes."""


@dataclass(frozen=True)
class Site:
    """What an extension extends.

    Attributes:
        net: the base, with freshly drawn weights.
        head: name of its final linear layer.
        blank: prepared inputs (2, ...), for a trial run; on the meta device where the net is.
    """

    net: nn.Module
    head: str
    blank: Tensor

    @property
    def width(self) -> int:
        """Number of features that the head sees."""
        head = self.net.get_submodule(self.head)
        assert isinstance(head, nn.Linear)
        return head.in_features

    def add(self, added: nn.Module) -> None:
        """Give the net its extension."""
        self.net.add_module(EXTENSION, added)

    def before_head(self, merged: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Let the head see something else when the net is called: `merged` of the net's prepared inputs and of the
        features (N, D) that it would see. A head that is called alone sees what it is given.
        """
        kept: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            kept[:] = [inputs[0]]

        def merge(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            return (merged(kept.pop(), inputs[0]),) if kept else None

        self.net.register_forward_pre_hook(keep)
        self.net.get_submodule(self.head).register_forward_pre_hook(merge)


def stated_extension(file: Path) -> Extension | None:
    """What a method has added to the net of a checkpoint file, as the JSON file beside it states that RIB wrote.

    Raises:
        UserError: it states one in another form.
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
    """Extend a net as its architecture says.

    Raises:
        UserError: the function cannot be imported, or cannot extend this net.
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
            f"{extension.function} extends nets whose answer is what one head makes of its features",
            got=", ".join(architecture.heads),
            remedy="leave the method out for this model",
        )
    function(site, **extension.arguments)
    if not isinstance(getattr(site.net, EXTENSION, None), nn.Module):
        raise UserError(f"{extension.function} added no module named {EXTENSION!r} to the net")


def _require_known(extension: Extension) -> None:
    """Refuse another function of RIB's, or arguments that are no sizes: a file of a stranger's may name them."""
    if not extension.function.startswith("rib."):
        return
    own = {f"{__name__}:{function.__name__}" for function in (adapter, vpt, side, progressive)}
    if extension.function not in own:
        raise UserError("RIB has no such extension", got=extension.function, valid=", ".join(sorted(own)))
    sizes = extension.arguments.values()
    if not all(isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= LARGEST for size in sizes):
        got = json.dumps(extension.arguments)
        raise UserError(f"{extension.function}: sizes that no net has", got=got, valid=f"whole numbers up to {LARGEST}")


# -- adapters ----------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """y + U relu(D y), of tokens or of a map; U starts at zero, so that nothing changes at first.

    Args:
        channels: of y.
        width: of the bottleneck.
        dim: which dimension of y the channels are.
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
    """A bottleneck after every block.

    Raises:
        UserError: the net has no blocks, or ones whose channels cannot be told.
    """
    added = nn.ModuleDict()
    for name, (channels, dim) in block_channels(site.net, site.blank, "adapter").items():
        added[name.replace(".", "_")] = module = Bottleneck(channels, width, dim)
        site.net.get_submodule(name).register_forward_hook(lambda _, __, output, module=module: module(output))
    site.add(added)


# -- prompts -----------------------------------------------------------------------------------------------------------


class Prompts(nn.Module):
    """Tokens for every block: (blocks, count, D), drawn uniformly as in the paper's code.

    Args:
        blocks: number of blocks.
        count: of tokens at each.
        width: D.
        patch: side of a patch in pixels; together with D the range of the draw.
    """

    def __init__(self, blocks: int, count: int, width: int, patch: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (3 * patch**2 + width))
        self.tokens = nn.Parameter(torch.empty(blocks, count, width).uniform_(-bound, bound))


def vpt(site: Site, count: int) -> None:
    """Prompt tokens before every block, taken away after it.

    Raises:
        UserError: the net is no plain vision transformer of timm's.
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
    """A second net of the same kind without a head, which sees the same inputs.

    Args:
        net: of which it is a copy.
        head: name of the layer that it goes without.
    """

    def __init__(self, net: nn.Module, head: str) -> None:
        super().__init__()
        self.column = copy.deepcopy(net)
        place, _, name = head.rpartition(".")
        setattr(self.column.get_submodule(place), name, nn.Identity())


class SideNet(Beside):
    """α B(x) + (1 - α) S(x), α = σ(a), a = 0 at first."""

    def __init__(self, net: nn.Module, head: str) -> None:
        super().__init__(net, head)
        self.gate = nn.Parameter(torch.zeros(()))

    def merged(self, inputs: Tensor, features: Tensor) -> Tensor:
        """What the head sees, given the net's inputs and what it saw before."""
        alpha = self.gate.sigmoid()
        return alpha * features + (1 - alpha) * self.column(inputs)


def side(site: Site) -> None:
    """A side network, whose features are mixed with the net's before the head."""
    added = SideNet(site.net, site.head)
    site.before_head(added.merged)
    site.add(added)


class Lateral(nn.Module):
    """U relu(V a h), from a block of the first column to the next block of the second; U starts at zero.

    Args:
        channels: of h.
        dim: which dimension of h they are.
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
    """A column that also sees the blocks of the first one, and is added to what the head sees.

    Args:
        net, head: as for `Beside`.
        laterals: the connection from each block but the last, by the block's name.
        width: what the head sees.
    """

    def __init__(self, net: nn.Module, head: str, laterals: dict[str, Lateral], width: int) -> None:
        super().__init__(net, head)
        self.laterals = nn.ModuleDict({name.replace(".", "_"): each for name, each in laterals.items()})
        self.output = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.output.weight)

    def merged(self, inputs: Tensor, features: Tensor) -> Tensor:
        """What the head sees, given the net's inputs and what it saw before."""
        added: Tensor = self.output(self.column(inputs))
        return features + added


def progressive(site: Site) -> None:
    """A new column beside the net.

    Raises:
        UserError: the net has no blocks, or ones whose channels cannot be told.
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
