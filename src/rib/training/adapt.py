"""Adaptation at test time: predictions of a net that changes on the unlabelled test inputs while it sees them.

Such predictions never count as those of the weights themselves: they have steps, rows and tables of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rib.data.examples import Examples
from rib.data.feed import fed
from rib.data.labels import LabelMap
from rib.data.splits import named_generator
from rib.errors import UserError
from rib.models.classifier import Classifier
from rib.recipe import Frozen, Precision
from rib.training.predict import Predictions, Watch, autocast, finite, judge

Answering = Callable[[Tensor], Tensor]
"""A batch of inputs to logits (n, outputs); it may change the net."""


class Adaptation(Frozen, ABC):
    """A way in which a net adapts to test inputs, and its hyper-parameters.

    Attributes:
        name: what a suite calls it.
        batch: inputs per batch, on which the result depends.
        cost: of an input, in forward passes.
    """

    name: ClassVar[str]
    cost: ClassVar[int] = 1
    batch: int

    @abstractmethod
    def require(self, classifier: Classifier, model: str) -> None:
        """Refuse a model without what is adapted. Raises UserError."""

    @abstractmethod
    def answers(self, classifier: Classifier, label_map: LabelMap) -> Answering:
        """What answers the batches of one data set or cell, from the weights that the net has now."""


class BatchNormAdaptation(Adaptation):
    """BatchNorm's statistics are those of the test batch, mixed with the net's own (Schneider et al. 2020, arXiv
    2006.16971). With a batch of n images, mean and variance are prior / (prior + n) times the net's own, and
    n / (prior + n) times the batch's. Defaults as in the paper's full adaptation: batches of 512 and no prior.
    """

    name: ClassVar[str] = "bn_adapt"
    key_name: ClassVar[str] = "rib.training.adapt:BatchNormAdaptation"
    batch: int = Field(512, ge=2, description="images per batch")
    prior: int = Field(0, ge=0, description="images that the net's own statistics count as")

    def require(self, classifier: Classifier, model: str) -> None:
        """Refuse a model without BatchNorm statistics."""
        if not _norms(classifier.net):
            raise UserError(
                f"bn_adapt estimates BatchNorm's statistics on test images, and model {model!r} has none",
                got="no BatchNorm with statistics",
                remedy="leave the model out of this [[adapted]] block: models = [...]",
            )

    def answers(self, classifier: Classifier, label_map: LabelMap) -> Answering:
        """Mix the statistics of each batch, layer by layer, while it passes."""
        for module in _norms(classifier.net):
            module.register_forward_pre_hook(_Mixing(module, self.prior))

        def answer(batch: Tensor) -> Tensor:
            with torch.no_grad():
                return classifier(batch)

        return answer


class _Mixing:
    """A hook of a BatchNorm that sets its statistics before it is called."""

    def __init__(self, module: _BatchNorm, prior: int) -> None:
        assert module.running_mean is not None
        assert module.running_var is not None
        self.mean, self.variance, self.prior = module.running_mean.clone(), module.running_var.clone(), prior

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].float()
        others = [place for place in range(seen.dim()) if place != 1]
        share = len(seen) / (self.prior + len(seen))
        mean, variance = seen.mean(dim=others), seen.var(dim=others, unbiased=False)
        module.running_mean.copy_(self.mean.lerp(mean, share))  # type: ignore[operator]
        module.running_var.copy_(self.variance.lerp(variance, share))  # type: ignore[operator]


class Tent(Adaptation):
    """Entropy minimisation: each batch is answered, and then weights and biases of the norm layers take a step of SGD
    with momentum 0.9 down the mean entropy of these answers (Wang et al. 2021, arXiv 2006.10726).

    BatchNorms normalise by the batch. The entropy is over the data set's classes. The net starts again at each data set
    and at each cell of one, such as a corruption at one severity. Defaults as in the paper for ImageNet: batches of 64,
    rate 0.00025.
    """

    name: ClassVar[str] = "tent"
    key_name: ClassVar[str] = "rib.training.adapt:Tent"
    cost: ClassVar[int] = 3
    batch: int = Field(64, ge=2, description="images per batch")
    lr: float = Field(0.00025, gt=0, description="learning rate")

    def require(self, classifier: Classifier, model: str) -> None:
        """Refuse a model whose norm layers have no weights."""
        if not classifier.norm_parameters:
            raise UserError(
                f"tent trains the weights of norm layers, and model {model!r} has none",
                got="no norm layer with weights",
                remedy="leave the model out of this [[adapted]] block: models = [...]",
            )

    def answers(self, classifier: Classifier, label_map: LabelMap) -> Answering:
        """Answering, then take a step."""
        chosen, classifier.contiguous = [], True
        for name, value in classifier.net.named_parameters():
            value.requires_grad_(name in classifier.norm_parameters)
            chosen += [value] if value.requires_grad else []
        for module in _norms(classifier.net):
            module.running_mean = module.running_var = None
        optimizer = torch.optim.SGD(chosen, lr=self.lr, momentum=0.9)

        def answer(batch: Tensor) -> Tensor:
            logits: Tensor = classifier(batch)
            logs = label_map.mask(logits).float().log_softmax(dim=1)
            optimizer.zero_grad()
            (-(logs.exp() * logs).sum(dim=1).mean()).backward()
            optimizer.step()
            return logits.detach()

        return answer


ADAPTATIONS: dict[str, type[Adaptation]] = {kind.name: kind for kind in (BatchNormAdaptation, Tent)}
"""Every adaptation by its name."""


def _norms(net: nn.Module) -> list[_BatchNorm]:
    """The BatchNorms with statistics."""
    return [each for each in net.modules() if isinstance(each, _BatchNorm) and each.running_mean is not None]


def adapted(
    fresh: Callable[[], Classifier],
    examples: Examples,
    label_map: LabelMap,
    adaptation: Adaptation,
    precision: Precision = "fp32",
    watch: Watch | None = None,
) -> Predictions:
    """Predictions of a net that adapts, in the order of the examples.

    Inputs come in an order that is drawn once from their number: a net that adapts to one class after another would
    forget the classes, and files are often in the order of classes. A last batch shorter than the others joins the one
    before. So the result depends on the set and on `adaptation` alone.

    Args:
        fresh: builds the net, on its device; it is called for each cell.
        examples: N of them.
        label_map: of their data set.
        adaptation: how the net adapts.
        precision: of the forward pass.
        watch: called with the number of forward passes.

    Raises:
        NotFiniteError: a logit is NaN or infinite.
    """
    columns: dict[str, NDArray[Any]] = {}
    for order in _orders(examples, adaptation.batch):
        classifier = fresh().eval()
        answer = adaptation.answers(classifier, label_map)
        for rows, batch in zip(order, fed(examples, order, classifier.device), strict=True):
            with autocast(classifier.device, precision):
                logits = finite(answer(batch).float().cpu())
            piece = judge(logits, torch.from_numpy(examples.labels[rows]), label_map)
            for each in fields(Predictions):
                found = getattr(piece, each.name)
                columns.setdefault(each.name, np.empty(len(examples), found.dtype))[rows] = found
            if watch:
                watch(adaptation.cost * len(rows))
    return Predictions(**columns)


def _orders(examples: Examples, size: int) -> Iterator[list[NDArray[np.int64]]]:
    """The rows of each batch, cell by cell."""
    cells = examples.index.cells
    names = np.zeros(len(examples), np.int64) if cells is None else cells
    for cell in np.unique(names).tolist():
        rows = np.flatnonzero(names == cell)
        rows = rows[named_generator("adapt", 0, cell).permutation(len(rows))]
        count = max(1, len(rows) // size)
        yield [*np.split(rows, size * np.arange(1, count))]
