"""Class vectors: makes those of the shipped UniCL models, in src/rib/models/zoo.

UniCL drops its class vectors after pretraining, and the shipped nets were then trained on the reference set. So these
are fitted to the shipped nets, which stay frozen (as in LiT, arXiv 2111.07991): UniCL's loss of both directions, on
the images of that last training, in the space of what the head sees. A minute of one core.

python -m soak.class_vectors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from rib.data import digits
from rib.data.examples import Examples, Index
from rib.models.build import build
from rib.models.catalogue import ROWS, named_file
from rib.models.describe import describe
from rib.models.loading import load_pretrained
from rib.models.text_side import NAMES
from rib.models.weights import write_weights
from rib.objectives.unicl import LARGEST_SCALE, bidirectional
from rib.training.predict import collect

STEPS, BATCH, RATE = 600, 128, 0.01


def fitted(name: str) -> dict[str, torch.Tensor]:
    """Class vectors of a shipped model, and the scale that was learned with them."""
    row, data = ROWS[name], digits.render("pretrain_small", "pretrain")
    architecture = describe(row, 10)
    classifier = build(architecture)
    classifier.net.load_state_dict(load_pretrained(name, row, architecture, Path()))
    pool = Examples.whole(data.images, Index(data.labels, np.arange(len(data.labels))))
    features = F.normalize(collect(classifier, classifier.features, pool, 512).clone(), dim=1)
    labels = torch.from_numpy(data.labels)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(10, features.shape[1], generator=generator).requires_grad_()
    log_scale = torch.tensor(1 / 0.07).log().requires_grad_()
    optimizer = torch.optim.Adam([vectors, log_scale], lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        rows = torch.randint(len(features), (BATCH,), generator=generator)
        texts = F.normalize(vectors, dim=1)[labels[rows]]
        loss = bidirectional(log_scale.exp().clamp(max=LARGEST_SCALE) * features[rows] @ texts.T, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = F.normalize(vectors.detach(), dim=1)
    right = ((features @ made.T).argmax(dim=1) == labels).float().mean()
    print(f"{name}: {100 * right:.1f} % of its images right, scale {float(log_scale.detach().exp()):.1f}")
    return {NAMES: made, "scale": log_scale.detach().exp().clamp(max=LARGEST_SCALE)}


def main(words: Sequence[str]) -> None:
    """Write the class vectors of every model that has some."""
    argparse.ArgumentParser(prog="python -m soak class_vectors", description=__doc__).parse_args(words)
    for name, row in ROWS.items():
        if row.class_vectors:
            write_weights(named_file(row.class_vectors, Path()), fitted(name))


if __name__ == "__main__":
    main(sys.argv[1:])
