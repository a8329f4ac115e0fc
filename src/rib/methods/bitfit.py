"""BitFit: the biases and the head."""

from __future__ import annotations

from typing import ClassVar

from rib.errors import UserError
from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier


class BitFit(TrainedMethod):
    """Only biases and the head train (Ben Zaken et al. 2022, arXiv 2106.10199, if they are called BitFit).

    The biases of norm layers are among them. A BatchNorm whose bias trains normalises by the batch, as in `finetune`.
    """

    name: ClassVar[str] = "bitfit"
    key_name: ClassVar[str] = "rib.methods.bitfit:BitFit"
    takes: ClassVar[str] = "biases"

    def require(self, classifier: Classifier) -> None:
        """Refuse a model without biases below its head."""
        if not _biases(classifier) - classifier.head_parameters:
            raise UserError("bitfit trains biases, and this model has none below its head", remedy="leave it out")

    def trainable(self, classifier: Classifier) -> frozenset[str]:
        """Biases, and the head."""
        return _biases(classifier) | classifier.head_parameters


def _biases(classifier: Classifier) -> frozenset[str]:
    """Parameters that are called bias, alone (`bias`) or with what they are of (`in_proj_bias`, `q_bias`)."""
    names = (name for name, _ in classifier.net.named_parameters())
    return frozenset(name for name in names if name.rpartition(".")[2].endswith("bias"))
