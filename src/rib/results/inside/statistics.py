"""Statistics: the shares of weights and of BatchNorm's running statistics in a change of accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rib.analysis.signatures import Shares
from rib.analysis.statistics import CORNERS, StatisticsShare, StatisticsValues
from rib.plan import Run
from rib.results.inside.averages import Spread, spread_over_runs, tested_on
from rib.results.inside.layers import looked_at
from rib.results.results import Results
from rib.results.rows import Group

SplitRows = Mapping[str, Mapping[str, StatisticsValues | None]]
"""Values of each run by full name of the data set, by the key of the run's weights; None if not finished."""


@dataclass(frozen=True)
class StatisticsSplit:
    """The two shares of a change of accuracy in points, over tuned sets and seeds; see `rib.analysis.statistics`.

    Attributes:
        analysis: name of the analysis in the suite.
        model, method, size: the group.
        tested_on: a data set, or the name of an average.
        change: change of accuracy, in points.
        of_weights: share of the weights, in points.
        of_statistics: share of the running statistics, in points.
        corners: accuracy in percent at each of `rib.analysis.statistics.CORNERS`.
    """

    analysis: str
    model: str
    method: str
    size: int | None
    tested_on: str
    change: Spread
    of_weights: Spread
    of_statistics: Spread
    corners: Mapping[str, Spread]


def statistics_splits(results: Results) -> Iterator[StatisticsSplit]:
    """The shares of every group, on each data set or average whose analyses are all finished."""
    for (analysis, (model, method, size)), (runs, rows) in _collected(results).items():
        for on in tested_on(results):
            parts = [_spread(results, runs, rows, on, part) for part in ("change", "of_weights", "of_statistics")]
            corners = {corner: _spread(results, runs, rows, on, corner) for corner in CORNERS}
            change, of_weights, of_statistics = parts
            known = {corner: value for corner, value in corners.items() if value}
            if change and of_weights and of_statistics and len(known) == len(CORNERS):
                name = results.model_name(model)
                yield StatisticsSplit(analysis, name, method, size, on, change, of_weights, of_statistics, known)


def statistics_shares(results: Results, group: Group) -> Shares | None:
    """The shares of one group: the mean over the sets not tuned on, then over runs; None if one is missing."""
    for (_, of), (runs, rows) in _collected(results).items():
        if of != group:
            continue
        lines = [[values for name, values in rows[run.fit.key].items() if name != run.tuned_on] for run in runs]
        if all(line and None not in line for line in lines):
            return Shares(_mean(lines, "of_weights"), _mean(lines, "of_statistics"))
    return None


def _mean(lines: Sequence[Sequence[StatisticsValues | None]], part: Literal["of_weights", "of_statistics"]) -> float:
    return float(np.mean([np.mean([values[part] for values in line if values]) for line in lines]))


def _collected(results: Results) -> dict[tuple[str, Group], tuple[list[Run], SplitRows]]:
    """Runs and values, by group and name of the analysis."""
    found: dict[tuple[str, Group], tuple[dict[str, Run], dict[str, dict[str, StatisticsValues | None]]]] = {}
    for (name, _), groups in looked_at(results, StatisticsShare, StatisticsValues).items():
        for group, looks in groups.items():
            runs, rows = found.setdefault((name, group), ({}, {}))
            for look, values in looks:
                runs[look.run.fit.key] = look.run
                rows.setdefault(look.run.fit.key, {})[look.on[0]] = values
    return {place: (list(runs.values()), rows) for place, (runs, rows) in found.items()}


def _spread(results: Results, runs: Sequence[Run], rows: SplitRows, on: str, part: str) -> Spread | None:
    def cell(run: Run, name: str) -> float | None:
        values = rows[run.fit.key].get(name)
        if values is None:
            return None
        return values["accuracy"][part] if part in CORNERS else float(values[part])  # type: ignore[literal-required]

    return spread_over_runs(results, runs, on, cell)
