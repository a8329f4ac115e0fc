"""FLYP: fine-tune like you pretrain."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rib.data.labels import LabelMap
from rib.methods.base import Task, TrainedMethod
from rib.models.classifier import Classifier
from rib.models.text_side import Tower
from rib.models.weights import Weights
from rib.objectives.base import Features, Loss
from rib.objectives.unicl import LARGEST_SCALE


class FLYP(TrainedMethod):
    """Trains image and text side with CLIP's contrastive loss (Goyal et al. 2022, arXiv 2212.00638).

    Each image of a batch is matched with a text of its class, made from a random template, among the texts of all
    images in the batch, and each text with its image. The temperature is trained, too. Afterwards the head is computed
    from the reference set's class names by the trained text side. As in the paper, images of one class count as
    negatives of each other. A class that stands for several reference classes has the text of the first. If the model
    has only class vectors, these are trained. The cost does not include the text tower.
    """

    name: ClassVar[str] = "flyp"
    key_name: ClassVar[str] = "rib.methods.flyp:FLYP"
    needs_texts: ClassVar[bool] = True

    def objective(self, start: Weights, task: Task) -> ImagesAndTexts:
        """The contrastive loss, with a copy of the text side."""
        assert task.texts is not None
        return ImagesAndTexts(task.texts.tower(), task.label_map)


class ImagesAndTexts(Loss):
    """CLIP's loss of images and the texts of their classes.

    Args:
        tower: the text side to train.
        label_map: the label map of the tuning set, which gives the text of each class.
    """

    length: Tensor
    own: Tensor

    def __init__(self, tower: Tower, label_map: LabelMap) -> None:
        super().__init__()
        self.tower = tower
        device = tower.log_scale.device
        self.register_buffer("own", torch.tensor([group[0] for group in label_map.groups], device=device))
        self.register_buffer("length", torch.ones((), device=device))

    @property
    def scale(self) -> Tensor:
        """Factor of the cosines, at most 100."""
        return self.tower.log_scale.exp().clamp(max=LARGEST_SCALE)

    def forward(self, features: Features, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen = features(images).float()
        self.length = seen.detach().norm(dim=1).mean()
        logits = self.scale * F.normalize(seen, dim=1) @ self.tower(self.own[labels]).float().T
        pairs = torch.arange(len(labels), device=logits.device)
        loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
        return loss, (labels[logits.detach().argmax(dim=1)] == labels).sum()

    def chance(self, labels: Tensor, batch_size: int) -> float:
        """Percent of a batch that has the class of one of its texts: that of an image's own text, and of the others."""
        shares = torch.bincount(labels).double() / len(labels)
        same = float(shares.square().sum())
        return 100 * max(float(shares.max()), (1 + (batch_size - 1) * same) / batch_size)

    def finish(self, classifier: Classifier) -> None:
        """Set the head such that it gives scale · cosine for features of the usual length, which is 1 in a CLIP
        model.
        """
        matrix = self.scale * self.tower.matrix() / self.length
        values = dict(classifier.net.named_parameters())
        values[f"{classifier.head_name}.weight"].copy_(matrix)
        if (bias := values.get(f"{classifier.head_name}.bias")) is not None:
            bias.zero_()
