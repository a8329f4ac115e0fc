"""Studies of what lies inside, on made-up findings: their arithmetic by hand, and no number over a hole."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval
from rib.results.answer import Contrast
from rib.results.rows import Change
from rib.studies import find_study
from rib.studies.numbers import StudyNumbers
from rib.suite.load import load_suite
from rib.text.names import short

Found = Callable[[Any], dict[str, Any] | None]
"""What an analysis says of a run; None where it was not done."""


def asked(
    name: str, found: Found, ri: Callable[[str, int, str], float] = lambda *_: -1.0
) -> dict[tuple[str, str], Any]:
    """Interval of every contrast of a study, by family and words; every run's findings are made up."""
    base = load_suite("digits-studies")
    study = find_study(name, base)
    suite = study.suite(base)
    (block,) = suite.runs
    places = list(itertools.product(suite.models, block.sizes, suite.seeds, suite.downstream))
    runs = [
        SimpleNamespace(model=model, method="finetune", size=size, seed=seed, tuned_on=tuned_on)
        for model, size, seed, tuned_on in places
    ]
    if name == "distance":
        runs = [SimpleNamespace(model=model, method="pretrained") for model in suite.models]
    results = SimpleNamespace(
        suite=suite,
        draws=41,
        groups={},
        seen=lambda kind: [
            SimpleNamespace(name=kind.name, run=run, values=values)
            for run in runs
            if (values := found(run)) is not None
        ],
        estimates=SimpleNamespace(
            ri=lambda group, tuned_on: Estimate(ri(group[0], group[2], tuned_on), np.full(41, 0.0))
        ),
        changes=[
            Change(short(model), "finetune", size, short(one), short(other), "downstream", Interval(change, 0, 0))
            for model, size in itertools.product(suite.models, block.sizes)
            for one, other in itertools.permutations(suite.downstream, 2)
            for change in [-float(abs(suite.downstream.index(one) - suite.downstream.index(other)))]
        ],
    )
    taken = study.taken(suite)
    numbers = StudyNumbers(results, taken, study.cohorts(taken))  # type: ignore[arg-type]
    contrasts: list[Contrast] = study.contrasts(numbers)
    panels = study.panels(numbers)
    assert all(len(line.spans) == len(panel.ticks) for panel in panels for line in panel.lines)
    return {(one.family, one.says): one.interval for one in contrasts}


SCALE = ("small", "medium", "large")


def scale(model: str) -> int:
    return next(rank for rank, word in enumerate(SCALE) if word in model)


def alike(run: Any) -> dict[str, Any]:
    """Four layers: the first two are one third, and only the last one moves; by how much, depends on the set too."""
    moved = 0.1 * scale(run.model) + 0.01 * place(run.tuned_on)
    return {"layers": list("abcd"), "diagonal": [1.0, 0.9, 0.8, 0.7 - moved]}


def place(tuned_on: str) -> int:
    return load_suite("digits-studies").downstream.index(tuned_on)


def test_similarity_by_hand() -> None:
    found = asked("similarity", alike, lambda model, size, tuned_on: -float(scale(model) + place(tuned_on)))
    for family in ("resnet", "vit"):
        assert found[family, "1 − CKA: largest minus smallest pretraining set"].value == pytest.approx(100 * 0.2 / 4)
        assert found[family, "1 − CKA: late minus early layers"].value == pytest.approx(100 * (0.43 - 0.05))
        together = found[family, "100 × rank correlation of 1 − CKA and RI"]
        assert together.value == pytest.approx(-100)
        assert together.p == pytest.approx(2 / 5040)  # no other order of the seven sets does as well


def test_models_that_differ_in_both_do_not_make_a_correlation() -> None:
    """1 − CKA and RI go together over models and not over the sets of a model."""
    mixed = [2, 0, 5, 1, 6, 3, 4]
    found = asked("similarity", alike, lambda model, size, tuned_on: mixed[place(tuned_on)] - 10.0 * scale(model))
    together = found["resnet", "100 × rank correlation of 1 − CKA and RI"]
    assert abs(together.value) < 60
    assert not together.excludes_zero


def test_similarity_has_no_number_over_a_hole() -> None:
    def some(run: Any) -> dict[str, Any] | None:
        return None if (run.model, run.tuned_on) == ("digits:resnet_large_2", "digits:sketch") else alike(run)

    found = asked("similarity", some, lambda model, size, tuned_on: -float(place(tuned_on)))
    assert {interval for (family, _), interval in found.items() if family == "resnet"} == {None}
    assert None not in {interval for (family, _), interval in found.items() if family == "vit"}
    silent = asked("similarity", lambda run: alike(run) | {"diagonal": [1.0, None, 0.8, 0.7]})
    assert set(silent.values()) == {None}


def test_forgetting_by_hand() -> None:
    def parts(run: Any) -> dict[str, Any]:
        """The set tuned on gains, and must not be counted."""
        sets = ["digits:v2", "digits:sketch", "digits:cartoon"]
        off = [50.0 if name == run.tuned_on else -6.0 for name in sets]
        lists = {"together": off, "by_head": off, "by_features": off, "probe": [value / 3 for value in off]}
        return {"sets": sets} | {name: [[value, value, value] for value in found] for name, found in lists.items()}

    found = asked("forgetting", parts)
    assert [interval.value for interval in found.values()] == pytest.approx([4.0, 4.0])


@pytest.mark.parametrize(("sign", "expected"), [(1, 100), (-1, -100)])
def test_distance_by_hand(sign: int, expected: float) -> None:
    """Loss is how many places two sets are apart; distances go with it, in another unit for each model."""

    def apart(run: Any) -> dict[str, Any]:
        sets = load_suite("digits-studies").downstream
        unit = 10.0 ** scale(run.model)
        matrix = [[unit * (10 + sign * abs(a - b)) for b in range(len(sets))] for a in range(len(sets))]
        return {"sets": list(sets)} | dict.fromkeys(("frechet", "mmd", "otdd"), matrix)

    found = asked("distance", apart)
    assert [interval.value for interval in found.values()] == pytest.approx([expected] * 6)
    lacking = asked("distance", lambda run: None if run.model == "digits:vit_small" else apart(run))
    assert {family for (family, _), interval in lacking.items() if interval is None} == {"vit"}


def test_each_study_says_what_its_intervals_hold() -> None:
    """Words beside the kind of interval that the study has in fact."""
    held = {name: find_study(name, load_suite("digits-studies")).intervals for name in ("size", *INSIDE)}
    assert "source images, tuning seeds and pretraining seeds add up" in held["size"]
    assert "It covers no images" in " ".join(held["similarity"].split())
    assert "It covers no images" in " ".join(held["forgetting"].split())
    assert "neither images nor seeds" in held["distance"]
    together = asked("forgetting", _parts)
    assert {interval.kind for interval in together.values()} == {"seeds"}


INSIDE = ("similarity", "distance", "forgetting")


def _parts(run: Any) -> dict[str, Any]:
    sets = ["digits:v2", "digits:sketch"]
    moved = -1.0 - len(run.model)  # a replicate's name is longer
    lists = {"together": moved, "by_head": moved, "by_features": moved, "probe": moved / 2}
    return {"sets": sets} | {name: [[value] * 3] * 2 for name, value in lists.items()}
