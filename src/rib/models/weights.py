"""Weights: named tensors, and the files they live in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rib.errors import UserError
from rib.files import written_aside

Weights = Mapping[str, Tensor]
"""A state dict: every parameter and buffer of a model by its name, on the CPU."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint: safetensors, or a .pth/.pt/.bin state dict loaded with `weights_only=True`.

    A state dict inside a training checkpoint (`state_dict`, `model`, `model_state_dict`) is found, and the
    prefixes that DataParallel (`module.`) and torch.compile (`_orig_mod.`) put before names are taken off.

    Raises:
        UserError: the file is missing, or no checkpoint of tensors.
    """
    if not path.is_file():
        raise UserError("checkpoint not found", got=path, remedy="correct `weights` in the suite file")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # torch's unpickler stumbles in many ways over bytes that are no pickle
        raise UserError(
            f"cannot read the checkpoint {path}",
            got=_reason(error),
            valid="a safetensors file, or a state dict saved by torch.save",
            remedy="copy the file again; a pickled model can run code when it is read, so it is never read here: where "
            "you trust who made it, save `model.state_dict()` rather than the model: torch.save(torch.load(FILE, "
            "weights_only=False).state_dict(), NEW)",
        ) from None
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    named: dict[Any, Any] = content if isinstance(content, dict) else {"": content}
    if odd := [f"{type(value).__name__} {name}" for name, value in named.items() if not isinstance(value, Tensor)]:
        raise UserError(
            f"{path} does not hold a state dict",
            got=", ".join(odd[:4]).strip(),
            valid="names to tensors, alone or under `state_dict`, `model_state_dict` or `model`",
            remedy="save the state dict itself: torch.save(model.state_dict(), file)",
        )
    return {_WRAPPERS.sub("", str(name)): tensor for name, tensor in named.items()}


_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")


def _reason(error: Exception) -> str:
    """Why a file was not read, in a line, without torch's advice on how to read it unsafely."""
    words = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return f"{type(error).__name__}: {words.partition(' by default. Please')[0]}"


def write_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file atomically. Raises as `written_aside`."""
    with written_aside(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, aside)
        aside.chmod(0o644)  # safetensors makes files that only their owner can read


def check_weights(weights: Weights, model: nn.Module, what: str, head: str = "") -> None:
    """Refuse weights that do not fit a model, or that are not finite.

    Args:
        weights: of a checkpoint.
        model: whose names and shapes they must have.
        what: they are of, for people.
        head: name of the model's final linear layer; a checkpoint that differs there alone has other classes.

    Raises:
        UserError: a name is missing or left over, a shape differs, or a value is NaN or infinite.
    """
    wrong = differences(shapes(model.state_dict()), shapes(weights))
    if wrong:
        raise _misfit(wrong, shapes(model.state_dict()), shapes(weights), what, head)
    if bad := first_not_finite(weights):
        raise UserError(f"the checkpoint of {what} holds values that are not finite", got=f"NaN or infinity in {bad}")


Shapes = Mapping[str, tuple[int, ...]]


def shapes(weights: Weights) -> Shapes:
    """The shape of every tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def differences(expected: Shapes, got: Shapes) -> dict[str, str]:
    """Where names or shapes differ: the tensor's name, and what is wrong with it, in words."""
    missing = {name: f"{name} is missing" for name in expected if name not in got}
    surplus = {name: f"{name} is not part of the model" for name in got if name not in expected}
    other = {
        name: f"{name} is {got[name]}, not {expected[name]}"
        for name in expected
        if got.get(name, expected[name]) != expected[name]
    }
    kinds = zip_longest(missing.items(), surplus.items(), other.items())  # the first few are of every kind
    return dict(each for kind in kinds for each in kind if each is not None)


def first_few(wrong: Mapping[str, str]) -> str:
    """The first differences, and how many there are."""
    return "; ".join(list(wrong.values())[:4]) + (f"; … ({len(wrong)} differences)" if len(wrong) > 4 else "")


def _misfit(wrong: Mapping[str, str], expected: Shapes, got: Shapes, what: str, head: str) -> UserError:
    matrix = f"{head}.weight"
    if matrix in wrong and matrix in got and set(wrong) <= {matrix, f"{head}.bias"}:
        return UserError(
            f"the head of {what} has another number of classes",
            got=f"{got[matrix][0]} outputs ({matrix} is {got[matrix]})",
            valid=f"{expected[matrix][0]}, one for each class of the reference set",
            remedy="use a suite whose reference set has its classes; no head is ever drawn anew",
        )
    return UserError(
        f"the checkpoint of {what} does not fit the model",
        got=first_few(wrong),
        valid=f"{len(expected)} tensors as the model has them, its head with as many outputs as classes",
        remedy="check the model's name, its arguments and its number of classes",
    )


def first_not_finite(weights: Weights) -> str | None:
    """Name of the first tensor with a NaN or an infinity; None where all are finite."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def take_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def interpolate(start: Weights, end: Weights, alpha: float) -> Weights:
    """start + alpha (end - start) for floating tensors; counters are taken from `end`."""
    return {
        name: (1 - alpha) * start[name] + alpha * tensor if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }
