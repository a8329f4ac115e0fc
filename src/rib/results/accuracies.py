"""Accuracies: one estimate per finished prediction. All estimates use the same resamples of source images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from rib.arrays import Flags
from rib.errors import UserError
from rib.metrics.bootstrap import Bootstrap, example_weights
from rib.metrics.estimates import Estimate
from rib.plan import Plan, Run
from rib.steps import Predict
from rib.store.record import Record, unpack_bits


class Accuracies:
    """The accuracies in a plan's records, in percent.

    Args:
        plan: the runs and their data sets.
        records: of the finished steps, by key.
        draws: number of bootstrap resamples.
    """

    def __init__(self, plan: Plan, records: Mapping[str, Record], draws: int) -> None:
        self._plan, self._records, self._draws = plan, records, draws

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resamples of source images that every interval of a report comes from."""
        bootstrap = Bootstrap(self._draws)
        for name in self._plan.suite.tested:
            data = self._plan.world[name]
            bootstrap.declare(data.units, data.index("test").sources)
        return bootstrap

    def of(self, run: Run, name: str, kind: str = "masked") -> Estimate | None:
        """Accuracy of a run's model on a data set; None if it is missing."""
        return self.of_step(run.scores.get(name), kind)

    def of_step(self, predict: Predict | None, kind: str = "masked") -> Estimate | None:
        """Accuracy of one prediction, "masked" or "unmasked"; None if it is missing."""
        return self._by_key[kind].get(predict.key) if predict else None

    def right(self, run: Run, name: str) -> Flags | None:
        """bool (N,): which test images of a data set a model gets right, masked; None if the prediction is missing."""
        record = self._records.get(run.scores[name].key) if name in run.scores else None
        return _right(record, "masked", len(self._plan.world[name].index("test"))) if record else None

    @cached_property
    def _by_key(self) -> dict[str, dict[str, Estimate]]:
        """The estimates of every finished prediction, by the prediction's key and then by "masked" or "unmasked"."""
        estimates: dict[str, dict[str, Estimate]] = {"masked": {}, "unmasked": {}}
        for name in self._plan.suite.tested:
            for kind, by_key in estimates.items():
                by_key.update(self._on(name, kind))
        return estimates

    def _on(self, name: str, kind: str) -> dict[str, Estimate]:
        data, index = self._plan.world[name], self._plan.world[name].index("test")
        keys = {predict.key for tested, predict in self._plan.predictions if tested == name}
        finished = sorted(key for key in keys if key in self._records)
        if not finished:
            return {}
        right = (_right(self._records[key], kind, len(index)) for key in finished)
        weights = example_weights(index.cells, len(index))
        estimates = self.bootstrap.accuracies(data.units, index.sources, weights, right)
        return dict(zip(finished, estimates, strict=True))


def _right(record: Record, kind: str, count: int) -> Flags:
    if record.values["examples"] != count:
        raise UserError(
            f"the record of {record.title!r} has another number of examples than its data set",
            got=record.values["examples"],
            valid=count,
            remedy=f"remove records/{record.key[:2]}/{record.key}.json from the store and run again",
        )
    return unpack_bits(record.values[f"{kind}_right"], count)
