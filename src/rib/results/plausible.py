"""Plausible: whether the input of a model can be right, judged by its accuracy on the reference set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rib.metrics.intervals import Interval
from rib.models.catalogue import ROWS
from rib.plan.pair import Pair
from rib.results.published import PUBLISHED, read_numbers
from rib.results.results import Results
from rib.text.names import short

FAR_BELOW = 5.0
"""A measured accuracy is an error if its whole interval is this many points below the published accuracy."""

FAR_BELOW_RECORDED = 10.0
"""The same limit for the accuracy that a checkpoint states, which may be of another test set."""

CAUSES = "the usual causes: other preprocessing (size, crop, mean and std), another order of classes, other weights"

COLLAPSED = "a training that collapsed"

OF_TUNED = f"BASE is better with the same preprocessing: the usual causes are another order of classes, or {COLLAPSED}"
"""The causes for a tuned model whose base is better than chance."""

REMEDY = "State the preprocessing if it was trained with another: --size, --crop, --mean, --std"


def chance(results: Results, name: str) -> float:
    """Accuracy in percent of guessing on a data set, or of the best constant answer if that is higher."""
    data = results.plan.world[name]
    counts = np.bincount(data.index("test").labels, minlength=len(data.classes))
    return 100 * max(float(counts.max() / counts.sum()), 1 / len(data.classes))


def near_chance(level: float) -> float:
    """The accuracy in percent below which a model counts as near chance: chance + 5 points, or twice chance if that
    is less."""
    return min(level + 5, 2 * level)


def implausible(results: Results, pair: Pair, before: Interval | None, after: Interval | None) -> Iterator[str]:
    """Describe faults in the reference accuracies of two models, one sentence per fault; none if both are plausible.

    Args:
        results: results of the comparison.
        pair: the two models.
        before, after: accuracy on the suite's reference set, in percent; None if it is missing.
    """
    name, level = results.suite.reference, chance(results, results.suite.reference)
    base_learned = before is not None and before.low > level
    causes = {"BASE": f"{CAUSES}. {REMEDY}", "TUNED": OF_TUNED if base_learned else f"{CAUSES}, or {COLLAPSED}"}
    for role, run, found in (("BASE", pair.before, before), ("TUNED", pair.after, after)):
        if found is not None and not found.low > level:
            order = next((words for each, words in results.orders if each is run), "")
            cause = f"{order}. {REMEDY}" if order and role == "BASE" else order or causes[role]
            yield (
                f"{role} is right on {found.value:z.1f} % [{found.low:z.1f}, {found.high:z.1f}] of the reference set "
                f"{name}, no better than chance ({level:z.1f} %), so its numbers mean nothing; {cause}"
            )
    if before is None or not before.low > level:
        return
    said = f"BASE is right on {before.value:z.1f} % [{before.low:z.1f}, {before.high:z.1f}] of the reference set {name}"
    published, recorded = _published(pair.base, name), pair.recorded
    if before.value < near_chance(level):
        yield f"{said}, near chance ({level:z.1f} %); {CAUSES}. {REMEDY}"
    elif published is not None and before.high < published - FAR_BELOW:
        yield f"{said}, far below the published {published:z.1f} %; {CAUSES}"
    elif recorded is not None and before.high < recorded.percent - FAR_BELOW_RECORDED:
        yield f"{said}, far below the {recorded.percent:z.1f} % that {recorded.source} states; {CAUSES}. {REMEDY}"


def _published(base: str, name: str) -> float | None:
    """Published accuracy of a catalogue model on a data set, in percent; None if there is none."""
    full = base if base in ROWS else next((row for row in ROWS if short(row) == base), base)
    return read_numbers(PUBLISHED).accuracy.get(full, {}).get(name)
