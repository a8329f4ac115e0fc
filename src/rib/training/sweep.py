"""Sweep: many checkpoints predict the same data in chunks, while each chunk is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rib.data.examples import Examples
from rib.data.feed import fed
from rib.data.labels import LabelMap
from rib.errors import NotFiniteError
from rib.models.classifier import Classifier
from rib.recipe import Precision
from rib.training.predict import Predictions, Watch, autocast, batches, finite, joined, judge


@dataclass
class Asked:
    """A checkpoint, and its predictions so far.

    Attributes:
        net: on the device to use; checkpoints with the same features share one net.
        head: the head, of this net or of another one.
        label_map: the label map of the data.
        precision: precision of the forward pass.
        said: predictions of the first examples, in consecutive pieces.
        error: why it was stopped; None if it was not.
    """

    net: Classifier
    head: nn.Module
    label_map: LabelMap
    precision: Precision
    said: list[Predictions] = field(default_factory=list)
    error: NotFiniteError | None = None

    @property
    def done(self) -> int:
        """Number of examples predicted."""
        return sum(len(piece.masked_class) for piece in self.said)

    @property
    def predictions(self) -> Predictions:
        """All predictions so far."""
        return joined(self.said, self.done)

    def state(self) -> dict[str, Any]:
        """The finished predictions, for a checkpoint."""
        return self.predictions.state

    def restore(self, state: dict[str, Tensor] | None, count: int) -> None:
        """Resume after `count` examples of a checkpoint."""
        if state and count:
            self.said = [Predictions.first(state, count)]


@torch.inference_mode()
def predict_chunk(chunk: Examples, asked: Sequence[Asked], batch_size: int, watch: Watch) -> None:
    """Predict a chunk with every checkpoint, in the batches of `predict.predict`.

    A checkpoint whose output is NaN or infinite is stopped; the others continue.

    Args:
        chunk: decoded examples; all but the last have a multiple of the batch size.
        asked: the checkpoints, each with equally many predictions.
        batch_size: images per forward pass.
        watch: called with progress, in images per net.
    """
    labels = torch.from_numpy(chunk.labels)
    riders: dict[Classifier, list[Asked]] = {}
    for one in asked:
        if one.error is None:
            riders.setdefault(one.net, []).append(one)
    for net, together in riders.items():
        logits = _logits(chunk, net.eval(), together, batch_size, watch)
        for one, found in zip(together, logits, strict=True):
            try:
                one.said.append(judge(finite(found), labels, one.label_map))
            except NotFiniteError as error:
                one.error = error


def _logits(chunk: Examples, net: Classifier, asked: Sequence[Asked], size: int, watch: Watch) -> list[Tensor]:
    """Logits float32 (N, classes) of checkpoints that share a net, on the CPU."""
    parts: list[list[Tensor]] = [[] for _ in asked]
    for images in fed(chunk, batches(len(chunk), size), net.device):
        with autocast(images.device, asked[0].precision):
            if len(asked) == 1 and asked[0].head is net.head:
                parts[0].append(net(images).float())
            else:
                seen = net.features(images).float()
                for one, found in zip(asked, parts, strict=True):
                    found.append(one.head(seen).float())
        watch(len(images))
    return [torch.cat(found).cpu() for found in parts]
