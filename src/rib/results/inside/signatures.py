"""Signs: the signatures of lost robustness of every tuned group, from the available evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rib.analysis.cka import CKA, CKAValues
from rib.analysis.drift import Drift, DriftValues
from rib.analysis.signatures import SMALL_SET, Evidence, Signature, signatures, worded
from rib.data.splits import tuning_rows
from rib.metrics.estimates import Estimate, mean
from rib.metrics.intervals import Interval, as_family
from rib.plan import Run
from rib.results.inside.averages import average, pretrained, tuned_groups
from rib.results.inside.layers import Found, V, looked_at, mean_over_runs
from rib.results.inside.statistics import statistics_shares
from rib.results.results import Results
from rib.results.rows import Group, Summary, main_size
from rib.results.words import signed


@dataclass(frozen=True)
class SignatureRow:
    """The signatures of one model, method and size, over tuned sets and seeds.

    `at_chance` and `diverged` name the sets on which a training ended so. The signs of such a group are those of a
    collapse.
    """

    model: str
    method: str
    size: int | None
    signs: tuple[Signature, ...]
    at_chance: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()


def signature_rows(results: Results) -> list[SignatureRow]:
    """Signatures of every tuned group with any evidence."""
    features, weights = _telling_looks(results, CKA, CKAValues), _telling_looks(results, Drift, DriftValues)
    references = reference_changes(results)
    tested = {(row.model, row.method, row.size): row.mri for row in results.summaries}
    rows = []
    for group, runs in tuned_groups(results):
        mri = tested[results.model_name(group[0]), group[1], group[2]]
        evidence = replace(
            _evidence(results, group, runs, features.get(group, []), weights.get(group, []), mri),
            reference=references[group],
            shares=statistics_shares(results, group),
        )
        signs = worded(signatures(evidence), results.plan.noun)
        if any(sign.verdict != "unknown" for sign in signs):
            endings = (results.ended(runs, "at_chance"), results.ended(runs, "diverged"))
            rows.append(SignatureRow(results.model_name(group[0]), group[1], group[2], signs, *endings))
    return rows


def _telling_looks(results: Results, kind: type[CKA] | type[Drift], values: type[V]) -> dict[Group, list[Found[V]]]:
    """The analyses of each group on which its signatures rest.

    Finished analyses come before unfinished ones, and analyses with RIB's default parameters before others. Of equal
    ones,
    the suite's first is used.
    """
    chosen: dict[Group, list[Found[V]]] = {}
    for groups in looked_at(results, kind, values).values():
        for group, found in groups.items():
            if group not in chosen or _rank(found, kind) > _rank(chosen[group], kind):
                chosen[group] = found
    return chosen


def _rank(found: Sequence[Found[V]], kind: type[CKA] | type[Drift]) -> tuple[bool, bool]:
    return all(values is not None for _, values in found), all(look.step.analysis == kind() for look, _ in found)


def _evidence(
    results: Results,
    group: Group,
    runs: Sequence[Run],
    features: Sequence[Found[CKAValues]],
    weights: Sequence[Found[DriftValues]],
    mri: Interval | None,
) -> Evidence:
    change, size = _small_sets(results, group, runs)
    alike = [min(max(value, 0.0), 1.0) for value in mean_over_runs(features, lambda values: values["diagonal"])]
    moved = mean_over_runs(weights, _by_depth)
    return Evidence(change, size, alike or None, moved or None, mri)


def reference_changes(results: Results) -> dict[Group, Interval | None]:
    """Change of accuracy on the reference set of every tuned group, tested as one family (Holm).

    None if a prediction is missing, or if the group was tuned on the reference set.
    """
    name = results.set_name(results.suite.reference)

    def change(run: Run, data: str) -> Estimate | None:
        before, after = (results.accuracies.of(one, data) for one in (pretrained(results, run), run))
        return after - before if before and after else None

    groups = dict(tuned_groups(results))
    found = [average(results, runs, name, change) for runs in groups.values()]
    return dict(zip(groups, as_family(each.interval() if each else None for each in found), strict=True))


def _by_depth(values: DriftValues) -> list[float | None]:
    """Drift of each third of the depth, of those that the net has. A net of two blocks has no middle third."""
    pairs = zip(values["group_names"], values["group_change"], strict=True)
    return [change for name, change in pairs if name != "head"]


def _small_sets(results: Results, group: Group, runs: Sequence[Run]) -> tuple[Interval | None, int | None]:
    """Mean RI over the small tuned sets, and the number of images of the largest of them.

    If no set is small: mean RI over all sets, and the number of images of the smallest.
    """
    sets = list(dict.fromkeys(run.tuned_on for run in runs if run.tuned_on in results.suite.downstream))
    counts = {name: runs[0].size or _pool(results, name) for name in sets}
    if not counts:
        return None, None
    small = [name for name, count in counts.items() if count <= SMALL_SET]
    found = [results.estimates.ri(group, name) for name in small or counts]
    known = [estimate for estimate in found if estimate]
    change = mean(known).interval() if len(known) == len(found) else None
    return change, max(counts[name] for name in small) if small else min(counts.values())


def _pool(results: Results, name: str) -> int:
    """The number of tuning images of a set that is tuned on whole."""
    index = results.plan.world[name].index("tune")
    return len(tuning_rows(index, None, results.suite.held_out, 0, name)[0])


def telling(results: Results, rows: Sequence[SignatureRow]) -> list[SignatureRow]:
    """One row per model, at the main size: `finetune`, or else the method with the largest loss."""
    size = main_size(results.summaries)
    summaries = {(row.model, row.method, row.size): row for row in results.summaries}

    def rank(row: SignatureRow) -> tuple[bool, bool, float]:
        return row.size != size, row.method != "finetune", _mri(summaries[row.model, row.method, row.size])

    models = dict.fromkeys(row.model for row in rows)
    return [min((row for row in rows if row.model == model), key=rank) for model in models]


def _mri(row: Summary) -> float:
    return row.mri.value if row.mri else float("inf")


HEADS = {
    "large drop": "large drop",
    "low CKA": "low CKA",
    "late shift": "late-layer shift",
    "negative RI": "negative RI",
    "reference loss": "reference loss",
    "statistics": "statistics",
}
"""Column heads of the signs, in order."""

VERDICTS = {"present": "present", "suggested": "suggested", "absent": "absent", "unknown": "no evidence"}


def measured(sign: Signature, value: float) -> str:
    """The number of a sign as text: points, CKA or a share."""
    match sign.name:
        case "low CKA":
            return f"{value:z.2f}"
        case "late shift":
            return f"{100 * value:.0f} %"
    return signed(value)


def held_against(sign: Signature) -> str:
    """The measured value and the threshold, in words; empty without a value."""
    found = sign.evidence
    if found is None:
        return ""
    unit = "" if sign.name in ("low CKA", "late shift") else " points"
    spread = f" [{measured(sign, found.low)}, {measured(sign, found.high)}]" if found.low < found.high else ""
    return f"Measured {measured(sign, found.value)}{spread}{unit}; present {limit(sign)}{unit}."


def limit(sign: Signature) -> str:
    """The values for which a sign is present, in words: "below -10.0"."""
    side = "above" if sign.name == "late shift" else "below"
    return f"{side} {'0' if sign.name == 'negative RI' else measured(sign, sign.threshold)}"
