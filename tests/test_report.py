"""The report, on made-up records of a real plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rib.plan import make_plan
from rib.prediction import Predictions
from rib.report.results import Results
from rib.steps import Predict, Step
from rib.store import Store, pack_bits
from rib.suite import parse_suite

CLASSES = ("a", "b", "c", "d")
SETS = ("clean", "sketch", "paint", "foggy", "tiny")
GAIN = {"finetune": -9.0, "linear_probe": -1.0, "wise_ft": 1.5, "lp_ft": -4.0, "l2_sp": -3.0, "lwf": -2.0, "soup": 0.5}


def made_up(
    folder: Path,
    *,
    models: Sequence[str] = ("small", "large"),
    runs: Sequence[dict[str, Any]] = ({"methods": ["finetune", "linear_probe", "wise_ft"]},),
    sets: Sequence[str] = SETS,
    images: int = 160,
    seeds: Sequence[int] = (0,),
    lost: Callable[[Step], bool] = lambda step: False,
    **fields: Any,
) -> Results:
    """Results of a real plan whose records are made up: a skill for each model and set, moved by the method.

    The last of `sets` is evaluation-only, the first the reference; the others are tuned on.
    """
    document = {
        "name": "made-up",
        "note": "These numbers are made up.",
        "reference": sets[0],
        "downstream": list(sets[1:-1]),
        "evaluate": [sets[-1]],
        "models": list(models),
        "seeds": list(seeds),
        "runs": list(runs),
        "data": {name: _data(folder, name, images) for name in sets},
        "model": {
            name: {"build": "rib.models.small:small_resnet", "size": 28, "pretrain": {"seed": place}}
            for place, name in enumerate(models)
        },
    }
    suite = parse_suite(document | fields).based_at(folder)
    store = Store(folder / "store")
    plan = make_plan(suite, store.facts)
    for step in plan.steps:
        if lost(step):
            store.write_failure(step.key, "training diverged, loss nan\ntry a lower learning rate")
        else:
            _record(store, plan.world, step)
    return Results(plan, store, draws=300)


def _data(folder: Path, name: str, images: int) -> dict[str, Any]:
    generator = np.random.default_rng(list(name.encode()))
    labels = np.arange(images) % len(CLASSES)
    file = f"set{abs(hash(name))}.npz"
    np.savez(folder / file, images=generator.integers(0, 255, (images, 8, 8), np.uint8), labels=labels)
    return {"arrays": file, "classes": list(CLASSES), "test_fraction": 0.5}


def _record(store: Store, world: Any, step: Step) -> None:
    if not isinstance(step, Predict):
        store.write(step, {}, 2.0, 500, "cpu")
        return
    index = world[step.data.name].index("test")
    right = _right(step, len(index))
    numbers = np.full(len(index), 0.5, np.float32)
    classes = np.where(right, index.labels, (index.labels + 1) % len(CLASSES)).astype(np.int16)
    predictions = Predictions(classes, numbers, numbers, numbers, right, classes, numbers, right)
    columns = {
        "example": np.arange(len(index), dtype=np.int32),
        "source": index.sources,
        "label": index.labels.astype(np.int16),
        "cell": np.full(len(index), -1, np.int16),
    }
    store.write_predictions(step, predictions, columns)
    bits = pack_bits(right)
    store.write(step, {"examples": len(index), "masked_right": bits, "unmasked_right": bits}, 0.5, len(index), "cpu")


def _right(step: Predict, count: int) -> np.ndarray[Any, Any]:
    """bool (count,): the easiest images first, as many as the step's skill says."""
    fit = step.fit
    place = sum(map(ord, step.data.name)) % 7
    skill = 72.0 - 6 * place - 3 * sum(map(ord, fit.start.model)) % 11
    seen = fit.tuned_on
    if seen is not None:
        size = next((f.size for f in (fit, *fit.ingredients) if f.size is not None), 400)
        gain = GAIN.get(fit.method.name, -5.0) * (1 + 0.2 * (place % 3))
        skill += 12.0 if seen.name == step.data.name else gain * min(1, size / 200)
        skill += (sum(map(ord, seen.name)) % 5 - 2) * 0.8
    difficulty = np.random.default_rng(list(step.data.name.encode())).uniform(0, 100, count)
    noise = np.random.default_rng(list(bytes.fromhex(step.key)[:4])).normal(0, 4, count)
    return difficulty + noise < skill
