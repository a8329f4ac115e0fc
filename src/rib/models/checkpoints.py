"""Reads checkpoints of other training code without running any of it, and finds the state dicts in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from rib.data.foreign import kind_of_file
from rib.errors import UserError, is_memory, with_near_path
from rib.files import plain

DEPTH = 4
"""Maximum nesting of dictionaries in which state dicts are searched."""

PREFERRED = ("state_dict", "model_state_dict", "model")
"""Usual names of the entry with a checkpoint's weights, the most common first."""


@dataclass(frozen=True)
class CheckpointFile:
    """Contents of a checkpoint file.

    Attributes:
        path: the file.
        content: dictionaries, lists, tensors, numbers and strings; namespaces have become dictionaries.
        notes: the metadata that a safetensors file holds beside its tensors.
    """

    path: Path
    content: Any
    notes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def states(self) -> dict[str, dict[str, Any]]:
        """Dictionaries that contain tensors, by the path of their entry with "/" as separator; "" is the whole file."""
        return dict(_states(self.content, "", DEPTH))

    @property
    def likeliest(self) -> str:
        """The entry that most probably has the weights.

        Raises:
            UserError: no entry has tensors.
        """
        if not self.states:
            raise self.no_state(self.content)
        for name in PREFERRED:
            if found := next((entry for entry in self.states if entry.rpartition("/")[2] == name), None):
                return found
        return max(self.states, key=lambda entry: len(self.states[entry]))

    def tensors(self, entry: str) -> dict[str, Tensor]:
        """The tensors of an entry.

        Raises:
            UserError: there is no such entry, or it also contains something else.
        """
        if entry not in self.states:
            raise UserError(
                f"{self.path} has no set of weights {entry!r}",
                got=entry,
                valid=", ".join(repr(name) for name in self.states) or "(none)",
                remedy="correct `weights_key`, or the part of FILE#KEY after #",
            )
        state = self.states[entry]
        if any(not isinstance(value, Tensor) for value in state.values()):
            raise self.no_state(state)
        return state

    def no_state(self, content: Any) -> UserError:
        """The error for an entry that is no state dict."""
        named = content if isinstance(content, dict) else {"": content}
        odd = [f"{_type(value)} {name}" for name, value in named.items() if not isinstance(value, Tensor)]
        return UserError(
            f"{self.path} does not hold a state dict",
            got=", ".join(odd[:4]).strip() or "nothing",
            valid="names to tensors, alone or under `state_dict`, `model_state_dict` or `model`",
            remedy="save the state dict itself: torch.save(model.state_dict(), file)",
        )


def _type(value: Any) -> str:
    """The type of a value, for errors; arrays of NumPy are never read, and stand as None."""
    return "None or a NumPy array" if value is None else type(value).__name__


def _states(content: Any, entry: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        return
    if any(isinstance(value, Tensor) for value in content.values()):
        yield entry, content
    if depth:
        for name, value in content.items():
            yield from _states(value, f"{entry}/{name}" if entry else name, depth - 1)


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read a checkpoint: safetensors or a file of torch.save. The content decides which, not the file name.

    A pickle is read by torch's restricted unpickler (`weights_only=True`). Besides tensors and plain containers it
    accepts what training scripts often save with them: namespaces of arguments, paths, NumPy's numbers and arrays. This
    module turns these into dictionaries, strings, numbers and None. It creates no object of a class that the file
    names.

    Raises:
        UserError: the file is missing, or no checkpoint of tensors.
    """
    if not path.is_file():
        remedy = with_near_path(path, "correct `weights` in the suite file")
        raise UserError("checkpoint not found", got=path, remedy=remedy)
    try:
        if _is_safetensors(path):
            return CheckpointFile(path, *_read_safetensors(path))
        return CheckpointFile(path, _plain(_read_torch(path)))
    except Exception as error:  # torch's unpickler raises many errors on bytes that are no pickle
        if is_memory(error):
            raise
        raise _unreadable(path, error) from None


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins like safetensors: with the length of a header, and the header's JSON."""
    with plain(path).open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(plain(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_torch(path: Path) -> Any:
    stand_ins: list[Any] = [(made, name) for name, made in _STAND_INS.items()]
    with plain(path).open("rb") as file, torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old forms of storage and of pickle
        return torch.load(file, map_location="cpu", weights_only=True)  # an open file: its name plays no role


def _unreadable(path: Path, error: Exception) -> UserError:
    if found := kind_of_file(path, besides="a zip archive"):
        return UserError(
            f"cannot read the checkpoint {path}",
            got=found[0],
            valid="a safetensors file, or a state dict saved by torch.save",
            remedy=found[1],
        )
    scripted, empty = "TorchScript" in str(error), not path.stat().st_size
    return UserError(
        f"cannot read the checkpoint {path}",
        got="a TorchScript archive, which holds code" if scripted else "an empty file" if empty else _reason(error),
        valid="a safetensors file, or a state dict saved by torch.save",
        remedy="if you trust its author: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        if scripted
        else "copy the file again; a pickled model can run code when it is read, so RIB never reads one: if you trust "
        "its author, save `model.state_dict()` rather than the model: torch.save(torch.load(FILE, "
        "weights_only=False).state_dict(), NEW)",
    )


def _reason(error: Exception) -> str:
    """Why a file was not read, in one line, without torch's advice on unsafe loading."""
    words = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    for advice in (" by default. Please", " In PyTorch 2.6", " or is not allowed"):
        words = words.partition(advice)[0]
    return f"{type(error).__name__}: {words}"


# -- replacements for classes in a pickle ------------------------------------------------------------------------------


class _Namespace:
    """Replaces argparse.Namespace and similar classes: attributes without the class."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.values = dict(state) if isinstance(state, dict) else {}


class _NoValue:
    """Replaces values that are never read, such as NumPy arrays."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


class _NumberKind:
    """Replaces numpy.dtype."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


def _number(kind: object = None, data: object = b"") -> Any:
    """Replaces NumPy's scalars: a Python number; None for anything else."""
    code = getattr(kind, "code", None)
    if not isinstance(code, str) or code not in _NUMBERS or not isinstance(data, bytes):
        return None
    wanted = np.dtype(code).newbyteorder(getattr(kind, "order", "<"))
    return np.frombuffer(data, wanted)[0].item() if len(data) == wanted.itemsize else None


_NUMBERS = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])


def _encoded(text: object = "", _: object = "latin1") -> bytes:
    """Replaces _codecs.encode, with which old pickles store bytes."""
    return text.encode("latin1") if isinstance(text, str) else b""


def _joined(*parts: object) -> str:
    """Replaces a path by its text."""
    return str(PurePosixPath(*map(str, parts)))


_STAND_INS: Mapping[str, Any] = {
    **dict.fromkeys(("argparse.Namespace", "types.SimpleNamespace"), _Namespace),
    **dict.fromkeys((f"{module}.multiarray.scalar" for module in ("numpy.core", "numpy._core")), _number),
    **dict.fromkeys((f"{module}.multiarray._reconstruct" for module in ("numpy.core", "numpy._core")), _NoValue),
    "numpy.ndarray": _NoValue,
    "numpy.dtype": _NumberKind,
    "_codecs.encode": _encoded,
    **dict.fromkeys(
        (
            f"{module}.{kind}"
            for module in ("pathlib", "pathlib._local")
            for kind in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
        ),
        _joined,
    ),
}
"""Replacements for the classes and functions that a pickle may name."""


def _plain(content: Any) -> Any:
    """The content with namespaces as dictionaries, and replacements without a value as None; tensors are unchanged."""
    if isinstance(content, _Namespace):
        return _plain(content.values)
    if isinstance(content, _NoValue | _NumberKind):
        return None
    if type(content) in (list, tuple):
        return [_plain(item) for item in content] if isinstance(content, list) else tuple(map(_plain, content))
    if isinstance(content, dict):
        for name, value in content.items():  # in place, because a state dict has version metadata as attributes
            if not isinstance(value, Tensor | int | float | str):
                content[name] = _plain(value)
    return content
