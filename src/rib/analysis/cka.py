"""CKA: how similarly two models represent the same images, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from rib.analysis.base import Analysis, Scene
from rib.analysis.sample import sample
from rib.data.examples import Examples
from rib.errors import StepError
from rib.models.classifier import Classifier
from rib.models.layers import choose, watched
from rib.recipe import Precision
from rib.training.predict import Watch, autocast

LEAST = 4
"""Minimum number of images for the unbiased estimate."""


class CKAValues(TypedDict):
    """Values of `CKA`."""

    images: int
    layers: list[str]
    matrix: list[list[float | None]]
    diagonal: list[float | None]
    mean: float | None


class CKA(Analysis):
    """Linear CKA (centred kernel alignment) of every layer before tuning with every layer after.

    CKA is that of Kornblith et al. 2019 (arXiv 1905.00414), from the unbiased HSIC of Song et al. 2012, averaged over
    minibatches (Nguyen et al. 2021, arXiv 2010.15327):

        CKA(X, Y) = Σ HSIC(X, Y) / √(Σ HSIC(X, X) · Σ HSIC(Y, Y)),   sums over minibatches.

    Features are all outputs of a layer, flattened over tokens or space. The outputs of several calls of one module are
    concatenated. A CKA of 1 means equal up to rotation and scale. The unbiased estimate can be slightly below 0. A
    layer with the same output for every image has no CKA.

    Values: `images`; `layers`, L names; `matrix`, L rows (before) of L columns (after), null without a CKA; `diagonal`;
    `mean`, the mean of the diagonal, null if one of its values is null.
    """

    name: ClassVar[str] = "cka"
    key_name: ClassVar[str] = "rib.analysis.cka:CKA"
    layers: tuple[str, ...] = Field((), description="patterns of names; default: stem, blocks, what the head sees")
    images: int = Field(2000, ge=LEAST, description="maximum number of images, drawn at random")
    minibatch: int = Field(64, ge=LEAST, description="images compared with one another, and run at once")

    def image_passes(self, images: int) -> float:
        """Two forward passes per image."""
        return 2.0 * min(images, self.images)

    def look(self, scene: Scene) -> CKAValues:
        """Compute the CKA matrix on one data set."""
        (seen,) = scene.data.values()
        examples = sample(seen.examples, self.images)
        if len(examples) < LEAST:
            raise StepError(f"CKA needs {LEAST} images or more, not {len(examples)}")
        before, after = scene.build(scene.before), scene.build(scene.after)
        trial = torch.from_numpy(examples.batch(slice(LEAST))).to(scene.device)
        layers = choose(before, trial, self.layers)
        matrix = compare(before, after, layers, examples, self.minibatch, scene.precision, scene.watch)
        diagonal = _plain(np.diag(matrix))
        return {
            "images": len(examples),
            "layers": list(layers),
            "matrix": [_plain(row) for row in matrix],
            "diagonal": diagonal,
            "mean": None if None in diagonal else round(float(np.diag(matrix).mean()), 6),
        }


def compare(
    first: Classifier,
    second: Classifier,
    layers: Sequence[str],
    examples: Examples,
    minibatch: int = 64,
    precision: Precision = "fp32",
    watch: Watch | None = None,
) -> NDArray[np.float64]:
    """CKA of each layer of one model with each layer of another, in one pass over the data.

    Memory does not grow with the number of examples, because each output becomes inner products at once.

    Args:
        first: a model, on the device for the computation.
        second: a model with the same layers, on the same device.
        layers: L names, as from `rib.models.layers.choose`.
        examples: N ≥ 4 examples.
        minibatch: maximum size of a minibatch; the examples are split evenly, and no minibatch has fewer than 4.
        precision: precision of the forward passes.
        watch: called with the number of forward passes (of one image) since the last call.

    Returns:
        float64 (L, L), rows for the first model; NaN if a layer has no variance.

    Raises:
        StepError: an output is not finite.
    """
    alignment = Alignment()
    for rows in minibatches(len(examples), minibatch):
        images = torch.from_numpy(examples.batch(rows)).to(first.device)
        alignment.add(*(layer_grams(model, layers, images, precision) for model in (first, second)))
        if watch:
            watch(2 * len(images))
    return alignment.cka()


def cka(first: Iterable[Tensor], second: Iterable[Tensor]) -> NDArray[np.float64]:
    """CKA of features with features, from a single minibatch.

    Args:
        first: L tensors (n, ...) of the same n ≥ 4 examples.
        second: M tensors (n, ...) of the same examples.

    Returns:
        float64 (L, M); NaN if features have no variance.
    """
    alignment = Alignment()
    alignment.add(*(torch.stack([gram(features) for features in side]) for side in (first, second)))
    return alignment.cka()


class Alignment:
    """Sums of the unbiased HSIC of L layers with M others over minibatches, weighted by the minibatches' sizes."""

    def __init__(self) -> None:
        self._both: Tensor | float = 0.0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add a minibatch: Gram matrices (L, n, n) and (M, n, n) of the same n ≥ 4 examples.

        HSIC(X, Y) = ⟨K, K'⟩ / n(n - 3) with U-centred Gram matrices, which is Song's estimate. So one matrix product
        computes all pairs of layers.
        """
        count = first.shape[-1]
        ours, theirs = u_centred(first).flatten(1), u_centred(second).flatten(1)
        scale = 1 / (count - 3)  # HSIC times the minibatch's size
        self._both += scale * ours @ theirs.T
        self._first += scale * ours.square().sum(dim=1)
        self._second += scale * theirs.square().sum(dim=1)

    def cka(self) -> NDArray[np.float64]:
        """CKA over all minibatches so far: float64 (L, M)."""
        both, first, second = (torch.as_tensor(each).numpy() for each in (self._both, self._first, self._second))
        power = np.outer(first, second)
        found: NDArray[np.float64] = np.where(power > 0, both, np.nan) / np.sqrt(np.where(power > 0, power, 1))
        return found


def u_centred(grams: Tensor) -> Tensor:
    """U-centred Gram matrices (Székely and Rizzo 2014, eq. 2.3): float64 (L, n, n), with zero diagonal and zero row
    sums."""
    count = grams.shape[-1]
    off = 1 - torch.eye(count, dtype=torch.float64)
    kept = grams.double() * off
    rows = kept.sum(dim=2) / (count - 2)
    whole = rows.sum(dim=1) / (count - 1)
    return (kept - rows[:, :, None] - rows[:, None, :] + whole[:, None, None]) * off


def gram(features: Tensor) -> Tensor:
    """Inner products of features (n, ...) after subtracting those of the first example: float32 (n, n), on the CPU.

    A shift does not change the unbiased HSIC. But the part that all examples share can be a hundred times larger than
    their differences, and would cost digits. The features are read in blocks that fit a core's cache, and a quarter of
    the symmetric product is skipped.
    """
    count, half = len(features), len(features) // 2
    flat = _flattened(features)
    total = torch.zeros(count, count, device=flat.device)
    columns = (2**19 if flat.device.type == "cpu" else 2**26) // count
    with torch.autocast(flat.device.type, enabled=False):
        for piece in flat.split(max(1, columns), dim=1):
            part = piece.float() - piece[:1].float()
            total[:half, :half].addmm_(part[:half], part[:half].T)
            total[half:].addmm_(part[half:], part.T)
    lower = total.tril()
    return (lower + lower.tril(-1).T).cpu()


@torch.inference_mode()
def layer_grams(classifier: Classifier, layers: Sequence[str], images: Tensor, precision: Precision) -> Tensor:
    """Gram matrices of layers' outputs for a batch of inputs: float32 (L, n, n), on the CPU.

    Raises:
        StepError: an output is not finite.
    """
    found: dict[str, Tensor] = {}

    def see(name: str, output: Tensor) -> None:  # the sum is that of concatenated features
        found[name] = found[name] + gram(output) if name in found else gram(output)

    with watched(classifier, layers, see), autocast(images.device, precision):
        classifier(images)
    if bad := next((name for name in layers if not found[name].isfinite().all()), None):
        raise StepError(f"the outputs of layer {bad!r} are not finite; predict in fp32")
    return torch.stack([found[name] for name in layers])


def minibatches(count: int, size: int) -> list[NDArray[np.int64]]:
    """Rows 0 … count - 1 in minibatches of at most `size`. Sizes differ by at most one, and none is below 4."""
    return np.array_split(np.arange(count), min(-(-count // size), count // LEAST))


def _flattened(features: Tensor) -> Tensor:
    """(n, ...) as (n, d), in memory order. The order of features does not matter."""
    order = sorted(range(1, features.dim()), key=features.stride, reverse=True)
    return features.permute(0, *order).flatten(1)


def _plain(row: NDArray[np.float64]) -> list[float | None]:
    return [round(value, 6) if np.isfinite(value) else None for value in row.tolist()]
