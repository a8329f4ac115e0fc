"""Verify: measured numbers compared with published ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from rib.errors import UserError
from rib.files import read_toml
from rib.recipe import Frozen
from rib.results.results import Results
from rib.suite.validation import validated

PUBLISHED = Path(__file__).parent / "published.toml"

CheckVerdict = Literal["agrees", "differs", "missing"]


class PublishedNumbers(Frozen):
    """Published numbers in percent. Data sets and models have their names in the catalogue or in the suite."""

    accuracy_tolerance: float = Field(0.1, ge=0)
    ood_tolerance: float = Field(0.3, ge=0)
    ood_change_tolerance: float | None = Field(None, ge=0, description="of after minus before; default: not compared")
    ood_sets: tuple[str, ...] = Field((), description="the downstream sets over which `ood` is a mean")
    accuracy: dict[str, dict[str, float]] = Field(default_factory=dict, description="accuracy of pretrained models")
    ood: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="mean accuracy on the other sets, before and after `finetune`"
    )


@dataclass(frozen=True)
class Check:
    """A published number and the measured one.

    Attributes:
        model: the model, as the suite names it.
        what: a data set, or "OOD before", "OOD after", "OOD change".
        published, measured: percent (points for a change); measured is None if a record is missing.
        tolerance: maximum difference, points.
    """

    model: str
    what: str
    published: float
    measured: float | None
    tolerance: float

    @property
    def difference(self) -> float | None:
        """Measured minus published, points."""
        return None if self.measured is None else self.measured - self.published

    @property
    def verdict(self) -> CheckVerdict:
        """Whether the two agree within the tolerance."""
        if self.difference is None:
            return "missing"
        return "agrees" if abs(self.difference) <= self.tolerance + 1e-9 else "differs"


def read_numbers(path: Path = PUBLISHED) -> PublishedNumbers:
    """Read published numbers from a TOML file.

    Raises:
        UserError: the file cannot be read, or a key or value is wrong.
    """
    return validated(PublishedNumbers, read_toml(path, "the published numbers"), str(path))


def checks(results: Results, numbers: PublishedNumbers) -> list[Check]:
    """Every published number of the suite's models and data sets, beside the measured one.

    Raises:
        UserError: there is no published number for this suite.
    """
    found = [check for model in results.suite.models for check in _of_model(results, model, numbers)]
    if not found:
        raise UserError(
            f"no number is published for suite {results.suite.name!r}",
            got=", ".join(results.suite.models),
            valid=", ".join(numbers.accuracy),
        )
    return found


def _of_model(results: Results, model: str, numbers: PublishedNumbers) -> list[Check]:
    measured = {
        score.tested_on: score.masked
        for score in results.scores
        if score.model == results.model_name(model) and score.method == "pretrained"
    }
    found = [
        Check(model, results.set_name(name), value, measured.get(results.set_name(name)), numbers.accuracy_tolerance)
        for name, value in numbers.accuracy.get(model, {}).items()
        if name in results.suite.tested
    ]
    if model in numbers.ood and set(numbers.ood_sets) == set(results.suite.downstream):
        (before, after), ours = numbers.ood[model], _ood(results, model)
        found.append(Check(model, "OOD before", before, ours[0], numbers.ood_tolerance))
        found.append(Check(model, "OOD after", after, ours[1], numbers.ood_tolerance))
        if numbers.ood_change_tolerance is not None:
            change = None if None in ours else ours[1] - ours[0]  # type: ignore[operator]  # neither is None
            found.append(Check(model, "OOD change", after - before, change, numbers.ood_change_tolerance))
    return found


def _ood(results: Results, model: str) -> tuple[float | None, float | None]:
    """Mean accuracy on the sets not tuned on, before and after `finetune` with all images."""
    for row in results.summaries:
        if (row.model, row.method, row.size) == (results.model_name(model), "finetune", None):
            before, after = row.ood_before, row.ood_after
            return before.value if before else None, after.value if after else None
    return None, None
