"""Numbers of a study: mRI of cohorts, and the lines, panels and contrasts made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from rib.metrics.estimates import Estimate, mean_over_seeds
from rib.metrics.intervals import Interval
from rib.metrics.missing import interval_of, mean_if_whole
from rib.results.answer import AnswerLine, AnswerPanel, Contrast
from rib.results.results import Results
from rib.results.rows import Group
from rib.results.words import size_name
from rib.studies.cohorts import Cohort, by_family
from rib.studies.selection import Taken, counted

FINETUNE = "finetune"


class StudyNumbers:
    """mRI of cohorts, as paired estimates.

    All cohorts share source images and tuning seeds; each has pretraining seeds of its own.

    Args:
        results: results of the study's suite.
        taken: the part of that suite that the study uses.
        cohorts: the models that it uses.
    """

    def __init__(self, results: Results, taken: Taken, cohorts: Sequence[Cohort]) -> None:
        self.results, self.taken = results, taken
        self.families = by_family(cohorts)
        self.sizes = tuple(map(counted, taken.sizes))
        self._known: dict[tuple[str, Cohort, str, int | None], Estimate | None] = {}
        images = sorted({one.images for one in cohorts if one.images})
        self._ranks = {count: rank for rank, count in enumerate(images)}

    def mri(self, cohort: Cohort, method: str, size: int | None) -> Estimate | None:
        """mRI of a cohort in points; None if a run is missing."""
        return self._over_models("mri", self.results.estimates.mri, cohort, method, size)

    def gain(self, cohort: Cohort, method: str, size: int | None) -> Estimate | None:
        """Change of accuracy on unseen images of the tuned sets, in points; None if a run is missing."""
        return self._over_models("gain", self.results.estimates.gain, cohort, method, size)

    def _over_models(
        self, what: str, estimate: Callable[[Group], Estimate | None], cohort: Cohort, method: str, size: int | None
    ) -> Estimate | None:
        place = (what, cohort, method, size)
        if place not in self._known:
            groups = [(model, method, size) for model in cohort.models]
            found = [estimate(group) if group in self.results.groups else None for group in groups]
            whole = [each for each in found if each is not None]
            self._known[place] = mean_over_seeds(whole, cohort.seeds) if len(whole) == len(found) else None
        return self._known[place]

    def mean(
        self, cohorts: Iterable[Cohort], method: str = FINETUNE, sizes: Iterable[int | None] | None = None
    ) -> Estimate | None:
        """The mean over cohorts and sizes, by default all sizes; None if a run is missing."""
        over = self.sizes if sizes is None else tuple(sizes)
        return mean_if_whole(self.mri(cohort, method, size) for cohort in cohorts for size in over)

    def line(
        self, name: str, points: Iterable[tuple[Cohort, str, int | None] | None], cohort: Cohort | None = None
    ) -> AnswerLine:
        """A row of a panel: mRI at each tick, None for a tick without a point.

        Args:
            name: name of the row.
            points: cohort, method and size of each point.
            cohort: the cohort that gives the row its colour; None for a row over several cohorts.
        """
        return self.drawn(name, (interval_of(self.mri(*point)) if point else None for point in points), cohort)

    def drawn(self, name: str, spans: Iterable[Interval | None], cohort: Cohort | None = None) -> AnswerLine:
        """A row of a panel, with the colour and the marker of a cohort."""
        rank = self._ranks.get(cohort.images) if cohort and cohort.images else None
        return AnswerLine(name, rank, self._shape(cohort) if cohort else 0, tuple(spans))

    def _shape(self, cohort: Cohort) -> int:
        """Its index among cohorts of its family with equally many images."""
        equal = [one for one in self.families[cohort.family] if one.images == cohort.images]
        return equal.index(cohort)

    def label(self, cohort: Cohort) -> str:
        """A cohort's name within its family: the pretraining set, and whatever else distinguishes two cohorts."""
        family = self.families[cohort.family]
        several = len({one.objective for one in family}) > 1
        names = {one: f"{one.objective} {one.pretraining}" if several else one.pretraining for one in family}
        twice = sum(name == names[cohort] for name in names.values()) > 1
        return self.results.suite.model_names.short(cohort.models[0]) if twice else names[cohort]

    def by_size(self, family: str, cohorts: Sequence[Cohort], methods: Mapping[str, str]) -> list[AnswerPanel]:
        """One panel per size for the cohorts of a family, with one row per method.

        Args:
            family: name of the family.
            cohorts: the ticks.
            methods: method of each row, by the row's name.
        """
        ticks = tuple(self.label(cohort) for cohort in cohorts)
        return [
            AnswerPanel(
                title=f"{family}, n = {size_name(size)}",
                across="pretraining set",
                ticks=ticks,
                lines=tuple(
                    self.line(name, ((cohort, method, size) for cohort in cohorts)) for name, method in methods.items()
                ),
                joined=False,
            )
            for size in self.sizes
        ]

    def limits(self) -> list[str]:
        """Limits due to the number of seeds, in sentences."""
        tuning = len(self.taken.seeds)
        pretraining = sorted({len(cohort.models) for family in self.families.values() for cohort in family})
        counts = f"{_between(pretraining)} pretraining and {tuning} tuning seed{'' if tuning == 1 else 's'}"
        alone = [word for word, few in (("pretraining", pretraining[0] == 1), ("tuning", tuning == 1)) if few]
        said = [f"Seeds: {counts}."]
        if alone:
            said.append(f"With one {' and one '.join(alone)} seed, what needs several of them is not tested.")
        return said


def _between(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def in_percent(correlation: Interval | None) -> Interval | None:
    """A correlation times 100, so that one decimal is enough."""
    if correlation is None:
        return None
    return correlation.times(100)


def contrast(family: str, says: str, claimed: Literal["above", "below"], estimate: Estimate | None) -> Contrast:
    """A contrast: an estimate, and the side of 0 on which a claim expects it."""
    return Contrast(family, says, claimed, interval_of(estimate))
