"""Distance: distances between data sets in the feature space of the pretrained model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal, NotRequired, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from rib.analysis.base import Analysis, Scene
from rib.arrays import Floats, Rows
from rib.data.labels import LabelMap
from rib.data.splits import named_generator, nested
from rib.errors import StepError, UserError
from rib.models.classifier import Classifier
from rib.training.predict import collect

Measure = Literal["frechet", "mmd", "otdd"]


@dataclass(frozen=True)
class DistanceSample:
    """Features of a sample of a data set's images.

    Attributes:
        features: float64 (n, D).
        labels: int64 (n,), the data set's own classes.
    """

    features: Floats
    labels: NDArray[np.int64]


class DistanceValues(TypedDict):
    """Values of `Distance`, with a square matrix for each chosen measure."""

    sets: list[str]
    images: list[int]
    classes: list[int]
    dimension: int
    frechet: NotRequired[list[list[float]]]
    mmd: NotRequired[list[list[float]]]
    otdd: NotRequired[list[list[float]]]


class Distance(Analysis):
    """Distances between every two data sets, over the input features of the pretrained model's head.

    RIB draws a sample, balanced over classes, from each data set's test part, the same for all measures. Features are
    not normalised, so distances of different models have different units; compare only within one model. By every
    measure, a set with fewer classes is farther from a set with all classes. Samples of two sets that show the same
    source images are not independent, which makes `mmd` slightly too small.

    - `frechet`: √(‖μ - μ'‖² + tr(Σ + Σ' - 2 (Σ Σ')^½)), the distance between Gaussians fitted to the samples, in units
      of the features. FID (Heusel et al. 2017, arXiv 1706.08500) is its square over Inception's features. It is biased
      upward for small samples, by about the same amount for all pairs of samples of one size.
    - `mmd`: squared maximum mean discrepancy, without a unit, unbiased (Gretton et al. 2012), with the polynomial
      kernel (x·x' / D + 1)³ of KID (Bińkowski et al. 2018, arXiv 1801.01401). An unbiased estimate of a small distance
      may be below zero. The kernel has no bandwidth, so a distance does not depend on the other data sets.
    - `otdd`: optimal transport data set distance, see `otdd_distance`; needs POT, the extra `otdd`.
    """

    name: ClassVar[str] = "distance"
    key_name: ClassVar[str] = "rib.analysis.distance:Distance"
    of_pair: ClassVar[bool] = False
    on: ClassVar[str] = "tested"
    together: ClassVar[bool] = True
    measures: tuple[Measure, ...] = Field(("frechet", "mmd"), min_length=1)
    images: int = Field(1000, ge=2, description="maximum number per data set")
    per_class: int = Field(
        10, ge=1, description="images per class; of a set with more classes than fit, some classes are drawn"
    )
    shrinkage: float = Field(0.1, ge=0, le=1, description="of a class's covariance, towards a sphere; for otdd")
    seed: int = Field(0, ge=0, description="of the draw of images")

    def image_passes(self, images: int) -> float:
        """One forward pass per sampled image."""
        return float(min(images, self.images))

    def look(self, scene: Scene) -> DistanceValues:
        """Compute `sets`, `images`, `classes` (of each set's sample), `dimension`, and one square matrix per measure.

        Matrices are lists of rows in the order of `sets`, symmetric, with a zero diagonal.

        Raises:
            StepError: there are fewer than two data sets, or fewer than two images of one.
            UserError: a measure needs a package that is not installed.
        """
        measures = self._measures()
        if len(scene.data) < 2:
            raise StepError(f"distances need two data sets or more; there are {len(scene.data)}")
        classifier = scene.build(scene.before)
        samples = [self._sample(scene, classifier, name) for name in scene.data]
        values: DistanceValues = {
            "sets": list(scene.data),
            "images": [len(sample.labels) for sample in samples],
            "classes": [len(np.unique(sample.labels)) for sample in samples],
            "dimension": samples[0].features.shape[1],
        }
        for name, measure in measures.items():
            values[name] = _matrix(samples, measure)
        return values

    def _measures(self) -> dict[Measure, Callable[[DistanceSample, DistanceSample], float]]:
        known: dict[Measure, Callable[[DistanceSample, DistanceSample], float]] = {
            "frechet": lambda a, b: frechet_distance(a.features, b.features),
            "mmd": lambda a, b: squared_mmd(a.features, b.features),
            "otdd": lambda a, b: otdd_distance(a, b, self.shrinkage),
        }
        if "otdd" in self.measures:
            _exact_transport()  # fail before the work, not after it
        return {name: known[name] for name in dict.fromkeys(self.measures)}

    def _sample(self, scene: Scene, classifier: Classifier, name: str) -> DistanceSample:
        seen = scene.data[name]
        rows = drawn_rows(seen.examples.labels, seen.label_map, self.images, self.per_class, self.seed)
        if len(rows) < 2:
            raise StepError(f"distances need two images of a data set or more; {name!r} has {len(rows)}")
        chosen = seen.examples.take(rows)
        features = collect(
            classifier, classifier.features, chosen, scene.batch_size, precision=scene.precision, watch=scene.watch
        )
        if not features.isfinite().all():
            raise StepError(f"the model's features of {name!r} are not finite")
        return DistanceSample(features.double().numpy(), chosen.labels)


def _matrix(
    samples: list[DistanceSample], measure: Callable[[DistanceSample, DistanceSample], float]
) -> list[list[float]]:
    matrix = np.zeros((len(samples), len(samples)))
    for first, second in combinations(range(len(samples)), 2):
        matrix[first, second] = matrix[second, first] = measure(samples[first], samples[second])
    rows: list[list[float]] = matrix.tolist()
    return rows


def drawn_rows(labels: NDArray[np.int64], label_map: LabelMap, images: int, per_class: int, seed: int) -> Rows:
    """Rows of a sample that is as balanced over classes as possible, ascending.

    The sample has at most `images // per_class` classes. If a data set has more, classes are chosen by a random order
    of the model's outputs that is the same for all data sets, so sets with the same classes keep the same ones.

    Args:
        labels: int64 (N,), labels of the data set.
        label_map: label map of the data set.
        images: maximum number of rows.
        per_class: images per class, if there are enough.
        seed: seed of the draw.
    """
    turn = named_generator("distance classes", seed).permutation(label_map.outputs)
    present = np.unique(labels)
    order = np.argsort([turn[label_map.groups[label][0]] for label in present.tolist()], kind="stable")
    classes = present[order[: max(1, images // per_class)]]
    rows = np.flatnonzero(np.isin(labels, classes))
    if not len(rows):
        return rows
    return np.sort(rows[nested(labels[rows], seed, "distance images")[:images]])


def frechet_distance(first: Floats, second: Floats) -> float:
    """Fréchet distance of two samples: the 2-Wasserstein distance of the fitted Gaussians N(μ, Σ) and N(μ', Σ').

    Args:
        first: (n, D), n of 2 or more; covariances are divided by n - 1.
        second: (m, D).
    """
    mean, factor = _gaussian(first)
    other_mean, other_factor = _gaussian(second)
    spread = (factor**2).sum() + (other_factor**2).sum() - 2 * _fidelity(factor, other_factor)
    return float(np.sqrt(((mean - other_mean) ** 2).sum() + max(spread, 0.0)))


def squared_mmd(first: Floats, second: Floats) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·x' / D + 1)³; may be below zero.

    Args:
        first: (n, D), n of 2 or more.
        second: (m, D).
    """

    def kernel(a: Floats, b: Floats) -> Floats:
        found: Floats = (a @ b.T / a.shape[1] + 1) ** 3
        return found

    def within(a: Floats) -> float:
        found = kernel(a, a)
        return float(found.sum() - np.trace(found)) / (len(a) * (len(a) - 1))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


def otdd_distance(first: DistanceSample, second: DistanceSample, shrinkage: float) -> float:
    """Optimal transport data set distance (Alvarez-Melis & Fusi 2020, arXiv 2002.02923), in units of the features.

    The square root of the minimum mean cost of transporting one sample to the other. Every image has the same weight,
    and transporting (x, y) to (x', y') costs ‖x - x'‖² + W₂²(N(μ_y, Σ_y), N(μ_y', Σ_y')). A linear programme finds the
    exact minimum. The distance is symmetric, and zero from a sample to itself.

    Args:
        first: n images.
        second: m images.
        shrinkage: see `label_distances`.

    Raises:
        UserError: POT is not installed.
        StepError: the solver failed.
    """
    solve = _exact_transport()
    labels, own = np.unique(first.labels, return_inverse=True)
    other_labels, other = np.unique(second.labels, return_inverse=True)
    between = label_distances(
        [first.features[first.labels == label] for label in labels],
        [second.features[second.labels == label] for label in other_labels],
        shrinkage,
    )
    return float(np.sqrt(solve(_squares(first.features, second.features) + between[own][:, other])))


def _squares(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Squared Euclidean distances between the rows of (N, D) and (M, D): float64 (N, M)."""
    from scipy.spatial.distance import cdist

    found: Floats = cdist(first, second, "sqeuclidean")
    return found


def label_distances(first: list[Floats], second: list[Floats], shrinkage: float) -> Floats:
    """Squared 2-Wasserstein distances between Gaussians fitted to classes: float64 (K, L).

    W₂² = ‖μ - μ'‖² + tr(Σ + Σ' - 2 (Σ^½ Σ' Σ^½)^½). The covariance S of a class's sample (divided by n - 1; zero for a
    single image) is shrunk towards a sphere of the same trace: Σ = (1 - s) S + s tr(S) / D · I.

    Args:
        first: K arrays (n_k, D), the features of one class each.
        second: L arrays (n_l, D).
        shrinkage: s, 0 … 1.
    """
    means, factors = _classes(first)
    other_means, other_factors = _classes(second)
    traces, other_traces = (factors**2).sum(axis=(1, 2)), (other_factors**2).sum(axis=(1, 2))
    joint = np.stack([_joint_fidelity(factor, other_factors, shrinkage) for factor in factors])
    spread = traces[:, None] + other_traces - 2 * joint
    found: Floats = _squares(means, other_means) + np.maximum(spread, 0)
    return found


def _gaussian(features: Floats) -> tuple[Floats, Floats]:
    """Mean (D,) and a factor F (n, D) of the covariance, Σ = Fᵀ F; zero for a single row."""
    mean: Floats = features.mean(axis=0)
    return mean, (features - mean) / np.sqrt(max(len(features) - 1, 1))


def _classes(features: list[Floats]) -> tuple[Floats, Floats]:
    """Means (K, D) and factors (K, n, D) of every class, padded with rows of zeros."""
    found = [_gaussian(each) for each in features]
    most = max(len(factor) for _, factor in found)
    factors = [np.pad(factor, ((0, most - len(factor)), (0, 0))) for _, factor in found]
    return np.stack([mean for mean, _ in found]), np.stack(factors)


def _fidelity(first: Floats, second: Floats) -> Floats:
    """tr (Σ^½ Σ' Σ^½)^½ from factors (…, n, D), (…, m, D): the sum of the singular values of F F'ᵀ."""
    found: Floats = np.linalg.svd(_short(first) @ np.swapaxes(_short(second), -1, -2), compute_uv=False).sum(axis=-1)
    return found


def _short(factor: Floats) -> Floats:
    """A factor of the same covariance with at most as many rows as columns."""
    if factor.shape[-2] <= factor.shape[-1]:
        return factor
    return cast(Floats, np.linalg.qr(factor, mode="r"))


def _joint_fidelity(first: Floats, second: Floats, shrinkage: float) -> Floats:
    """`_fidelity` of one shrunk covariance, with factor (n, D), and each of L others, with factors (L, m, D):
    float64 (L,)."""
    dimension = first.shape[1]
    both = np.concatenate([np.broadcast_to(first, (len(second), *first.shape)), second], axis=1)
    seen = _coordinates(both)
    radii = [np.sqrt(shrinkage / dimension * (factor**2).sum(axis=(-2, -1))) for factor in (first, second)]
    sphere = np.broadcast_to(np.eye(seen.shape[2]), (len(second), seen.shape[2], seen.shape[2]))
    one, other = (
        np.concatenate([np.sqrt(1 - shrinkage) * factor, np.reshape(radius, (-1, 1, 1)) * sphere], axis=1)
        for factor, radius in zip((seen[:, : len(first)], seen[:, len(first) :]), radii, strict=True)
    )
    outside: Floats = (dimension - seen.shape[2]) * radii[0] * radii[1]  # both covariances are spheres there
    return _fidelity(one, other) + outside


def _coordinates(rows: Floats) -> Floats:
    """Coordinates of rows (…, k, D) in an orthonormal basis of their span: (…, k, min(k, D)).

    The basis itself is not computed: it suffices that coordinates B satisfy B Bᵀ = the rows' inner products.
    """
    if rows.shape[-2] >= rows.shape[-1]:
        return rows
    values, vectors = np.linalg.eigh(rows @ np.swapaxes(rows, -1, -2))
    found: Floats = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
    return found


def _exact_transport() -> Callable[[Floats], float]:
    """A function from costs (n, m) to the minimum mean cost of transport between two samples of equal weights.

    Raises:
        UserError: POT is not installed.
    """
    for other in ("TENSORFLOW", "JAX", "CUPY"):  # POT imports every installed backend, and needs none of them
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{other}", "1")
    try:
        import ot
    except ImportError:
        raise UserError(
            "the distance `otdd` needs POT, the extra `otdd`",
            got="no module `ot`",
            remedy='pip install "rib-benchmark[otdd]", or leave "otdd" out of `measures`',
        ) from None

    def solve(costs: Floats) -> float:
        cost, log = ot.emd2([], [], costs, numItermax=100_000_000, log=True)
        if log["warning"] is not None:
            raise StepError(f"no optimal transport was found: {log['warning']}")
        return max(float(cost), 0.0)

    return solve
