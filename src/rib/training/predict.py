"""Prediction: the loop that predicts examples with a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rib.data.examples import Examples
from rib.data.feed import fed
from rib.data.labels import LabelMap
from rib.errors import NotFiniteError
from rib.models.classifier import Classifier
from rib.recipe import Precision
from rib.training.checkpoint import Checkpoint

Watch = Callable[[int], None]
"""Called with the number of images since its last call."""

JUDGED = 64
"""Number of batches whose logits are stored before they are compared with the labels. Those of a whole set may be too
large for memory.
"""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier for N examples, in their order.

    `masked` is about the classes of the data set, `unmasked` about all outputs of the model.

    Attributes:
        masked_class: int16 (N,), the data set's class with the highest masked logit.
        masked_confidence: float32 (N,), its probability among the data set's classes.
        masked_label_probability: float32 (N,), probability of the right class among the data set's classes.
        masked_brier: float32 (N,), sum over the data set's classes of (probability - truth)².
        masked_right: bool (N,).
        unmasked_class: int16 (N,), the model's output with the highest logit.
        unmasked_confidence: float32 (N,), its probability among all outputs.
        unmasked_right: bool (N,), whether that output is one that the label map gives to the right class.
    """

    masked_class: NDArray[np.int16]
    masked_confidence: NDArray[np.float32]
    masked_label_probability: NDArray[np.float32]
    masked_brier: NDArray[np.float32]
    masked_right: NDArray[np.bool_]
    unmasked_class: NDArray[np.int16]
    unmasked_confidence: NDArray[np.float32]
    unmasked_right: NDArray[np.bool_]

    @property
    def state(self) -> dict[str, Tensor]:
        """The fields as tensors, for a checkpoint."""
        return {each.name: torch.from_numpy(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def first(cls, state: Mapping[str, Tensor], count: int) -> Predictions:
        """The first `count` predictions in a checkpoint."""
        return cls(**{each.name: state[each.name][:count].numpy() for each in fields(cls)})


def predict(
    classifier: Classifier,
    examples: Examples,
    label_map: LabelMap,
    *,
    batch_size: int,
    precision: Precision = "fp32",
    features: Tensor | None = None,
    watch: Watch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Predictions:
    """Predict every example once, in evaluation mode.

    Args:
        classifier: on the device to use.
        examples: N of them.
        label_map: of the examples' data set.
        batch_size: images per forward pass.
        precision: of the forward pass; probabilities are computed in float32.
        features: input of the head, float32 (N, D), if it is already computed.
        watch: called with the progress.
        checkpoint: stores the state of these predictions; they resume from it.

    Raises:
        NotFiniteError: a logit is NaN or infinite.
    """
    size, state = JUDGED * batch_size, checkpoint.load() if checkpoint else None
    before = len(state["masked_right"]) // size * size if state else 0

    def pieces() -> Iterator[Predictions]:
        if state and before:
            yield Predictions.first(state, before)
        for some in batches(len(examples), size)[before // size :]:
            chosen = examples.take(np.arange(some.start, some.stop))
            if features is None:
                logits = collect(classifier, classifier.forward, chosen, batch_size, precision, watch)
            else:
                logits = read_out(classifier, features[some], batch_size, precision)
            yield judge(logits, torch.from_numpy(chosen.labels), label_map)

    return joined(pieces(), len(examples), checkpoint)


def joined(pieces: Iterable[Predictions], count: int, checkpoint: Checkpoint | None = None) -> Predictions:
    """Join consecutive pieces of the predictions of `count` examples.

    Each piece is copied and freed at once: small pieces between larger freed arrays would fragment the memory. A
    checkpoint receives each piece.
    """
    columns: dict[str, NDArray[Any]] = {}
    done = 0
    for piece in pieces:
        for each in fields(Predictions):
            found = getattr(piece, each.name)
            if each.name not in columns:
                columns[each.name] = np.empty(count, found.dtype)
            columns[each.name][done : done + len(found)] = found
        done += len(piece.masked_class)
        if checkpoint and done < count:
            checkpoint.save(lambda: Predictions(**{name: found[:done] for name, found in columns.items()}).state)  # noqa: B023
    assert done == count
    return Predictions(**columns)


def judge(logits: Tensor, labels: Tensor, label_map: LabelMap) -> Predictions:
    """Predictions from logits float32 (N, outputs) and labels int64 (N,) into the data set's classes."""
    masked = label_map.mask(logits).softmax(dim=1)
    confidence, chosen = masked.max(dim=1)
    right_probability = masked.gather(1, labels[:, None])[:, 0]
    brier = masked.square().sum(dim=1) - 2 * right_probability + 1
    unmasked_confidence, output = logits.softmax(dim=1).max(dim=1)
    local = torch.tensor(label_map.inverse())[output]
    return Predictions(
        masked_class=chosen.numpy().astype(np.int16),
        masked_confidence=confidence.numpy(),
        masked_label_probability=right_probability.numpy(),
        masked_brier=brier.numpy(),
        masked_right=(chosen == labels).numpy(),
        unmasked_class=output.numpy().astype(np.int16),
        unmasked_confidence=unmasked_confidence.numpy(),
        unmasked_right=(local == labels).numpy(),
    )


@torch.inference_mode()
def collect(
    classifier: Classifier,
    function: Callable[[Tensor], Tensor],
    examples: Examples,
    batch_size: int,
    precision: Precision = "fp32",
    watch: Watch | None = None,
) -> Tensor:
    """`function` (the classifier's `forward` or `features`) of every example: float32 (N, D), on the CPU.

    Raises:
        NotFiniteError: a value is NaN or infinite.
    """
    classifier.eval()
    device = classifier.device
    parts = []
    for images in fed(examples, batches(len(examples), batch_size), device):
        with autocast(device, precision):
            parts.append(function(images).float())
        if watch:
            watch(len(images))
    return finite(torch.cat([part.cpu() for part in parts]))


def finite(found: Tensor) -> Tensor:
    """Check the outputs of a model for N examples, float (N, D), and return them unchanged.

    Raises:
        NotFiniteError: a value is NaN or infinite, so the highest logit means nothing.
    """
    bad = ~torch.isfinite(found).all(dim=1)
    if count := int(bad.sum()):
        raise NotFiniteError(
            f"the model outputs NaN or infinity for {count} of {len(found)} inputs. If it was tuned, its training may "
            "have diverged: try a lower learning rate. Otherwise look at its weights and at its mean and std, and "
            "predict in fp32 (`eval_precision`)"
        )
    return found


def collected(
    classifier: Classifier,
    function: Callable[[Tensor], Tensor],
    examples: Examples,
    batch_size: int,
    precision: Precision = "fp32",
    watch: Watch | None = None,
) -> Iterator[Tensor]:
    """The result of `collect`, in consecutive pieces float32 (n, D)."""
    for some in batches(len(examples), JUDGED * batch_size):
        chosen = examples.take(np.arange(some.start, some.stop))
        yield collect(classifier, function, chosen, batch_size, precision, watch)


@torch.inference_mode()
def read_out(classifier: Classifier, features: Tensor, batch_size: int, precision: Precision) -> Tensor:
    """Outputs of the head for features float32 (N, D), in the batches of `collect`.

    Returns:
        float32 (N, classes), on the CPU.

    Raises:
        NotFiniteError: a value is NaN or infinite.
    """
    device = classifier.device
    with autocast(device, precision):
        parts = [classifier.head(part.to(device)).float().cpu() for part in features.split(batch_size)]
    return finite(torch.cat(parts))


def batches(count: int, batch_size: int) -> list[slice]:
    """Slices of `count` examples in batches, in order."""
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The autocast context of a precision; a null context for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
