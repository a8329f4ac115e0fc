"""Forgetting: which part of a loss of accuracy comes from the head, which from the features, and what a new head
recovers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from rib.analysis.forgetting import Forgetting, ForgettingPart, ForgettingValues
from rib.plan import Run
from rib.results.inside.averages import Spread, cells, spread_over_runs, tested_on
from rib.results.inside.layers import looked_at
from rib.results.results import Results

PARTS: tuple[ForgettingPart, ...] = get_args(ForgettingPart)


@dataclass(frozen=True)
class ForgottenRow:
    """The values for one data set: the change due to each part, in points, and the reading."""

    parts: Mapping[str, float]
    reading: str


ForgottenRows = Mapping[str, Mapping[str, ForgottenRow]]
"""Values of each run by data set, by the key of the run's weights."""


@dataclass(frozen=True)
class Split:
    """Parts of a change of accuracy in points, over tuned sets and seeds; see `rib.analysis.forgetting`.

    Attributes:
        analysis: name of the analysis in the suite.
        model, method, size: the group.
        tested_on: a data set, or the name of an average.
        together: the whole change: new features with the new head.
        by_head: change with the new head on the old features.
        by_features: change with the old head on the new features.
        probe: change of the accuracy of a new head.
        readings: number of pairs of run and data set that read as "kept", "mis-read", "lost" or "unclear".
    """

    analysis: str
    model: str
    method: str
    size: int | None
    tested_on: str
    together: Spread
    by_head: Spread
    by_features: Spread
    probe: Spread
    readings: dict[str, int]


def splits(results: Results) -> Iterator[Split]:
    """The parts for every group whose analyses are complete."""
    for (name, _), groups in looked_at(results, Forgetting, ForgettingValues).items():
        for (model, method, size), found in groups.items():
            rows = {look.run.fit.key: _by_set(values) for look, values in found}
            runs = [look.run for look, _ in found]
            for on in tested_on(results):
                parts = [spread_over_runs(results, runs, on, _Part(rows, part, results.set_name)) for part in PARTS]
                together, head, features, probe = parts
                if together and head and features and probe:
                    readings = _readings(results, runs, on, rows)
                    yield Split(
                        name, results.model_name(model), method, size, on, together, head, features, probe, readings
                    )


@dataclass(frozen=True)
class _Part:
    """One part of the change of a run on a data set; None without a record."""

    rows: ForgottenRows
    part: str
    called: Callable[[str], str]

    def __call__(self, run: Run, name: str) -> float | None:
        row = self.rows[run.fit.key].get(self.called(name))
        return row.parts[self.part] if row else None


def _by_set(values: ForgettingValues | None) -> dict[str, ForgottenRow]:
    """The columns of a record as one row per data set."""
    if values is None:
        return {}
    return {
        name: ForgottenRow({part: values[part][place][0] for part in PARTS}, values["reading"][place])
        for place, name in enumerate(values["sets"])
    }


def _readings(results: Results, runs: Sequence[Run], on: str, rows: ForgottenRows) -> dict[str, int]:
    return dict(
        Counter(rows[run.fit.key][results.set_name(name)].reading for run in runs for name in cells(results, run, on))
    )
