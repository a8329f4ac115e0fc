"""Sweep: predictions of many weights in one pass over their data, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rib.data.ahead import chunk_rows, chunks, copied
from rib.data.examples import Examples
from rib.errors import RibError
from rib.models.classifier import Classifier
from rib.steps.base import Step
from rib.steps.predict import Predict, predictions_of
from rib.steps.workshop import Count, Workshop
from rib.training.sweep import Asked, predict_chunk


def sweeps(steps: Iterable[Predict], at_once: int) -> list[tuple[Predict, ...]]:
    """Group predictions of streamed data that share one pass over it.

    A group has one part, one view, one batch size and at most `at_once` nets. Weights that differ only in the head
    share a net and are always in one group.

    Args:
        steps: predictions in any order.
        at_once: maximum nets per group.
    """
    passes: dict[tuple[Any, ...], dict[str, list[Predict]]] = {}
    for step in steps:
        place = (step.data.fingerprint, step.data.part, step.architecture.view, step.batch_size)
        passes.setdefault(place, {}).setdefault(backbone(step), []).append(step)
    groups = []
    for nets in passes.values():
        listed = list(nets.values())
        groups += [
            tuple(step for heads in listed[begin : begin + at_once] for step in heads)
            for begin in range(0, len(listed), at_once)
        ]
    return groups


def backbone(step: Predict) -> str:
    """Identifies a backbone: equal for steps with the same features."""
    return step.features.key if step.features else step.key


def swept(shop: Workshop, steps: Sequence[Step]) -> Sequence[Predict]:
    """The steps of a job if they are predictions that share one pass; else empty."""
    predictions = predictions_of(steps)
    if not shop.how.share or len(predictions) < len(steps):
        return []
    return predictions if all(shop.is_swept(step.data, step.architecture.view) for step in predictions) else []


def sweep(shop: Workshop, steps: Sequence[Predict]) -> dict[str, RibError]:
    """Predict data with several checkpoints in one pass, and record their predictions.

    Args:
        shop: the workshop.
        steps: a group as from `sweeps`.

    Returns:
        The errors of checkpoints that failed, by key; all others were recorded.

    Raises:
        UserError: an image cannot be read.
    """
    began, images = shop.clock(), Count(shop.watch, passes=1.0)
    asked, failed = _ask(shop, steps)
    if asked:
        _look(shop, steps[0], asked, images)
    failed |= {key: one.error for key, one in asked.items() if one.error}
    asked = {key: one for key, one in asked.items() if not one.error}
    times = (shop.clock() - began) / max(1, len(asked))
    count = images.total // max(1, len(asked))
    for step in steps:
        if step.key in asked:
            examples = shop.examples(step.data, step.architecture.view)
            shop.record(step, step.judged(shop, asked[step.key].predictions, examples), times, count)
    return failed


def _ask(shop: Workshop, steps: Sequence[Predict]) -> tuple[dict[str, Asked], dict[str, RibError]]:
    """The checkpoints by key of their step, and the errors of those that cannot be loaded."""
    nets: dict[str, Classifier] = {}
    asked: dict[str, Asked] = {}
    failed: dict[str, RibError] = {}
    for step in steps:
        try:
            own = shop.build(step.fit, step.last_block)
        except RibError as error:
            failed[step.key] = error
            continue
        net = nets.setdefault(backbone(step), own)
        asked[step.key] = Asked(net, own.head, step.data.label_map, step.precision)
    return asked, failed


def _look(shop: Workshop, step: Predict, asked: Mapping[str, Asked], watch: Count) -> None:
    """Predict the data of a step with all checkpoints, starting at the first example that one of them lacks."""
    files = {key: shop.checkpoint(key) for key in asked}
    states = {key: file.load() for key, file in files.items()}
    done = min(len(state["masked_right"]) if state else 0 for state in states.values())
    for key, one in asked.items():
        one.restore(states[key], done)
    for chunk in _chunks(shop, step, done):
        predict_chunk(chunk, list(asked.values()), step.batch_size, watch)
        for key, file in files.items():
            if asked[key].error is None:
                file.save(asked[key].state)
        if all(one.error for one in asked.values()):
            return


def _chunks(shop: Workshop, step: Predict, done: int) -> Iterator[Examples]:
    """Chunks of the data of a step, starting at example `done`. The next chunk is decoded or copied while one is in
    use."""
    view = step.architecture.view
    rows = chunk_rows(view, step.batch_size, shop.how.chunk_bytes)
    if shop.is_streamed(step.data, view):
        return chunks(shop.decoded(step.data, view), rows, done)
    return copied(shop.examples(step.data, view), rows, done)
