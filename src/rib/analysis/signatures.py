"""Signatures: six signs of robustness lost in tuning.

The first four are those of Hwang et al. 2024 (arXiv 2410.21582). The last two are RIB's own: accuracy lost on the
reference set, and accuracy lost to BatchNorm's running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rib.errors import UserError
from rib.metrics.intervals import Interval
from rib.text.wording import about

Verdict = Literal["present", "suggested", "absent", "unknown"]
""""present": the whole interval is beyond the threshold. "suggested": the value alone is. "absent": neither is.
"unknown": there is no evidence."""

LARGE_DROP = -10.0
"""Points. In the paper's averages for ViT-B/16, plain fine-tuning costs robust models at most 5.5 points out of
distribution, and the others 38. Every threshold in between separates them."""

SMALL_SET = 10_000
"""Images. The paper's two sets after which robustness is lost most easily have 7,500 (ImageNet-A) and 10,000 images
(ImageNet-V2); the next larger set has 18,574."""

LOW_CKA = 0.5
"""Mean over layers, by convention. CKA is 1 for features that are equal up to rotation and scale, and near 0 for
unrelated ones."""

LATE_SHARE = 0.5
"""Share of the change in all layers. An even change has a third of it in the last third of the layers; the threshold
is one and a half times that."""

NO_CHANGE = 0.01
"""Mean change per layer (1 - CKA, or relative drift) below which nothing has shifted, so its distribution means
nothing."""

NEGATIVE_RI = 0.0
"""Points. RI below zero means that robustness was lost."""

LOSS = -2.0
"""Points, by convention: the limit of the gates in the examples (`ri < -2`, `reference < -2`)."""


@dataclass(frozen=True)
class Shares:
    """The change of accuracy on the data sets not tuned on, in points, split as in `rib.analysis.statistics`.

    Attributes:
        of_weights: share of the weights, points.
        of_statistics: share of BatchNorm's running statistics, points.
    """

    of_weights: float
    of_statistics: float


@dataclass(frozen=True)
class Evidence:
    """The evidence about one tuned model, or about the mean of several. An unknown value is None.

    Attributes:
        ood_change: change of accuracy on the data sets not tuned on, in points.
        size: number of tuning images.
        cka: linear CKA of each layer's features before and after, 0 … 1, from the first layer to the last.
        drift: relative change of the weights of each group of layers, ‖θ - θ0‖ / ‖θ0‖, from the first to the last;
            replaces CKA as evidence for a late-layer shift if there is none.
        ri: RI or mRI, in points, with the `adjusted` p value of its table, if it is in one.
        reference: change of accuracy on the reference set, in points, of a model that was not tuned on it.
        shares: the parts of the change of accuracy on all data sets not tuned on.
        keeps_statistics: False for a model that is known to have no running statistics.
    """

    ood_change: Interval | None = None
    size: int | None = None
    cka: Sequence[float] | None = None
    drift: Sequence[float] | None = None
    ri: Interval | None = None
    reference: Interval | None = None
    shares: Shares | None = None
    keeps_statistics: bool = True


@dataclass(frozen=True)
class Signature:
    """One sign.

    Attributes:
        name: "large drop", "low CKA", "late shift", "negative RI", "reference loss" or "statistics".
        verdict: see `Verdict`.
        threshold: the sign is present beyond this value; in the unit of the evidence.
        evidence: the number compared with the threshold; None if there is none. Without a known interval, as for CKA
            and drift, low = value = high.
        words: one sentence for a newcomer.
    """

    name: str
    verdict: Verdict
    threshold: float
    evidence: Interval | None
    words: str

    @property
    def present(self) -> bool | None:
        """Whether the sign is certainly present; None if there is no evidence."""
        return None if self.verdict == "unknown" else self.verdict == "present"


def signatures(evidence: Evidence) -> tuple[Signature, ...]:
    """The six signs in order: large drop after tuning on a small set, low CKA, late-layer shift, negative RI, loss on
    the reference set, loss to running statistics.

    Raises:
        UserError: a CKA is not within 0 … 1, or a drift is negative or not a number.
    """
    return (
        _large_drop(evidence),
        _low_cka(evidence.cka),
        _late_shift(evidence),
        _negative_ri(evidence.ri),
        _reference_loss(evidence.reference),
        _statistics(evidence),
    )


def _large_drop(evidence: Evidence) -> Signature:
    change, size, name = evidence.ood_change, evidence.size, "large drop"
    if change is None or size is None:
        words = "It is not known on how many images the model was tuned, and this sign is one of small sets."
        if change is None:
            words = "It was not measured how accuracy on other data sets changed."
        return Signature(name, "unknown", LARGE_DROP, change, words)
    if size > SMALL_SET:
        words = (
            f"The model was tuned on {size:,} images, which is no small set (at most {SMALL_SET:,}), so this sign "
            "cannot show."
        )
        return Signature(name, "unknown", LARGE_DROP, change, words)
    verdict = _below(change, LARGE_DROP)
    change_said = f"changed by {_signed(change.value)} points after tuning on {size:,} images"
    moved = f"Accuracy on the downstream sets not tuned on {change_said}"
    return Signature(
        name,
        verdict,
        LARGE_DROP,
        change,
        _say(
            verdict,
            present=f"{moved}: a collapse.",
            suggested=f"{moved}: a collapse, unless chance made it look like one.",
            absent=f"{moved}: no collapse (that is worse than {LARGE_DROP:+.0f}).",
        ),
    )


def _low_cka(cka: Sequence[float] | None) -> Signature:
    name = "low CKA"
    if not cka:
        words = "It was not measured how alike the model's inner features are before and after."
        return Signature(name, "unknown", LOW_CKA, None, words)
    _require(cka, 1.0, "CKA")
    alike = _point(float(np.mean(cka)))
    verdict = _below(alike, LOW_CKA)
    measured = f"a likeness (CKA) of {alike.value:.2f} on average over layers, where 1 is unchanged"
    return Signature(
        name,
        verdict,
        LOW_CKA,
        alike,
        _say(
            verdict,
            present=f"Tuning rebuilt the model's inner features: {measured}.",
            absent=f"Tuning kept most of the model's inner features: {measured}.",
        ),
    )


def _late_shift(evidence: Evidence) -> Signature:
    name = "late shift"
    if evidence.cka and len(evidence.cka) >= 3:
        _require(evidence.cka, 1.0, "CKA")
        change, what = 1 - np.asarray(evidence.cka), "features"
    elif evidence.drift and len(evidence.drift) >= 3:
        _require(evidence.drift, np.inf, "drift")
        change, what = np.asarray(evidence.drift), "weights"
    else:
        words = "It was not measured, for three layers or more, how much each of them changed."
        return Signature(name, "unknown", LATE_SHARE, None, words)
    if change.mean() < NO_CHANGE:
        words = f"The model's {what} hardly changed in any layer."
        return Signature(name, "absent", LATE_SHARE, None, words)
    share = _point(late_share(change))
    verdict: Verdict = "present" if share.value > LATE_SHARE else "absent"
    lies = f"{100 * share.value:.0f} % of the change of the model's {what} lies in the last third of its layers"
    return Signature(
        name,
        verdict,
        LATE_SHARE,
        share,
        _say(
            verdict,
            present=f"Mostly the late layers changed: {lies}.",
            absent=f"The change is not mostly in the late layers: {lies}.",
        ),
    )


def _negative_ri(ri: Interval | None) -> Signature:
    name = "negative RI"
    if ri is None:
        words = "It was not measured how much robustness was lost or gained."
        return Signature(name, "unknown", NEGATIVE_RI, None, words)
    verdict = _below(ri, NEGATIVE_RI)
    if verdict == "present" and not ri.marked:  # its table has a ≈, and a signature must not claim more than that mark
        verdict = "suggested"
    found = f"robustness improvement is {_signed(ri.value)} points, between {_signed(ri.low)} and {_signed(ri.high)}"
    return Signature(
        name,
        verdict,
        NEGATIVE_RI,
        ri,
        _say(
            verdict,
            present=f"Tuning cost robustness: {found}.",
            suggested=f"Tuning seems to have cost robustness, but chance may explain it: {found}.",
            absent=f"Tuning is not seen to have cost robustness: {found}.",
        ),
    )


def _reference_loss(change: Interval | None) -> Signature:
    name = "reference loss"
    if change is None:
        words = "It was not measured how accuracy on the reference set changed, or the model was tuned on that set."
        return Signature(name, "unknown", LOSS, None, words)
    verdict = _below(change, LOSS)
    if verdict == "present" and not change.marked:
        verdict = "suggested"
    moved = f"accuracy on the reference set changed by {_signed(change.value)} points"
    return Signature(
        name,
        verdict,
        LOSS,
        change,
        _say(
            verdict,
            present=f"Tuning cost what the model was pretrained for: {moved}.",
            suggested=f"Tuning seems to have cost what the model was pretrained for, unless it is chance: {moved}.",
            absent=f"Tuning is not seen to have cost what the model was pretrained for: {moved}.",
        ),
    )


def _statistics(evidence: Evidence) -> Signature:
    name, shares = "statistics", evidence.shares
    if not evidence.keeps_statistics:
        return Signature(
            name, "absent", LOSS, None, "The model has no running statistics, so all of a change is weights."
        )
    if shares is None:
        words = "It was not measured how much of the change is BatchNorm's running statistics (analysis `statistics`)."
        return Signature(name, "unknown", LOSS, None, words)
    cost = _point(shares.of_statistics)
    verdict = _below(cost, LOSS)
    split = (
        f"on average over the sets that were analysed and not tuned on, they changed accuracy by "
        f"{_signed(shares.of_statistics)} points, and the weights by {_signed(shares.of_weights)}"
    )
    return Signature(
        name,
        verdict,
        LOSS,
        cost,
        _say(
            verdict,
            present=f"BatchNorm's running statistics cost accuracy: {split}.",
            absent=f"BatchNorm's running statistics are not seen to cost accuracy: {split}.",
        ),
    )


def late_share(change: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Share of the change in all layers that lies in the last third of them, 0 … 1.

    A layer that lies only partly in the last third counts with that part, so an even change gives 1 / 3 for any number
    of layers.

    Args:
        change: (L,), change of each layer, from the first to the last; not negative, not all zero.
    """
    parts = np.asarray(change, np.float64)
    count = len(parts)
    within = np.clip(np.arange(1, count + 1) - 2 * count / 3, 0, 1)
    return float(parts @ within / parts.sum())


def _below(found: Interval, threshold: float) -> Verdict:
    if found.value >= threshold:
        return "absent"
    return "present" if found.high < threshold else "suggested"


def _say(verdict: Verdict, **words: str) -> str:
    return words[verdict]


def _point(value: float) -> Interval:
    return Interval(value, value, value)


def _require(numbers: Sequence[float], most: float, what: str) -> None:
    if bad := [number for number in numbers if not 0 <= number <= most]:
        raise UserError(f"a {what} of a layer is out of its range", got=bad[0], valid=f"0 … {most:g}")


def _signed(value: float) -> str:
    """Points with one decimal, never "-0.0"."""
    return f"{value + 0.0:+.1f}".replace("-0.0", "0.0")


def worded(signs: tuple[Signature, ...], noun: str) -> tuple[Signature, ...]:
    """Signs whose sentences have the word for what the sets hold, such as "texts"."""
    return tuple(replace(sign, words=about(noun, sign.words)) for sign in signs)
