"""What RIB knows of a model without weights, from building it once and running it on blank images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from rib.errors import UserError, is_memory
from rib.models import clip, folding, transformer, vision
from rib.models.build import build, classifier_of, meta_classifier
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.one_image import affected
from rib.models.trace import TRIAL, Trace, TrialError, require_steady, trace
from rib.recipe import LastBatch, OneImage, Recipe

LIBRARIES = (vision.BUILDER, clip.BUILDER, folding.BUILDER, transformer.BUILDER)
"""Builders whose nets run on torch's meta device, like timm's: without memory and values, in some tenths of a second.
"""


@dataclass(frozen=True)
class Skeleton:
    """A model without weights.

    Attributes:
        architecture: with the heads and frozen parameters that the trial run found, if they are not the usual ones.
        classifier: names, shapes and types of its modules; its tensors have no values.
        odd: how its output in training mode differs from that in evaluation mode, in words; None if it does not.
    """

    architecture: Architecture
    classifier: Classifier
    odd: str | None

    def last_batch(self, trainable: frozenset[str] | None, recipe: Recipe, images: int, what: str) -> LastBatch | None:
        """How a training treats the last batch of each epoch: "merged" if it would be too short for a trained
        BatchNorm; else None.

        Args:
            trainable: names of the parameters that are trained in training mode; None for all.
            recipe: the recipe of the training.
            images: number of images of the tuning set.
            what: the training, for messages.

        Raises:
            UserError: the model's output in training mode differs from that in evaluation mode; or every batch is one
                image, and a BatchNorm is trained.
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
        """Whether a training normalises by the batch and changes the statistics of BatchNorm.

        Args:
            trainable: names of the parameters that are trained in training mode; None for all.
            recipe: the recipe of the training.
        """
        return recipe.batchnorm != "freeze" and bool(self.classifier.batch_norms(trainable))

    def one_image(self, taken: bool) -> OneImage | None:
        """How the norms handle gradients of single images; None if the training needs none (`taken`) or no norm is
        affected.
        """
        return "dense" if taken and affected(self.classifier.net) else None


PLAIN = ("rib.models.small:", "rib.models.characters:")
"""RIB's small nets need no trial run: they end in one linear layer, also in training mode, and have no BatchNorm."""


def skeleton(architecture: Architecture) -> Skeleton | None:
    """Result of a model's trial run; None for RIB's own nets. A net that fails in it is assumed to end in its head.

    Raises:
        UserError: the model cannot be built, has no fitting head, or its output is not logits.
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
        except Exception as error:  # a net that needs values to be built or run; other faults show below
            if is_memory(error):
                raise
    return _tried("cpu", architecture)


def _tried(device: str, architecture: Architecture) -> Skeleton:
    with torch.device(device):
        classifier = build(architecture)
    try:
        blank = torch.from_numpy(architecture.view.batch(TRIAL)).to(classifier.device)
        found = trace(classifier.net, classifier.prepared(blank), architecture.classes)
        if device == "cpu":
            require_steady(classifier.net, classifier.prepared(blank))
    except TrialError:  # the step that first runs it reports why, with the traceback
        if device == "meta":
            raise
        found = Trace((), classifier.head_name, None)
    heads = _heads(found, classifier, architecture)
    described = architecture.model_copy(update={"heads": heads, "frozen": tuple(sorted(classifier.frozen)) or None})
    bare = classifier_of(classifier.net.to("meta"), architecture, heads)
    return Skeleton(described, bare, found.odd)


def _heads(found: Trace, classifier: Classifier, architecture: Architecture) -> tuple[str, ...] | None:
    """The linear layers that the output is computed from; None if it is the head's output."""
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


def bare_net(architecture: Architecture) -> Classifier:
    """A model without weights and without a trial run, for RIB's own nets. Raises as `build`."""
    return _bare_net(architecture.model_dump_json())


@lru_cache(maxsize=256)
def _bare_net(document: str) -> Classifier:
    return meta_classifier(Architecture.model_validate_json(document))


def width_of(architecture: Architecture) -> int:
    """Number of features that the head of a model sees. Raises as `build`."""
    return meta_classifier(architecture).width
