"""Study: a question, the suite that answers it, and the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, final

from rib.results.answer import Answer, AnswerPanel, Contrast, as_one_family, power
from rib.results.results import Results
from rib.results.words import holes
from rib.studies.cohorts import Cohort
from rib.studies.numbers import StudyNumbers
from rib.studies.selection import Taken
from rib.suite.suite import Looks, Runs, StudyChoice, Suite
from rib.text.wording import about


class Study(ABC):
    """A question. A study has no state: all its inputs are the suite and its results.

    Attributes:
        name: name in commands.
        question: the question, in one sentence.
        claim: the claim, in our words; from arXiv 2410.21582 unless it names another source.
        measure: the quantity on the figure's vertical axis.
        surface: whether its figure is a contour map.
        by_name: whether `rib study all` leaves it out, because it needs special models or far more runs.
        limits: what it cannot show, whatever the suite.
        intervals: what its intervals cover, in sentences.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    claim: ClassVar[str]
    measure: ClassVar[str] = "mRI, points"
    surface: ClassVar[bool] = False
    by_name: ClassVar[bool] = False
    limits: ClassVar[tuple[str, ...]] = ()
    intervals: ClassVar[str] = (
        "A 95 % interval is a t interval: the variances over source images, tuning seeds and pretraining seeds add up; "
        "images and tuning seeds are the same for every model."
    )

    def suite(self, base: Suite) -> Suite:
        """The suite that answers the question, with the models, data, sizes, seeds and recipe of `base`.

        Evaluation-only sets are left out, because mRI does not need them.

        Raises:
            UserError: `base` has too few models, sizes, sets or seeds for the question.
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
            "merges": (),
            "adapted": (),
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
        """The part of a suite that the study uses; the suite may be the base suite or the derived one."""
        return Taken(suite, suite.study.get(self.name, StudyChoice()), self.name)

    def cohorts(self, taken: Taken) -> list[Cohort]:
        """The models that the study can use. Raises UserError if there are too few."""
        return taken.cohorts

    @abstractmethod
    def runs(self, taken: Taken) -> tuple[Runs, ...]:
        """The runs to tune. Raises UserError if the suite has too few of something."""

    def methods(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """Methods with hyper-parameters that the study sets, by name."""
        return {}

    def looks(self, taken: Taken) -> tuple[Looks, ...]:
        """The analyses that the study needs."""
        return ()

    def analyses(self, taken: Taken) -> Mapping[str, dict[str, Any]]:
        """Analyses with parameters that the study sets, by name."""
        return {}

    @abstractmethod
    def contrasts(self, numbers: StudyNumbers) -> list[Contrast]:
        """The contrasts whose sign the claim predicts."""

    @abstractmethod
    def panels(self, numbers: StudyNumbers) -> list[AnswerPanel]:
        """The points of its figure."""

    def notes(self, numbers: StudyNumbers) -> list[str]:
        """Further results, in sentences."""
        return []

    @final
    def answer(self, results: Results) -> Answer:
        """The answer, computed from the results of its suite alone."""
        taken = self.taken(results.suite)
        numbers = StudyNumbers(results, taken, self.cohorts(taken))
        contrasts = as_one_family(self.contrasts(numbers))
        found = Answer(
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
        return _worded(found, results.plan.noun)


def _worded(answer: Answer, noun: str) -> Answer:
    """An answer whose sentences have the word for what the sets hold."""

    def each(sentences: Iterable[str]) -> tuple[str, ...]:
        return tuple(about(noun, sentence) for sentence in sentences)

    return replace(
        answer,
        question=about(noun, answer.question),
        measure=about(noun, answer.measure),
        contrasts=tuple(replace(one, says=about(noun, one.says)) for one in answer.contrasts),
        panels=tuple(replace(one, across=about(noun, one.across)) for one in answer.panels),
        intervals=about(noun, answer.intervals),
        notes=each(answer.notes),
        limits=each(answer.limits),
        power=about(noun, answer.power),
    )
