"""Statistics: how much of a change of accuracy is weights, and how much is BatchNorm's running statistics."""

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
"""Values of each run, by the key of its weights and by the full name of the data set; None if not finished."""


@dataclass(frozen=True)
class StatisticsSplit:
    """Two shares of a change of accuracy in points, over sets tuned on and seeds; see `rib.analysis.statistics`.

    Attributes:
        analysis: its name in the suite.
        model, method, size: which.
        tested_on: a data set, or what the average is taken on.
        change: of accuracy, in points.
        of_weights: the share of the weights.
        of_statistics: the share of the statistics.
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
    """The split of every group, on each data set or average for which all of its analyses are finished."""
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
    """The shares of one group: the mean over the data sets not tuned on, then over runs; None if one is missing."""
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
    """Runs and values by the analysis' name and the group."""
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
