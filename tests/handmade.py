"""Results made by hand: a real plan whose predictions have exactly the accuracies that a test names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rib.data.examples import Index
from rib.plan import make_plan
from rib.results.results import Results
from rib.steps import Fit, Predict
from rib.store.record import pack_bits
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.training.predict import Predictions

CLASSES = ("a", "b", "c", "d")

Skill = Callable[[Predict], float | Mapping[str, float]]
"""Percent right, of all classes or of each."""


def handmade(
    folder: Path,
    skill: Skill,
    *,
    sets: Mapping[str, Sequence[str]],
    methods: Sequence[str] = ("finetune", "linear_probe"),
    models: Sequence[str] = ("net",),
    seeds: Sequence[int] = (0,),
    per_class: int = 100,
    notes: Callable[[Fit], dict[str, Any]] = lambda fit: {},
    test_fraction: float | None = 0.5,
    groups: Mapping[str, Sequence[str]] | None = None,
    **fields: Any,
) -> Results:
    """Results of a suite whose first set is the reference and whose others are tuned on.

    Args:
        folder: where data and store go.
        skill: of every prediction; the same images are right whenever as many are.
        sets: name and classes of each data set.
        methods, models, seeds: of the suite.
        per_class: images of each class that are tested on; as many are tuned on.
        notes: what a method leaves in the record of its weights.
        test_fraction: None for downstream sets that are tuned on whole.
        groups: of the sets that have some, as many as classes: each class is a group.
        fields: of the suite.
    """
    data = {}
    for name, classes in sets.items():
        apart = test_fraction or (None if data else 0.5)  # nets are pretrained on the first
        labels = np.tile(np.arange(len(classes)), per_class * (2 if apart else 1))
        pixels = np.random.default_rng(list(name.encode())).integers(0, 255, (len(labels), 4, 4), np.uint8)
        grouped = {"who": np.array(groups[name])[labels]} if groups and name in groups else {}
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels, **grouped)
        fraction = {"test_fraction": apart} if apart else {}
        column = {"group_column": "who"} if grouped else {}
        data[name] = {"arrays": f"{name}.npz", "classes": list(classes), **fraction, **column}
    names = list(sets)
    document = {
        "name": "handmade",
        "reference": names[0],
        "downstream": names[1:],
        "models": list(models),
        "seeds": list(seeds),
        "runs": [{"methods": list(methods)}],
        "data": data,
        "model": {
            name: {"build": "rib.models.small:small_resnet", "size": 28, "pretrain": {"seed": place}}
            for place, name in enumerate(models)
        },
    }
    suite = parse_suite(document | fields).based_at(folder)
    store = Store(folder / "store")
    plan = make_plan(suite, store.facts)
    for step in plan.steps:
        if isinstance(step, Predict):
            index, classes = plan.world[step.data.name].index("test"), plan.world[step.data.name].classes
            right = _right(skill(step), index.labels, classes)
            bits = pack_bits(right)
            _write_predictions(store, step, index, right)
            values = {"examples": len(index), "masked_right": bits, "unmasked_right": bits}
            store.write(step, values, 0.5, len(index), "cpu")
        else:
            store.write(step, notes(step) if isinstance(step, Fit) else {}, 2.0, 500, "cpu")
    return Results(plan, store, draws=400)


def _write_predictions(store: Store, step: Predict, index: Index, right: Any) -> None:
    numbers, classes = np.full(len(index), 0.5, np.float32), np.zeros(len(index), np.int16)
    columns = {
        "example": np.arange(len(index), dtype=np.int32),
        "source": index.sources,
        "label": index.labels.astype(np.int16),
        "cell": np.full(len(index), -1, np.int16),
    }
    predictions = Predictions(classes, numbers, numbers, numbers, right, classes, numbers, right)
    store.write_predictions(step.key, predictions, columns)


def _right(skill: float | Mapping[str, float], labels: Any, classes: Sequence[str]) -> Any:
    """bool (N,): of each class the first images, as many as its skill says."""
    right = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        percent = skill if isinstance(skill, int | float) else skill[name]
        right[rows[: round(percent * len(rows) / 100)]] = True
    return right
