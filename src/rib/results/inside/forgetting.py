"""Forgetting: whose a loss of accuracy is, the head's or the features', and what a new head gets back."""

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
    """The values for one data set: the change of each part in points, and the reading."""

    parts: Mapping[str, float]
    reading: str


ForgottenRows = Mapping[str, Mapping[str, ForgottenRow]]
"""Values of each run, by the key of its weights and by data set."""


@dataclass(frozen=True)
class Split:
    """Parts of a change of accuracy in points, over sets tuned on and seeds; see `rib.analysis.forgetting`.

    Attributes:
        analysis: its name in the suite.
        model, method, size: which.
        tested_on: a data set, or what the average is taken on.
        together: new features with the new head: the whole change.
        by_head: the new head on the old features.
        by_features: the old head on the new features.
        probe: change of the accuracy of a new head.
        readings: how many data sets of how many runs read as "kept", "mis-read", "lost" or "unclear".
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
    """The split of every group with complete analyses."""
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
    """One part of the change of a run on a data set; None if it was not measured."""

    rows: ForgottenRows
    part: str
    called: Callable[[str], str]

    def __call__(self, run: Run, name: str) -> float | None:
        row = self.rows[run.fit.key].get(self.called(name))
        return row.parts[self.part] if row else None


def _by_set(values: ForgettingValues | None) -> dict[str, ForgottenRow]:
    """Columns as a row for each data set."""
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
