"""Tuned: checks that the tuned model of a comparison has the architecture of its base."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rib.errors import UserError, is_memory
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.weights import differences, first_few, put_weights, shapes, take_weights
from rib.steps import Fit

TRIED = 2
"""Number of images on which the outputs of two nets are compared."""


def in_base(fit: Fit, base: Architecture) -> Fit:
    """The tuned weights in the base's architecture, which includes the preprocessing.

    Raises:
        UserError: they have another architecture.
    """
    own = fit.architecture
    if _net(own) != _net(base):
        expected, got = (shapes(build(each).net.state_dict()) for each in (base, own))
        wrong = differences(expected, got)
        raise UserError(
            "BASE and TUNED are of different architectures",
            got=f"{_title(own)} for TUNED: {first_few(wrong)}" if wrong else f"{_title(own)}, with the same tensors",
            valid=_title(base),
            remedy="compare checkpoints of one architecture"
            if wrong
            else "if both compute the same, name TUNED's checkpoint file itself: it then takes BASE's architecture",
        )
    if own.arguments != base.arguments and not _answer_alike(own, base):
        raise UserError(
            "BASE and TUNED are one model with other arguments, and answer differently with the same weights",
            got=f"{_arguments(own)} for TUNED",
            valid=_arguments(base),
            remedy="give BASE the same arguments in a row of the suite; or name TUNED's checkpoint file itself, which "
            "then takes BASE's architecture",
        )
    return replace(fit, start=fit.start.in_architecture(base.model_copy(update={"extension": own.extension})))


def _net(architecture: Architecture) -> tuple[object, ...]:
    """The parts of an architecture that must be equal. Running both nets shows whether other arguments of a timm
    model matter."""
    if architecture.timm:
        return ("timm", architecture.timm.partition(".")[0])
    return (architecture.build, architecture.arguments)


def _title(architecture: Architecture) -> str:
    if architecture.timm:
        return f"timm {architecture.timm}"
    return f"{architecture.build}({_arguments(architecture)})"


def _arguments(architecture: Architecture) -> str:
    return ", ".join(f"{name} = {value}" for name, value in architecture.arguments.items())


def _answer_alike(own: Architecture, base: Architecture) -> bool:
    """Whether both nets give the same logits for noise, with the same random weights, none of them 0 or 1.

    Nets with different tensors count as equal here, because reading the weights reports those.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (TRIED, base.size, base.size, 3), generator=generator, dtype=torch.uint8)
    nets = [build(each).eval() for each in (base, own.model_copy(update={"mean": base.mean, "std": base.std}))]
    state = {name: _moved(value, generator) for name, value in take_weights(nets[0].net).items()}
    if shapes(state) != shapes(nets[1].net.state_dict()):
        return True
    answers: list[Tensor] = []
    for net in nets:
        put_weights(net.net, state)
        try:
            with torch.no_grad():
                answers.append(net(images))
        except Exception as error:  # a net of a fixed size refuses the base's size with its own message
            if is_memory(error):
                raise
            return False
    return torch.allclose(answers[0], answers[1], rtol=1e-3, atol=1e-4 * float(answers[0].abs().max()))


def _moved(value: Tensor, generator: torch.Generator) -> Tensor:
    """A random tensor instead of a parameter's initial value; vectors, which include variances, are positive."""
    if not value.is_floating_point():
        return value
    moved = value + 0.02 * torch.randn(value.shape, generator=generator)
    return moved.abs().clamp(min=0.01) if value.ndim < 2 else moved
