"""The recipe's rules for BatchNorm's running mean and variance in a training."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rib.data.feed import fed
from rib.models.classifier import Classifier
from rib.training.training import Training

Statistics = Mapping[str, Tensor]
"""Running means, variances and counters by their names in the net's state dict."""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def statistics_names(net: nn.Module) -> tuple[str, ...]:
    """Names of the buffers with BatchNorm statistics; empty for a net without BatchNorm."""
    return tuple(
        f"{place}.{buffer}".removeprefix(".")
        for place, module in net.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer in _BUFFERS
        if getattr(module, buffer) is not None
    )


def take_statistics(net: nn.Module) -> dict[str, Tensor]:
    """A copy of the statistics of a net."""
    buffers = dict(net.named_buffers())
    return {name: buffers[name].detach().clone() for name in statistics_names(net)}


@torch.no_grad()
def put_statistics(net: nn.Module, statistics: Statistics) -> None:
    """Set the statistics of a net."""
    buffers = dict(net.named_buffers())
    for name, value in statistics.items():
        buffers[name].copy_(value)


@torch.inference_mode(False)
@torch.no_grad()
def estimate_statistics(classifier: Classifier, training: Training, norms: Collection[nn.Module]) -> None:
    """Estimate the statistics of `norms` on the whole tuning set, with the current weights.

    Each statistic becomes its mean over the recipe's batches, weighted by their numbers of images. With equal batches
    this is the result of `torch.optim.swa_utils.update_bn`. The recipe's `last_batch` applies here too. If it keeps a
    last batch of one image, that batch has no variance and is left out, unless it is the only one.

    Args:
        classifier: on the device to use; stays in evaluation mode.
        training: provides the examples.
        norms: the BatchNorms that the training has changed.
    """
    recipe, total = training.recipe, len(training.examples)
    sizes = recipe.batches(total, merged=not recipe.leaves_one(total))
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    wanted = [slice(end - size, end) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
    classifier.eval()
    kept = {module: module.momentum for module in norms if isinstance(module, _BatchNorm)}
    for module in kept:
        module.reset_running_stats()
        module.train()
    seen = 0
    for batch in fed(training.examples, wanted, classifier.device):
        seen += len(batch)
        for module in kept:
            module.momentum = len(batch) / seen
        classifier(batch)
    for module, momentum in kept.items():
        module.momentum = momentum
        module.eval()
