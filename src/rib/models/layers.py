"""Layers: the modules of a net whose outputs an analysis or a loss can read, by their names in the net."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from rib.errors import StepError, nearest
from rib.models.blocks import blocks
from rib.models.classifier import Classifier

_SILENT = {"Identity", "DropPath", "DropBlock2d", "PatchDropout", "Flatten"}  # identities in evaluation mode


def choose(classifier: Classifier, images: Tensor, patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the layers that match patterns, in the order in which they are computed.

    Args:
        classifier: the model.
        images: a few inputs of the model for a trial run that shows which modules are used.
        patterns: names in the net, in which `*` and `?` match within one part of a dotted name and `**` matches across
            parts; "*" alone is every module without submodules. `input of HEAD` is the input of a head. None: the stem,
            every block, and the head's input; for a net without blocks, as "*", and the head's input.

    Raises:
        StepError: a pattern matches no layer; the message suggests the nearest.
    """
    known = visible(classifier, images)
    if not patterns:
        return _usual(classifier, known)
    wanted: set[str] = set()
    for pattern in patterns:
        found = _leaves(classifier.net, known) if pattern == "*" else _fitting(pattern, known)
        if not found:
            raise StepError(str(nearest(pattern, known, "layer")))
        wanted.update(found)
    return tuple(name for name in known if name in wanted)


@torch.inference_mode()
def visible(classifier: Classifier, images: Tensor) -> tuple[str, ...]:
    """Names of all layers, in the order in which they are computed.

    A layer is a module that is called, changes its input, and whose output has the images as first dimension. The
    inputs of heads count as layers named `input of HEAD`.

    Args:
        classifier: the model, in evaluation mode.
        images: a few inputs of the model for a trial run.
    """
    fits: dict[str, bool] = {}

    def see(name: str, output: Tensor) -> None:
        fits[name] = fits.get(name, True) and output.dim() > 1 and len(output) == len(images)

    names = [name for name, module in classifier.net.named_modules() if name and not _silent(module)]
    with watched(classifier, [*names, *_head_inputs(classifier)], see):
        classifier(images)
    return tuple(name for name, fit in fits.items() if fit)


@contextmanager
def watched(classifier: Classifier, names: Iterable[str], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Inside the `with` block, call `see` with a layer's name and its output at every call of the layer.

    If the output has several tensors, `see` gets the first, before a later module can change it in place.
    """

    def output_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _, __, output: _show(name, output)

    def input_of(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: _show(name, inputs)

    def _show(name: str, value: Any) -> None:
        tensor = _first_tensor(value)
        if tensor is not None:
            see(name, tensor)

    heads = _head_inputs(classifier)
    handles = [
        classifier.net.get_submodule(heads[name]).register_forward_pre_hook(input_of(name))
        if name in heads
        else classifier.net.get_submodule(name).register_forward_hook(output_of(name))
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _usual(classifier: Classifier, known: Sequence[str]) -> tuple[str, ...]:
    inner = set(blocks(classifier.net)) & set(known)
    if not inner:
        chosen = {*_leaves(classifier.net, known), *_head_inputs(classifier)}
        return tuple(name for name in known if name in chosen)
    first = next(place for place, name in enumerate(known) if any(f"{name}.".startswith(f"{one}.") for one in inner))
    return (*known[:first][-1:], *(name for name in known if name in inner), *_head_inputs(classifier))


def _leaves(net: nn.Module, known: Sequence[str]) -> tuple[str, ...]:
    leaves = {name for name, module in net.named_modules() if all(map(_silent, module.children()))}
    return tuple(name for name in known if name in leaves)


def _fitting(pattern: str, known: Sequence[str]) -> list[str]:
    expression = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
    return [name for name in known if re.fullmatch(expression, name)]


def _head_inputs(classifier: Classifier) -> dict[str, str]:
    """The name of each head's input, and the head's."""
    return {f"input of {head}": head for head in classifier.head_names}


def _silent(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) or type(module).__name__ in _SILENT


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list):
        return next((each for each in map(_first_tensor, value) if each is not None), None)
    return None


def depths(classifier: Classifier, images: Tensor) -> dict[str, int]:
    """The depth of each parameter, by name.

    With n blocks it is 0 before the first block, i in block i (from 1), and n + 1 after the last. A layer between two
    blocks has the depth of the later one. Parameters outside all called modules, such as a class token, have depth 0.

    Args:
        classifier: the model, in evaluation mode.
        images: a few inputs of the model for a trial run, which shows the order of the blocks.
    """
    known = visible(classifier, images)
    order = [name for name in known if name in set(blocks(classifier.net))]
    place = {name: number for number, name in enumerate(order, 1)}
    done, after = 0, {}
    for name in known:
        done = max(done, place.get(name, 0))
        after[name] = 0 if not done else done + 1
    return {name: _depth(name, place, after) for name, _ in classifier.net.named_parameters()}


def _depth(parameter: str, place: Mapping[str, int], after: Mapping[str, int]) -> int:
    """The depth of a parameter: that of its block, or of the position at which its module was called."""
    parts = parameter.split(".")[:-1]
    owners = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    block = next((owner for owner in owners if owner in place), None)
    if block is not None:
        return place[block]
    holders = (owner for owner in owners if not any(name.startswith(f"{owner}.") for name in place))
    return next((after[owner] for owner in holders if owner in after), 0)
