"""Work: how one step is done, given the store and the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rib.analysis import Scene, Seen
from rib.analysis.calibration import calibration
from rib.data.ahead import chunk_rows, chunks, copied, undecoded
from rib.data.containers import changed
from rib.data.examples import Examples, Part, View
from rib.data.feed import SHELF
from rib.data.pack import open_pack, pack_file
from rib.data.splits import tuning_rows
from rib.errors import DamagedError, DivergedError, RibError, StepError, UserError
from rib.identity import identity_values, key_of, source_digest
from rib.methods.base import MergedMethod, Task
from rib.models.catalogue import find_row
from rib.models.classifier import Classifier
from rib.models.loading import build, load_pretrained
from rib.models.weights import Weights, first_not_finite, put_weights, take_weights
from rib.plan import World
from rib.recipe import LastBlock, Recipe
from rib.steps import Compare, DataPart, Embed, Fit, Load, Predict, Pretrain, Step
from rib.store import Store, pack_bits
from rib.suite import Suite
from rib.sweep import AT_ONCE, Asked, backbone, predict_chunk
from rib.training.checkpoint import FileCheckpoint
from rib.training.predict import Predictions, collected, predict
from rib.training.pretrain import pretrain
from rib.training.training import Training

AT_HAND = 3
"""So many sets of weights stay in memory: the pretrained ones, and what is compared with them."""


@dataclass(frozen=True)
class How:
    """Everything that changes how a result comes about and not what it is. Never part of a key.

    Attributes:
        workers: worker processes; None chooses from cores or GPUs, 1 stays in this process.
        device: "auto", "cpu", or a torch device.
        threads: torch threads a process.
        checkpoint_seconds: least time between two checkpoints of a training run, or of a long prediction.
        keep: which weights stay in the store when nothing needs them any more.
        share: whether what several steps would each make is made once; what is found is the same without.
        pack_budget: bytes that all packs in the store may take; None for what is free on the disk, less a reserve.
        at_once: nets that predict streamed data, or a pack larger than memory, in one pass over it.
        chunk_bytes: memory for two chunks of such images.
        streamed: names of the packs that are not made, because what would be in them is streamed; found by the run.
        swept: names of the packs that many nets look at in one pass: those, and what is too large to stay in memory.
    """

    workers: int | None = None
    device: str = "auto"
    threads: int = 1
    checkpoint_seconds: float = 2.0
    keep: str = "all"
    share: bool = True
    pack_budget: int | None = None
    at_once: int = AT_ONCE
    chunk_bytes: int = 2**31
    streamed: frozenset[str] = frozenset()
    swept: frozenset[str] = frozenset()


class Workshop:
    """Does steps, one at a time.

    Args:
        suite: to find data and models by name.
        store: where results go.
        how: device and checkpoints.
        watch: told of progress, in images and in the forward passes that they cost.
    """

    def __init__(self, suite: Suite, store: Store, how: How, watch: Callable[[int, float], None]) -> None:
        self.suite, self.store, self.how, self.watch = suite, store, how, watch
        self.world = World(suite, store.facts)
        self.device = torch.device(how.device)
        self._examples: dict[tuple[str, Part, View], Examples] = {}
        self._weights: dict[str, Weights] = {}  # asked for last, last
        self._loaded: tuple[tuple[str, LastBlock | None], Classifier] | None = None
        self._loading = Stopwatch()

    def do(self, step: Step) -> None:
        """Do a step whose needs are done, and record it.

        Raises:
            StepError: it cannot be done: training diverged, an ingredient did, the disk is full.
            UserError: an input is at fault.
        """
        began = self._clock()
        images = _Count(self.watch, passes=3.0 if step.trains else 1.0)
        _require_code(step)
        match step:
            case Pretrain():
                values = self._pretrain(step, images)
            case Embed():
                values = self._embed(step, images)
            case Fit():
                values = self._fit(step, images)
            case Predict():
                values = self._predict(step, images)
            case Compare():
                values = self._compare(step, images)
        _require_code(step)
        seconds, cpu, loading = self._clock() - began
        self.store.write(step, values, seconds, images.total, str(self.device), cpu, loading)
        self.store.checkpoint_path(step.key).unlink(missing_ok=True)

    def _clock(self) -> NDArray[np.float64]:
        """Seconds by the clock, of the processor, and of loading: three numbers."""
        return np.array([time.perf_counter(), time.process_time(), self._loading.seconds])

    def _pretrain(self, step: Pretrain, watch: _Count) -> dict[str, Any]:
        classifier = build(step.architecture, seed=step.seed).to(self.device)
        watch.passes *= step.views  # in the reference stage, which is short, one view is seen
        outcome = pretrain(classifier, self._stages(step, classifier), self._checkpoint(step), watch)
        self.store.write_weights(step.key, take_weights(classifier.net))
        return outcome.values

    def _stages(self, step: Pretrain, classifier: Classifier) -> list[Training]:
        def stage(data: DataPart, recipe: Recipe) -> Training:
            return Training(self.examples(data, step.architecture.view), data.label_map, recipe, step.seed)

        stages = [stage(step.data, step.recipe)]
        if step.objective is not None:
            drawn = step.objective.drawn(classifier, len(step.data.label_map.groups), step.seed)
            stages = [replace(stages[0], objective=drawn)]
        if (then := step.reference) is not None:
            probe = replace(stage(then.data, then.probe), trainable=classifier.head_parameters)
            stages += [probe, stage(then.data, then.finetune)]
        return stages

    def _embed(self, step: Embed, watch: _Count) -> dict[str, Any]:
        examples = self.examples(step.data, step.architecture.view)
        if step.seed is not None:
            tuning, _ = tuning_rows(examples.index, step.size, step.held_out, step.seed, step.data.name)
            examples = examples.take(tuning)
        classifier = self._classifier(step.start, step.last_block)
        pieces = collected(classifier, classifier.features, examples, step.batch_size, step.precision, watch)
        width = self.store.write_features(step.key, len(examples), (piece.numpy() for piece in pieces))
        return {"examples": len(examples), "width": width}

    def _features(self, step: Fit | Predict) -> Tensor | None:
        """What a step reads of features, where they are kept as they were written: float32 (N, D)."""
        if not self.how.share or step.features is None:
            return None
        try:
            with self._loading:
                return torch.from_numpy(self.store.features(step.features.key))
        except DamagedError as error:
            if error.path.exists():
                self.store.put_aside(error.path)
            return None

    def _fit(self, step: Fit, watch: _Count) -> dict[str, Any]:
        if isinstance(step.method, MergedMethod):
            self.weights(step)  # made again whenever they are needed; here only to see that they can be
            return {}
        values: dict[str, Any] = {}
        weights = step.method.fit(self.weights(step.start), self._task(step, watch, values), self._fitted(step))
        _require_finite(weights)
        self.store.write_weights(step.key, weights)
        self._remember(step, weights)
        return values

    def _fitted(self, step: Fit) -> list[Weights]:
        for ingredient in step.ingredients:
            record = self.store.record(ingredient.key)
            if record and record.values.get("diverged") and not step.method.takes_diverged:
                raise StepError(
                    f"its ingredient {ingredient.title} diverged (loss "
                    f"{record.values['first_loss']:.2f} → {record.values['last_loss']:.2f}); try a lower learning rate "
                    "or another strength for it"
                )
        return [self.weights(ingredient) for ingredient in step.ingredients]

    def _task(self, step: Fit, watch: _Count, values: dict[str, Any]) -> Task:
        assert step.data is not None
        assert step.recipe is not None
        assert step.seed is not None
        pool = self.examples(step.data, step.architecture.view)
        tuning, held_out = tuning_rows(pool.index, step.size, step.held_out, step.seed, step.data.name)
        return Task(
            architecture=step.architecture,
            tuning=pool.take(tuning),
            held_out=pool.take(held_out),
            label_map=step.data.label_map,
            recipe=step.recipe,
            seed=step.seed,
            device=self.device,
            watch=watch,
            checkpoint=self._checkpoint(step),
            note=values.__setitem__,
            known=self._features(step),
            seen=watch.seen,
        )

    def _checkpoint(self, step: Step) -> FileCheckpoint:
        return self._checkpoint_of(step.key)

    def _checkpoint_of(self, key: str) -> FileCheckpoint:
        return FileCheckpoint(self.store.checkpoint_path(key), self.how.checkpoint_seconds)

    def is_swept(self, step: Step) -> bool:
        """Whether a step predicts data that are taken chunk by chunk."""
        return isinstance(step, Predict) and self._file(step.data, step.architecture.view).name in self.how.swept

    def sweep(self, steps: Sequence[Predict]) -> dict[str, RibError]:
        """Predict data with several checkpoints in one pass, and record what they say.

        Args:
            steps: as `rib.sweep.sweeps` groups them.

        Returns:
            The errors of those that cannot be asked, by key; the others were.

        Raises:
            UserError: an image cannot be read.
        """
        began, images = self._clock(), _Count(self.watch, passes=1.0)
        asked, failed = self._ask(steps)
        if asked:
            self._look(steps[0], asked, images)
        failed |= {key: one.error for key, one in asked.items() if one.error}
        asked = {key: one for key, one in asked.items() if not one.error}
        seconds, cpu, loading = (self._clock() - began) / max(1, len(asked))
        count = images.total // max(1, len(asked))
        for step in steps:
            if step.key in asked:
                examples = self.examples(step.data, step.architecture.view)
                values = self._judged(step, asked[step.key].predictions, examples)
                _require_code(step)
                self.store.write(step, values, seconds, count, str(self.device), cpu, loading)
                self.store.checkpoint_path(step.key).unlink(missing_ok=True)
        return failed

    def _ask(self, steps: Sequence[Predict]) -> tuple[dict[str, Asked], dict[str, RibError]]:
        """The checkpoints that are asked, and why others cannot be, by key of the step."""
        nets: dict[str, Classifier] = {}
        asked: dict[str, Asked] = {}
        failed: dict[str, RibError] = {}
        for step in steps:
            try:
                own = self._built(step.fit, step.last_block)
            except RibError as error:
                failed[step.key] = error
                continue
            net = nets.setdefault(backbone(step), own)
            asked[step.key] = Asked(net, own.head, step.data.label_map, step.precision)
        return asked, failed

    def _look(self, step: Predict, asked: Mapping[str, Asked], watch: _Count) -> None:
        """Take the checkpoints through the data of a step, from where all of them have been before."""
        files = {key: self._checkpoint_of(key) for key in asked}
        states = {key: file.load() for key, file in files.items()}
        done = min(len(state["masked_right"]) if state else 0 for state in states.values())
        for key, one in asked.items():
            one.restore(states[key], done)
        for chunk in self._chunks(step, done):
            predict_chunk(chunk, list(asked.values()), step.batch_size, watch)
            for key, file in files.items():
                if asked[key].error is None:
                    file.save(asked[key].state)
            if all(one.error for one in asked.values()):
                return

    def _chunks(self, step: Predict, done: int) -> Iterator[Examples]:
        """The data of a step from some example on, decoded or copied from their pack while the chunk before is used."""
        view = step.architecture.view
        rows = chunk_rows(view, step.batch_size, self.how.chunk_bytes)
        if self._file(step.data, view).name in self.how.streamed:
            return chunks(self.world[step.data.name], step.data.part, view, rows, done)
        return copied(self.examples(step.data, view), rows, done)

    def _predict(self, step: Predict, watch: _Count) -> dict[str, Any]:
        examples = self.examples(step.data, step.fit.architecture.view)
        predictions = predict(
            self._classifier(step.fit, step.last_block),
            examples,
            step.data.label_map,
            batch_size=step.batch_size,
            precision=step.precision,
            features=self._features(step),
            watch=watch,
            checkpoint=self._checkpoint(step),
        )
        return self._judged(step, predictions, examples)

    def _judged(self, step: Predict, predictions: Predictions, examples: Examples) -> dict[str, Any]:
        """Keep predictions; the values of their record."""
        self.store.write_predictions(step, predictions, example_columns(examples))
        return {
            "examples": len(examples),
            "masked_right": pack_bits(predictions.masked_right),
            "unmasked_right": pack_bits(predictions.unmasked_right),
            **calibration(
                predictions.masked_confidence,
                predictions.masked_label_probability,
                predictions.masked_brier,
                predictions.masked_right,
                examples.index.cells,
            ).values,
        }

    def _compare(self, step: Compare, watch: _Count) -> dict[str, Any]:
        view = step.architecture.view
        scene = Scene(
            architecture=step.architecture,
            before=self.weights(step.before),
            after=self.weights(step.after or step.before),
            data={
                name: Seen(self.examples(data, view), data.label_map)
                for name, data in zip(step.on, step.data, strict=True)
            },
            device=self.device,
            batch_size=step.batch_size,
            precision=step.precision,
            watch=watch,
        )
        return step.analysis.look(scene)

    def _classifier(self, step: Load | Pretrain | Fit, last_block: LastBlock | None) -> Classifier:
        """The model of some weights, kept while one prediction after the other is made of it."""
        place = (step.key, last_block)
        if self._loaded is None or self._loaded[0] != place:
            self._loaded = (place, self._built(step, last_block))
        return self._loaded[1]

    def _built(self, step: Load | Pretrain | Fit, last_block: LastBlock | None) -> Classifier:
        weights = self.weights(step)
        with self._loading:
            classifier = build(step.architecture, last_block=last_block)
            put_weights(classifier.net, weights)
            return classifier.to(self.device)

    def weights(self, step: Load | Step) -> Weights:
        """The weights of a finished step, read, loaded, or merged on the spot; those asked for last stay at hand."""
        found = self._weights.pop(step.key, None) or self._find_weights(step)
        return self._remember(step, found)

    def _remember(self, step: Load | Step, weights: Weights) -> Weights:
        self._weights[step.key] = weights
        while len(self._weights) > AT_HAND:
            del self._weights[next(iter(self._weights))]
        return weights

    def _find_weights(self, step: Load | Step) -> Weights:
        if isinstance(step, Load):
            row = find_row(step.model, self.suite.model)
            with self._loading:
                classes = self.world[self.suite.reference].classes
                return load_pretrained(
                    *(step.model, row, step.architecture, self.suite.base, classes, self.store.facts, str(self.device)),
                    expected=step.weights,
                )
        if isinstance(step, Fit) and isinstance(step.method, MergedMethod):
            merged = step.method.merge(self.weights(step.start), self._fitted(step))
            _require_finite(merged)
            return merged
        assert not isinstance(step, Load)
        return self._stored_weights(step)

    def _stored_weights(self, step: Step) -> Weights:
        """Weights from the store; where they are not those that were written, the step is done again."""
        try:
            with self._loading:
                return self.store.weights(step.key)
        except DamagedError as error:
            if not self.store.has(step.key):
                raise
            if error.path.exists():
                self.store.put_aside(error.path)
            self.do(step)
            return self.store.weights(step.key)

    def lost(self, step: Load | Step) -> list[str]:
        """Keys of the steps whose weights would be needed for this step's, and are no longer kept."""
        if isinstance(step, Load):
            return []
        if step.keeps_weights:
            return [] if self.store.has_weights(step.key) else [step.key]
        needed = (step.start, *step.ingredients) if isinstance(step, Fit) else step.needs
        return [key for need in needed for key in self.lost(need)]

    def forget(self) -> None:
        """Let go of the weights at hand and of packs on the device, and of the memory that it keeps for them."""
        self._weights.clear()
        self._loaded = None
        SHELF.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def examples(self, data: DataPart, view: View) -> Examples:
        """A part of a data set, for a view: from its pack, or decoded whenever it is looked at."""
        place = (data.name, data.part, view)
        if place not in self._examples:
            with self._loading:
                wanted = (self.world[data.name], data.part, view)
                streamed = self._file(data, view).name in self.how.streamed
                self._examples[place] = undecoded(*wanted) if streamed else open_pack(*wanted, self.store.packs)
        return self._examples[place]

    def _file(self, data: DataPart, view: View) -> Path:
        own = self.world[data.name]
        if own.fingerprint(data.part) != data.fingerprint:
            raise changed(f"data set {data.name!r}")
        return pack_file(own, data.part, view, self.store.packs)


@dataclass
class Stopwatch:
    """Adds up the wall seconds of the blocks that it is around, one at a time."""

    seconds: float = field(default=0.0)
    _began: float = field(default=0.0)

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


@dataclass
class _Count:
    """Counts images on their way to whoever watches."""

    watch: Callable[[int, float], None]
    passes: float
    total: int = field(default=0)

    def __call__(self, images: int) -> None:
        self.total += images
        self.watch(images, self.passes * images)

    def seen(self, images: int) -> None:
        """Count images that pass forward alone, whatever the rest of the step does."""
        self.total += images
        self.watch(images, images)


def example_columns(examples: Examples) -> dict[str, np.ndarray[Any, Any]]:
    """Columns that describe examples: row in the part, source image, label, cell (-1 where there are none)."""
    cells = examples.index.cells
    return {
        "example": examples.rows.astype(np.int32),
        "source": examples.index.sources,
        "label": examples.labels.astype(np.int16),
        "cell": cells if cells is not None else np.full(len(examples), -1, np.int16),
    }


def _require_finite(weights: Weights) -> None:
    if bad := first_not_finite(weights):
        raise DivergedError(f"weights are no longer finite ({bad}); try a lower learning rate")


def _require_code(step: Step) -> None:
    """Refuse a step whose code of the user's own is no longer what its key says, at its beginning and at its end.

    Raises StepError: it was edited meanwhile.
    """
    built = step.architecture
    try:
        same = built.build is None or source_digest(built.build.partition(":")[0]) == built.build_source
        same = same and key_of(step.key_name, identity_values(step)) == step.key
    except UserError as error:
        raise StepError(f"not recorded: {error}") from error
    if not same:
        raise StepError("not recorded: code that it rests on was edited after the run began; run again") from UserError(
            "the code has changed"
        )
