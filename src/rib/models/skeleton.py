"""Skeleton: what is known of a model before it has weights, by building it once and running it on blank images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from rib.errors import UserError, is_memory
from rib.models import clip, folding, transformer, vision
from rib.models.build import build, classifier_of
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.one_image import affected
from rib.models.trace import TRIAL, Trace, TrialError, trace
from rib.recipe import LastBatch, OneImage, Recipe

LIBRARIES = (vision.BUILDER, clip.BUILDER, folding.BUILDER, transformer.BUILDER)
"""Builders whose nets are run on torch's meta device, as timm's are: no memory, no values, some tenths of a second."""


@dataclass(frozen=True)
class Skeleton:
    """A model without weights.

    Attributes:
        architecture: with the heads and frozen parameters that were found, if there is something to say of them.
        classifier: names, shapes and types of its modules; its tensors have no values.
        odd: how it answers in training mode, in words, if that is not its answer of evaluation; None else.
    """

    architecture: Architecture
    classifier: Classifier
    odd: str | None

    def last_batch(self, trainable: frozenset[str] | None, recipe: Recipe, images: int, what: str) -> LastBatch | None:
        """What becomes of the last batch of each epoch of a training: "merged" where it would be short and a
        BatchNorm is trained, None if it is left as it is.

        Args:
            trainable: names of the parameters that are trained in training mode; None for all.
            recipe: of the training.
            images: of the tuning set.
            what: it is, for people.

        Raises:
            UserError: the model answers otherwise in training than in evaluation; or every batch is one image, and a
                BatchNorm is trained.
        """
        if trainable == frozenset():
            return None
        if self.odd:
            raise UserError(
                f"{what}: the model's output in training differs from that in evaluation",
                got=self.odd,
                valid="its logits in both, or as the first of several outputs in training",
                remedy="wrap the model so that it returns only its logits, or tune its head alone (linear_probe)",
            )
        if not self.learns_statistics(trainable, recipe):
            return None
        if images == 1 or recipe.batch_size == 1:
            raise UserError(
                f"{what}: the model has BatchNorm, which cannot be trained on batches of one image",
                got=f"{images} images, batch_size = {recipe.batch_size}",
                valid="2 images or more, in batches of 2 or more",
                remedy="raise batch_size, or keep BatchNorm's statistics: batchnorm = 'freeze', linear_probe",
            )
        return "merged" if recipe.merges(images) else None

    def learns_statistics(self, trainable: frozenset[str] | None, recipe: Recipe) -> bool:
        """Whether a training normalises by the batch and changes BatchNorm's statistics.

        Args:
            trainable: names of the parameters that are trained in training mode; None for all.
            recipe: of the training.
        """
        return recipe.batchnorm != "freeze" and bool(self.classifier.batch_norms(trainable))

    def one_image(self, taken: bool) -> OneImage | None:
        """How gradients of single images go through the norms, if they are `taken` and the model has such norms."""
        return "dense" if taken and affected(self.classifier.net) else None


PLAIN = ("rib.models.small:", "rib.models.characters:")
"""RIB's own small nets need no trial run: they end in one linear layer, in training too, and have no BatchNorm."""


def skeleton(architecture: Architecture) -> Skeleton | None:
    """Result of a model's trial run; None for RIB's own. A net that fails in it is assumed to end in its head.

    Raises:
        UserError: the model cannot be built, has no fitting head, or answers with something else than logits.
    """
    if (architecture.build or "").startswith(PLAIN) and architecture.extension is None:
        return None
    return _skeleton(architecture.model_dump_json())


@lru_cache(maxsize=256)
def _skeleton(document: str) -> Skeleton:
    architecture = Architecture.model_validate_json(document)
    if architecture.timm is not None or architecture.build in LIBRARIES:
        try:
            return _tried("meta", architecture)
        except Exception as error:  # a net that cannot be built or run without values; its own fault shows below
            if is_memory(error):
                raise
    return _tried("cpu", architecture)


def _tried(device: str, architecture: Architecture) -> Skeleton:
    with torch.device(device):
        classifier = build(architecture)
    try:
        blank = torch.from_numpy(architecture.view.batch(TRIAL)).to(classifier.device)
        found = trace(classifier.net, classifier.prepared(blank), architecture.classes)
    except TrialError:  # the step that runs it first tells why, with its traceback
        if device == "meta":
            raise
        found = Trace((), classifier.head_name, None)
    heads = _heads(found, classifier, architecture)
    described = architecture.model_copy(update={"heads": heads, "frozen": tuple(sorted(classifier.frozen)) or None})
    bare = classifier_of(classifier.net.to("meta"), architecture, heads)
    return Skeleton(described, bare, found.odd)


def _heads(found: Trace, classifier: Classifier, architecture: Architecture) -> tuple[str, ...] | None:
    """The linear layers that the answer is made of; None if it is what the head gives."""
    if found.direct == classifier.head_name:
        return None
    heads = (found.direct,) if found.direct else found.heads
    if not heads or (architecture.head and architecture.head not in heads):
        raise UserError(
            f"the model's output does not come from the linear layer {classifier.head_name!r}",
            got=f"head = {architecture.head!r}"
            if architecture.head
            else "no other linear layer with that many outputs",
            valid=", ".join(heads) or "a net whose last layer with weights is an nn.Linear with one output per class",
            remedy="name the final layer as `head`, or leave `head` out" if heads else "end the net in an nn.Linear",
        )
    return heads
