"""Draws of the rows to test on, hold out or tune on.

They draw source images, and smaller draws are part of larger ones.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.examples import Index
from rib.errors import UserError

ENOUGH = 100
"""Tuning sets of up to this many images are allowed even if there are more classes than images."""


def named_generator(*names: object) -> np.random.Generator:
    """A random generator that depends only on its names."""
    text = "/".join(str(name) for name in names)
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def named_seed(*names: object) -> int:
    """A seed in [0, 2**63) that depends only on its names."""
    return int(named_generator(*names).integers(2**63))


def carve(index: Index, fraction: float, seed: int, name: str) -> tuple[Rows, Rows]:
    """Split rows in two, stratified by class. The examples of one source image stay together.

    Args:
        index: labels and sources of the rows.
        fraction: share of each class's sources in the second half; at least one if a class has two.
        seed: seed of the draw.
        name: name of the draw, which makes splits with the same seed independent.

    Returns:
        Rows of the first and of the second half, ascending.
    """
    if fraction == 0:
        return np.arange(len(index)), np.empty(0, np.int64)
    generator = named_generator(name, seed)
    chosen: set[int] = set()
    first_row = {int(source): row for row, source in reversed(list(enumerate(index.sources)))}
    sources, labels = np.array(list(first_row)), index.labels[list(first_row.values())]
    for label in np.unique(labels):
        members = np.sort(sources[labels == label])
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        chosen.update(generator.permutation(members)[:count].tolist())
    second = np.isin(index.sources, np.fromiter(chosen, np.int64, len(chosen)))
    return np.flatnonzero(~second), np.flatnonzero(second)


def divided(index: Index, fraction: float) -> tuple[Rows, Rows]:
    """Split rows in two by a hash of the source, so that a source is on the same side in every set that shows it.

    The share holds on average over sources. A class with two or more sources has at least one on each side.

    Args: as `carve`, without a draw.

    Returns:
        Rows of the first and of the second half, ascending.
    """
    if fraction == 0:
        return np.arange(len(index)), np.empty(0, np.int64)
    places = mixed(index.sources.astype(np.uint64) ^ np.uint64(named_seed("divided"))) / 2.0**64
    second = places < fraction
    for label in np.unique(index.labels):
        rows = np.flatnonzero(index.labels == label)
        if len(np.unique(index.sources[rows])) > 1:
            if not second[rows].any():
                second |= places == places[rows].min()
            elif second[rows].all():
                second &= places != places[rows].max()
    return np.flatnonzero(~second), np.flatnonzero(second)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scrambled 64-bit numbers: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def nested(labels: NDArray[np.int64], seed: int, name: str) -> Rows:
    """An order of the rows in which every prefix is as balanced over classes as possible.

    The first n rows are the tuning set of size n, so a smaller set is part of every larger one with the same seed.
    """
    generator = named_generator(name, seed)
    shuffled = generator.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # the rank of each row within its class, in the shuffled order
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = np.arange(len(members))
    turn = generator.permutation(int(labels.max()) + 1)[labels]  # the order of the classes within one round
    return np.lexsort((turn, rank)).astype(np.int64)


def tuning_rows(index: Index, size: int | None, held_out: float, seed: int, data: str) -> tuple[Rows, Rows]:
    """Rows to tune on, and rows held out for choices (learning rate, greedy soup), from one tuning pool.

    The held-out rows show other source images, and are the same for every size and seed. There are at most as many as
    tuning rows.

    Args:
        index: the pool.
        size: number of tuning rows; None for all that are not held out.
        held_out: share of the pool's source images that is held out.
        seed: seed of the draw of tuning rows.
        data: the data set's name, for the error.

    Raises:
        UserError: the pool is smaller than `size`, or `size` is smaller than both the number of classes and `ENOUGH`.
    """
    pool, held = carve(index, held_out, 0, "held out")
    fewest = min(len(np.unique(index.labels)), ENOUGH)
    if size is not None and not fewest <= size <= len(pool):
        raise UserError(
            f"a tuning set of {size} cannot be drawn from {data!r}",
            got=size,
            valid=f"{fewest} ({_why(fewest)}) to {len(pool)} (all that are not held out), or 'all'",
            remedy="change `sizes` in the suite",
        )
    chosen = pool if size is None else pool[nested(index.labels[pool], seed, "tuning set")[:size]]
    kept = held[nested(index.labels[held], 0, "held out order")[: len(chosen)]] if len(held) else held
    return chosen, kept


def _why(fewest: int) -> str:
    return "each of another class" if fewest == ENOUGH else "one per class"
