"""A net with a linear head, and the preparation of its inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from rib.errors import StepError, UserError
from rib.models.one_image import dense_gradients
from rib.models.weights import EXTENSION


class Classifier(nn.Module):
    """Computes logits from inputs in the form of a view: preparation, backbone, head.

    Args:
        net: a module from prepared inputs, such as normalised float images (N, 3, H, W), to logits (N, classes).
        classes: number of outputs.
        mean, std: normalisation of images, on the 0 … 1 scale.
        head: name of the final linear layer within `net`; default: the last of `heads`, or else the last `nn.Linear`
            with `classes` outputs.
        heads: names of the linear layers that the output is computed from, if it is not the output of a single one.
        prepare: a module that prepares inputs of another form for the net; default: `Normalise(mean, std)`.

    Attributes:
        direct: whether the output is head(features).
        frozen: names of the parameters that the net's author has frozen; RIB never trains them.

    Raises:
        UserError: there is no such layer.
    """

    contiguous: bool
    """Whether pixels are stored plane by plane (channels first). Training through partly frozen layers needs it: with
    channels last, the gradient of GroupNorm with a frozen weight crashes torch 2.13 on a CPU.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        head: str | None = None,
        heads: tuple[str, ...] | None = None,
        prepare: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        dense_gradients(net)
        self.contiguous = False
        self.direct, self._compared = heads is None, False
        self.head_name = head or (heads[-1] if heads else find_head(net, classes))
        self.head_names = heads or (self.head_name,)
        self.frozen = frozenset(name for name, value in net.named_parameters() if not value.requires_grad)
        self.prepare = Normalise(mean, std) if prepare is None else prepare
        if not isinstance(self.head, nn.Linear) or self.head.out_features != classes:
            raise UserError(
                f"the head {self.head_name!r} is not a linear layer with one output per class",
                got=repr(self.head),
                valid=f"Linear(…, out_features={classes})",
            )

    @property
    def device(self) -> torch.device:
        """The device of its parameters."""
        return next(self.head.parameters()).device

    @property
    def head(self) -> nn.Module:
        """The final linear layer."""
        return self.net.get_submodule(self.head_name)

    @property
    def width(self) -> int:
        """Number of features, which are the head's input."""
        assert isinstance(self.head, nn.Linear)
        return self.head.in_features

    @property
    def head_parameters(self) -> frozenset[str]:
        """Names, within `net`, of the parameters of the head, or of all heads that the output is computed from."""
        return frozenset(
            f"{head}.{name}" for head in self.head_names for name, _ in self.net.get_submodule(head).named_parameters()
        )

    @property
    def extension_parameters(self) -> frozenset[str]:
        """Names, within `net`, of the parameters that a method has added to the net."""
        names = (name for name, _ in self.net.named_parameters())
        return frozenset(name for name in names if name.startswith(f"{EXTENSION}."))

    @property
    def norm_parameters(self) -> frozenset[str]:
        """Names, within `net`, of the parameters of norm layers. The layers are recognised by their type."""
        return frozenset(
            f"{place}.{name}" if place else name
            for place, module in self.net.named_modules()
            if isinstance(module, _norm_types())
            for name, _ in module.named_parameters(recurse=False)
        )

    def batch_norms(self, trainable: frozenset[str] | None) -> frozenset[nn.Module]:
        """The BatchNorms that, in a training, normalise by the batch and update their statistics; others use stored
        ones.

        They are those with a trained parameter and, if everything is trained, those without parameters.

        Args:
            trainable: names of the parameters that are trained; None for all.
        """
        found = set()
        for place, module in self.net.named_modules():
            names = [f"{place}.{name}".removeprefix(".") for name, _ in module.named_parameters(recurse=False)]
            chosen = [name for name in names if (trainable is None or name in trainable) and name not in self.frozen]
            if isinstance(module, _BatchNorm) and (chosen or (not names and trainable is None)):
                found.add(module)
        return frozenset(found)

    def prepared(self, batch: Tensor) -> Tensor:
        """Turn inputs in the form of a view into the net's inputs: images uint8 (N, H, W, 3) into float32 (N,
        3, H, W).
        """
        values: Tensor = self.prepare(batch)
        return values.contiguous() if self.contiguous else values

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (N, classes) of inputs in the form of a view.

        If the net returns several tensors, as some do in training mode, the first is used: it is the output of
        evaluation mode, and the others belong to auxiliary heads.
        """
        answer = self.net(self.prepared(batch))
        logits: Tensor = answer[0] if self.training and isinstance(answer, tuple | list) else answer
        return logits

    def features(self, batch: Tensor) -> Tensor:
        """The features of inputs in the form of a view: (N, D).

        With several heads, the inputs of all heads are concatenated; a head that sees tokens has the mean of its
        inputs.

        Raises:
            StepError: in evaluation mode, the output for the first batch is not what the head makes of its features.
        """
        seen: dict[str, Tensor] = {}
        handles = [
            self.net.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs, name=name: seen.__setitem__(name, inputs[0])
            )
            for name in self.head_names
        ]
        try:
            answer = self.net(self.prepared(batch))
        finally:
            for handle in handles:
                handle.remove()
        if not self.direct:
            return torch.cat([each.reshape(len(batch), -1, each.shape[-1]).mean(1) for each in seen.values()], dim=1)
        found = seen[self.head_name]
        if not (self.training or self._compared):
            self._require_direct(found, answer)
        return found

    def hidden(self, batch: Tensor) -> Tensor:
        """The hidden state of each token of texts: (N, L, D).

        Raises:
            UserError: the net does not give one.
        """
        look: Callable[[Tensor], Tensor] | None = getattr(self.net, "hidden", None)
        if look is None:
            raise UserError(
                "the model does not give a hidden state for each token",
                got=type(self.net).__name__,
                valid="a net with a method hidden(tokens), such as rib.models.characters:encoder",
            )
        return look(self.prepared(batch))

    def _require_direct(self, features: Tensor, answer: Tensor) -> None:
        """Refuse features that do not determine the output. NaN is reported elsewhere.

        Raises:
            StepError: the head's output for the features differs from the net's.
        """
        again, given = self.head(features).detach().float(), answer.detach().float()
        gap, scale = float((again - given).abs().max()), float(again.abs().max())
        if gap > 1e-2 * scale:  # always false for NaN
            raise StepError(
                f"with these weights the model's output is not that of its head {self.head_name!r} for its features: "
                "its forward changes the output afterwards, which the trial run at planning did not show; let "
                "the net end in its head"
            )
        self._compared = True


class TokenIds(nn.Module):
    """Turns stored token ids into the inputs of text models.

    Args:
        blank: the stored value for padding.
    """

    def __init__(self, blank: int) -> None:
        super().__init__()
        self.blank = blank

    def forward(self, tokens: Tensor) -> Tensor:
        """Convert unsigned integers (N, L) to int64 (N, L), with -1 for padding."""
        ids = tokens.long()
        return torch.where(ids == self.blank, -1, ids)


class Normalise(nn.Module):
    """Turns images into the inputs of image models.

    Args:
        mean, std: of each channel, on the 0 … 1 scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Convert uint8 (N, H, W, 3) to normalised float32 (N, 3, H, W)."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


def _norm_types() -> tuple[type[nn.Module], ...]:
    """torch's norm layers, the base classes of timm's, and timm's root-mean-square norms."""
    own = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)
    timm = sys.modules.get("timm.layers.norm")  # if timm is not imported, the net has no layers from it
    return own + tuple(getattr(timm, name) for name in ("RmsNorm", "RmsNorm2d", "SimpleNorm", "SimpleNorm2d") if timm)


def find_head(net: nn.Module, classes: int) -> str:
    """Name of the last linear layer with one output per class, extensions excluded.

    Raises:
        UserError: there is none.
    """
    named = ((name, module) for name, module in net.named_modules() if not name.startswith(f"{EXTENSION}."))
    linear = [name for name, module in named if isinstance(module, nn.Linear)]
    fitting = [name for name in linear if net.get_submodule(name).out_features == classes]
    if not fitting:
        last = repr(net.get_submodule(linear[-1])) if linear else "no linear layer"
        raise UserError(
            "the model has no linear head with one output per class",
            got=last,
            valid=f"a last nn.Linear with {classes} outputs",
            remedy="give the model as many outputs as the reference set has classes, or name its layer as `head`",
        )
    return fitting[-1]
