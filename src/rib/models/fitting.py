"""Finds the weights of a net in a checkpoint, under the net's own names and in its precision."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rib.errors import UserError
from rib.models.averages import require_one_set
from rib.models.checkpoints import CheckpointFile
from rib.models.weights import Weights, differences, misfit, put_weights, shapes, take_weights

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor] | None]

_WRAPPERS = tuple(re.compile(rf"(^|\.)(?:(?:{names})\.)+") for names in ("module|_orig_mod", "module", "_orig_mod"))
"""Prefixes that DataParallel and torch.compile add to names: both, or only one if the net's own names have the other.
"""

_AVERAGED = "n_averaged"
"""The counter in torch's AveragedModel."""

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

_EXACT = tuple(
    getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
)
"""Precisions that store plain numbers. All but float64 are exact in float32."""


@dataclass(frozen=True)
class Fitted:
    """Weights of a net, and how they were found in a checkpoint.

    Attributes:
        weights: under the net's names, in its order and precision.
        entry: the entry of the checkpoint that held them.
        chosen: whether the caller named the entry.
        cast: whether a tensor was stored in another precision.
    """

    weights: dict[str, Tensor]
    entry: str
    chosen: bool
    cast: bool


def fit_weights(
    checkpoint: CheckpointFile,
    net: nn.Module,
    what: str,
    head: str = "",
    key: str | None = None,
    convert: Convert = dict,
    foreign: Convert | None = None,
) -> Fitted:
    """Find the weights of a net in a checkpoint.

    Names are used as they are, or without a prefix that a wrapper has added to all of them (`module.`, `_orig_mod.`,
    `model.` or any other attribute). An entry fits if its names are then the net's. Counters of BatchNorm may be
    missing, as in torch.

    Args:
        checkpoint: the checkpoint.
        net: has the names, shapes and precision of the weights; this function may change it.
        what: the owner of the weights, for errors.
        head: name of the net's final linear layer; a checkpoint that differs only there has other classes.
        key: the entry to use; None for the only one that fits.
        convert: applied to the tensors of an entry before their names are compared with the net's.
        foreign: applied if no entry fits: converts another form of the same net's weights, or returns None.

    Raises:
        UserError: nothing fits; several entries fit and `key` is None; or a tensor has values that the net cannot use.
    """
    expected = net.state_dict()
    matching = _Matching(expected.keys(), _counters(net), convert)
    fitting = matching.fitting(checkpoint, key)
    if key is None and len(fitting) > 1 and not _equal(list(fitting.values())):
        raise _ambiguous(checkpoint, list(fitting), what)
    if fitting:
        entry, named = next(iter(fitting.items()))
        if key is None:
            require_one_set(checkpoint, entry, named, net, what)
    else:
        entry = _only_entry(checkpoint, what) if key is None else key
        found = _part(checkpoint, entry)
        named = (foreign(found) if foreign else None) or _by_hooks(found, net) or matching.closest(found)
    counters = {name: expected[name] for name in matching.optional}
    weights, cast = _cast(counters | named, expected, what, head)
    return Fitted(weights, entry, key is not None, cast)


@dataclass(frozen=True)
class _Matching:
    """Compares the names of tensors with a net's."""

    expected: Collection[str]
    optional: frozenset[str]
    convert: Convert

    def fitting(self, checkpoint: CheckpointFile, key: str | None) -> dict[str, dict[str, Tensor]]:
        """The entries whose tensors have the net's names, with the tensors under these names."""
        if key is not None:
            named = self.renamed(_part(checkpoint, key))
            return {} if named is None else {key: named}
        found: dict[str, dict[str, Tensor]] = {}
        for entry, state in checkpoint.states.items():
            tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            if len(tensors) < len(state):
                continue
            if (named := self.renamed(tensors)) is not None:
                found[entry] = named
                continue
            for first, part in self._parts(tensors):
                found[f"{entry}/{first}" if entry else first] = part
        return found

    def _parts(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Groups of tensors that share the first one to three parts of their names and have the net's names."""
        found: list[str] = []
        for count in (1, 2, 3):
            for first in dict.fromkeys(".".join(name.split(".")[:count]) for name in tensors):
                part = {name: value for name, value in tensors.items() if name.startswith(f"{first}.")}
                nested = any(first.startswith(f"{outer}.") for outer in found)
                few = count > 1 and len(part) < len(self.expected) - len(self.optional)
                if not nested and not few and (named := self.renamed(part)) is not None:
                    found.append(first)
                    yield first, named

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The tensors under the net's names; None if their names are others."""
        for candidate in _unwrapped(tensors, self.expected):
            named = self.convert(candidate)
            if named is not None and set(self.expected) - self.optional <= named.keys() <= set(self.expected):
                return named
        return None

    def closest(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under the most similar names to the net's, for an error that shows the differences."""
        candidates = [self.convert(candidate) or candidate for candidate in _unwrapped(tensors, self.expected)]
        return max(candidates, key=lambda named: len(named.keys() & set(self.expected)))


def _unwrapped(tensors: Mapping[str, Tensor], expected: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """The tensors under their own names, and under those without a wrapper's prefixes."""
    yield dict(tensors)
    own = {
        name: value for name, value in tensors.items() if name in expected or not (name == _AVERAGED and not value.ndim)
    }
    plain = ({wrapper.sub(r"\1", name): value for name, value in own.items()} for wrapper in _WRAPPERS)
    for named in (own, *(renamed for renamed in plain if len(renamed) == len(own))):
        for prefix in _prefixes(named):
            yield {name.removeprefix(prefix): value for name, value in named.items()}


def _prefixes(names: Collection[str]) -> Iterator[str]:
    """Common prefixes of all names, each up to a dot; the empty prefix first."""
    yield ""
    prefix = ""
    for part in min(names, default="").split(".")[:-1]:
        prefix += f"{part}."
        if not all(name.startswith(prefix) for name in names):
            return
        yield prefix


def _part(checkpoint: CheckpointFile, key: str) -> dict[str, Tensor]:
    """The tensors of an entry, or of a part of it whose names share a prefix: "state_dict/model"."""
    if key not in checkpoint.states:
        outer, _, first = key.rpartition("/")
        if outer in checkpoint.states:
            tensors = checkpoint.tensors(outer)
            if part := {name: value for name, value in tensors.items() if name.startswith(f"{first}.")}:
                return part
    return checkpoint.tensors(key)


def _only_entry(checkpoint: CheckpointFile, what: str) -> str:
    """The entry to convert, or to describe in an error.

    Raises:
        UserError: another entry has the same names.
    """
    entry = checkpoint.likeliest
    names = checkpoint.states[entry].keys()
    alike = [other for other, state in checkpoint.states.items() if state.keys() == names and len(names) > 1]
    if len(alike) > 1:
        raise _ambiguous(checkpoint, alike, what)
    return entry


def _ambiguous(checkpoint: CheckpointFile, entries: Sequence[str], what: str) -> UserError:
    named = [entry or "(the file itself)" for entry in entries]
    last = next((entry for entry in reversed(entries) if entry), "")
    return UserError(
        f"the checkpoint of {what} contains several sets of weights that match: {checkpoint.path}",
        got=", ".join(named),
        valid="one of them, by name",
        remedy=f'weights_key = "{last}" in the model\'s row, or {checkpoint.path.name}#{last} for `rib compare`',
    )


def _equal(several: Sequence[Weights]) -> bool:
    first = several[0]
    return all(
        other.keys() == first.keys() and all(_same(other[name], tensor) for name, tensor in first.items())
        for other in several[1:]
    )


def _same(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape or one.layout != torch.strided:
        return False
    return one.layout == other.layout and torch.equal(one, other)


def _counters(net: nn.Module) -> frozenset[str]:
    """Names of BatchNorm's batch counters, which files of old torch versions and converted files lack."""
    return frozenset(
        f"{place}.num_batches_tracked" if place else "num_batches_tracked"
        for place, module in net.named_modules()
        if isinstance(module, _NormBase) and module.num_batches_tracked is not None
    )


def _by_hooks(tensors: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor] | None:
    """Convert older names with the net's own loading hooks; None if the net refuses them."""
    try:
        put_weights(net, tensors, own_versions=False)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return take_weights(net)


# -- precision ---------------------------------------------------------------------------------------------------------


def _cast(named: Weights, expected: Weights, what: str, head: str) -> tuple[dict[str, Tensor], bool]:
    """The tensors in the net's precision, and whether one of them had another.

    Raises:
        UserError: a name or a shape differs, or a tensor holds no numbers that the net can use.
    """
    wrong = differences(shapes(expected), shapes(named))
    if wrong:
        raise misfit(wrong, shapes(expected), shapes(named), what, head)
    weights = {name: _as(named[name], expected[name], name, what) for name in expected}
    return weights, any(named[name].dtype != expected[name].dtype for name in expected)


def _as(tensor: Tensor, like: Tensor, name: str, what: str) -> Tensor:
    if tensor.is_meta or tensor.is_quantized:
        raise _unfit(tensor, like, name, what, "holds no values" if tensor.is_meta else "is quantised")
    dense = (tensor.to_dense() if tensor.layout != torch.strided else tensor).detach()
    if dense.dtype == like.dtype:
        return dense.contiguous()
    if like.dtype in _EXACT and dense.dtype in _EXACT:
        return dense.to(like.dtype).contiguous()
    if like.dtype in _WHOLE and dense.dtype in (*_WHOLE, *_EXACT):
        whole = dense.to(like.dtype)
        if torch.equal(whole.double(), dense.double()):
            return whole.contiguous()
    raise _unfit(tensor, like, name, what, f"is {_kind(tensor.dtype)}")


def require_numbers(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that a conversion to floating point would misread.

    Raises:
        UserError: one is quantised, complex, or of 8-bit integers; the message names it.
    """
    for name, tensor in tensors.items():
        if tensor.is_complex() or tensor.is_quantized or tensor.dtype == torch.int8:
            raise UserError(
                f"{what} contains values that the net cannot hold",
                got=f"{name} is {_kind(tensor.dtype)}",
                valid="floating point",
                remedy="give the weights in floating point, as before quantising or packing",
            )


def _unfit(tensor: Tensor, like: Tensor, name: str, what: str, fault: str) -> UserError:
    return UserError(
        f"the checkpoint of {what} contains values that the net cannot hold",
        got=f"{name} {fault}",
        valid=f"{_kind(like.dtype)}, or numbers that it holds exactly",
        remedy="give the weights in floating point, as before quantising or packing"
        if tensor.dtype in _WHOLE or tensor.is_quantized
        else "save the weights in the precision of the net",
    )


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
