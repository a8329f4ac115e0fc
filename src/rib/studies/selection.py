"""The part of a suite that a study uses: models, sizes, sets and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from rib.errors import UserError
from rib.results.rows import size_order
from rib.studies.cohorts import Cohort, by_family, cohorts, sized
from rib.suite.suite import Runs, Size, StudyChoice, Suite


@dataclass(frozen=True)
class Taken:
    """The part of a suite that a study uses.

    Args:
        base: the suite.
        choice: the suite's table for this study.
        study: name of the study, for error messages.
    """

    base: Suite
    choice: StudyChoice
    study: str

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models of the suite that match a pattern."""
        patterns = self.choice.models or ("*",)
        return tuple(name for name in self.base.models if any(fnmatchcase(name, one) for one in patterns))

    @cached_property
    def cohorts(self) -> list[Cohort]:
        """The models, grouped by pretraining."""
        return cohorts(self.models, self.base.model)

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes, ascending; all images come last."""
        given = self.choice.sizes or tuple(size for run in self.base.runs for size in run.sizes)
        return tuple(sorted(set(given), key=lambda size: size_order(counted(size))))

    @property
    def downstream(self) -> tuple[str, ...]:
        """The sets that all of the suite's runs tune on."""
        shared = [run.downstream or self.base.downstream for run in self.base.runs]
        known = (*self.base.downstream, self.base.reference) if shared else self.base.downstream
        return tuple(name for name in known if all(name in names for names in shared))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Tuning seeds."""
        return self.choice.seeds or self.base.seeds

    def block(self, *methods: str, sizes: Sequence[Size] | None = None) -> Runs:
        """Runs of these methods at these sizes, by default all sizes."""
        return Runs(methods=methods, sizes=tuple(self.sizes if sizes is None else sizes), downstream=self.downstream)

    def require(self, enough: bool, problem: str, got: object, remedy: str) -> None:
        """Raise a UserError unless there is enough for the question."""
        if not enough:
            raise UserError(f"the study {self.study!r} {problem}", got=f"{self.base.name}: {got}", remedy=remedy)

    def require_sizes(self, most: int = 2) -> None:
        """Raise a UserError if there are fewer sizes."""
        got = ", ".join(str(size) for size in self.sizes) or "no size"
        self.require(
            len(self.sizes) >= most,
            f"compares at least {most} sizes of the tuning set",
            got,
            f"give the suite's runs more sizes, or [study.{self.study}] sizes = [50, 200, 1000]",
        )

    def scaled(self, pairs: Sequence[tuple[str, str]] = ()) -> list[Cohort]:
        """Cohorts of the families with pretraining sets of several sizes, or with both sets of one of the pairs.

        Raises:
            UserError: there are none. RIB never guesses the pretraining set of a model.
        """
        families = by_family(cohort for cohort in self.cohorts if cohort.declared)
        found = [
            cohort for family in families.values() if sized(family) or _has_pair(family, pairs) for cohort in family
        ]
        self.require(
            bool(found),
            "compares models of one family on different pretraining sets",
            ", ".join(_described(cohort) for cohort in self.cohorts),
            "name more models in the suite; a model of your own says its `family`, `pretraining`, `pretraining_images`",
        )
        return found


def counted(size: Size) -> int | None:
    """A size in the form that runs have."""
    return None if size == "all" else size


def _has_pair(family: Iterable[Cohort], pairs: Iterable[tuple[str, str]]) -> bool:
    sets = {cohort.pretraining for cohort in family}
    return any(sets.issuperset(pair) for pair in pairs)


def _described(cohort: Cohort) -> str:
    size = f"{cohort.images:,} images" if cohort.images else "of unknown size"
    return f"{cohort.family} on {cohort.pretraining} ({size if cohort.declared else 'not declared in full'})"
