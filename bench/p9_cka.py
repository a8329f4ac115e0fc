"""P9: CKA of all layers of two models, compared with the products that it needs and with a loop over pairs of layers.

The goal was once 1 % of the two forward passes. But the bare products of features, without which there is no CKA, take
nearly that: 0.8 % on an AMD EPYC. So the goal is a multiple of these products, measured in the same run.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.base import Row, Setting, at_least, at_most, interleaved, one_thread
from rib.analysis import cka
from rib.data.examples import Examples, Index
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.layers import choose, watched

MINIBATCH = 64
MIB = 1024


def measure(setting: Setting) -> list[Row]:
    """Measure with random weights, images of coloured noise and the layers that the analysis chooses; one thread,
    processor time."""
    with one_thread():
        return _measured(setting, "vit_tiny_patch16_224" if setting.quick else "vit_base_patch32_224")


def _measured(setting: Setting, model: str) -> list[Row]:
    architecture = describe(ModelRow(timm=model), classes=1000)
    first, second = (build(architecture, seed).eval() for seed in (0, 1))
    examples = noise(2 * MINIBATCH, architecture.size)
    images = torch.from_numpy(examples.batch(slice(MINIBATCH)))
    layers = choose(first, images[:4])
    forwards(first, second, images)
    before = peak()
    cka.compare(first, second, layers, examples, MINIBATCH)
    memory = peak() - before

    besides, floors = [], []
    features = [outputs(net, layers, images) for net in (first, second)]
    for _ in range(setting.repeats(3)):
        works = {"forwards": lambda: forwards(first, second, images), "products": lambda: products(features)}
        plain = interleaved(works, 1, time.process_time, warmup=0)
        grams, spent = grams_of(first, second, layers, images)
        besides.append(spent / plain.median("forwards"))
        floors.append(plain.median("products") / plain.median("forwards"))
    beside, floor = statistics.median(besides), statistics.median(floors)

    alignment = cka.Alignment()
    alignment.add(*grams)
    loop = np.array([[pair(x, y) for y in features[1]] for x in features[0]])
    differs = float(np.abs(alignment.cka() - loop).max())
    assert differs < 1e-5, differs
    timings = interleaved(
        {
            "anew": lambda: [[pair(x, y) for y in features[1]] for x in features[0]],
            "given": lambda: [[ratio(k, m) for m in grams[1]] for k in grams[0]],
            "ours": lambda: whole(features),
            "ours given": lambda: cka.Alignment().add(*grams),
        },
        setting.repeats(3),
        time.process_time,
    )
    note = f"{100 * beside:.2f} % of the two forwards; the bare products take {100 * floor:.2f} %"
    bare = "the bare products of features"
    pairs = f"per-pair HSIC, {len(layers)} × {len(layers)} layers"
    return [
        at_least(
            "P9", "CKA from features", pairs, 10, timings.ratio("anew", "ours"), f"largest difference {differs:.0e}"
        ),
        at_least(
            "P9", "CKA from Gram matrices", f"{pairs}, Gram matrices given", 10, timings.ratio("given", "ours given")
        ),
        at_most("P9", f"CKA beside the forwards of {model}", bare, 1.5, beside / floor, note),
        Row("P9", "memory of CKA", "the two forwards", "", f"{memory:.0f} MiB", None),
    ]


def noise(count: int, side: int) -> Examples:
    """Images of coloured noise, so that the outputs of layers differ between images."""
    generator = np.random.default_rng(0)
    shades = generator.integers(0, 200, (count, 1, 1, 3), dtype=np.uint8)
    images = shades + generator.integers(0, 56, (count, side, side, 3), dtype=np.uint8)
    return Examples.whole(images, Index(np.zeros(count, np.int64), np.arange(count)))


@torch.inference_mode()
def forwards(first: Classifier, second: Classifier, images: Tensor) -> None:
    """The forward passes alone."""
    first(images)
    second(images)


def grams_of(
    first: Classifier, second: Classifier, layers: tuple[str, ...], images: Tensor
) -> tuple[list[Tensor], float]:
    """The Gram matrices of a minibatch, and the processor time without the forward passes."""
    spent = 0.0

    def timed(features: Tensor, gram: Callable[[Tensor], Tensor] = cka.gram) -> Tensor:
        nonlocal spent
        begun = time.process_time()
        found = gram(features)
        spent += time.process_time() - begun
        return found

    original, cka.gram = cka.gram, timed
    try:
        grams = [cka.layer_grams(model, layers, images, "fp32") for model in (first, second)]
    finally:
        cka.gram = original
    begun = time.process_time()
    cka.Alignment().add(*grams)
    return grams, spent + time.process_time() - begun


def products(features: list[list[Tensor]]) -> None:
    """The matrix products of features with themselves, without which there is no CKA."""
    for layers in features:
        for layer in layers:
            layer @ layer.T


def whole(features: list[list[Tensor]]) -> None:
    """Compute all of CKA from features."""
    cka.Alignment().add(*(torch.stack([cka.gram(layer) for layer in layers]) for layers in features))


@torch.inference_mode()
def outputs(model: Classifier, layers: tuple[str, ...], images: Tensor) -> list[Tensor]:
    """Features (n, d) of every layer."""
    found: dict[str, Tensor] = {}
    with watched(model, layers, lambda name, output: found.update({name: output.flatten(1).clone()})):
        model(images)
    return [found[name] for name in layers]


def pair(x: Tensor, y: Tensor) -> float:
    """CKA of features (n, d) and (n, e), with its Gram matrices; in float64 after these are computed."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return ratio(x @ x.T, y @ y.T)


def ratio(k: Tensor, m: Tensor) -> float:
    """CKA of Gram matrices (n, n)."""
    return float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt())


def hsic(k: Tensor, m: Tensor) -> Tensor:
    """Unbiased HSIC of Gram matrices (n, n): Song et al. 2012, eq. 5."""
    n = len(k)
    k, m = (each.double() * (1 - torch.eye(n, dtype=torch.float64)) for each in (k, m))
    product = k @ m
    return (product.trace() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * product.sum()) / (n * (n - 3))


def peak() -> float:
    """Peak memory of the process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
