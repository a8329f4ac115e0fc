"""Study: a question, the suite that answers it, and the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar, Literal, final

from rib.errors import UserError
from rib.metrics.estimates import Estimate, Interval, Seeds, mean, mean_over_seeds
from rib.models.catalogue import ModelRow, find_row
from rib.results.answer import Answer, AnswerLine, AnswerPanel, Contrast, as_one_family, power
from rib.results.results import Results
from rib.results.words import holes, size_name, size_order
from rib.suite.suite import Looks, Runs, Size, StudyChoice, Suite
from rib.text.names import names_of

FINETUNE = "finetune"


class Study(ABC):
    """One question. Stateless: everything it needs is in the suite and its results.

    Attributes:
        name: what the command calls it.
        question: in one sentence.
        claim: what is claimed, in our words; arXiv 2410.21582 unless it says otherwise.
        measure: what its points are.
        surface: whether its figure is a map of contours.
        limits: what it cannot tell, whatever the suite.
        intervals: what its intervals are drawn over, in sentences.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    claim: ClassVar[str]
    measure: ClassVar[str] = "mRI, points"
    surface: ClassVar[bool] = False
    limits: ClassVar[tuple[str, ...]] = ()
    intervals: ClassVar[str] = (
        "A 95 % interval is a t interval: the variances over source images, tuning seeds and pretraining seeds add up; "
        "images and tuning seeds are the same for every model."
    )

    def suite(self, base: Suite) -> Suite:
        """The suite that answers the question: models, data, sizes, seeds and recipe are those of `base`.

        What is only tested on is left out, as mRI needs none of it.

        Raises:
            UserError: `base` has too little to ask it of.
        """
        taken = self.taken(base)
        taken.require(bool(taken.models), "has no model", ", ".join(base.models), f"change [study.{self.name}] models")
        used = {model for cohort in self.cohorts(taken) for model in cohort.models}
        models = tuple(model for model in base.models if model in used)
        fields: dict[str, Any] = {
            "name": f"{base.name}-{self.name}",
            "description": self.question,
            "models": models,
            "seeds": taken.seeds,
            "runs": self.runs(taken),
            "method": {**base.method, **self.methods(taken)},
            "tuning": {
                pattern: changes
                for pattern, changes in base.tuning.items()
                if any(fnmatchcase(model, pattern) for model in models)
            },
            "study": {self.name: taken.choice.model_copy(update={"models": None, "seeds": None})},
            "evaluate": (),
            "analyses": self.looks(taken),
            "analysis": {**base.analysis, **self.analyses(taken)},
        }
        return base.model_copy(update=fields).based_at(base.base)

    def taken(self, suite: Suite) -> Taken:
        """The study's choice from a suite: the base suite, or the derived one itself."""
        return Taken(suite, suite.study.get(self.name, StudyChoice()), self.name)

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """The models that it can use; UserError where those are too few."""
        return taken.cohorts

    @abstractmethod
    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """The runs to tune. Raises UserError if the suite has too little of something."""

    def methods(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """Methods with hyper-parameters of the study's own, by name."""
        return {}

    def looks(self, taken: Taken) -> tuple[Looks, ...]:
        """The analyses that the study needs."""
        return ()

    def analyses(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """Analyses with parameters of the study's own, by name."""
        return {}

    @abstractmethod
    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """The contrasts whose sign the claim predicts."""

    @abstractmethod
    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """The points of its figure."""

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """Further findings, in sentences."""
        return []

    @final
    def answer(self, results: Results) -> Answer:
        """The answer from the results of its suite; depends on nothing else."""
        taken = self.taken(results.suite)
        numbers = StudyNumbers(results, taken, self.cohorts(taken))
        contrasts = as_one_family(self.contrasts(numbers))
        return Answer(
            study=self.name,
            suite=results.suite.name,
            question=self.question,
            claim=self.claim,
            measure=self.measure,
            contrasts=contrasts,
            panels=tuple(self.panels(numbers)),
            surface=self.surface,
            notes=tuple(self.notes(numbers)),
            intervals=self.intervals,
            limits=(
                *self.limits,
                self.intervals,
                *numbers.limits(),
                *([results.suite.note] if results.suite.note else []),
            ),
            power=power(contrasts),
            missing=tuple(f"{name}: {len(lost)} missing" for name, lost in holes(results)),
            caveats=results.caveats,
        )


@dataclass(frozen=True)
class Cohort:
    """Models that differ in the seed of their pretraining alone; their mean is one point.

    Attributes:
        family: architecture; "models" where the row does not say.
        objective: of the pretraining; may be empty.
        pretraining: the pretraining set; the model's name where the row does not say.
        images: how many images that has; None where unknown.
        models: names, one a pretraining seed.
        declared: whether the rows name family, pretraining set and its size, which distinguish cohorts.
    """

    family: str
    objective: str
    pretraining: str
    images: int | None
    models: tuple[str, ...]
    declared: bool = False

    @property
    def seeds(self) -> Seeds:
        """Its pretraining seeds: the same draw at every size and method, another for each cohort."""
        return Seeds("pretraining", self.models, "/".join((self.family, self.objective, self.pretraining)))


def cohorts(names: Iterable[str], own: Mapping[str, ModelRow]) -> list[Cohort]:
    """Models by family, objective and pretraining set, in their order; those of a cohort by their pretraining seeds.

    A model whose row names no pretraining seed stands alone.
    """
    known = names_of(tuple(names))
    rows = {name: find_row(name, own) for name in known.full}
    grouped: dict[tuple[object, ...], list[str]] = {}
    for name, row in rows.items():
        grouped.setdefault(_place(name, row), []).append(name)
    found = []
    for members in grouped.values():
        members.sort(key=lambda name: (rows[name].pretraining_seed or 0, name))
        row = rows[members[0]]
        declared = bool(row.family and row.pretraining and row.pretraining_images)
        set_name = row.pretraining or known.short(members[0])
        family = row.family or "models"
        found.append(Cohort(family, row.objective, set_name, row.pretraining_images, tuple(members), declared))
    return found


def _place(name: str, row: ModelRow) -> tuple[object, ...]:
    if row.pretraining_seed is not None:
        return row.family, row.objective, row.pretraining
    if row.pretrain is not None:  # a row of the suite's own that is trained here: all but its seed
        return (row.model_copy(update={"pretrain": row.pretrain.model_copy(update={"seed": 0})}).model_dump_json(),)
    return (name,)


@dataclass(frozen=True)
class Taken:
    """The part of a suite that a study uses.

    Args:
        base: the suite.
        choice: what the suite says of this study.
        study: its name, for errors.
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
        """The models by pretraining."""
        return cohorts(self.models, self.base.model)

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes, ascending, all last."""
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
        """Runs of these methods at these sizes, default all."""
        return Runs(methods=methods, sizes=tuple(self.sizes if sizes is None else sizes), downstream=self.downstream)

    def require(self, enough: bool, problem: str, got: object, remedy: str) -> None:
        """UserError unless there is enough to ask the question of."""
        if not enough:
            raise UserError(f"the study {self.study!r} {problem}", got=f"{self.base.name}: {got}", remedy=remedy)

    def require_sizes(self, most: int = 2) -> None:
        """UserError for fewer sizes."""
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
            UserError: there are none; what a model was pretrained on is never guessed.
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
    """A size as runs have it."""
    return None if size == "all" else size


def by_family(found: Iterable[Cohort]) -> dict[str, list[Cohort]]:
    """Cohorts of each family, those of smaller pretraining sets first; equal ones by name."""
    families: dict[str, list[Cohort]] = {}
    for cohort in found:
        families.setdefault(cohort.family, []).append(cohort)
    return {name: sorted(members, key=_order) for name, members in families.items()}


def _order(cohort: Cohort) -> tuple[float, str, str, tuple[str, ...]]:
    return cohort.images or float("inf"), cohort.pretraining, cohort.objective, cohort.models


def sized(family: Iterable[Cohort]) -> list[Cohort]:
    """The cohorts of a family whose pretraining sets have known sizes, smallest first; none where all are equal."""
    known = sorted((cohort for cohort in family if cohort.declared), key=_order)
    return known if known and known[0].images != known[-1].images else []


def _has_pair(family: Iterable[Cohort], pairs: Iterable[tuple[str, str]]) -> bool:
    sets = {cohort.pretraining for cohort in family}
    return any(sets.issuperset(pair) for pair in pairs)


def _described(cohort: Cohort) -> str:
    size = f"{cohort.images:,} images" if cohort.images else "of unknown size"
    return f"{cohort.family} on {cohort.pretraining} ({size if cohort.declared else 'not declared in full'})"


def smallest(family: Sequence[Cohort]) -> list[Cohort]:
    """The cohort of the smallest pretraining set of an ordered family, or several of one size."""
    return [one for one in family if one.images == family[0].images]


def largest(family: Sequence[Cohort]) -> list[Cohort]:
    """The cohort of the largest pretraining set of an ordered family, or several of one size."""
    return [one for one in family if one.images == family[-1].images]


class StudyNumbers:
    """mRI of cohorts, every one paired with every other.

    Source images and tuning seeds are shared by all; each cohort has pretraining seeds of its own.

    Args:
        results: of the study's suite.
        taken: what the study takes of that suite.
        cohorts: the models that it uses.
    """

    def __init__(self, results: Results, taken: Taken, cohorts: Sequence[Cohort]) -> None:
        self.results, self.taken = results, taken
        self.families = by_family(cohorts)
        self.sizes = tuple(map(counted, taken.sizes))
        self._known: dict[tuple[Cohort, str, int | None], Estimate | None] = {}
        images = sorted({one.images for one in cohorts if one.images})
        self._ranks = {count: rank for rank, count in enumerate(images)}

    def mri(self, cohort: Cohort, method: str, size: int | None) -> Estimate | None:
        """mRI of a cohort in points; None where a run is missing."""
        place = (cohort, method, size)
        if place not in self._known:
            groups = [(model, method, size) for model in cohort.models]
            found = [self.results.estimates.mri(group) if group in self.results.groups else None for group in groups]
            whole = [estimate for estimate in found if estimate is not None]
            self._known[place] = mean_over_seeds(whole, cohort.seeds) if len(whole) == len(found) else None
        return self._known[place]

    def mean(
        self, cohorts: Iterable[Cohort], method: str = FINETUNE, sizes: Iterable[int | None] | None = None
    ) -> Estimate | None:
        """The mean over cohorts and sizes, default all; None with a hole."""
        over = self.sizes if sizes is None else tuple(sizes)
        return averaged(self.mri(cohort, method, size) for cohort in cohorts for size in over)

    def line(
        self, name: str, points: Iterable[tuple[Cohort, str, int | None] | None], cohort: Cohort | None = None
    ) -> AnswerLine:
        """A row of a panel: mRI at each tick, None for a tick that has no point.

        Args:
            name: of the row.
            points: cohort, method and size of each.
            cohort: whose colour it has; None for a row of several.
        """
        return self.drawn(name, (interval(self.mri(*point)) if point else None for point in points), cohort)

    def drawn(self, name: str, spans: Iterable[Interval | None], cohort: Cohort | None = None) -> AnswerLine:
        """A row of a panel, in a cohort's colour and with its marker."""
        rank = self._ranks.get(cohort.images) if cohort and cohort.images else None
        return AnswerLine(name, rank, self._shape(cohort) if cohort else 0, tuple(spans))

    def _shape(self, cohort: Cohort) -> int:
        """Its place among those of its family with as many images."""
        equal = [one for one in self.families[cohort.family] if one.images == cohort.images]
        return equal.index(cohort)

    def label(self, cohort: Cohort) -> str:
        """A cohort's name within its family: the pretraining set, with what tells two of them apart."""
        family = self.families[cohort.family]
        several = len({one.objective for one in family}) > 1
        names = {one: f"{one.objective} {one.pretraining}" if several else one.pretraining for one in family}
        twice = sum(name == names[cohort] for name in names.values()) > 1
        return self.results.suite.model_names.short(cohort.models[0]) if twice else names[cohort]

    def by_size(self, family: str, cohorts: Sequence[Cohort], methods: Mapping[str, str]) -> list[AnswerPanel]:
        """A panel a size: what a family's cohorts have, a row a method.

        Args:
            family: their name.
            cohorts: the ticks.
            methods: name of each row, and its method.
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
        """Limits of the seeds, in sentences."""
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


def averaged(estimates: Iterable[Estimate | None]) -> Estimate | None:
    """The mean; None where there is a hole or nothing at all."""
    listed = list(estimates)
    whole = [estimate for estimate in listed if estimate is not None]
    return mean(whole) if whole and len(whole) == len(listed) else None


def minus(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """The difference; None with a hole."""
    return one - other if one is not None and other is not None else None


def interval(estimate: Estimate | None) -> Interval | None:
    """Its 95 % interval."""
    return estimate.interval() if estimate is not None else None


def in_percent(correlation: Interval | None) -> Interval | None:
    """A correlation times 100, so that one decimal says enough."""
    if correlation is None:
        return None
    return correlation.times(100)


def contrast(family: str, says: str, claimed: Literal["above", "below"], estimate: Estimate | None) -> Contrast:
    """A contrast: the prediction of a claim about an estimate."""
    return Contrast(family, says, claimed, interval(estimate))
