"""Layers: what analyses found at every layer, or every step of a way, over sets tuned on and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rib.analysis import Analysis
from rib.analysis.cka import CKA
from rib.analysis.connectivity import Connectivity
from rib.analysis.drift import Drift
from rib.plan import Look
from rib.report.inside.averages import Spread, spread
from rib.report.results import Group, Results
from rib.text.names import Names

ALL = "all of them"
"""Stands for the mean over the sets tuned on."""

Found = tuple[Look, dict[str, Any] | None]
"""A look, and what it found; None while it is not finished."""


@dataclass(frozen=True)
class LayerProfile:
    """A number at every place inside tuned models, for the methods that were looked at with one model and size.

    Attributes:
        what: of the number: see `profiles`.
        analysis: its name in the suite.
        on: the data set looked at; empty for weights alone.
        model, size: which.
        tuned_on: one data set, or `ALL`.
        places: names of layers, groups or kinds of layers, or shares of the way, P of them.
        methods: M names.
        values: M lists of P; None where a run is missing, or has no such number.
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
    """CKA of every layer before (rows) with every layer after, the mean over the runs; None where one has none."""

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


PROFILES: tuple[tuple[str, type[Analysis], str, str], ...] = (
    ("CKA", CKA, "layers", "diagonal"),
    ("drift by layer", Drift, "layers", "change"),
    ("drift by group", Drift, "group_names", "group_change"),
    ("drift by kind", Drift, "kind_names", "kind_change"),
    ("accuracy on the way", Connectivity, "alphas", "accuracy"),
    ("loss on the way", Connectivity, "alphas", "loss"),
)
"""Profiles over positions: name, owner, and the fields with the positions and the numbers."""

WHOLES: tuple[tuple[str, type[Analysis], str], ...] = (
    ("CKA", CKA, "mean"),
    ("drift", Drift, "total"),
    ("barrier", Connectivity, "barrier"),
)
"""Numbers of whole models: their name, whose they are, and where its values hold them."""


def looked_at(results: Results, kind: type[Analysis]) -> dict[tuple[str, str], dict[Group, list[Found]]]:
    """Looks of a kind by the analysis' name and the data set, then by model, method and size; finished or not."""
    found: dict[tuple[str, str], dict[Group, list[Found]]] = {}
    for look in results.plan.looks:
        if isinstance(look.step.analysis, kind):
            run, record = look.run, results.records.get(look.step.key)
            on = results.set_name(look.on[0]) if len(look.on) == 1 else ""
            groups = found.setdefault((look.name, on), {})
            groups.setdefault((run.model, run.method, run.size), []).append((look, record.values if record else None))
    return found


def profiles(results: Results) -> Iterator[LayerProfile]:
    """Everything of `PROFILES` that was found."""
    for what, kind, places, numbers in PROFILES:
        for (name, on), groups in looked_at(results, kind).items():
            for model, size in dict.fromkeys((model, size) for model, _, size in groups):
                mine = {method: found for (owner, method, n), found in groups.items() if (owner, n) == (model, size)}
                for tuned_on, chosen in _by_set(mine, results.suite.set_names):
                    known = next((values for found in chosen.values() for _, values in found if values), None)
                    if known is None:
                        continue
                    lines = [_line(found, numbers, len(known[places])) for found in chosen.values()]
                    if any(item for line in lines for item in line):
                        labels = tuple(str(place) for place in known[places])
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


def _by_set(mine: dict[str, list[Found]], names: Names) -> Iterator[tuple[str, dict[str, list[Found]]]]:
    """The looks of every method over all sets tuned on; where there are several, then those of each set."""
    yield ALL, {method: _others(found) for method, found in mine.items()}
    sets = list(dict.fromkeys(look.run.tuned_on for found in mine.values() for look, _ in found))
    for name in sets if len(sets) > 1 else ():
        chosen = {
            method: here for method, found in mine.items() if (here := [one for one in found if _tuned(one) == name])
        }
        yield names.short(name or ""), chosen


def _others(found: list[Found]) -> list[Found]:
    """Without looks at the very set tuned on, which say something else; unless there are no others."""
    return [one for one in found if (_tuned(one),) != one[0].on] or found


def _tuned(found: Found) -> str | None:
    return found[0].run.tuned_on


def _line(found: Sequence[Found], numbers: str, count: int) -> tuple[Spread | None, ...]:
    lists = [values[numbers] if values and len(values[numbers]) == count else [None] * count for _, values in found]
    return tuple(spread(column) for column in zip(*lists, strict=True))


def squares(results: Results) -> Iterator[Square]:
    """CKA matrices of every group with complete analyses, over all tuned sets and for each."""
    for (name, on), groups in looked_at(results, CKA).items():
        for (model, method, size), found in groups.items():
            for tuned_on, chosen in _by_set({method: found}, results.suite.set_names):
                matrices = [values["matrix"] for _, values in chosen[method] if values]
                if len(matrices) == len(chosen[method]):
                    layers = tuple(str(layer) for layer in (chosen[method][0][1] or {})["layers"])
                    yield Square(name, on, results.model_name(model), method, size, tuned_on, layers, _mean(matrices))


def _mean(matrices: Sequence[Sequence[Sequence[float | None]]]) -> tuple[tuple[float | None, ...], ...]:
    stacked = np.array(matrices, np.float64).mean(axis=0)  # None becomes NaN, and so does a mean over one
    return tuple(tuple(None if np.isnan(cell) else cell for cell in row) for row in stacked.tolist())


def wholes(results: Results) -> Iterator[Whole]:
    """Everything of `WHOLES` that was found in all runs of a group."""
    for what, kind, field in WHOLES:
        for (name, on), groups in looked_at(results, kind).items():
            for (model, method, size), found in groups.items():
                if value := spread([values[field] if values else None for _, values in _others(found)]):
                    yield Whole(what, name, on, results.model_name(model), method, size, value)


def mean_over_runs(found: Sequence[Found], read: Callable[[dict[str, Any]], Sequence[float | None]]) -> list[float]:
    """The mean of a list that every run has; empty with a hole."""
    lists = [read(values) for _, values in found if values]
    if not lists or len(lists) < len(found) or any(item is None for line in lists for item in line):
        return []
    means: list[float] = np.array(lists, np.float64).mean(axis=0).tolist()
    return means
