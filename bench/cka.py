"""CKA of all layers of two models: what it costs beside their forward passes, and beside a loop over pairs.

Run by hand: python bench/cka.py [--model vit_base_patch16_224] [--images 128] [--minibatch 64] [--threads 1]

Prints, for random weights and random images and layers as the analysis chooses them:
  share     processor time of CKA / of the two models' forward passes without hooks, mean of two
  per pair  processor time of a loop over pairs, HSIC by Song's formula: with the Gram matrices made anew for every
            pair, as loops have it, and with Gram matrices given / ours
  memory    most memory the process takes during the whole pass, beyond what it takes once both models have run on a
            minibatch without hooks ("beside the forwards") and once both are built ("beside the models")
  differs   largest difference from the loop, in float64

Seen on one thread of a busy machine of two cores, minibatches of 64:
  ViT-B/16   share 0.85 %; 2 MiB beside the forwards, 482 MiB beside the models
  ViT-B/32   share 0.93 %; 12 and 248 MiB; per pair 19 × and 54 ×; differs 1.5e-08
  test_vit   10,000 images: 30 and 117 MiB; share 6 %, for a narrow net's forward passes cost little
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rib.analysis import cka
from rib.analysis.layers import choose, watched
from rib.data.examples import Examples, Index
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.loading import build, describe

MIB = 1024


def main() -> None:
    """Measure and print."""
    options = arguments()
    torch.set_num_threads(options.threads)
    architecture = describe(ModelRow(timm=options.model), classes=1000)
    first, second = (build(architecture, seed).eval() for seed in (0, 1))
    examples = random_examples(options.images, architecture.size)
    images = torch.from_numpy(examples.batch(slice(options.minibatch)))
    layers = choose(first, images[:4])
    built = peak()
    run(first, second, images)
    ran = peak()
    forwards, shares, grams = [], [], []
    for _ in range(2):
        forwards.append(seconds(lambda: run(first, second, images)))
        grams, spent = measured(first, second, layers, images)
        shares.append(spent)
    begun = time.perf_counter()
    cka.compare(first, second, layers, examples, options.minibatch)
    took, most = time.perf_counter() - begun, peak()

    forward, ours = statistics.mean(forwards), statistics.mean(shares)
    print(f"{options.model}: {len(layers)} layers, minibatches of {options.minibatch}, {options.threads} threads")
    print(f"share     {100 * ours / forward:.2f} %  ({1e3 * ours:.0f} ms of {forward:.2f} s a minibatch)")
    print(f"memory    {most - ran:.0f} MiB beside the forwards, {most - built:.0f} MiB beside the models")
    print(f"          {options.images} images in {took:.0f} s")
    compare_with_loop(first, second, layers, images, grams, ours)


def compare_with_loop(
    first: Classifier, second: Classifier, layers: tuple[str, ...], images: Tensor, grams: list[Tensor], ours: float
) -> None:
    """Print how a loop over pairs of layers fares on one minibatch."""
    features = [outputs(model, layers, images) for model in (first, second)]
    begun = time.process_time()
    loop = np.array([[pair(x, y) for y in features[1]] for x in features[0]])
    anew = time.process_time() - begun
    given = seconds(lambda: [[ratio(k, m) for m in grams[1]] for k in grams[0]])
    alignment = cka.Alignment()
    batched = seconds(lambda: alignment.add(*grams))
    print(f"per pair  {anew / ours:.0f} × with Gram matrices made anew ({anew:.1f} s), ", end="")
    print(f"{given / batched:.0f} × with Gram matrices given ({1e3 * given:.0f} ms, ours {1e3 * batched:.1f} ms)")
    print(f"differs   {np.abs(alignment.cka() - loop).max():.1e}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_base_patch16_224", help="timm's name")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--minibatch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def random_examples(count: int, side: int) -> Examples:
    """Images of coloured noise, so that layers tell them apart; at most 512 different ones."""
    generator = np.random.default_rng(0)
    shades = generator.integers(0, 200, (min(count, 512), 1, 1, 3), dtype=np.uint8)
    images = shades + generator.integers(0, 56, (len(shades), side, side, 3), dtype=np.uint8)
    index = Index(np.zeros(count, np.int64), np.arange(count))
    return Examples(images, index, np.arange(count) % len(shades))


@torch.inference_mode()
def run(first: Classifier, second: Classifier, images: Tensor) -> None:
    """The forward passes alone."""
    first(images)
    second(images)


def measured(
    first: Classifier, second: Classifier, layers: tuple[str, ...], images: Tensor
) -> tuple[list[Tensor], float]:
    """The Gram matrices of a minibatch, and the processor time of all that is not the forward passes."""
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
    alignment = cka.Alignment()
    return grams, spent + seconds(lambda: alignment.add(*grams))


@torch.inference_mode()
def outputs(model: Classifier, layers: tuple[str, ...], images: Tensor) -> list[Tensor]:
    """Features (n, d) of every layer."""
    found: dict[str, Tensor] = {}
    with watched(model, layers, lambda name, output: found.update({name: output.flatten(1).clone()})):
        model(images)
    return [found[name] for name in layers]


def pair(x: Tensor, y: Tensor) -> float:
    """CKA of features (n, d) and (n, e), Gram matrices and all, in float64 once those are there."""
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


def seconds(function: Callable[[], object]) -> float:
    """Processor time, which other programs on the machine disturb little."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def peak() -> float:
    """Most memory the process has taken so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


if __name__ == "__main__":
    main()
