"""Workshop: the environment of a running step: cached data, weights and nets, and the recording of results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rib.data.ahead import streamed
from rib.data.containers import changed
from rib.data.decoded import Decoded
from rib.data.examples import Examples, Part
from rib.data.feed import SHELF
from rib.data.pack import open_pack, pack_file
from rib.data.parts import DataPart
from rib.data.views import View
from rib.errors import DamagedError, StepError, UserError
from rib.identity import source_digest
from rib.models.build import build
from rib.models.catalogue import Architecture, find_row
from rib.models.classifier import Classifier
from rib.models.text_side import TextSide
from rib.models.text_sources import load_text
from rib.models.weights import Weights, put_weights
from rib.recipe import LastBlock
from rib.steps.how import How
from rib.steps.world import World
from rib.store.record import Described
from rib.store.store import Store
from rib.suite.suite import Suite
from rib.training.checkpoint import FileCheckpoint

CACHED_WEIGHTS = 3
"""Number of sets of weights in memory: the pretrained ones, and those compared with them."""


class Weighted(Protocol):
    """Source of weights: a loaded model, or a step."""

    @property
    def key(self) -> str:
        """Key of the weights."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Architecture of the model."""
        ...

    def read_weights(self, shop: Workshop) -> Weights:
        """The weights, read or merged."""
        ...


class Runnable(Described, Protocol):
    """The parts of a step that the workshop uses."""

    @property
    def trains(self) -> bool:
        """Whether it has backward passes."""
        ...

    @property
    def architecture(self) -> Architecture:
        """Architecture of the model."""
        ...

    def new_key(self) -> str:
        """The key, computed again."""
        ...

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Run it; return the values of its record."""
        ...


class Workshop:
    """Runs steps, one at a time.

    Args:
        suite: gives data and models by name.
        store: the store for the results.
        how: device and checkpoints.
        watch: called with the number of images and of forward passes that they cost.
    """

    def __init__(self, suite: Suite, store: Store, how: How, watch: Callable[[int, float], None]) -> None:
        self.suite, self.store, self.how, self.watch = suite, store, how, watch
        self.world = World(suite, store.facts)
        self.device = torch.device(how.device)
        self.loading = Stopwatch()
        self._examples: dict[tuple[str, Part, View], Examples] = {}
        self._weights: dict[str, Weights] = {}  # least recently used first
        self._classifier: tuple[tuple[str, LastBlock | None], Classifier] | None = None

    # -- running and recording -----------------------------------------------------------------------------------------

    def do(self, step: Runnable) -> None:
        """Run a step whose needs are done, and record it.

        Raises:
            StepError: it fails: the training or an ingredient diverged, or the disk is full.
            UserError: an input is wrong.
        """
        began = self.clock()
        images = Count(self.watch, passes=3.0 if step.trains else 1.0)
        _require_code(step)
        values = step.run(self, images)
        self.record(step, values, self.clock() - began, images.total)

    def record(self, step: Runnable, values: dict[str, Any], times: NDArray[np.float64], images: int) -> None:
        """Record a finished step.

        Args:
            step: the step.
            values: values of its record.
            times: difference of two values of `clock`.
            images: number of images that went through a net.

        Raises:
            StepError: user code has changed since the step's key was computed.
        """
        _require_code(step)
        seconds, cpu, loading = times
        self.store.write(step, values, seconds, images, str(self.device), cpu, loading)
        self.store.checkpoint_path(step.key).unlink(missing_ok=True)

    def clock(self) -> NDArray[np.float64]:
        """Three numbers of seconds: wall time, processor time, and loading."""
        return np.array([time.perf_counter(), time.process_time(), self.loading.seconds])

    def checkpoint(self, key: str) -> FileCheckpoint:
        """The checkpoint of a running step."""
        return FileCheckpoint(self.store.checkpoint_path(key), self.how.checkpoint_seconds)

    # -- weights and nets --------------------------------------------------------------------------------------------

    def weights(self, source: Weighted) -> Weights:
        """Weights of a model or a finished step; the most recently used stay in memory."""
        weights = self._weights.pop(source.key, None) or source.read_weights(self)
        return self.remember(source, weights)

    def remember(self, source: Weighted, weights: Weights) -> Weights:
        """Keep weights in memory until others replace them."""
        self._weights[source.key] = weights
        while len(self._weights) > CACHED_WEIGHTS:
            del self._weights[next(iter(self._weights))]
        return weights

    def stored_weights(self, step: Runnable) -> Weights:
        """Weights from the store; if the file is damaged, the step runs again."""
        try:
            with self.loading:
                return self.store.weights(step.key)
        except DamagedError as error:
            if not self.store.has(step.key):
                raise
            if error.path.exists():
                self.store.put_aside(error.path)
            self.do(step)
            return self.store.weights(step.key)

    def classifier(self, source: Weighted, last_block: LastBlock | None) -> Classifier:
        """A net with these weights, cached until another is used."""
        place = (source.key, last_block)
        if self._classifier is None or self._classifier[0] != place:
            self._classifier = (place, self.build(source, last_block))
        return self._classifier[1]

    def build(self, source: Weighted, last_block: LastBlock | None) -> Classifier:
        """A net with these weights, on the device."""
        weights = self.weights(source)
        with self.loading:
            classifier = build(source.architecture, last_block=last_block)
            put_weights(classifier.net, weights)
            return classifier.to(self.device)

    def texts(self, model: str, architecture: Architecture, expected: str) -> TextSide:
        """The text side of a model, by its name in the suite. Raises UserError if it is another than expected."""
        row, classes = find_row(model, self.suite.model), self.world[self.suite.reference].classes
        with self.loading:
            place = (self.suite.base, classes, self.store.facts, self.device)
            return load_text(model, row, architecture, *place, expected)

    def stored_features(self, key: str) -> Tensor | None:
        """Features float32 (N, D) of an `Embed` step; None if they are missing or sharing is off."""
        if not self.how.share:
            return None
        try:
            with self.loading:
                return torch.from_numpy(self.store.features(key))
        except DamagedError as error:
            if error.path.exists():
                self.store.put_aside(error.path)
            return None

    def forget(self) -> None:
        """Free the weights in memory, the packs on the device, and the cached memory of the device."""
        self._weights.clear()
        self._classifier = None
        SHELF.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # -- data --------------------------------------------------------------------------------------------------------

    def examples(self, data: DataPart, view: View) -> Examples:
        """A part of a data set in a view: from its pack, or decoded on each read."""
        place = (data.name, data.part, view)
        if place not in self._examples:
            with self.loading:
                decoded = self.decoded(data, view)
                stream = self.is_streamed(data, view)
                self._examples[place] = streamed(decoded) if stream else open_pack(decoded, self.store.packs)
        return self._examples[place]

    def is_streamed(self, data: DataPart, view: View) -> bool:
        """Whether a part is decoded on each read."""
        return pack_file(self.decoded(data, view), self.store.packs).name in self.how.streamed

    def is_swept(self, data: DataPart, view: View) -> bool:
        """Whether many nets read a part in one pass, in chunks."""
        return pack_file(self.decoded(data, view), self.store.packs).name in self.how.swept

    def decoded(self, data: DataPart, view: View) -> Decoded:
        """A part of a data set in a view. Raises UserError if its content has changed."""
        if self.world[data.name].fingerprint(data.part) != data.fingerprint:
            raise changed(f"data set {data.name!r}")
        return self.world.decoded(data, view)


@dataclass
class Stopwatch:
    """A context manager that adds up the wall seconds of its blocks, which must not overlap."""

    seconds: float = field(default=0.0)
    _began: float = field(default=0.0)

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


@dataclass
class Count:
    """Counts images and reports them, with the number of forward passes that they cost."""

    watch: Callable[[int, float], None]
    passes: float
    total: int = field(default=0)

    def __call__(self, images: int) -> None:
        self.total += images
        self.watch(images, self.passes * images)

    def seen(self, images: int) -> None:
        """Count images that need forward passes only, although the step trains."""
        self.total += images
        self.watch(images, images)


def _require_code(step: Runnable) -> None:
    """Check before and after a step that the user code is still that of its key.

    Raises StepError: the code was edited meanwhile.
    """
    built = step.architecture
    try:
        same = built.build is None or source_digest(built.build.partition(":")[0]) == built.build_source
        same = same and step.new_key() == step.key
    except UserError as error:
        raise StepError(f"not recorded: {error}") from error
    if not same:
        raise StepError("not recorded: code that it rests on was edited after the run began; run again") from UserError(
            "the code has changed"
        )
