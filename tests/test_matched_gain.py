"""Matched gain: what a method keeps at the gain of plain fine-tuning, by hand and on every surface."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from handmade import handmade
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval
from rib.report.figure_data import figure_data
from rib.report.headline import headline
from rib.report.matched_gain import note, sign
from rib.report.page import write_page
from rib.report.results_json import results_json
from rib.results.matched_gain import (
    CurvePoint,
    CurveReading,
    MatchedGain,
    by_strength,
    lost_per_point,
    matched_gains,
    read_curve,
)
from rib.results.results import Results
from rib.steps import Predict

SETS = {"clean": "abcd", "one": "abcd", "two": "abcd"}
START = 50

Curve = Mapping[str, tuple[float | Mapping[str, float], float]]
"""Gain on the set tuned on (of all classes or of each) and change elsewhere, by method."""

CURVE: Curve = {
    "finetune": (20, -10),
    "wise alpha=0.25": (10, -1),
    "wise alpha=0.5": (16, -3),
    "wise alpha=0.75": (24, -9),
    "pulled strength=0.1": (20, -4),
    "pulled strength=10": (4, 0),
    "linear_probe": (8, 0),
    "lp_ft": (32, -12),
    "lwf": (20, -6),
}
METHOD: dict[str, Any] = {
    "wise": {"kind": "wise_ft", "sweep": {"alpha": [0.25, 0.5, 0.75]}},
    "pulled": {"kind": "l2_sp", "sweep": {"strength": [0.1, 10.0]}},
}


def made(folder: Path, curve: Curve = CURVE, **fields: Any) -> Results:
    def skill(step: Predict) -> float | Mapping[str, float]:
        fit, method = step.fit, step.fit.method
        if method.name == "pretrained":
            return START
        label = {
            "wise_ft": f"wise alpha={getattr(method, 'alpha', 0):g}",
            "l2_sp": f"pulled strength={getattr(method, 'strength', 0):g}",
        }.get(method.name, method.name)
        gain, change = curve[label]
        moved = gain if fit.tuned_on and fit.tuned_on.name == step.data.name else change
        return START + moved if isinstance(moved, int | float) else {name: START + by for name, by in moved.items()}

    methods = ["finetune", "wise", "pulled", "linear_probe", "lp_ft", "lwf"]
    fields = {"sets": SETS, "seeds": (0, 1), "methods": methods, "method": METHOD, "per_class": 200} | fields
    return handmade(folder, skill, **fields)


def rows(results: Results) -> dict[str, MatchedGain]:
    return {row.method: row for row in matched_gains(results)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return made(tmp_path_factory.mktemp("matched"))


def test_a_sweep_is_read_where_it_gains_as_much_as_fine_tuning(results: Results) -> None:
    """Half of the way from (16, -3) to (24, -9)."""
    row = rows(results)["wise"]
    assert (row.reach, row.field, row.between) == ("reached", "alpha", ("wise alpha=0.5", "wise alpha=0.75"))
    assert row.target.value == pytest.approx(20)
    assert row.mri is not None
    assert row.mri.value == pytest.approx(-6)
    assert row.against_finetune is not None
    assert row.against_finetune.value == pytest.approx(4)
    assert [point.value for point in row.points] == [0.25, 0.5, 0.75]


def test_a_strength_that_holds_back_is_followed_from_its_strong_end(results: Results) -> None:
    row = rows(results)["pulled"]
    assert [point.value for point in row.points] == [10, 0.1]
    assert row.mri is not None
    assert row.mri.value == pytest.approx(-4)


def test_a_method_that_never_gains_as_much_says_so(results: Results) -> None:
    row = rows(results)["linear_probe"]
    assert row.reach == "never"
    assert row.mri is None
    assert row.against_finetune is None
    assert note(row) == "never reaches it: gains +8.0 at most"


def test_a_method_of_one_strength_is_compared_only_where_it_gained_as_much(results: Results) -> None:
    found = rows(results)
    assert found["lp_ft"].reach == "beyond"
    assert note(found["lp_ft"]) == "gains +32.0 at its one strength: sweep it"
    lwf = found["lwf"]
    assert (lwf.reach, lwf.between) == ("reached", ("lwf",))
    assert lwf.against_finetune is not None
    assert lwf.against_finetune.value == pytest.approx(4)


def test_below_the_weakest_strength_the_line_comes_from_the_pretrained_model(tmp_path: Path) -> None:
    curve = dict(CURVE) | {"wise alpha=0.25": (40, -4), "wise alpha=0.5": (44, -8), "wise alpha=0.75": (48, -9)}
    row = rows(made(tmp_path, curve))["wise"]
    assert row.between == ("pretrained", "wise alpha=0.25")
    assert row.mri is not None
    assert row.mri.value == pytest.approx(-2)


def test_a_curve_that_falls_short_by_less_than_the_noise_is_read_at_its_top(tmp_path: Path) -> None:
    """One image of 40 less: (17.5, -10) lies on a line through the pretrained model that has -10 · 20 / 17.5 at 20."""
    short = {"a": 10.0, "b": 20.0, "c": 20.0, "d": 20.0}
    curve = dict(CURVE) | {"wise alpha=0.5": (short, -10), "wise alpha=0.75": (10, -20)}
    row = rows(made(tmp_path, curve, per_class=10))["wise"]
    assert row.reach == "reached"
    assert row.most is not None
    assert row.most.value == pytest.approx(17.5)
    assert row.mri is not None
    assert row.mri.value == pytest.approx(-10 / 17.5 * 20)


def test_the_interval_holds_the_noise_of_the_gains(tmp_path: Path) -> None:
    """The same mRIs, read where the curve is steep and where it is flat."""
    wide, narrow = (
        rows(made(folder, dict(CURVE) | {"wise alpha=0.5": (19, low), "wise alpha=0.75": (21, high)}))["wise"].mri
        for folder, low, high in ((tmp_path / "a", -1, -21), (tmp_path / "b", -11, -11))
        if folder.mkdir() is None
    )
    assert wide is not None
    assert narrow is not None
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_curve_through_fine_tuning_itself_does_not_differ_from_it(tmp_path: Path) -> None:
    row = rows(made(tmp_path, dict(CURVE) | {"wise alpha=0.75": CURVE["finetune"]}))["wise"]
    assert row.against_finetune is not None
    assert (row.against_finetune.value, row.against_finetune.low, row.against_finetune.high) == (0, 0, 0)


def test_without_a_gain_of_fine_tuning_there_is_no_row_and_it_is_said(tmp_path: Path) -> None:
    results = made(tmp_path, dict.fromkeys(CURVE, (0, 0)))
    assert matched_gains(results) == []
    console = Console(width=200, record=True)
    console.print(headline(results, 200))
    assert "not compared at the gain of finetune: it shows none" in console.export_text()


def test_points_lost_for_each_point_gained(results: Results) -> None:
    found = rows(results)
    lost = [point.lost_per_point for point in found["wise"].points]
    assert [round(each.value, 6) for each in lost if each] == [0.1, 0.1875, 0.375]
    assert all(each and each.low <= each.value <= each.high for each in lost)


def draw(seed: int, means: tuple[float, float], count: int = 400) -> tuple[Estimate, Estimate]:
    noise = np.random.default_rng(seed).multivariate_normal(means, [[1.0, 0.5], [0.5, 1.0]], count)
    return Estimate(float(noise[:, 0].mean()), noise[:, 0]), Estimate(float(noise[:, 1].mean()), noise[:, 1])


def test_fiellers_interval_is_where_the_difference_is_not_distinguishable_from_none() -> None:
    """At each end mRI + r · gain just touches 0, by its own standard error."""
    lost, gained = draw(1, (-6.0, 12.0))
    found = lost_per_point(lost, gained)
    assert found is not None
    assert found.value == pytest.approx(0.5, abs=0.02)
    t = max(
        (each.high - each.low) / 2 / each.se
        for each in (lost.interval(), gained.interval(), (lost - gained).interval())
        if each.se
    )
    for end in (found.low, found.high):
        summed = lost.draws + end * gained.draws
        assert abs(lost.value + end * gained.value) / summed.std() == pytest.approx(t, rel=1e-6)


def test_a_gain_that_may_be_none_has_no_ratio() -> None:
    lost, gained = draw(2, (-6.0, 0.5))
    assert lost_per_point(lost, gained) is None


def test_marks_say_whether_they_hold_for_all_rows(results: Results) -> None:
    against = rows(results)["wise"].against_finetune
    assert against is not None
    assert against.adjusted is not None
    assert against.p is not None
    assert against.adjusted >= against.p
    assert sign(against) in ("▲", "△", "")


def test_every_surface_shows_it(results: Results, tmp_path: Path) -> None:
    console = Console(width=120, record=True)
    console.print(headline(results, 120))
    text = console.export_text()
    assert "At the gain of finetune (+20.0 points)" in text
    assert re.search(r"wise \(alpha\) +0\.3[78] +-6\.0 \[", text)
    assert re.search(r"linear_probe .*never reaches it: gains \+8\.0 at most", text)
    (wise, *_) = (row for row in results_json(results)["matched_gain"] if row["method"] == "wise")
    assert wise["against_finetune"]["value"] == pytest.approx(4)
    assert [point["value"] for point in wise["points"]] == [0.25, 0.5, 0.75]
    write_page(results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    section = page.partition('<section id="matched"')[2].partition("</section>")[0]
    assert "never reaches it: gains +8.0 at most" in section
    (figure,) = figure_data(results).tradeoffs
    assert figure.paths[0] == ["pretrained", "wise alpha=0.25", "wise alpha=0.5", "wise alpha=0.75"]


def readings(repetitions: int) -> tuple[int, int, int]:
    """How many of the intervals hold -6 (mRI at the gain), 4 (the difference) and 0.5 (points lost for each gained).

    300 images of the set tuned on and of another: the same images and resamples for fine-tuning (+20, -10) and two
    strengths (+16, -3) and (+24, -9).
    """
    generator, count, draws = np.random.default_rng(0), 300, 400
    held = np.zeros(3, int)
    for _ in range(repetitions):
        latent, sample = generator.random((2, count)), generator.integers(0, count, (2, draws, count))

        def moved(side: int, by: float, latent: Any = latent, sample: Any = sample) -> Estimate:
            own = np.where(generator.random(count) < 0.3, generator.random(count), latent[side])  # answers of its own
            change = 100 * ((own < 0.5 + by / 100).astype(float) - (latent[side] < 0.5))
            return Estimate(float(change.mean()), change[sample[side]].mean(axis=1))

        base, weak, strong = (
            CurvePoint(name, value, moved(0, gain), moved(1, change))
            for name, value, gain, change in (("finetune", None, 20, -10), ("a", 0.5, 16, -3), ("b", 0.75, 24, -9))
        )
        mri, ratio = read_curve(base, by_strength([weak, strong])).mri, lost_per_point(base.mri, base.gain)
        assert mri is not None
        assert ratio is not None
        spans = (mri.interval(), (mri - base.mri).interval(), ratio)
        held += [span.low <= truth <= span.high for span, truth in zip(spans, (-6, 4, 0.5), strict=True)]
    at_gain, difference, lost = held.tolist()
    return at_gain, difference, lost


def test_intervals_at_matched_gain_hold_the_truth() -> None:
    """95 of 100: fewer than 88 have a probability of 0.2 % each."""
    assert min(readings(100)) >= 88


@dataclass(frozen=True)
class Noisy:
    """An estimate with a wide interval, in place of one made of predictions: only value and half length matter here."""

    value: float
    half: float

    def __sub__(self, other: Noisy) -> Noisy:
        return Noisy(self.value - other.value, self.half + other.half)

    def interval(self) -> Interval:
        return Interval(self.value, self.value - self.half, self.value + self.half)


def test_a_line_is_not_extended_from_a_small_and_uncertain_gain() -> None:
    """From a gain of 0.3 to one of 3 the line would be ten times as long, and mRI of -2 would become -20."""

    def point(gain: float, half: float) -> CurvePoint:
        return CurvePoint("ema", None, cast(Estimate, Noisy(gain, half)), cast(Estimate, Noisy(-2.0, 1.0)))

    assert read_curve(point(3.0, 2.0), [point(0.3, 4.0)]) == CurveReading("uncertain")
    assert read_curve(point(3.0, 2.0), [point(0.3, 0.1)]) == CurveReading("never")
    assert read_curve(point(3.0, 4.0), [point(3.0, 4.0)]) == CurveReading("idle")
