"""Leave-one-out merging: the models to merge for each set left out, and the refusal of leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rib.errors import UserError
from rib.plan.plan import Merge
from rib.steps import Fit, Predict, World


def left_out(world: World, sets: Sequence[str], suite: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each set left out, with the sets whose models are merged and scored on it: all sets of other source families.

    Args:
        world: the data sets.
        sets: the downstream sets of the merge.
        suite: name of the suite, for error messages.

    Raises:
        UserError: fewer than two sets remain for one of them.
    """
    for name in sets:
        others = tuple(other for other in sets if world[other].family != world[name].family)
        if len(others) < 2:
            raise UserError(
                f"{suite}: merges: only {len(others)} model can be merged to be scored on {name!r}",
                got=f"of {', '.join(sets)}, those of another source family: {', '.join(others) or 'none'}",
                valid="at least two sets of other source families beside each",
                remedy="name more downstream sets",
            )
        yield name, others


Scores = Callable[[Fit, Sequence[str], str], dict[str, Predict]]
"""Predictions of weights on data sets, by name; the last argument is the model."""


def merge_of(
    world: World,
    scores: Scores,
    reference: str,
    row: tuple[str, str, int | None, int],
    left: str,
    fit: Fit,
    singles: Mapping[str, Fit],
) -> Merge:
    """A merge, with predictions on everything that it is scored on.

    Args:
        world: the data sets.
        scores: makes the predictions.
        reference: name of the reference set.
        row: model, method, size and seed.
        left: the set left out.
        fit: the merged weights.
        singles: the tuned model of each merged set.
    """
    model, own = row[0], [name for name in singles if world[name].disjoint]
    others = scores(fit, [*own, reference], model)
    alone = {name: scores(single, [left], model)[left] for name, single in singles.items()}
    return Merge(*row, left, tuple(singles), fit, scores(fit, [left], model)[left], others, alone)


def require_unseen(world: World, fit: Fit, tested: str) -> None:
    """Refuse to score weights on a set that they, or their ingredients at any depth, have seen.

    A set counts as seen if its name, its images or its source family are those of a tuned set.

    Raises:
        UserError: the set was seen, or the weights have seen no set at all.
    """
    if not fit.sets:
        what = f"{fit.method.name!r} merges models that no data set tuned"
        raise UserError(what, valid="ingredients that tune on a downstream set", remedy="give it another `tuned`")
    data = world[tested]
    prints = {data.fingerprint("tune"), data.fingerprint("test")}
    for seen in fit.sets:
        if seen.name == tested or seen.fingerprint in prints:
            why = f"it was tuned on {seen.name!r}"
        elif world[seen.name].family == data.family:
            why = (
                f"it was tuned on {seen.name!r}, which shows source {data.noun} of {tested!r} (family {data.family!r})"
            )
        else:
            continue
        raise UserError(
            f"a merge would be scored on {data.noun} that one of its ingredients saw: {fit.title} on {tested!r}",
            got=f"{_owner(fit, seen.name).title}: {why}",
            valid="ingredients tuned on sets of other source families",
            remedy=f"leave what is tuned on {seen.name!r} out of the merge",
        )


def _owner(fit: Fit, name: str) -> Fit:
    """The ingredient that was tuned on a set."""
    if fit.data and fit.data.name == name:
        return fit
    return next(_owner(item, name) for item in fit.ingredients if any(seen.name == name for seen in item.sets))
