"""Distillation from a weighted moving average of the weights."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Passes, Task, TrainedMethod
from rib.methods.ema import floating
from rib.models.classifier import Classifier
from rib.models.weights import Weights
from rib.recipe import Recipe
from rib.training.hooks import StepHook


class WMATeacher(TrainedMethod):
    """Adds weight · KL(teacher ‖ student) at a temperature, on masked logits; the teacher is a weighted mean of all
    weights so far (Asadollahzadeh et al. 2026, arXiv 2605.29380, the part that needs no text).

    After t of T steps the teacher is Σ αk θk / Σ αk over k = 0 … t, where θ0 are the pretrained weights and αk is the
    density of Beta(β, β) at (k + ½) / (T + 1). With β = ½ the first and the last weights count most, so the teacher
    never becomes the student, unlike that of an exponential average. Deviations: the paper distils image and text
    features of CLIP; here it is logits, with temperature and weight of `lwf`.
    """

    name: ClassVar[str] = "wma_teacher"
    key_name: ClassVar[str] = "rib.methods.wma:WMATeacher"
    temperature: float = Field(2.0, gt=0)
    weight: float = Field(1.0, ge=0)
    beta: float = Field(0.5, gt=0, description="β of the Beta density")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the training, and the teacher's forward pass of each image."""
        own = super().passes(recipe, images, held_out)
        return own._replace(seen=own.seen + own.trained)

    def hook(self, start: Weights, task: Task) -> StepHook:
        """The hook that averages the teacher's weights and adds its loss."""
        return Teacher(task, task.build(start).eval(), self.beta, self.temperature, self.weight)


class Teacher(StepHook):
    """The weighted moving average of a net's floating-point tensors, and the loss that it adds. Its state holds the
    average and the sum of the weights αk.

    Args:
        task: gives the images.
        classifier: has the weights that training starts from.
        beta: β.
        temperature: of both outputs.
        weight: factor of the loss.
    """

    SUM = "sum of weights"

    def __init__(self, task: Task, classifier: Classifier, beta: float, temperature: float, weight: float) -> None:
        self.task, self.classifier = task, classifier
        self.beta, self.temperature, self.weight = beta, temperature, weight

    def loss(self, net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
        """The term weight · KL(teacher ‖ student), a scalar."""
        batch = torch.from_numpy(self.task.tuning.batch(rows.cpu().numpy())).to(self.task.device)
        with torch.no_grad():
            self._average()
            answer = self.task.label_map.mask(self.classifier(batch)).float()
        if self.task.seen:
            self.task.seen(len(rows))
        target = (answer / self.temperature).log_softmax(dim=1)
        student = (logits.float() / self.temperature).log_softmax(dim=1)
        return self.weight * F.kl_div(student, target, reduction="batchmean", log_target=True)

    def weights(self, net: nn.Module, step: int) -> None:
        """θ̄ ← θ̄ + α (θ - θ̄) / Σ α."""
        now = floating(net)
        total = self.state.setdefault(self.SUM, self._alpha(0))
        alpha = self._alpha(step + 1)
        total += alpha
        for name, value in self._average().items():
            value += alpha / total * (now[name] - value)

    def _average(self) -> dict[str, Tensor]:
        """The teacher's tensors, which are part of the state, so that a resumed run has them."""
        mine = floating(self.classifier.net)
        for name, value in mine.items():
            if name in self.state and self.state[name].data_ptr() != value.data_ptr():
                value.copy_(self.state[name])
            self.state[name] = value
        return mine

    def _alpha(self, step: int) -> Tensor:
        """Beta's density at a step, up to its constant."""
        place = torch.tensor((step + 0.5) / (self.total + 1), dtype=torch.float64)
        return ((place * (1 - place)) ** (self.beta - 1)).float().to(self.classifier.device)
