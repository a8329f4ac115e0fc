"""Elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.data.splits import named_generator, named_seed
from rib.errors import NotFiniteError, is_memory
from rib.methods.base import Passes, Task, TrainedMethod
from rib.models.classifier import Classifier
from rib.models.weights import Weights, first_not_finite
from rib.recipe import Recipe
from rib.training.training import Pull

KEPT = "attention_bias_cache"
"""Where timm's attention layers cache biases in evaluation mode; cached biases have no gradient. In training mode such
a layer computes them at each call, and is otherwise the same.
"""


class EWC(TrainedMethod):
    """Adds strength · Σ F (θ - θ0)², with the diagonal Fisher information F (Kirkpatrick et al. 2017, arXiv
    1612.00796).

    F is the mean over samples of the squared gradient of log p(y|x) at the pretrained weights, with y drawn from the
    model. It is computed sample by sample, because the square of a batch's mean gradient is another quantity. The
    samples come from the tuning set, because the pretraining data of a published model are rarely available. F is
    divided by its mean over all parameters and clipped. So `strength` has the same meaning for every model, F = 1 is
    L2-SP, and no single weight makes a step unstable.
    """

    name: ClassVar[str] = "ewc"
    takes_single_gradients: ClassVar[bool] = True
    key_name: ClassVar[str] = "rib.methods.ewc:EWC"
    strength: float = Field(1.0, ge=0)
    samples: int = Field(200, ge=1, description="maximum number of tuning images for the Fisher information")
    clip: float = Field(100.0, gt=0, description="maximum of F, after division by its mean")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the training; and for the Fisher information, a forward pass and a gradient per image."""
        samples, trained = min(self.samples, images), super().passes(recipe, images, held_out).trained
        return Passes(trained=trained + samples, seen=samples)

    def pull(self, start: Weights, task: Task) -> Pull:
        """The term strength · Σ F (θ - θ0)².

        Raises:
            NotFiniteError: F is not finite at the pretrained weights.
        """
        chosen = named_generator("fisher samples", task.seed).permutation(len(task.tuning))[: self.samples]
        fisher = diagonal_fisher(
            task.build(start),
            task.tuning.take(chosen),
            task.label_map,
            seed=named_seed("fisher labels", task.seed),
        )
        task.watch(len(chosen))
        if task.seen:
            task.seen(len(chosen))
        if bad := first_not_finite(fisher):
            raise NotFiniteError(f"the Fisher information of {bad} is not finite at the pretrained weights")
        weight = normalised(fisher, self.clip)
        task.note("fisher_samples", float(len(chosen)))
        return Pull(self.strength, {name: start[name].to(task.device) for name in weight}, weight)


def diagonal_fisher(classifier: Classifier, examples: Examples, label_map: LabelMap, seed: int) -> dict[str, Tensor]:
    """Mean squared gradient of log p(y|x) of single samples, with y drawn from the masked prediction.

    Args:
        classifier: has the weights at which the Fisher information is computed; is put in evaluation mode.
        examples: the samples.
        label_map: of their data set.
        seed: seed of the draw of y.

    Returns:
        One tensor per parameter of `classifier.net`, of its shape.
    """
    classifier.eval()
    net, device = classifier.net, classifier.device
    for module in net.modules():
        if hasattr(module, KEPT):
            module.training = True
    trained = {name: value.detach() for name, value in net.named_parameters()}
    parameters = {name: value for name, value in trained.items() if name not in classifier.frozen}
    buffers = {name: value.detach() for name, value in net.named_buffers()}
    buffers |= {name: value for name, value in trained.items() if name not in parameters}

    def log_likelihood(theta: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(net, (theta, buffers), (image[None],))
        return -F.cross_entropy(label_map.mask(logits), label[None])

    one_sample = grad(log_likelihood)
    per_sample = vmap(one_sample, in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, 2**25 // sum(value.numel() for value in parameters.values()))
    for begin in range(0, len(examples), chunk):
        images = torch.from_numpy(examples.batch(slice(begin, begin + chunk))).to(device)
        pixels = classifier.prepared(images)
        with torch.no_grad():
            probabilities = label_map.mask(net(pixels)).softmax(dim=1).cpu()
        labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(device)
        with sdpa_kernel(SDPBackend.MATH):  # fused kernels do not support batches of gradients
            gradients = _each(per_sample, one_sample, parameters, pixels, labels)
        for name, gradient in gradients.items():
            total[name] += gradient.square().sum(dim=0)
    return {name: value / len(examples) for name, value in total.items()}


Gradients = dict[str, Tensor]


def _each(
    together: Callable[..., Gradients], one: Callable[..., Gradients], theta: Gradients, pixels: Tensor, labels: Tensor
) -> Gradients:
    """Gradients of single samples, (n, …) per parameter: batched if the net allows it, else one after the other."""
    try:
        return together(theta, pixels, labels)
    except Exception as error:  # operations that batches of gradients do not support, in place or dependent on values
        if is_memory(error):
            raise
    found = [one(theta, image, label) for image, label in zip(pixels, labels, strict=True)]
    return {name: torch.stack([each[name] for each in found]) for name in theta}


def normalised(fisher: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    """The Fisher information divided by its mean over all parameters and clipped at `clip`; all ones if it is zero."""
    count = sum(value.numel() for value in fisher.values())
    mean = sum(float(value.double().sum()) for value in fisher.values()) / count
    if mean == 0:
        return {name: torch.ones_like(value) for name, value in fisher.items()}
    return {name: (value / mean).clamp(max=clip) for name, value in fisher.items()}
