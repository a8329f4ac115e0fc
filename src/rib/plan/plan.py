"""Plan: the runs, merges and analyses of a suite, as values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rib.errors import nearest
from rib.methods import Passes
from rib.plan.graph import in_order, with_shared
from rib.steps import Adapt, Compare, Fit, Predict, Step, World
from rib.suite.suite import Suite


@dataclass(frozen=True)
class Run:
    """One tuned (or pretrained) model of a suite, and its predictions.

    Attributes:
        model, method: their names in the suite.
        size: number of tuning images; None for all, and for the pretrained model.
        seed: seed of the tuning; None for the pretrained model.
        tuned_on: name of the downstream set; None for the pretrained model.
        fit: its weights.
        scores: its predictions by name of the data set.
        seen: the prediction of the tuning images themselves, if a set is tuned on and tested whole; never part of RI
            or of a gain.
    """

    model: str
    method: str
    size: int | None
    seed: int | None
    tuned_on: str | None
    fit: Fit
    scores: dict[str, Predict]
    seen: Predict | None = None

    @property
    def predictions(self) -> Iterator[tuple[str, Predict]]:
        """Every prediction with the name of its data set; the prediction of the tuning images comes last."""
        yield from self.scores.items()
        if self.seen is not None and self.tuned_on is not None:
            yield self.tuned_on, self.seen


@dataclass(frozen=True)
class Merge:
    """A leave-one-out merge of the models tuned on all downstream sets but one. It is scored on that one.

    Attributes:
        model, method: their names in the suite.
        size: number of tuning images of each set; None for all.
        seed: seed of the tuning.
        left_out: the downstream set left out. No ingredient saw it or another set of its source family.
        of: the sets whose models are merged, in the order of the suite.
        fit: the merged weights.
        score: the prediction on the set left out.
        others: predictions on the reference set and on unseen test images of the sets in `of`, by name.
        singles: for each set in `of`, the prediction of its tuned model on the set left out.
    """

    model: str
    method: str
    size: int | None
    seed: int
    left_out: str
    of: tuple[str, ...]
    fit: Fit
    score: Predict
    others: dict[str, Predict]
    singles: dict[str, Predict]

    @property
    def predictions(self) -> Iterator[tuple[str, Predict]]:
        """Every prediction with the name of its data set."""
        yield self.left_out, self.score
        yield from self.others.items()
        for single in self.singles.values():
            yield self.left_out, single


@dataclass(frozen=True)
class AdaptedRun:
    """The predictions of a run that adapt to the unlabelled test inputs. Never among its scores.

    Attributes:
        kind: name of the adaptation, with its fields where they are not the defaults.
        run: the tuned or pretrained model.
        scores: its adapted predictions by name of the data set.
    """

    kind: str
    run: Run
    scores: dict[str, Adapt]


@dataclass(frozen=True)
class Look:
    """A planned analysis: one analysis of one run.

    Attributes:
        name: name of the analysis in the suite.
        run: the tuned model, or the pretrained one for an analysis of one model.
        on: the data sets; empty for an analysis of weights alone.
        step: the step that computes it.
    """

    name: str
    run: Run
    on: tuple[str, ...]
    step: Compare


@dataclass(frozen=True)
class Plan:
    """All runs, merges and analyses of a suite.

    Attributes:
        suite: the suite.
        world: its data sets.
        runs: every model, tuned or not, in the order of the suite.
        looks: every planned analysis.
        merges: every leave-one-out merge, in the order of the suite.
        adapted: every run whose predictions adapt to test inputs.
        assumed: data sets and weights that are missing on this machine; empty for a plan that can run.
        notes: images that data sets share without making a number wrong, in sentences.
        share: whether features that several steps read are computed once; it does not change results.
    """

    suite: Suite
    world: World
    runs: tuple[Run, ...]
    looks: tuple[Look, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    share: bool = True
    merges: tuple[Merge, ...] = ()
    adapted: tuple[AdaptedRun, ...] = ()

    @property
    def noun(self) -> str:
        """Plural of what the data sets hold: "images" or "texts"."""
        return self.world[self.suite.reference].noun

    @property
    def predictions(self) -> Iterator[tuple[str, Predict]]:
        """Every prediction of runs, merges and adapted runs, with the name of its data set; some more than once."""
        for run in self.runs:
            yield from run.predictions
        for merge in self.merges:
            yield from merge.predictions
        for each in self.adapted:
            yield from each.scores.items()

    def chosen(self, model: str | None = None, method: str | None = None, tuned_on: str | None = None) -> list[Run]:
        """The runs of a model, a method and a tuned set; None for all of them.

        Raises:
            UserError: the suite has no model, method or set of that name, or several.
        """
        own = None if model is None else self.suite.model_names.find(model, "model")
        on = None if tuned_on is None else self.suite.set_names.find(tuned_on, "data set")
        known = {run.method for run in self.runs} | {merge.method for merge in self.merges}
        if method is not None and method not in known:
            raise nearest(method, known, "method of the suite:")
        return [
            run
            for run in self.runs
            if own in (None, run.model) and method in (None, run.method) and on in (None, run.tuned_on)
        ]

    def chosen_models(self, model: str | None, method: str | None, tuned_on: str | None) -> list[Run | Merge]:
        """The chosen runs, and if no tuned set is named the chosen leave-one-out merges. Args, raises: as `chosen`."""
        own = None if model is None else self.suite.model_names.find(model, "model")
        merges = self.merges if tuned_on is None else ()
        wanted = [each for each in merges if own in (None, each.model) and method in (None, each.method)]
        return [*self.chosen(model, method, tuned_on), *wanted]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, after its needs and its shared features."""
        predictions = (predict for _, predict in self.predictions)
        needed = in_order(itertools.chain(predictions, (look.step for look in self.looks)))
        return tuple(with_shared(needed)) if self.share else needed

    @property
    def keys(self) -> list[str]:
        """Key of every step, in the order of `steps`."""
        return [step.key for step in self.steps]

    @cached_property
    def _shared(self) -> frozenset[str]:
        return frozenset(step.key for step in self.steps if step.optional)

    def passes(self, step: Step) -> Passes:
        """The image passes of a step; those of an analysis are an estimate."""
        return step.passes(self.world, self._shared)

    def image_passes(self, step: Step) -> float:
        """Cost of a step in forward passes of one image; a training pass counts as three."""
        return self.passes(step).cost
