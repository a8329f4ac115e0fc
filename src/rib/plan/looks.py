"""Planned analyses of a suite: one for each analysis, run and data set, or one for all of its data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rib.analysis import ANALYSES, Analysis
from rib.errors import UserError, nearest
from rib.plan.plan import Look, Run
from rib.steps import Compare, Fit, World
from rib.suite.suite import RunChoice, Suite
from rib.suite.validation import validated


def is_chosen(block: RunChoice, run: Run, of_pair: bool) -> bool:
    """Whether a block of analyses or adapted predictions selects a run.

    An analysis of a single model selects pretrained models.
    """
    if run.model not in (block.models or (run.model,)):
        return False
    if not of_pair or run.tuned_on is None:
        return of_pair == (run.tuned_on is not None)
    if block.methods and not {run.method, run.method.partition(" ")[0]} & set(block.methods):
        return False  # the name of a sweep selects all variants, "NAME field=value" a single one
    wanted = ((run.seed, block.seeds), (run.tuned_on, block.downstream), (run.size or "all", block.sizes))
    return all(chosen is None or item in chosen for item, chosen in wanted)


def can_look(analysis: Analysis, run: Run) -> bool:
    """Whether an analysis supports a run. Some put the weights of both models into one net."""
    return not (analysis.same_net and analysis.of_pair and run.fit.architecture.extension)


def find_analysis(suite: Suite, name: str, **fields: Any) -> Analysis:
    """An analysis of the suite or of RIB; `fields` override its parameters.

    Raises:
        UserError: no analysis has that name, or it has no such field.
    """
    table = dict(suite.analysis.get(name, {}))
    if name not in suite.analysis and ":" not in name and name not in ANALYSES.classes:
        raise nearest(name, [*suite.analysis, *ANALYSES.classes], "analysis")
    kind = ANALYSES.find(str(table.pop("kind", name)))
    return validated(kind, table | fields, f"{suite.name}: analysis {name!r}")


def looks_at(
    suite: Suite,
    world: World,
    name: str,
    analysis: Analysis,
    before: Fit,
    run: Run,
    chosen: Sequence[str] | None = None,
) -> Iterable[Look]:
    """The planned analyses of a run: one, or one per data set. A tuned set must have unseen images.

    Args:
        suite, world: give the data sets and the recipe of predictions.
        name: name of the analysis in the suite.
        analysis: the analysis.
        before: the pretrained weights.
        run: the tuned model.
        chosen: data sets; default: those of the analysis.
    """
    usual = {"nothing": (), "reference": (suite.reference,), "tested": suite.tested}[analysis.on]
    seen = tuple(data for data in (chosen or usual) if data in run.scores)
    recipe = suite.recipe_of(run.model)
    groups: Sequence[tuple[str, ...]] = [()]
    if analysis.needs_features and before.architecture.heads:
        raise UserError(
            f"analysis {analysis.name!r} takes a model apart into features and one head, and the answer of "
            f"{run.model!r} is not what one head makes of features",
            got=f"an answer made of {', '.join(before.architecture.heads)}",
            remedy="name the other models in the analysis' `models`, or leave it out",
        )
    if analysis.on != "nothing":
        groups = [seen] if analysis.together else [(data,) for data in seen]
    for on in groups:
        step = Compare(
            analysis=analysis,
            before=before,
            after=run.fit if analysis.of_pair else None,
            on=tuple(map(suite.set_names.short, on)),
            data=tuple(world.part(data, "test") for data in on),
            batch_size=recipe.eval_batch_size,
            precision=recipe.eval_precision,
        )
        yield Look(name, run, on, step)
