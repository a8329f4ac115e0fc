"""Advice: the best pretrained model and method for a tuning set of a given size, as far as the records allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rib.given import number_in
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval
from rib.metrics.pareto import pareto
from rib.results.results import Results
from rib.results.rows import Group
from rib.results.words import size_name
from rib.text.wording import IMAGES

FARTHEST = 3.0
"""Maximum ratio between the nearest measured size and the one asked for. The sizes of the shipped suites differ by
factors of 2 to 5, and the cost of a method depends on size, so a number from farther away would be a guess."""

FEWEST_SETS = 3
"""Minimum number of tuned sets. A mean over fewer sets says nothing about another set."""


@dataclass(frozen=True)
class Candidate:
    """A pretrained model and a method, over all downstream sets.

    Attributes:
        model, method: the candidate; the method "pretrained" means no tuning.
        own: accuracy on unseen images of the tuned set, percent.
        mri: mRI, points; exactly 0 without tuning.
        ood: accuracy on the other downstream sets after tuning, percent.
        present, absent: mRI over images whose class is in the tuning set, and over the others; None without such
            others.
        worst: the tuned set with the lowest RI, and that RI in points; None without tuning.
        front: whether no candidate has both a higher own and a higher OOD accuracy.
        beaten_by: name of a candidate that is better in both accuracies, and distinguishably better in one; None
            without one.
        gain: own accuracy minus that of the pretrained model, points; None without tuning.
    """

    model: str
    method: str
    own: Interval
    mri: Interval
    ood: Interval
    present: Interval | None
    absent: Interval | None
    worst: tuple[str, float] | None
    front: bool
    beaten_by: str | None
    gain: Interval | None = None


@dataclass(frozen=True)
class Advice:
    """The recommendation from the records for tuning sets of one size.

    Attributes:
        images: the size asked for.
        measured_at: the measured size used for it; None if there is none.
        candidates: candidates that none beats, highest own accuracy first; empty if there is no advice.
        beaten: number of the candidates that another one beats.
        declined: why there is no advice; empty if there is.
        reach: extent of the evidence, in sentences.
        caveats: known or possible faults of data and models, in sentences.
        noun: plural of what the sets hold.
    """

    images: int
    measured_at: int | None
    candidates: tuple[Candidate, ...]
    beaten: int
    declined: tuple[str, ...]
    reach: tuple[str, ...]
    caveats: tuple[str, ...] = ()
    noun: str = IMAGES


@dataclass(frozen=True)
class _Entry:
    """A candidate with its estimates."""

    group: Group
    model: str
    own: Estimate
    mri: Estimate
    ood: Estimate

    @property
    def name(self) -> str:
        return f"{self.model} {self.group[1]}"


def advise(results: Results, images: int) -> Advice:
    """The recommended model and method for a tuning set of `images` images.

    RIB compares candidates at the measured size that is nearest, in ratio, to the one asked for. A candidate beats
    another one if it is at least as good in own accuracy and in OOD accuracy after tuning, and distinguishably better
    (95 %, paired) in one of them. RIB uses OOD accuracy, not mRI: between methods of one model both give the same
    order, but between models mRI favours a pretrained model of low accuracy, which has little to lose.

    Args:
        results: the finished records.
        images: size of the tuning set.

    Raises:
        UserError: `images` is no number of images.
    """
    images = number_in(images, "the number of images")
    sizes = sorted({size for _, method, size in results.groups if method != "pretrained" and size is not None})
    near = min(sizes, key=lambda size: abs(math.log(size / images)), default=None)
    entries = _entries(results, near) if near is not None else []
    if declined := _too_thin(results, images, near, entries):
        return Advice(images, near, (), 0, declined, _reach(results, sizes), results.caveats, results.plan.noun)
    assert near is not None
    front = {entries[place].group for place in pareto([(item.own.value, item.ood.value) for item in entries])}
    listed = [_candidate(results, item, entries, item.group in front) for item in entries]
    kept = sorted((item for item in listed if item.beaten_by is None), key=lambda item: -item.own.value)
    reach = (*_reach(results, sizes), *_elsewhere(results, images, near, sizes))
    return Advice(images, near, tuple(kept), len(listed) - len(kept), (), reach, results.caveats, results.plan.noun)


def _entries(results: Results, size: int) -> list[_Entry]:
    """Every complete candidate at a size; the pretrained models first."""
    found = []
    for group in results.groups:
        model, method, at = group
        if method == "pretrained":
            own, ood = results.estimates.own_before(model), results.estimates.ood_before(model)
            mri = ood - ood if ood else None
        elif at == size:
            own, ood, mri = results.estimates.own(group), results.estimates.ood(group), results.estimates.mri(group)
        else:
            continue
        if own and mri and ood:
            found.append(_Entry(group, results.model_name(model), own, mri, ood))
    return found


def _too_thin(results: Results, images: int, near: int | None, entries: Sequence[_Entry]) -> tuple[str, ...]:
    """Reasons to give no advice."""
    if near is None:
        return ("no tuning set of a counted size is in this suite",)
    reasons, noun = [], results.plan.noun
    if max(images / near, near / images) > FARTHEST:
        reasons.append(
            f"the nearest measured size is {near:,} {noun}, more than {FARTHEST:g} times away from {images:,}"
        )
    if len(results.suite.downstream) < FEWEST_SETS:
        reasons.append(f"models were tuned on {len(results.suite.downstream)} sets only; {FEWEST_SETS} are the least")
    if not any(item.group[1] != "pretrained" for item in entries):
        scored = any(run.tuned_on in run.scores for run in results.plan.runs)
        reasons.append(
            f"no method is complete at {near:,} {noun}"
            if scored
            else f"no set tuned on has unseen {noun} of its own, so accuracy downstream is not known"
        )
    return tuple(reasons)


def _candidate(results: Results, item: _Entry, entries: Sequence[_Entry], front: bool) -> Candidate:
    model, method, _ = item.group
    row = next(row for group, row in zip(results.groups, results.summaries, strict=True) if group == item.group)
    by_set = {name: value.value for name, value in row.ri.items() if value}
    worst = min(by_set, key=by_set.__getitem__, default=None)
    return Candidate(
        model=results.model_name(model),
        method=method,
        own=item.own.interval(),
        mri=item.mri.interval(),
        ood=item.ood.interval(),
        present=row.mri_present if row.mri_absent else None,
        absent=row.mri_absent,
        worst=(worst, by_set[worst]) if worst else None,
        front=front,
        beaten_by=next((other.name for other in entries if other is not item and _beats(other, item)), None),
        gain=row.gain if method != "pretrained" else None,
    )


def _beats(one: _Entry, other: _Entry) -> bool:
    if one.own.value < other.own.value or one.ood.value < other.ood.value:
        return False
    gains = [gain.interval() for gain in (one.own - other.own, one.ood - other.ood)]
    return any(gain.tests and gain.low > 0 for gain in gains)


def _reach(results: Results, sizes: Sequence[int]) -> tuple[str, ...]:
    """The extent of the evidence, in sentences."""
    suite = results.suite
    seeds = {run.seed for run in results.plan.runs if run.seed is not None}
    names = ", ".join(results.set_name(name) for name in suite.downstream)
    noun = results.plan.noun
    said = [
        f"Tuned on {len(suite.downstream)} sets ({names}) at {', '.join(size_name(size) for size in sizes) or 'no'} "
        f"{noun} with {len(seeds)} seed{'' if len(seeds) == 1 else 's'}; intervals cover test {noun}"
        + (" and seeds." if len(seeds) > 1 else ", not seeds."),
        "A set unlike all of these, or a model that is not listed, is outside of what was measured.",
    ]
    if missing := sum(1 for row in results.summaries if row.missing):
        said.append(f"{missing} rows have missing numbers and are left out.")
    return tuple(said)


def _elsewhere(results: Results, images: int, near: int, sizes: Sequence[int]) -> tuple[str, ...]:
    """Whether the next measured size on the other side of `images` leads to the same advice."""
    other = [size for size in sizes if (size > images) != (near > images) and size != near and near != images]
    if not other:
        return ()
    across = min(other, key=lambda size: abs(math.log(size / images)))
    entries = _entries(results, across)
    front = [entries[place].name for place in pareto([(item.own.value, item.ood.value) for item in entries])]
    tuned = [name for name in front if not name.endswith(" pretrained")]
    return (f"{images:,} lies between measured sizes: at {across:,} the front is {', '.join(tuned) or 'empty'}.",)
