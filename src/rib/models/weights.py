"""Weights: named tensors, and their files."""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rib.errors import UserError, is_memory, with_near_path
from rib.files import plain, written_aside

Weights = Mapping[str, Tensor]
"""A state dict: every parameter and buffer of a model by its name, on the CPU."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, under the names in the file.

    Raises:
        UserError: the file is missing, or no safetensors file.
    """
    if not path.is_file():
        raise UserError("weights not found", got=path, remedy=with_near_path(path))
    try:
        return load_file(plain(path))
    except Exception as error:  # safetensors raises its own kinds of errors
        if is_memory(error):
            raise
        raise UserError(
            f"cannot read the weights {path}",
            got=f"{type(error).__name__}: {error}",
            valid="a safetensors file",
            remedy="copy the file again",
        ) from None


def write_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file atomically. Raises as `written_aside`."""
    with written_aside(path) as aside:
        aside.touch()
        mode = stat.S_IMODE(aside.stat().st_mode)  # with the permissions that the user's umask gives
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, aside)
        aside.chmod(mode)  # safetensors makes files that only their owner can read


def check_finite(weights: Weights, what: str) -> None:
    """Refuse weights with NaN or infinity.

    Raises:
        UserError: a tensor has one; the message names the first.
    """
    if bad := first_not_finite(weights):
        raise UserError(f"the checkpoint of {what} holds values that are not finite", got=f"NaN or infinity in {bad}")


EXTENSION = "extension"
"""Name, within a net, of the module that a method has added to it."""


def is_extended(weights: Weights) -> bool:
    """Whether weights belong to a net that a method has extended."""
    return any(name.startswith(f"{EXTENSION}.") for name in weights)


def put_weights(model: nn.Module, weights: Weights, own_versions: bool = True) -> None:
    """Load weights into a model; their names must be exactly the model's.

    Values that a module caches in evaluation mode (timm's attention biases) are dropped, as by `train()`.

    Args:
        model: the model to change; its modules stay in their modes.
        weights: under its names.
        own_versions: whether the weights belong to the model's current code, as RIB's own do. Some modules refuse
            weights without a version, and convert those of an older one. False uses the versions in the weights.

    Raises:
        RuntimeError: a name or a shape differs.
    """
    state: Any = OrderedDict(weights)
    state._metadata = model.state_dict()._metadata if own_versions else getattr(weights, "_metadata", None)  # type: ignore[attr-defined]
    model.load_state_dict(state)
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    for module, mode in modes:
        module.training = mode


Shapes = Mapping[str, tuple[int, ...]]


def shapes(weights: Weights) -> Shapes:
    """The shape of every tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def differences(expected: Shapes, got: Shapes) -> dict[str, str]:
    """Differences of names or shapes: the tensor's name, and a description of the difference."""
    missing = {name: f"{name} is missing" for name in expected if name not in got}
    surplus = {name: f"{name} is not part of the model" for name in got if name not in expected}
    other = {
        name: f"{name} is {got[name]}, not {expected[name]}"
        for name in expected
        if got.get(name, expected[name]) != expected[name]
    }
    kinds = zip_longest(missing.items(), surplus.items(), other.items())  # the first few include every kind
    return dict(each for kind in kinds for each in kind if each is not None)


def first_few(wrong: Mapping[str, str]) -> str:
    """The first differences, and their number."""
    return "; ".join(list(wrong.values())[:4]) + (f"; … ({len(wrong)} differences)" if len(wrong) > 4 else "")


def misfit(wrong: Mapping[str, str], expected: Shapes, got: Shapes, what: str, head: str) -> UserError:
    """The error for weights whose names or shapes are not a model's; `head` as in `fit_weights`."""
    matrix = f"{head}.weight"
    if matrix in wrong and matrix in got and set(wrong) <= {matrix, f"{head}.bias"}:
        return UserError(
            f"the head of {what} has another number of classes",
            got=f"{got[matrix][0]} outputs ({matrix} is {got[matrix]})",
            valid=f"{expected[matrix][0]}, one for each class of the reference set",
            remedy="use a suite whose reference set has its classes; or add to its row of the suite "
            'head = "new", to train a head of the suite\'s classes on these weights',
        )
    return UserError(
        f"the checkpoint of {what} does not fit the model",
        got=first_few(wrong),
        valid=f"{len(expected)} tensors as the model has them, its head with as many outputs as classes",
        remedy=_way_out(wrong, expected, got),
    )


def _way_out(wrong: Mapping[str, str], expected: Shapes, got: Shapes) -> str:
    """What to do about weights that do not fit."""
    if any(name.startswith(f"{EXTENSION}.") for name in wrong):
        return (
            "a method added modules to the net of this checkpoint: keep the JSON file of the same name that "
            "`rib export` wrote beside it, which describes them"
        )
    if any("lora_" in name for name in wrong):
        return "the file holds an adapter: merge it into the model (PEFT: merge_and_unload) and save the state dict"
    if got.keys() < expected.keys():
        return (
            "the file holds a part of the model: if it is one of several shards, save the whole state dict in one file"
        )
    return "check the model's name, its arguments and its number of classes"


def first_not_finite(weights: Weights) -> str | None:
    """Name of the first tensor with a NaN or an infinity; None if all are finite."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def take_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def interpolate(start: Weights, end: Weights, alpha: float) -> Weights:
    """start + alpha (end - start) for floating-point tensors; counters are those of `end`."""
    return {
        name: (1 - alpha) * start[name] + alpha * tensor if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }
