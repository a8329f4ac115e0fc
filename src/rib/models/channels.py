"""Channels of the outputs of a net's blocks, found by a trial run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rib.errors import UserError, is_memory, told
from rib.models.blocks import blocks


def block_channels(net: nn.Module, blank: Tensor, what: str) -> dict[str, tuple[int, int]]:
    """The number of channels of each block's output and their dimension, in the order of the blocks' calls.

    Args:
        net: is run once, on a copy on the meta device, or itself if that fails.
        blank: prepared inputs.
        what: what needs the channels, for the error.

    Raises:
        UserError: there is no block, or a block's output is no tensor or has no clear channel dimension.
    """
    names = blocks(net)
    if not names:
        raise UserError(f"{what} changes the blocks of a net, and this one has none", remedy="leave it out for it")
    found = _shapes(net, blank, names)
    return {name: _channels(name, net.get_submodule(name), shape, what) for name, shape in found.items()}


def _shapes(net: nn.Module, blank: Tensor, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            return _run(copy.deepcopy(net).to("meta"), blank.to("meta"), names)
    except Exception as error:  # a net that reads the values of its tensors
        if is_memory(error):
            raise
    try:
        return _run(net, blank, names)
    except Exception as error:
        if is_memory(error):
            raise
        raise UserError(
            "the net fails in a trial run on blank images", got=told(error), remedy="leave the method out for it"
        ) from error


@torch.no_grad()
def _run(net: nn.Module, blank: Tensor, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: Any) -> None:
        found[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

    handles = [
        net.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name in names
    ]
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()(blank)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return found


def _channels(name: str, block: nn.Module, shape: tuple[int, ...], what: str) -> tuple[int, int]:
    """Number and dimension of the channels of a block's output.

    Of tokens (N, T, D) it is the last dimension. Of a map it is the one dimension whose size is the number of channels
    of a layer of the block.

    Raises:
        UserError: several dimensions or none are possible.
    """
    if len(shape) == 3:
        return shape[2], 2
    if len(shape) == 4:
        widths = {width for module in block.modules() if (width := _width(module))}
        fitting = [dim for dim in (1, 3) if shape[dim] in widths]
        if len(fitting) == 1:
            return shape[fitting[0]], fitting[0]
    raise UserError(
        f"{what} cannot tell the channels of the block {name!r}",
        got=f"an output of shape {shape}",
        valid="tokens (N, T, D), or a map with one dimension that fits the block's layers",
        remedy=f"leave {what} out for this model",
    )


def _width(module: nn.Module) -> int | None:
    for field in ("out_channels", "out_features", "num_features", "num_channels"):
        if isinstance(width := getattr(module, field, None), int):
            return width
    shape = getattr(module, "normalized_shape", None)
    return int(shape[-1]) if shape else None
