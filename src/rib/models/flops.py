"""FLOPs and parameters of a model, counted on the meta device if the model allows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from rib.errors import RibError, UserError, told
from rib.files import read_fact, write_fact
from rib.identity import key_of
from rib.models.build import build
from rib.models.catalogue import Architecture


@dataclass(frozen=True)
class ModelCost:
    """Cost of one architecture.

    Attributes:
        flops: floating-point operations of one example's forward pass; a multiply-add counts as two.
        parameters: number of parameters.
    """

    flops: int
    parameters: int


def kept_count(architecture: Architecture, facts: Path) -> ModelCost:
    """Same as `count`, cached in the folder `facts`."""
    file = facts / f"cost-{key_of('cost', architecture)}.json"
    try:
        return ModelCost(**json.loads(read_fact(file) or b""))
    except (ValueError, TypeError):
        found = count(architecture)
        write_fact(file, json.dumps(asdict(found)).encode())
        return found


def count(architecture: Architecture) -> ModelCost:
    """FLOPs of one example, and parameters, counted on the meta device if the model allows it.

    Raises:
        UserError: the model cannot be built, or fails on inputs of its size.
    """
    try:
        with torch.device("meta"):
            return _counted(architecture)
    except Exception:  # a net that reads the values of its tensors, or one that fails anyway
        pass
    try:
        return _counted(architecture)
    except RibError:
        raise
    except Exception as error:
        raise UserError(
            f"the model {architecture.timm or architecture.build!r} fails at an image of {architecture.view.words}",
            got=told(error),
            remedy="check the model's `size` and `arguments`",
        ) from None


def _counted(architecture: Architecture) -> ModelCost:
    classifier = build(architecture).eval()
    batch = torch.from_numpy(architecture.view.batch(1)).to(classifier.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        classifier(batch)
    parameters = sum(value.numel() for value in classifier.net.state_dict().values())
    return ModelCost(counter.get_total_flops(), parameters)
