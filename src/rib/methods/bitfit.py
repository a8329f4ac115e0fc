"""BitFit: the biases and the head."""

from __future__ import annotations

from typing import ClassVar

from rib.errors import UserError
from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier


class BitFit(TrainedMethod):
    """Trains only biases and the head (Ben Zaken et al. 2022, arXiv 2106.10199).

    The biases of norm layers are included. A BatchNorm with a trained bias normalises by the batch, as in `finetune`.
    """

    name: ClassVar[str] = "bitfit"
    key_name: ClassVar[str] = "rib.methods.bitfit:BitFit"
    takes: ClassVar[str] = "biases"

    def require(self, classifier: Classifier) -> None:
        """Refuse a model without biases outside its head.

        Raises:
            UserError: it has none.
        """
        if not _biases(classifier) - classifier.head_parameters:
            raise UserError("bitfit trains biases, and this model has none outside its head", remedy="leave it out")

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """All biases, and the parameters of the head."""
        return _biases(classifier) | classifier.head_parameters


def _biases(classifier: Classifier) -> frozenset[str]:
    """Names of parameters that are biases, alone (`bias`) or with a prefix (`in_proj_bias`, `q_bias`)."""
    names = (name for name, _ in classifier.net.named_parameters())
    return frozenset(name for name in names if name.rpartition(".")[2].endswith("bias"))
