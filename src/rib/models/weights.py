"""Weights: named tensors, and the files they live in."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rib.errors import UserError
from rib.files import written_aside

Weights = Mapping[str, Tensor]
"""A state dict: every parameter and buffer of a model by its name, on the CPU."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint: safetensors, or a .pth/.pt/.bin state dict loaded with `weights_only=True`.

    A state dict inside a training checkpoint (`state_dict`, `model`, `model_state_dict`) is found, and a `module.`
    prefix is taken off.

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
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"cannot read the checkpoint {path}",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            valid="a safetensors file, or a state dict saved by torch.save",
            remedy="copy the file again; save `model.state_dict()` rather than the model",
        ) from None
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} does not hold a state dict", got=type(content).__name__, valid="names to tensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def write_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file atomically. Raises as `written_aside`."""
    with written_aside(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, aside)
        aside.chmod(0o644)  # safetensors makes files that only their owner can read


def file_digest(path: Path) -> str:
    """Digest of a checkpoint's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def check_weights(weights: Weights, model: nn.Module, what: str) -> None:
    """Refuse weights that do not fit a model, or that are not finite.

    Raises:
        UserError: a name is missing or left over, a shape differs, or a value is NaN or infinite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [
        *(f"{name} is missing" for name in expected if name not in got),
        *(f"{name} is not part of the model" for name in got if name not in expected),
        *(
            f"{name} is {got[name]}, not {expected[name]}"
            for name in expected
            if got.get(name, expected[name]) != expected[name]
        ),
    ]
    if wrong:
        raise UserError(
            f"the checkpoint of {what} does not fit the model",
            got="; ".join(wrong[:4]) + (f"; … ({len(wrong)} differences)" if len(wrong) > 4 else ""),
            valid=f"{len(expected)} tensors as the model has them, its head with as many outputs as classes",
            remedy="check the model's name, its arguments and its number of classes",
        )
    if bad := first_not_finite(weights):
        raise UserError(f"the checkpoint of {what} holds values that are not finite", got=f"NaN or infinity in {bad}")


def first_not_finite(weights: Weights) -> str | None:
    """Name of the first tensor with a NaN or an infinity; None where all are finite."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def take_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
