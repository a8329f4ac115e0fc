"""How a net computes its output, found by a trial run without weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rib.errors import UserError, is_memory, told

TRIAL = 2
"""Number of images of the trial run."""


STEADY = 1e-3
"""Share of the largest logit by which two answers to one image may differ, for rounding."""


class TrialError(Exception):
    """An error of a net in the trial run."""


@dataclass(frozen=True)
class Trace:
    """Result of a net's trial run.

    Attributes:
        heads: names of the linear layers that the output is computed from, in the order of their calls; () if none is.
        direct: name of the linear layer whose output is the net's output, so that it is head(features); None if the
            net's output combines several layers, or changes theirs.
        odd: how its output in training mode differs from that in evaluation mode, in words; None if it does not.
    """

    heads: tuple[str, ...]
    direct: str | None
    odd: str | None


def trace(net: nn.Module, blank: Tensor | int, classes: int) -> Trace:
    """Run a net on blank images, in evaluation mode and in training mode. Its parameters do not change.

    Args:
        net: on any device; on torch's meta device a run needs no memory and computes no values.
        blank: prepared inputs, `TRIAL` of them; or the side of images in pixels.
        classes: number of outputs.

    Raises:
        UserError: its output is not one number per class.
        TrialError: the net fails.
    """
    inputs = torch.zeros(TRIAL, 3, blank, blank, device=_device(net)) if isinstance(blank, int) else blank
    answer, calls = _watched(net.eval(), inputs)
    if not _is_logits(answer, classes):
        raise UserError(
            "the model's output is not one number per class",
            got=_shape(answer),
            valid=f"one tensor of shape (images, {classes})",
            remedy="wrap the model in a module whose forward returns the logits alone",
        )
    direct = next((call.name for call in reversed(calls) if call.linear and call.is_(answer)), None)
    if direct is None:
        _refuse_chances(net, inputs)
    taught, in_training = _watched(net.train(), inputs)
    net.eval()
    same = _is_logits(taught, classes) or (
        isinstance(taught, tuple | list)
        and any(call.name == direct and taught and call.is_(taught[0]) for call in in_training)
    )
    return Trace(_heads(calls, classes), direct, None if same else _shape(taught))


def require_steady(net: nn.Module, inputs: Tensor) -> None:
    """Refuse a net whose answer to an image depends on the other images of its batch, or on chance.

    Args:
        net: on the CPU, with values; in evaluation mode.
        inputs: as many as `TRIAL`; only their form counts.

    Raises:
        UserError: two answers to one image differ by more than rounding.
        TrialError: the net fails.
    """
    if not inputs.is_floating_point():
        return
    noise = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0))
    beside = torch.cat([noise[:1], 1 - noise[1:]])
    one, again, other = (_seeded(net, images, seed) for images, seed in ((noise, 0), (noise, 1), (beside, 0)))
    faults = {
        "two answers to the same images differ": (one, again, "no random draws in evaluation mode, as of Dropout"),
        "the answer to an image depends on the other images of its batch": (
            one[:1],
            other[:1],
            "running statistics in evaluation mode: BatchNorm with track_running_stats",
        ),
    }
    for words, (first, second, valid) in faults.items():
        gap, scale = float((first - second).abs().max()), float(first.abs().max())
        if gap > STEADY * scale:
            raise UserError(f"{words}", got=f"logits that differ by {gap:.2g}, the largest is {scale:.2g}", valid=valid)


@torch.no_grad()
def _seeded(net: nn.Module, images: Tensor, seed: int) -> Tensor:
    """The net's output after the random state is set."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            found: Tensor = net(images)
        except Exception as error:  # the net is another's
            if is_memory(error):
                raise
            raise TrialError(told(error)) from error
    return found


def _refuse_chances(net: nn.Module, inputs: Tensor) -> None:
    """Refuse an answer that is a softmax or a sigmoid: losses and calibration take logits. Raises UserError."""
    if not inputs.is_floating_point():
        return
    with torch.enable_grad(), torch.device(inputs.device), torch.random.fork_rng(devices=[]):
        try:
            answer = net(inputs.detach().requires_grad_() + 0)
        except Exception:  # a net that takes no gradients: nothing is known of its last operation
            return
    made = type(getattr(answer, "grad_fn", None)).__name__
    if found := next((name for name in ("Softmax", "Sigmoid") if made.startswith(name)), None):
        raise UserError(
            "the model's output is probabilities, not logits",
            got=f"a net that ends in a {found.lower()}",
            valid="one logit for each class",
            remedy=f"leave the {found.lower()} out of the net: RIB computes probabilities itself",
        )


@dataclass(frozen=True)
class _Call:
    """A call of a module without submodules."""

    name: str
    module: nn.Module
    output: Any
    version: int

    @property
    def linear(self) -> bool:
        return isinstance(self.module, nn.Linear)

    def is_(self, answer: Any) -> bool:
        """Whether `answer` is the call's output and was not changed in place since."""
        return answer is self.output and answer._version == self.version


@torch.no_grad()
def _watched(net: nn.Module, inputs: Tensor) -> tuple[Any, list[_Call]]:
    """The net's output, and the calls of its leaf modules in order."""
    calls: list[_Call] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, _, output: calls.append(_Call(name, module, output, getattr(output, "_version", 0)))

    leaves = [(name, module) for name, module in net.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(note(name)) for name, module in leaves]
    try:
        with torch.device(inputs.device), torch.random.fork_rng(devices=[]):
            return net(inputs), calls
    except Exception as error:  # the net may be the user's code
        if is_memory(error):
            raise
        raise TrialError(told(error)) from error
    finally:
        for handle in handles:
            handle.remove()


def _device(net: nn.Module) -> torch.device:
    return next((value.device for value in net.parameters()), torch.device("cpu"))


def _heads(calls: Sequence[_Call], classes: int) -> tuple[str, ...]:
    """The linear layers with one output per class that are called last.

    Norms and layers without weights may lie between them.
    """
    found: list[str] = []
    for call in reversed(calls):
        if call.linear and call.module.out_features == classes:
            found.append(call.name)
        elif _has_weights(call.module) and not isinstance(call.module, _NormBase | nn.LayerNorm):
            break
    return tuple(dict.fromkeys(reversed(found)))


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_logits(answer: Any, classes: int) -> bool:
    return isinstance(answer, Tensor) and tuple(answer.shape) == (TRIAL, classes)


def _shape(answer: Any) -> str:
    """A description of a net's output."""
    if isinstance(answer, Tensor):
        return f"a tensor of shape {tuple(answer.shape)} for {TRIAL} images"
    kind = type(answer).__name__
    if isinstance(answer, dict):
        return f"a {kind} of {', '.join(map(str, answer))}"
    return f"a {kind} of {len(answer)}" if isinstance(answer, tuple | list) else f"a {kind}"
