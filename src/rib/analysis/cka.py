"""CKA: how alike the layers of two models represent the same images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rib.analysis.base import Analysis, Scene
from rib.analysis.sample import sample
from rib.data.examples import Examples
from rib.errors import StepError
from rib.models.classifier import Classifier
from rib.models.layers import choose, watched
from rib.recipe import Precision
from rib.training.predict import Watch, autocast

LEAST = 4
"""Images that the unbiased estimate needs."""


class CKAValues(TypedDict):
    """Values of `CKA`."""

    images: int
    layers: list[str]
    matrix: list[list[float | None]]
    diagonal: list[float | None]
    mean: float | None


class CKA(Analysis):
    """Linear centred kernel alignment of every layer before with every layer after (Kornblith et al. 2019,
    arXiv 1905.00414), from the unbiased HSIC of Song et al. 2012 averaged over minibatches (Nguyen et al. 2021,
    arXiv 2010.15327):

        CKA(X, Y) = Σ HSIC(X, Y) / √(Σ HSIC(X, X) · Σ HSIC(Y, Y)),   sums over minibatches.

    Features are all of a layer's outputs, flattened over tokens or space; a module that is called several times
    shows the outputs of its calls side by side. 1 is the same up to rotation and scale; being unbiased, it can fall
    slightly below 0. A layer that says the same of every image has none.

    Values: `images`; `layers`, L names; `matrix`, L rows (before) of L columns (after), null if there is none;
    `diagonal`; `mean`, of the diagonal, null if one of it is.
    """

    name: ClassVar[str] = "cka"
    key_name: ClassVar[str] = "rib.analysis.cka:CKA"
    layers: tuple[str, ...] = Field((), description="patterns of names; default: stem, blocks, what the head sees")
    images: int = Field(2000, ge=LEAST, description="at most so many, drawn at random")
    minibatch: int = Field(64, ge=LEAST, description="images compared with one another, and run at once")

    def image_passes(self, images: int) -> float:
        """Two passes per image."""
        return 2.0 * min(images, self.images)

    def look(self, scene: Scene) -> CKAValues:
        """The matrix of one data set."""
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
    """CKA of each layer of one model with each of another, in one pass over the data.

    Memory does not grow with the number of examples: a layer's output is turned into inner products as it appears.

    Args:
        first: a model, on the device to use.
        second: one of the same layers, on the same device.
        layers: L names, as from `rib.models.layers.choose`.
        examples: N of them, at least 4.
        minibatch: examples are split evenly among minibatches of at most this size, and of at least 4.
        precision: of the forward passes.
        watch: called with the progress, in forward passes of one image.

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
    """CKA of features with features, as of one minibatch.

    Args:
        first: L tensors (n, ...) of the same n ≥ 4 examples.
        second: M tensors (n, ...), in the same form.

    Returns:
        float64 (L, M); NaN if features have no variance.
    """
    alignment = Alignment()
    alignment.add(*(torch.stack([gram(features) for features in side]) for side in (first, second)))
    return alignment.cka()


class Alignment:
    """Sums of the unbiased HSIC of L layers with M others over minibatches, weighed by their sizes."""

    def __init__(self) -> None:
        self._both: Tensor | float = 0.0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def add(self, first: Tensor, second: Tensor) -> None:
        """Take in a minibatch: Gram matrices (L, n, n) and (M, n, n) of the same n ≥ 4 examples.

        HSIC(X, Y) = ⟨K, K'⟩ / n(n - 3) of U-centred Gram matrices, which is Song's estimate; so all pairs of layers
        are one product of matrices.
        """
        count = first.shape[-1]
        ours, theirs = u_centred(first).flatten(1), u_centred(second).flatten(1)
        scale = 1 / (count - 3)  # HSIC times the minibatch's size
        self._both += scale * ours @ theirs.T
        self._first += scale * ours.square().sum(dim=1)
        self._second += scale * theirs.square().sum(dim=1)

    def cka(self) -> NDArray[np.float64]:
        """CKA of what was taken in: float64 (L, M)."""
        both, first, second = (torch.as_tensor(each).numpy() for each in (self._both, self._first, self._second))
        power = np.outer(first, second)
        found: NDArray[np.float64] = np.where(power > 0, both, np.nan) / np.sqrt(np.where(power > 0, power, 1))
        return found


def u_centred(grams: Tensor) -> Tensor:
    """Gram matrices (L, n, n) without their diagonals and what rows and columns have in common (Székely and Rizzo
    2014, eq. 2.3): float64 (L, n, n), every row sums to 0."""
    count = grams.shape[-1]
    off = 1 - torch.eye(count, dtype=torch.float64)
    kept = grams.double() * off
    rows = kept.sum(dim=2) / (count - 2)
    whole = rows.sum(dim=1) / (count - 1)
    return (kept - rows[:, :, None] - rows[:, None, :] + whole[:, None, None]) * off


def gram(features: Tensor) -> Tensor:
    """Inner products of features (n, ...) less those of the first example: float32 (n, n), on the CPU.

    No shift changes the unbiased HSIC, but what all examples have in common can be a hundred times what differs and
    would take its digits. The features are read in pieces that stay in a core's cache; a quarter of the symmetric
    product is left out.
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
    """Gram matrices of layers' outputs for uint8 (n, H, W, 3) images: float32 (L, n, n), on the CPU.

    Raises:
        StepError: an output is not finite.
    """
    found: dict[str, Tensor] = {}

    def see(name: str, output: Tensor) -> None:
        found[name] = found[name] + gram(output) if name in found else gram(output)  # of features side by side

    with watched(classifier, layers, see), autocast(images.device, precision):
        classifier(images)
    if bad := next((name for name in layers if not found[name].isfinite().all()), None):
        raise StepError(f"the outputs of layer {bad!r} are not finite; predict in fp32")
    return torch.stack([found[name] for name in layers])


def minibatches(count: int, size: int) -> list[NDArray[np.int64]]:
    """Rows 0 … count - 1 in minibatches of at most `size` that differ by one row at most; none has fewer than 4."""
    return np.array_split(np.arange(count), min(-(-count // size), count // LEAST))


def _flattened(features: Tensor) -> Tensor:
    """(n, ...) as (n, d), in the order in which it lies in memory: the order of features is of no account."""
    order = sorted(range(1, features.dim()), key=features.stride, reverse=True)
    return features.permute(0, *order).flatten(1)


def _plain(row: NDArray[np.float64]) -> list[float | None]:
    return [round(value, 6) if np.isfinite(value) else None for value in row.tolist()]
