"""Adapted predictions: which runs of a suite are predicted again by nets that adapt to the test inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rib.errors import UserError
from rib.models.build import meta_classifier
from rib.plan.looks import is_chosen
from rib.plan.plan import AdaptedRun, Run
from rib.steps import Adapt, World
from rib.suite.suite import Adapted, Suite
from rib.suite.validation import validated
from rib.training.adapt import ADAPTATIONS, Adaptation


def adapted_runs(suite: Suite, world: World, runs: Sequence[Run]) -> tuple[AdaptedRun, ...]:
    """The adapted predictions of a suite's runs.

    Raises:
        UserError: a block chooses no run or has a field of another adaptation, or a model has nothing to adapt.
    """
    found = {
        (each.kind, each.run.fit.key): each for block in suite.adapted for each in _of_block(suite, world, block, runs)
    }
    return tuple(found.values())


def _of_block(suite: Suite, world: World, block: Adapted, runs: Sequence[Run]) -> Iterator[AdaptedRun]:
    fields = block.model_dump(include={"batch", "prior", "lr"}, exclude_none=True)
    adaptation = validated(ADAPTATIONS[block.kind], fields, f"{suite.name}: adapted: {block.kind}")
    chosen = [run for run in runs if is_chosen(block, run, of_pair=run.tuned_on is not None)]
    if not any(run.tuned_on for run in chosen) and any(run.tuned_on for run in runs):
        raise UserError(
            f"{suite.name}: adapted: no run of the suite is chosen for {block.kind!r}",
            got=block.model_dump(exclude_none=True, exclude={"kind"}),
            remedy="leave out what narrows it: methods, sizes, seeds, models, downstream",
        )
    for run in chosen:
        adaptation.require(meta_classifier(run.fit.architecture), run.model)
        recipe = suite.recipe_of(run.model)
        scores = {
            name: Adapt(
                *(run.fit, world.part(name, "test"), adaptation.batch, recipe.eval_precision, recipe.last_block),
                adaptation=adaptation,
            )
            for name in run.scores
        }
        yield AdaptedRun(_words(adaptation), run, scores)


def _words(adaptation: Adaptation) -> str:
    """Its name, and the fields that are not the defaults."""
    fields = {name: field.default for name, field in type(adaptation).model_fields.items()}
    changed = {name: own for name, value in fields.items() if (own := getattr(adaptation, name)) != value}
    return " ".join([adaptation.name, *(f"{name}={value:g}" for name, value in changed.items())])
