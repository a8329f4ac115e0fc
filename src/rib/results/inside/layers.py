"""Layers: what analyses found at every layer, or every step of a way, over sets tuned on and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from rib.analysis import Analysis
from rib.analysis.base import Values, typed
from rib.analysis.cka import CKA, CKAValues
from rib.analysis.connectivity import Connectivity, ConnectivityValues
from rib.analysis.drift import Drift, DriftValues
from rib.plan import Look
from rib.results.inside.averages import Spread, spread
from rib.results.results import Results
from rib.results.rows import Group
from rib.text.names import Names

ALL = "all of them"
"""Stands for the mean over the sets tuned on."""

V = TypeVar("V", bound=Values)
Found = tuple[Look, V | None]
"""A look, and the values of its record; None while it is not finished."""


@dataclass(frozen=True)
class LayerProfile:
    """A number at every place inside tuned models, for the methods that were read with one model and size.

    Attributes:
        what: of the number: see `profiles`.
        analysis: its name in the suite.
        on: the data set read; empty for weights alone.
        model, size: which.
        tuned_on: one data set, or `ALL`.
        places: names of layers, groups or kinds of layers, or shares of the way, P of them.
        methods: M names.
        values: M lists of P; None if a run is missing, or has no such number.
    """

    what: str
    analysis: str
    on: str
    model: str
    size: int | None
    tuned_on: str
    places: tuple[str, ...]
    methods: tuple[str, ...]
    values: tuple[tuple[Spread | None, ...], ...]


@dataclass(frozen=True)
class Square:
    """CKA of every layer before (rows) with every layer after, the mean over the runs; None if one has none."""

    analysis: str
    on: str
    model: str
    method: str
    size: int | None
    tuned_on: str
    layers: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Whole:
    """One number of whole models that an analysis found, over the runs of a group.

    Attributes:
        what: "CKA", "drift" or "barrier".
        analysis, on, model, method, size: as in `LayerProfile`.
        value: mean CKA over layers; relative change of all weights; points of accuracy.
    """

    what: str
    analysis: str
    on: str
    model: str
    method: str
    size: int | None
    value: Spread


@dataclass(frozen=True)
class Source(Generic[V]):
    """Where the values of an analysis hold numbers.

    Attributes:
        analysis: whose they are.
        values: their type.
        places: the names of places inside a net, of values.
        numbers: a number for each of them, of values.
    """

    analysis: type[Analysis]
    values: type[V]
    places: Callable[[V], Sequence[object]]
    numbers: Callable[[V], Sequence[float | None]]


PROFILES: Mapping[str, Source[Any]] = {
    "CKA": Source(CKA, CKAValues, lambda found: found["layers"], lambda found: found["diagonal"]),
    "drift by layer": Source(Drift, DriftValues, lambda found: found["layers"], lambda found: found["change"]),
    "drift by group": Source(
        Drift, DriftValues, lambda found: found["group_names"], lambda found: found["group_change"]
    ),
    "drift by kind": Source(Drift, DriftValues, lambda found: found["kind_names"], lambda found: found["kind_change"]),
    "accuracy on the way": Source(
        Connectivity, ConnectivityValues, lambda found: found["alphas"], lambda found: found["accuracy"]
    ),
    "loss on the way": Source(
        Connectivity, ConnectivityValues, lambda found: found["alphas"], lambda found: found["loss"]
    ),
}
"""Profiles over positions, by name."""

WHOLES: Mapping[str, Source[Any]] = {
    "CKA": Source(CKA, CKAValues, lambda found: (), lambda found: [found["mean"]]),
    "drift": Source(Drift, DriftValues, lambda found: (), lambda found: [found["total"]]),
    "barrier": Source(Connectivity, ConnectivityValues, lambda found: (), lambda found: [found["barrier"]]),
}
"""Numbers of whole models, by their name."""


def looked_at(
    results: Results, kind: type[Analysis], values: type[V]
) -> dict[tuple[str, str], dict[Group, list[Found[V]]]]:
    """Looks of a kind by the analysis' name and the data set, then by model, method and size; finished or not."""
    found: dict[tuple[str, str], dict[Group, list[Found[V]]]] = {}
    for look in results.plan.looks:
        if isinstance(look.step.analysis, kind):
            run, record = look.run, results.records.get(look.step.key)
            on = results.set_name(look.on[0]) if len(look.on) == 1 else ""
            groups = found.setdefault((look.name, on), {})
            mine = typed(record.values, values) if record else None
            groups.setdefault((run.model, run.method, run.size), []).append((look, mine))
    return found


def profiles(results: Results) -> Iterator[LayerProfile]:
    """Everything of `PROFILES` that was found."""
    for what, source in PROFILES.items():
        for (name, on), groups in looked_at(results, source.analysis, source.values).items():
            for model, size in dict.fromkeys((model, size) for model, _, size in groups):
                mine = {method: found for (owner, method, n), found in groups.items() if (owner, n) == (model, size)}
                for tuned_on, chosen in _by_set(mine, results.suite.set_names):
                    known = next((values for found in chosen.values() for _, values in found if values), None)
                    if known is None:
                        continue
                    lines = [_line(found, source.numbers, len(source.places(known))) for found in chosen.values()]
                    if any(item for line in lines for item in line):
                        labels = tuple(str(place) for place in source.places(known))
                        yield LayerProfile(
                            what,
                            name,
                            on,
                            results.model_name(model),
                            size,
                            tuned_on,
                            labels,
                            tuple(chosen),
                            tuple(lines),
                        )


def _by_set(mine: dict[str, list[Found[V]]], names: Names) -> Iterator[tuple[str, dict[str, list[Found[V]]]]]:
    """The looks of every method over all sets tuned on; if there are several, then those of each set."""
    yield ALL, {method: _others(found) for method, found in mine.items()}
    sets = list(dict.fromkeys(look.run.tuned_on for found in mine.values() for look, _ in found))
    for name in sets if len(sets) > 1 else ():
        chosen = {
            method: here for method, found in mine.items() if (here := [one for one in found if _tuned(one) == name])
        }
        yield names.short(name or ""), chosen


def _others(found: list[Found[V]]) -> list[Found[V]]:
    """Without looks at the very set tuned on, which say something else; unless there are no others."""
    return [one for one in found if (_tuned(one),) != one[0].on] or found


def _tuned(found: Found[V]) -> str | None:
    return found[0].run.tuned_on


def _line(
    found: Sequence[Found[V]], numbers: Callable[[V], Sequence[float | None]], count: int
) -> tuple[Spread | None, ...]:
    known = [numbers(values) if values else () for _, values in found]
    lists = [line if len(line) == count else [None] * count for line in known]
    return tuple(spread(column) for column in zip(*lists, strict=True))


def squares(results: Results) -> Iterator[Square]:
    """CKA matrices of every group with complete analyses, over all tuned sets and for each."""
    for (name, on), groups in looked_at(results, CKA, CKAValues).items():
        for (model, method, size), found in groups.items():
            for tuned_on, chosen in _by_set({method: found}, results.suite.set_names):
                known = [values for _, values in chosen[method] if values]
                if len(known) == len(chosen[method]):
                    cells = _mean([values["matrix"] for values in known])
                    layers = tuple(known[0]["layers"])
                    yield Square(name, on, results.model_name(model), method, size, tuned_on, layers, cells)


def _mean(matrices: Sequence[Sequence[Sequence[float | None]]]) -> tuple[tuple[float | None, ...], ...]:
    stacked = np.array(matrices, np.float64).mean(axis=0)  # None becomes NaN, and so does a mean over one
    return tuple(tuple(None if np.isnan(cell) else cell for cell in row) for row in stacked.tolist())


def wholes(results: Results) -> Iterator[Whole]:
    """Everything of `WHOLES` that was found in all runs of a group."""
    for what, source in WHOLES.items():
        for (name, on), groups in looked_at(results, source.analysis, source.values).items():
            for (model, method, size), found in groups.items():
                if value := spread([source.numbers(values)[0] if values else None for _, values in _others(found)]):
                    yield Whole(what, name, on, results.model_name(model), method, size, value)


def mean_over_runs(found: Sequence[Found[V]], read: Callable[[V], Sequence[float | None]]) -> list[float]:
    """The mean of a list that every run has; empty with a hole."""
    lists = [read(values) for _, values in found if values]
    if not lists or len(lists) < len(found) or any(item is None for line in lists for item in line):
        return []
    means: list[float] = np.array(lists, np.float64).mean(axis=0).tolist()
    return means
