"""RegMean: linear layers whose outputs are closest to those of all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rib.data.splits import named_generator
from rib.methods.base import Ingredient, Method, Passes, Task
from rib.methods.merging import MergeContext, SetMerge, task_vectors
from rib.models.weights import Weights
from rib.recipe import Recipe


class InputGram(Method):
    """The mean of X'X over images for each linear layer of a tuned model, where X are the layer's inputs."""

    name: ClassVar[str] = "input_gram"
    key_name: ClassVar[str] = "rib.methods.regmean:InputGram"
    listed: ClassVar[bool] = False
    tuned: str = "finetune"
    samples: int = 1000

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The tuned model."""
        return (self.tuned,)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts each image once."""
        return Passes(seen=min(self.samples, images))

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """float32 (in, in) by the name of the layer's weight, in place of weights."""
        rows = named_generator("gram samples", task.seed).permutation(len(task.tuning))[: self.samples]
        classifier, examples, grams = task.build(fitted[0]).eval(), task.tuning.take(rows), dict[str, Tensor]()

        def watch(name: str) -> Any:
            def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                seen = inputs[0].flatten(0, -2).float()
                grams[name] = grams.get(name, 0) + seen.T @ seen

            return add

        for name, module in classifier.net.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(watch(f"{name}.weight"))
        with torch.inference_mode():
            for begin in range(0, len(examples), task.recipe.eval_batch_size):
                images = torch.from_numpy(examples.batch(slice(begin, begin + task.recipe.eval_batch_size)))
                classifier(images.to(classifier.device))
                if task.seen:
                    task.seen(len(images))
        return {name: gram.cpu().clone() / len(rows) for name, gram in grams.items()}


class RegMean(SetMerge):
    """(Σ Gi)⁻¹ Σ Gi Wi for linear layers, where Gi is the Gram matrix of model i's inputs; the mean for all others.

    Jin et al. 2023, arXiv 2212.09849. As in the source, off-diagonal entries of G are multiplied by `off_diagonal`.
    Convolutions, norms and biases are averaged, and so are directions in which no input varies.
    """

    name: ClassVar[str] = "regmean"
    key_name: ClassVar[str] = "rib.methods.regmean:RegMean"
    kept: ClassVar[bool] = True
    samples: int = Field(1000, ge=1, description="maximum number of tuning images per set for its Gram matrices")
    off_diagonal: float = Field(0.9, ge=0, le=1, description="factor of the off-diagonal entries of a Gram matrix")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The tuned model and its Gram matrices."""
        return (self.tuned, InputGram(tuned=self.tuned, samples=self.samples))

    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """The merged weights minus θ0."""
        vectors, found = task_vectors(start, models), {}
        for name in start:
            changes, grams = [vector[name] for vector in vectors], [other[0].get(name) for other in others]
            known = [gram for gram in grams if gram is not None]
            if len(known) < len(changes):
                found[name] = torch.stack(changes).mean(dim=0)
            else:
                found[name] = regression_mean(changes, known, self.off_diagonal)
        return found


def regression_mean(weights: Sequence[Tensor], grams: Sequence[Tensor], off_diagonal: float) -> Tensor:
    """The matrix (out, in) whose outputs are closest to those of all `weights` on their own inputs; float32.

    Args:
        weights: (out, in) each.
        grams: (in, in), the Gram matrices of their inputs.
        off_diagonal: factor of the off-diagonal entries of a Gram matrix.
    """
    scaled = [off_diagonal * gram.double() + (1 - off_diagonal) * gram.double().diag().diag() for gram in grams]
    middle = torch.stack([weight.double() for weight in weights]).mean(dim=0)
    pulls = sum((weight.double() - middle) @ gram for weight, gram in zip(weights, scaled, strict=True))
    inverse = torch.linalg.pinv(torch.stack(scaled).sum(dim=0), hermitian=True)
    return (middle + pulls @ inverse).float()
