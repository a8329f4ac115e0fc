"""Other weights for a net's parameters in its checkpoint, in forms that RIB does not load: averages above all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rib.errors import UserError
from rib.models.checkpoints import CheckpointFile

_DEPTH = 7
"""Maximum nesting of dictionaries and lists that is searched."""

_AVERAGED = re.compile(r"ema|shadow|averag|swa|polyak", re.IGNORECASE)

_NO_WEIGHTS = re.compile(
    r"optim|sched|scaler|momentum|exp_avg|grad|fisher|importance|omega|mask|delta|diff$|task_vector|collected|running"
    r"|square|sq_|hessian|variance|velocity|precondition|first_moment|second_moment",
    re.IGNORECASE,
)
"""Names of entries whose tensors have the shapes of weights and are none."""

_WRAPPER = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")


def require_one_set(
    checkpoint: CheckpointFile, entry: str, weights: Mapping[str, Tensor], net: nn.Module, what: str
) -> None:
    """Refuse a checkpoint whose weights nobody chose, if it has other values for all parameters of the net.

    Examples: the lists of torch_ema, of Lightning's callbacks and of NeMo's optimizer, averages without buffers, and
    averages whose names have lost their dots.

    Args:
        checkpoint: the checkpoint.
        entry: the entry that RIB found.
        weights: its tensors, under the net's names.
        net: the net.
        what: the owner of the weights, for errors.

    Raises:
        UserError: there are such values, or the entry's name says that it holds no weights.
    """
    *above, last = entry.split("/")
    of_optimizer = any(re.search("optim|sched|scaler", part, re.IGNORECASE) for part in above)
    if entry and (_NO_WEIGHTS.search(last) or of_optimizer) and not _AVERAGED.search(last):
        raise UserError(
            f"the checkpoint of {what} holds no weights by the name of its only entry: {checkpoint.path}",
            got=entry,
            valid="weights, as under `state_dict` or `model`",
            remedy=f"if they are weights: {_choice(entry)}",
        )
    held = {id(value) for _, found in _collections(checkpoint.content, "", _DEPTH) for value in _values(found)}
    own = {name: weights[name] for name, _ in net.named_parameters() if id(weights[name]) in held}  # no fresh head
    for place, form in _others(checkpoint.content, own):
        raise UserError(
            f"the checkpoint of {what} contains other values for the same parameters: {checkpoint.path}",
            got=f"{entry or '(the file itself)'}, and {place} ({form})",
            valid="one set of weights, or the name of one",
            remedy=f"if {entry!r} is meant: {_choice(entry)}; else load the other values into the model and save its "
            "state dict",
        )


def _choice(entry: str) -> str:
    return f'weights_key = "{entry}" in the model\'s row, or FILE#{entry} for `rib compare`'


def _others(content: Any, own: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Place and form of the sets of values for all parameters that differ from the net's own."""
    if len(own) < 2:
        return
    for place, found in _collections(content, "", _DEPTH):
        parts = place.split("/")
        if any(_NO_WEIGHTS.search(part) for part in parts) and not any(_AVERAGED.search(part) for part in parts):
            continue
        if isinstance(found, Mapping):
            for prefix, tensors in _groups(found):
                if _differs(tensors, own):
                    yield "/".join(filter(None, (place, prefix))), f"{len(tensors):,} named tensors"
        elif _is_other_list(found, list(own.values())):
            yield place, f"a list of {len(found):,} tensors without names"


def _collections(content: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Dictionaries and lists that contain several tensors, with the path of their keys."""
    if isinstance(content, Mapping):
        tensors = {
            name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
        }
        if len(tensors) > 1:
            yield place, tensors
        inner: Iterator[tuple[object, Any]] = iter(content.items())
    elif isinstance(content, list | tuple):
        if len(content) > 1 and all(isinstance(value, Tensor) for value in content):
            yield place, content
            return
        inner = iter(enumerate(content))
    else:
        return
    for name, value in inner if depth else ():
        if not isinstance(value, Tensor):
            yield from _collections(value, f"{place}/{name}" if place else str(name), depth - 1)


def _values(found: Mapping[str, Tensor] | Sequence[Tensor]) -> Sequence[Tensor]:
    return list(found.values()) if isinstance(found, Mapping) else found


def _groups(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors of a dictionary, and of each group of names with one prefix, by names without prefix and dots."""
    plain = {_WRAPPER.sub(r"\1", name): value for name, value in tensors.items()}
    heads = {".".join(name.split(".")[:count]) for name in plain for count in (1, 2) if name.count(".") >= count}
    for prefix in ("", *sorted(heads)):
        start = f"{prefix}." if prefix else ""
        group = {name.removeprefix(start): value for name, value in plain.items() if name.startswith(start)}
        yield prefix, {name.replace(".", ""): value for name, value in group.items()}


def _differs(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether a dictionary has a value of the right shape for each parameter, and other values than the net's own."""
    found = [tensors.get(name.replace(".", "")) for name in own]
    return None not in found and _are_others([value for value in found if value is not None], list(own.values()))


def _is_other_list(found: Sequence[Tensor], own: Sequence[Tensor]) -> bool:
    if Counter(tuple(value.shape) for value in found) != Counter(tuple(value.shape) for value in own):
        return False
    in_order = all(one.shape == other.shape for one, other in zip(found, own, strict=True))
    return not in_order or _are_others(found, own)


def _are_others(found: Sequence[Tensor], own: Sequence[Tensor]) -> bool:
    """Whether all shapes are equal, and a value is not. A copy in lower precision is the same values."""
    if any(one.shape != other.shape for one, other in zip(found, own, strict=True)):
        return False
    return not all(_same(one, other) for one, other in zip(found, own, strict=True))


def _same(one: Tensor, other: Tensor) -> bool:
    if one is other or one.is_meta or not (one.is_floating_point() and other.is_floating_point()):
        return one is other
    coarse = min((one.dtype, other.dtype), key=lambda kind: (kind.itemsize, -torch.finfo(kind).eps))
    return torch.equal(one.detach().to(coarse).float(), other.detach().to(coarse).float())
