"""Layers: values of analyses at every layer or interpolation point, over tuned sets and seeds."""

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
"""Stands for the mean over the tuned sets."""

V = TypeVar("V", bound=Values)
Found = tuple[Look, V | None]
"""A planned analysis, and the values of its record; None if it is not finished."""


@dataclass(frozen=True)
class LayerProfile:
    """A number at every position inside tuned models, for the analysed methods of one model and size.

    Attributes:
        what: name of the number, as in `PROFILES`.
        analysis: name of the analysis in the suite.
        on: the data set that the analysis reads; empty if it reads weights alone.
        model, size: the groups have these in common.
        tuned_on: one data set, or `ALL`.
        places: P names of layers, groups or kinds of layers, or interpolation points.
        methods: M names.
        values: M lists of P numbers; None if a run is missing or has no such number.
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
    """CKA of every layer before (rows) with every layer after, averaged over runs; a cell is None if a run lacks it."""

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
    """A number of an analysis that describes a whole model, over the runs of a group.

    Attributes:
        what: "CKA", "drift" or "barrier".
        analysis, on, model, method, size: as in `LayerProfile`.
        value: mean CKA over layers; relative change of all weights; barrier in points of accuracy.
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
    """How to read numbers from the values of an analysis.

    Attributes:
        analysis: type of the analysis.
        values: type of its values.
        places: reads the names of positions inside a net.
        numbers: reads one number per position.
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
"""Numbers of whole models, by name."""


def looked_at(
    results: Results, kind: type[Analysis], values: type[V]
) -> dict[tuple[str, str], dict[Group, list[Found[V]]]]:
    """Planned analyses of one kind, finished or not: by name of the analysis and data set, then by model, method and
    size."""
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
    """Every profile of `PROFILES` with finished records."""
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
    """The analyses of every method over all tuned sets; with several tuned sets, also those of each set."""
    yield ALL, {method: _others(found) for method, found in mine.items()}
    sets = list(dict.fromkeys(look.run.tuned_on for found in mine.values() for look, _ in found))
    for name in sets if len(sets) > 1 else ():
        chosen = {
            method: here for method, found in mine.items() if (here := [one for one in found if _tuned(one) == name])
        }
        yield names.short(name or ""), chosen


def _others(found: list[Found[V]]) -> list[Found[V]]:
    """The analyses that do not read the tuned set itself, as it answers another question; all of them if there are
    no others."""
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
    """CKA matrices of every group whose analyses are complete, over all tuned sets and for each."""
    for (name, on), groups in looked_at(results, CKA, CKAValues).items():
        for (model, method, size), found in groups.items():
            for tuned_on, chosen in _by_set({method: found}, results.suite.set_names):
                known = [values for _, values in chosen[method] if values]
                if len(known) == len(chosen[method]):
                    cells = _mean([values["matrix"] for values in known])
                    layers = tuple(known[0]["layers"])
                    yield Square(name, on, results.model_name(model), method, size, tuned_on, layers, cells)


def _mean(matrices: Sequence[Sequence[Sequence[float | None]]]) -> tuple[tuple[float | None, ...], ...]:
    stacked = np.array(matrices, np.float64).mean(axis=0)  # None becomes NaN, which makes a mean NaN too
    return tuple(tuple(None if np.isnan(cell) else cell for cell in row) for row in stacked.tolist())


def wholes(results: Results) -> Iterator[Whole]:
    """Every number of `WHOLES` that all runs of a group have."""
    for what, source in WHOLES.items():
        for (name, on), groups in looked_at(results, source.analysis, source.values).items():
            for (model, method, size), found in groups.items():
                if value := spread([source.numbers(values)[0] if values else None for _, values in _others(found)]):
                    yield Whole(what, name, on, results.model_name(model), method, size, value)


def mean_over_runs(found: Sequence[Found[V]], read: Callable[[V], Sequence[float | None]]) -> list[float]:
    """The mean over runs of a list; empty if a run lacks it."""
    lists = [read(values) for _, values in found if values]
    if not lists or len(lists) < len(found) or any(item is None for line in lists for item in line):
        return []
    means: list[float] = np.array(lists, np.float64).mean(axis=0).tolist()
    return means
