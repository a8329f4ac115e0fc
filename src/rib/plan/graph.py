"""Graph: the order of steps, shared features, and the missing steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set

from rib.steps import Step
from rib.store.store import Store


def in_order(wanted: Iterable[Step]) -> tuple[Step, ...]:
    """The steps and all that they need, each once, every step after its needs."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key not in ordered:
            for need in step.needs:
                visit(need)
            ordered[step.key] = step

    for step in wanted:
        visit(step)
    return tuple(ordered.values())


def with_shared(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, with `Embed` steps for features that several of them read, each before its first reader."""
    readers = Counter(step.features.key for step in steps if step.features)
    placed: set[str] = set()
    for step in steps:
        if (features := step.features) and readers[features.key] > 1 and features.key not in placed:
            placed.add(features.key)
            yield features
        yield step


def missing(steps: Sequence[Step], store: Store) -> tuple[Step, ...]:
    """The missing steps: those without a record, and those whose removed weights a missing step needs.

    Features are missing if several missing steps read them and the store does not have them.

    Args:
        steps: all steps of a plan, each after those that it needs.
        store: the store with the finished steps.
    """
    present = store.keys()
    finished = {
        step.key for step in steps if step.key in present and store.is_done(step.key)
    }  # the record must be readable
    demand = _Demand(store, finished)
    return tuple(reversed([step for step in reversed(steps) if demand.adds(step)]))


class _Demand:
    """The inputs that pending steps need from earlier steps; steps are added from the last to the first."""

    def __init__(self, store: Store, finished: Set[str]) -> None:
        self._store, self._finished = store, finished
        self._weights: set[str] = set()
        self._readers: Counter[str] = Counter()

    def adds(self, step: Step) -> bool:
        """Whether a step is missing. If so, the steps that it needs are wanted too."""
        wanted = step.key in self._weights
        to_do = self._is_to_do(step, wanted)
        if to_do and step.features:
            self._readers[step.features.key] += 1
        if to_do or (wanted and not step.keeps_weights):  # a merge needs the weights of its ingredients
            self._weights.update(need.key for need in step.needs)
        return to_do

    def _is_to_do(self, step: Step, wanted: bool) -> bool:
        if step.optional:
            return self._readers[step.key] > 1 and not step.is_left(self._store)
        return step.key not in self._finished or (wanted and not step.is_left(self._store))
