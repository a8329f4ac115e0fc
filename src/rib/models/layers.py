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

_SILENT = {"Identity", "DropPath", "DropBlock2d", "PatchDropout", "Flatten"}  # in evaluation they hand on what they get


def choose(classifier: Classifier, images: Tensor, patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the layers that patterns name, in the order in which they are computed.

    Args:
        classifier: the model.
        images: uint8 (n, H, W, 3), a few, for a trial run that shows which modules are used.
        patterns: names in the net, where `*` and `?` stay within one part of a dotted name and `**` does not; "*"
            alone is every module without modules of its own. `input of HEAD` is what a head sees. None: the stem,
            every block, and what the head sees; for a net without blocks, as "*", and what the head sees.

    Raises:
        StepError: a pattern fits no layer; the nearest is named.
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
    """Names of all layers, in the order in which they are computed: modules that are called, that change what they
    are given, and whose outputs have the images as first dimension. Before a head comes `input of HEAD`.

    Args:
        classifier: the model, in evaluation mode.
        images: uint8 (n, H, W, 3) for a trial run.
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
    """While it lasts, `see` is given a layer's name and its output, once a call of the module.

    Of an output of several tensors it is the first. It is shown before a later module can change it in place.
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
    """The name of what each head sees, and the head's."""
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
    """The layer of each parameter, by name: of n blocks, 0 for what comes before the first, i for block i (from 1),
    n + 1 for what comes after the last.

    What is computed between two blocks belongs to the later one; parameters of no module that is called, such as a
    class token, come before the first.

    Args:
        classifier: the model, in evaluation mode.
        images: uint8 (n, H, W, 3) for a trial run, which shows the order of the blocks.
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
    """The layer of a parameter: that of its block, or what had been done when its module was called."""
    parts = parameter.split(".")[:-1]
    owners = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    block = next((owner for owner in owners if owner in place), None)
    if block is not None:
        return place[block]
    holders = (owner for owner in owners if not any(name.startswith(f"{owner}.") for name in place))
    return next((after[owner] for owner in holders if owner in after), 0)
