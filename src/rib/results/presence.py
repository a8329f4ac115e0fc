"""Classes: RI over test images whose class is in the tuning set, and RI over the other test images.

A class is *present* if at least one tuning image has it, among the images that the size and the seed draw. Label maps
decide which classes of two sets are the same: those that share a model output. If other code tuned the model on a set
of the suite, all classes of that set's tune part count as present.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from rib.arrays import Flags
from rib.data.splits import tuning_rows
from rib.metrics.bootstrap import Bootstrap, example_weights
from rib.metrics.estimates import Estimate, mean
from rib.plan import Plan, Run, World

Presence = Literal["present", "absent"]


def outputs_tuned_on(world: World, tuned_on: str, size: int | None, seed: int | None) -> frozenset[int]:
    """The model outputs that correspond to the classes of the tuning images.

    Args:
        world: the data sets.
        tuned_on: the tuned set.
        size: number of images drawn from it; None for all.
        seed: seed of the draw; None if the tuning images are unknown.
    """
    labels = world[tuned_on].index("tune").labels
    if seed is not None:
        rows, _ = tuning_rows(world[tuned_on].index("tune"), size, world.suite.held_out, seed, tuned_on)
        labels = labels[rows]
    groups = world.part(tuned_on, "test").label_map.groups
    return frozenset(output for label in np.unique(labels).tolist() for output in groups[label])


def shown_by(world: World, name: str, outputs: frozenset[int]) -> Flags:
    """bool (N,): which test images of a data set have a class that corresponds to one of these outputs."""
    groups = world.part(name, "test").label_map.groups
    by_class = np.array([not outputs.isdisjoint(group) for group in groups], bool)
    return by_class[world[name].index("test").labels]


def lacks_classes(plan: Plan, run: Run) -> bool:
    """Whether another downstream set has test images of classes that the tuned set lacks, so that RI can be split."""
    if run.tuned_on is None or run.tuned_on not in plan.suite.tested:
        return False
    outputs = outputs_tuned_on(plan.world, run.tuned_on, run.size, run.seed)
    others = (name for name in plan.suite.downstream if name != run.tuned_on)
    return any(not shown_by(plan.world, name, outputs).all() for name in others)


class ByClasses:
    """Changes of accuracy over images of present and of absent classes, paired with every other estimate.

    Args:
        plan: the runs and their data sets.
        bootstrap: the resamples of source images, shared with every other interval.
        right: gives bool (N,), which test images of a set a run gets right; None if the prediction is missing.
    """

    def __init__(self, plan: Plan, bootstrap: Bootstrap, right: Callable[[Run, str], Flags | None]) -> None:
        self._plan, self._bootstrap, self._right = plan, bootstrap, right
        self._starts = {run.model: run for run in reversed(plan.runs) if run.method == "pretrained"}
        self._outputs: dict[tuple[str, int | None, int | None], frozenset[int]] = {}
        self._masks: dict[tuple[frozenset[int], str], Flags] = {}
        self._known: dict[tuple[frozenset[int], str, Presence], dict[str, Estimate]] = {}

    def ri(self, run: Run, presence: Presence) -> Estimate | None:
        """Mean change of accuracy over the other downstream sets that have such images, in points.

        None if a prediction is missing, if no other set has such images, or if the tuned classes are unknown.
        """
        suite, tuned_on = self._plan.suite, run.tuned_on
        if tuned_on is None or tuned_on not in suite.tested:
            return None
        outputs = self._outputs_of(run)
        others = [name for name in suite.downstream if name != tuned_on]
        changes = [self._change(run, name, presence) for name in others if self._chosen(outputs, name, presence).any()]
        known = [change for change in changes if change is not None]
        return mean(known) if known and len(known) == len(changes) else None

    def lacks_none(self, run: Run) -> bool:
        """Whether all images of the other downstream sets are of present classes, so that `ri` is the usual RI."""
        if run.tuned_on is None or run.tuned_on not in self._plan.suite.tested:
            return False
        others, outputs = (name for name in self._plan.suite.downstream if name != run.tuned_on), self._outputs_of(run)
        return all(self._chosen(outputs, name, "present").all() for name in others)

    def _outputs_of(self, run: Run) -> frozenset[int]:
        place = (str(run.tuned_on), run.size, run.seed)
        if place not in self._outputs:
            self._outputs[place] = outputs_tuned_on(self._plan.world, *place)
        return self._outputs[place]

    def _chosen(self, outputs: frozenset[int], name: str, presence: Presence) -> Flags:
        """bool (N,): which test images are of a present class, or of an absent one."""
        if (outputs, name) not in self._masks:
            self._masks[outputs, name] = shown_by(self._plan.world, name, outputs)
        mask = self._masks[outputs, name]
        return mask if presence == "present" else ~mask

    def _change(self, run: Run, name: str, presence: Presence) -> Estimate | None:
        found = self._accuracies(self._outputs_of(run), name, presence)
        before, after = (found.get(each.scores[name].key) for each in (self._starts[run.model], run))
        return after - before if before is not None and after is not None else None

    def _accuracies(self, outputs: frozenset[int], name: str, presence: Presence) -> dict[str, Estimate]:
        """Accuracy on such images by the key of the prediction, for pretrained models and models tuned on these
        outputs."""
        place = (outputs, name, presence)
        if place not in self._known:
            chosen = self._chosen(outputs, name, presence)
            runs = {run.scores[name].key: run for run in self._plan.runs if self._belongs(run, outputs, name)}
            right = {key: flags[chosen] for key, run in runs.items() if (flags := self._right(run, name)) is not None}
            data, index = self._plan.world[name], self._plan.world[name].index("test")
            weights = example_weights(None if index.cells is None else index.cells[chosen], int(chosen.sum()))
            found = self._bootstrap.accuracies(data.units, index.sources[chosen], weights, right.values())
            self._known[place] = dict(zip(right, found, strict=True))
        return self._known[place]

    def _belongs(self, run: Run, outputs: frozenset[int], name: str) -> bool:
        return name in run.scores and (run.tuned_on is None or self._outputs_of(run) == outputs)
