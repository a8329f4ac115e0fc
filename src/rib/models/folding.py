"""Nets whose BatchNorms are folded into the layers before them, so that they have weights but no statistics.

In evaluation mode a BatchNorm multiplies by a constant and adds one. A preceding convolution or linear layer can do
both. The folded net has the same outputs and no running statistics, so tuning changes only weights. It trains
differently, because nothing normalises by the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from rib.errors import UserError

BUILDER = "rib.models.folding:folded_net"

TOLERANCE = 1e-4
"""Maximum difference of logits between a net and its folded form, as a share of the largest logit."""

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def folded_net(num_classes: int, timm: str, **arguments: Any) -> nn.Module:
    """A timm model with random weights, whose BatchNorms are folded into the layers before them.

    Args:
        num_classes: number of outputs.
        timm: timm's name of the model.
        arguments: arguments of timm's builder.

    Raises:
        UserError: it has no BatchNorm, or one whose input is not the output of a convolution or linear layer.
    """
    net = _plain(num_classes, timm, arguments)
    for layer, norm in _pairs(net, timm).items():
        module: Any = net.get_submodule(layer)
        if module.bias is None:
            module.bias = nn.Parameter(module.weight.new_zeros(len(module.weight)))
        place, _, name = norm.rpartition(".")
        setattr(net.get_submodule(place), name, _rest(net.get_submodule(norm)))
    return net


def plain_names(num_classes: int, timm: str, **arguments: Any) -> list[str]:
    """Names of the tensors of the net as timm builds it. Args as `folded_net`."""
    with torch.device("meta"):
        return list(_plain(num_classes, timm, arguments).state_dict())


def _rest(norm: nn.Module) -> nn.Module:
    """The other operations of timm's norm layers: dropout and activation."""
    return nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))


def fold_weights(weights: Mapping[str, Tensor], num_classes: int, timm: str, **arguments: Any) -> dict[str, Tensor]:
    """The weights of a net in its folded form. Weights of other nets, or in folded form, are returned unchanged.

    Args:
        weights: of the plain net, under timm's names.
        num_classes, timm, arguments: as of `folded_net`.

    Raises:
        UserError: the outputs of the folded and the plain net differ by more than `TOLERANCE`.
    """
    net = _plain(num_classes, timm, arguments).eval()
    counters = {name for name in net.state_dict() if name.endswith(".num_batches_tracked")}
    if set(weights) - counters != set(net.state_dict()) - counters:
        return dict(weights)
    if any(weights[name].shape != value.shape for name, value in net.state_dict().items() if name in weights):
        return dict(weights)  # a later error shows the differences
    net.load_state_dict(dict(weights), strict=False)
    pairs = _pairs(net, timm)
    found = {name: tensor for name, tensor in net.state_dict().items() if name.rpartition(".")[0] not in pairs.values()}
    for layer, norm in pairs.items():
        found[f"{layer}.weight"], found[f"{layer}.bias"] = _fused(net.get_submodule(layer), net.get_submodule(norm))
    folded = folded_net(num_classes, timm, **arguments).eval()
    folded.load_state_dict(found)
    _require_equal(net, folded, timm)
    return found


def _fused(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that replaces layer and norm in evaluation mode, computed in double precision."""
    fuse: Any = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
    parts = (layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    kernel, bias, mean, variance, scale, shift = (None if part is None else part.detach().double() for part in parts)
    found = fuse(kernel, bias, mean, variance, norm.eps, scale, shift)
    weight, offset = (part.detach().to(layer.weight.dtype) for part in found)
    return weight, offset


def _plain(classes: int, name: str, arguments: Mapping[str, Any]) -> nn.Module:
    import timm

    net: nn.Module = timm.create_model(name, num_classes=classes, **arguments)
    return net


def _side(net: nn.Module) -> int:
    """Side of the images that a timm net takes, in pixels."""
    config: Mapping[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    return int(config["input_size"][-1])


@torch.no_grad()
def _pairs(net: nn.Module, name: str) -> dict[str, str]:
    """Names of the layers before BatchNorms, with the names of the BatchNorms. Raises as `folded_net`."""
    outputs: dict[str, list[Tensor]] = {}
    inputs: dict[str, Tensor] = {}
    handles = []
    for place, module in net.named_modules():
        if isinstance(module, _LAYERS):
            handles.append(
                module.register_forward_hook(lambda _, __, out, place=place: outputs.setdefault(place, []).append(out))
            )
        if isinstance(module, _BatchNorm):
            handles.append(
                module.register_forward_pre_hook(lambda _, args, place=place: inputs.update({place: args[0]}))
            )
    device, trained = next(net.parameters()).device, net.training
    try:
        net.eval()(torch.zeros(1, 3, _side(net), _side(net), device=device))
    finally:
        net.train(trained)
        for handle in handles:
            handle.remove()
    norms = [place for place, module in net.named_modules() if isinstance(module, _BatchNorm)]
    once = {place: made[0] for place, made in outputs.items() if len(made) == 1}
    pairs = {layer: norm for norm in norms for layer, out in once.items() if norm in inputs and inputs[norm] is out}
    if not norms or len(pairs) < len(norms):
        alone = next((norm for norm in norms if norm not in pairs.values()), None)
        raise UserError(
            f"the timm model {name!r} cannot be folded",
            got=f"no convolution or linear layer ends in the BatchNorm {alone!r}" if alone else "no BatchNorm",
            valid="a net in which a convolution or linear layer comes right before every BatchNorm",
            remedy='leave `fold` out; batchnorm = "freeze" keeps the statistics of any net',
        )
    return pairs


@torch.no_grad()
def _require_equal(net: nn.Module, folded: nn.Module, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, _side(net), _side(net), generator=generator)
    expected, found = net.eval()(images), folded.eval()(images)
    gap, most = float((found - expected).abs().max()), float(expected.abs().max())
    if gap > TOLERANCE * max(most, 1.0):
        raise UserError(
            f"the timm model {name!r} has other outputs when its BatchNorms are folded",
            got=f"logits that differ by {gap:.2g}",
            valid=f"at most {TOLERANCE * max(most, 1.0):.2g}",
            remedy='leave `fold` out; batchnorm = "freeze" keeps the statistics of any net',
        )
