"""Gradients of single images: norm layers on a CPU get them in the memory layout for which torch is correct."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""Norms of planes and volumes whose backward pass is wrong in torch 2.13 on a CPU for a batch of one image, if input
and gradient have different layouts and one of them is that of tokens (or of pixels, for an InstanceNorm). torch raises
no error, and the gradient's error is as large as the gradient.
"""


def dense_gradients(net: nn.Module) -> None:
    """Make such norms of a net get input and gradient plane by plane if the batch has one image.

    Batches of several images, and passes without gradients, do not change.

    Args:
        net: gets hooks on its norms.
    """
    for module in affected(net):
        module.register_forward_pre_hook(_dense_input)
        module.register_forward_hook(_dense_gradient)


def affected(net: nn.Module) -> list[nn.Module]:
    """The norms of a net that need it."""
    return [module for module in net.modules() if isinstance(module, NORMS)]


def _is_one(images: Tensor) -> bool:
    return torch.is_grad_enabled() and images.shape[0] == 1 and images.device.type == "cpu"


def _dense_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    images = inputs[0]
    return (images.contiguous(), *inputs[1:]) if _is_one(images) else None


def _dense_gradient(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    if output.requires_grad and _is_one(output):
        output.register_hook(Tensor.contiguous)
