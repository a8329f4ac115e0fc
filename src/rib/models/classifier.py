"""Classifier: any module that ends in a linear head, with its own normalisation."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rib.errors import UserError


class Classifier(nn.Module):
    """Logits from uint8 images: normalise, backbone, head.

    Args:
        net: a module that maps normalised float images (N, 3, H, W) to logits (N, classes).
        classes: number of outputs.
        mean: of the normalisation, on the 0 … 1 scale.
        std: likewise.
        head: name of the final linear layer within `net`; default: the last `nn.Linear` with `classes` outputs.

    Raises:
        UserError: there is no such layer.
    """

    mean: Tensor
    std: Tensor
    contiguous: bool
    """Whether pixels are laid out plane by plane. Training through partly frozen layers needs it: the gradient of
    GroupNorm with a frozen weight crashes torch 2.13 on a CPU with pixels in the order of the image file."""

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        head: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.contiguous = False
        self.head_name = head or _find_head(net, classes)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255, persistent=False)
        if not isinstance(self.head, nn.Linear) or self.head.out_features != classes:
            raise UserError(
                f"the head {self.head_name!r} is not a linear layer with one output a class",
                got=repr(self.head),
                valid=f"Linear(…, out_features={classes})",
            )

    @property
    def head(self) -> nn.Module:
        """The final linear layer."""
        return self.net.get_submodule(self.head_name)

    @property
    def width(self) -> int:
        """Number of features the head sees."""
        assert isinstance(self.head, nn.Linear)
        return self.head.in_features

    @property
    def head_parameters(self) -> frozenset[str]:
        """Names, within `net`, of the head's parameters."""
        return frozenset(f"{self.head_name}.{name}" for name, _ in self.head.named_parameters())

    @property
    def norm_parameters(self) -> frozenset[str]:
        """Names, within `net`, of the parameters of its norm layers, which are told by their type."""
        return frozenset(
            f"{place}.{name}" if place else name
            for place, module in self.net.named_modules()
            if isinstance(module, _norm_types())
            for name, _ in module.named_parameters(recurse=False)
        )

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to normalised float32 (N, 3, H, W)."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return pixels.contiguous() if self.contiguous else pixels

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to logits (N, classes)."""
        logits: Tensor = self.net(self.normalise(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """What the head sees: uint8 (N, H, W, 3) to (N, D)."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.net(self.normalise(images))
        finally:
            handle.remove()
        return seen[-1]


def _norm_types() -> tuple[type[nn.Module], ...]:
    """torch's norm layers, of which timm's derive, and timm's own root-mean-square ones."""
    own = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)
    timm = sys.modules.get("timm.layers.norm")  # a net of timm's cannot be here without it
    return own + tuple(getattr(timm, name) for name in ("RmsNorm", "RmsNorm2d", "SimpleNorm", "SimpleNorm2d") if timm)


def _find_head(net: nn.Module, classes: int) -> str:
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    fitting = [name for name in linear if net.get_submodule(name).out_features == classes]
    if not fitting:
        last = repr(net.get_submodule(linear[-1])) if linear else "no linear layer"
        raise UserError(
            "the model has no linear head with one output a class",
            got=last,
            valid=f"a last nn.Linear with {classes} outputs",
            remedy="give the model as many outputs as the reference set has classes, or name its layer as `head`",
        )
    return fitting[-1]
