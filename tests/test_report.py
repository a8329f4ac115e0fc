"""The report, on made-up records of a real plan."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from rich.console import Console

from helpers import PATIENCE
from rib.analysis.cka import CKA
from rib.analysis.connectivity import Connectivity
from rib.analysis.distance import Distance
from rib.analysis.drift import Drift
from rib.analysis.forgetting import Forgetting
from rib.analysis.statistics import StatisticsShare
from rib.errors import DamagedError, UserError
from rib.metrics.intervals import Interval, gated, tail
from rib.plan import make_plan
from rib.report.figure_data import figure_data
from rib.report.figures import write_figures
from rib.report.headline import headline
from rib.report.latex import latex, write_latex
from rib.report.matrix import ri_matrix
from rib.report.page import duration, unpacked, write_page
from rib.report.parquet import write_parquet
from rib.report.plotting import apart, slug
from rib.report.results_json import results_json
from rib.results.finding import finding
from rib.results.results import Results
from rib.results.rows import main_size
from rib.results.words import marks, signed
from rib.steps import Compare, Predict, Step
from rib.store.record import pack_bits
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.training.predict import Predictions

CLASSES = ("a", "b", "c", "d")
SETS = ("clean", "sketch", "paint", "foggy", "tiny")
GAIN = {"finetune": -9.0, "linear_probe": -1.0, "wise_ft": 1.5, "lp_ft": -4.0, "l2_sp": -3.0, "lwf": -2.0, "soup": 0.5}


def made_up(
    folder: Path,
    *,
    models: Sequence[str] = ("small", "large"),
    runs: Sequence[dict[str, Any]] = ({"methods": ["finetune", "linear_probe", "wise_ft"]},),
    sets: Sequence[str] = SETS,
    images: int = 160,
    seeds: Sequence[int] = (0,),
    lost: Callable[[Step], bool] = lambda step: False,
    **fields: Any,
) -> Results:
    """Results of a real plan whose records are made up: a skill for each model and set, moved by the method.

    The last of `sets` is evaluation-only, the first the reference; the others are tuned on.
    """
    document = {
        "name": "made-up",
        "note": "These numbers are made up.",
        "reference": sets[0],
        "downstream": list(sets[1:-1]),
        "evaluate": [sets[-1]],
        "models": list(models),
        "seeds": list(seeds),
        "runs": list(runs),
        "data": {name: _data(folder, name, images) for name in sets},
        "model": {
            name: {"build": "rib.models.small:small_resnet", "size": 28, "pretrain": {"seed": place}}
            for place, name in enumerate(models)
        },
    }
    suite = parse_suite(document | fields).based_at(folder)
    store = Store(folder / "store")
    plan = make_plan(suite, store.facts)
    for step in plan.steps:
        if lost(step):
            store.write_failure(step.key, "training diverged, loss nan\ntry a lower learning rate")
        else:
            _record(store, plan.world, step)
    return Results(plan, store, draws=300)


def _data(folder: Path, name: str, images: int) -> dict[str, Any]:
    generator = np.random.default_rng(list(name.encode()))
    labels = np.arange(images) % len(CLASSES)
    file = f"set-{name.encode().hex()}.npz"
    np.savez(folder / file, images=generator.integers(0, 255, (images, 8, 8), np.uint8), labels=labels)
    return {"arrays": file, "classes": list(CLASSES), "test_fraction": 0.5}


LAYERS = ["stem", "blocks.0", "blocks.1", "input of head"]


def looked(step: Compare) -> dict[str, Any]:
    """What an analysis would have found: the more, the more the method costs; another number for every tuned set."""
    fit = step.after or step.before
    seen = fit.tuned_on
    strength = -GAIN.get(fit.method.name, 0.0) / 10 * (1 + (sum(map(ord, seen.name)) % 5) / 20 if seen else 1)
    fallen = [1 - abs(strength) * place / 4 for place in range(4)]
    match step.analysis:
        case CKA():
            matrix = [[value if row == column else 0.1 for column in range(4)] for row, value in enumerate(fallen)]
            return {"images": 80, "layers": LAYERS, "matrix": matrix, "diagonal": fallen, "mean": sum(fallen) / 4}
        case Drift():
            return {
                "layers": LAYERS,
                "change": [1 - value for value in fallen],
                "group_names": ["early", "middle", "late", "head"],
                "group_change": [1 - value for value in fallen],
                "kind_names": ["conv", "head"],
                "kind_change": [0.1, None],
                "total": abs(strength),
            }
        case Connectivity():
            return {"alphas": [0.0, 0.5, 1.0], "accuracy": [60.0, 50.0, 58.0], "loss": [1.0, 2.0, 1.1], "barrier": 9.0}
        case Distance():
            sets = list(step.on)
            apart = [[abs(sum(map(ord, a)) - sum(map(ord, b))) / 100 for b in sets] for a in sets]
            return {"sets": sets, "frechet": apart, "mmd": apart}
        case Forgetting():
            parts = {
                part: [[strength * scale, -1.0, 1.0] for _ in step.on]
                for part, scale in (("together", -9), ("by_head", -2), ("by_features", -8), ("probe", -3))
            }
            return {"sets": list(step.on), "reading": ["mis-read"] * len(step.on), **parts}
        case StatisticsShare():
            cost = 4.0 + len(step.on[0])
            accuracy = {"before": 70.0, "weights": 69.0, "statistics": 70.0 - cost, "after": 69.0 - cost}
            return {"images": 9, "accuracy": accuracy, "change": -1 - cost, "of_weights": -1.0, "of_statistics": -cost}
    return {}


def _record(store: Store, world: Any, step: Step) -> None:
    if not isinstance(step, Predict):
        store.write(step, looked(step) if isinstance(step, Compare) else {}, 2.0, 500, "cpu")
        return
    index = world[step.data.name].index("test")
    right = _right(step, len(index))
    numbers = np.full(len(index), 0.5, np.float32)
    classes = np.where(right, index.labels, (index.labels + 1) % len(CLASSES)).astype(np.int16)
    predictions = Predictions(classes, numbers, numbers, numbers, right, classes, numbers, right)
    columns = {
        "example": np.arange(len(index), dtype=np.int32),
        "source": index.sources,
        "label": index.labels.astype(np.int16),
        "cell": np.full(len(index), -1, np.int16),
    }
    store.write_predictions(step.key, predictions, columns)
    bits = pack_bits(right)
    wrong = 1 - float(right.mean())
    calibration = {"ece": 20 * wrong, "nll": 2 * wrong, "brier": wrong}
    values = {"examples": len(index), "masked_right": bits, "unmasked_right": bits, **calibration}
    store.write(step, values, 0.5, len(index), "cpu")


def _right(step: Predict, count: int) -> np.ndarray[Any, Any]:
    """bool (count,): the easiest images first, as many as the step's skill says."""
    fit = step.fit
    place = sum(map(ord, step.data.name)) % 7
    skill = 72.0 - 6 * place - 3 * sum(map(ord, fit.start.model)) % 11
    seen = fit.tuned_on
    if seen is not None:
        size = next((f.size for f in (fit, *fit.ingredients) if f.size is not None), 400)
        gain = GAIN.get(fit.method.name, -5.0) * (1 + 0.2 * (place % 3))
        skill += 12.0 if seen.name == step.data.name else gain * min(1, size / 200)
        skill += (sum(map(ord, seen.name)) % 5 - 2) * 0.8
    difficulty = np.random.default_rng(list(step.data.name.encode())).uniform(0, 100, count)
    noise = np.random.default_rng(list(f"{step.title} {fit.seed}".encode())).normal(0, 4, count)
    return difficulty + noise < skill


LOOKS = {"names": ["cka", "distance"], "methods": ["linear_probe"]}


def lost_probe(step: Step) -> bool:
    """One linear probe has failed, and everything that needs it is missing."""
    return step.title.startswith("linear_probe small on paint")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return made_up(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return made_up(tmp_path_factory.mktemp("broken"), lost=lost_probe)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Several sizes and seeds, a sweep, and names that a page must not take for markup."""
    return made_up(
        tmp_path_factory.mktemp("varied"),
        models=("<script>alert(1)</script>", "b&w $x_1$"),
        sets=("clean", "<img src=x>", "paint", "foggy", "tiny"),
        runs=(
            {"methods": ["finetune", "wise_ft", "linear_probe"]},
            {"methods": ["finetune", "wise_ft"], "sizes": [20, 40]},
        ),
        method={"wise_ft": {"sweep": {"alpha": [0.25, 0.75]}}},
        analyses=({"names": ["cka", "drift", "connectivity", "forgetting"], "methods": ["finetune"]}, LOOKS),
        seeds=(0, 1),
        note="</script><script>alert(2)</script> {{ 7 * 7 }}",
    )


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return made_up(tmp_path_factory.mktemp("untuned"), runs=())


def printed(renderable: Any, width: int) -> list[str]:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().splitlines()


# -- terminal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("name", ["whole", "broken", "varied", "untuned"])
def test_no_line_is_wider_than_the_terminal(name: str, width: int, request: pytest.FixtureRequest) -> None:
    results = request.getfixturevalue(name)
    lines = printed(headline(results, width), width)
    assert lines
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [80, 160])
def test_headline_has_the_numbers_in_line(whole: Results, width: int) -> None:
    lines = printed(headline(whole, width), width)
    tuned = [row for row in whole.summaries if row.method != "pretrained"]
    shown = [line for line in lines if re.match(r"  (finetune|linear_probe|wise_ft) .*→", line)]
    assert len(shown) == len(tuned) == 6
    for row, line in zip(tuned, shown, strict=True):
        assert row.mri is not None
        assert row.ood_after is not None
        assert f"{row.ood_before.value:.1f} → {row.ood_after.value:.1f}" in line  # type: ignore[union-attr]
        assert signed(row.mri.value) in line
        assert ("≈" in line) == (not row.mri.marked)
        assert f"→ {row.own_after.value:.1f}" in line  # type: ignore[union-attr]
    assert len({line.index("→") for line in shown}) == 1
    assert len({line.index("[") for line in shown}) == 1
    assert len({line.index("]") for line in shown}) == 1


def test_only_a_wide_terminal_gets_every_column(whole: Results) -> None:
    narrow, wide = ("\n".join(printed(headline(whole, width), width)) for width in (80, 160))
    assert "●" in wide
    assert "mRI - finetune's" in wide
    assert "mRI - finetune's" not in narrow


def test_a_missing_cell_prints_as_missing_and_no_mean_runs_over_it(broken: Results) -> None:
    text = "\n".join(printed(headline(broken, 160), 160))
    row = next(line for line in text.splitlines() if line.startswith("  linear_probe"))
    assert row.count("missing") >= 2
    assert "failed: linear_probe small on paint and 5 more steps: training diverged, loss nan" in text
    assert "missing: small linear_probe: paint → " in text
    assert "Of the rows that are complete:" in text


def test_the_note_and_the_legend_are_shown(whole: Results) -> None:
    text = " ".join(" ".join(printed(headline(whole, 80), 80)).split())
    assert "These numbers are made up." in text
    assert "95 % interval over source images, paired. Marks test all rows together." in text


def test_one_seed_is_drawn_differently_and_marks_no_difference(tmp_path: Path) -> None:
    """In table, page, LaTeX, JSON and figures; with three seeds nothing of it is left."""
    for seeds in ((0,), (0, 1, 2)):
        folder = tmp_path / str(len(seeds))
        folder.mkdir()
        results = made_up(folder, seeds=seeds)
        alone = len(seeds) == 1
        table = "\n".join(printed(headline(results, 160), 160))
        write_page(results, tmp_path / "page.html")
        write_latex(results, tmp_path / "table.tex")
        page, tex = ((tmp_path / name).read_text("utf-8") for name in ("page.html", "table.tex"))
        rows = [row for row in results_json(results)["summaries"] if row["method"] != "pretrained"]
        assert ("mRI, points [95 %]°" in table, "┄" in table, "one draw of the tuning seeds" in table) == (alone,) * 3
        assert ('class="interval lacking' in page, "95 %]°" in page) == (alone,) * 2
        assert ("mRI [95\\,\\%]$^{\\circ}$" in tex) == alone
        assert {row["mri"]["kind"] for row in rows} == {"images only" if alone else "images and seeds"}
        assert {tuple(row["mri"]["lacks"]) for row in rows} == {("tuning seeds",) if alone else ()}
        assert figure_data(results).lacking == alone
        compared = [row["against_finetune"] for row in rows if row["against_finetune"]]
        assert [each["adjusted"] is None for each in compared] == [alone] * len(compared)
        marked = {mark for row in results.summaries for mark in marks(row)} & {"▲", "▼"}
        assert bool(marked) != alone


def test_marks_of_a_table_are_two_families(whole: Results) -> None:
    """Holm over finetune of both models at 4 %, over the other rows at 1 %, or at 5 % if the other family is clear.
    Worked out from the p values that JSON gives."""
    families = [
        [row.mri for row in whole.summaries if row.mri and (row.method == "finetune") == first]
        for first in (True, False)
    ]
    assert [len(rows) for rows in families] == [2, 4]
    clear = [all(p <= level for p in holm_of(rows)) for rows, level in zip(families, (0.04, 0.01), strict=True)]
    for rows, level, other in zip(families, (0.04, 0.01), reversed(clear), strict=True):
        for row, p in zip(rows, holm_of(rows), strict=True):
            assert row.adjusted is not None
            assert (row.adjusted <= 0.05) == (p <= (0.05 if other else level))


def holm_of(rows: list[Interval]) -> list[float]:
    """Adjusted p values, by the definition: the largest of the products up to a p value's rank."""
    order = sorted(row.p or 0.0 for row in rows)
    return [
        max(min(1.0, (len(rows) - rank) * p) for rank, p in enumerate(order) if p <= (row.p or 0.0)) for row in rows
    ]


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ((0.015, 0.03, 0.002, 0.03), (0.0375, 0.0375, 0.02, 0.0375)),  # all of the first at 4 %: the second at 5 %
        ((0.03, 0.041, 0.002, 0.03), (0.075, 0.075, 0.02, 0.075)),  # neither: 4 % and 1 %
        ((0.024, 0.045, 0.004, 0.009), (0.048, 0.048, 0.04, 0.045)),  # all of the second at 1 %: the first at 5 %
        ((0.9, 0.8, 0.002, 0.03), (1.0, 1.0, 0.02, 0.15)),  # an unclear first row does not silence a clear other one
    ],
)
def test_each_family_has_its_part_of_the_level_and_passes_it_on(
    p_values: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """By hand: Holm within (a, a) and (b, b), then min(a / 0.8, max(a, largest b / 0.2)) and the reverse."""
    found = gated([Interval(-1, -2, -0.1, p=p) for p in p_values], [True, True, False, False])
    assert [each.adjusted for each in found if each] == pytest.approx(expected)


def test_one_family_alone_has_the_whole_level() -> None:
    for first in (True, False):
        found = gated([Interval(-1, -2, -0.1, p=p) for p in (0.01, 0.04)], [first, first])
        assert [each.adjusted for each in found if each] == pytest.approx([0.02, 0.04])
    assert gated([None, Interval(0, -1, 1)], [True, False]) == [None, Interval(0, -1, 1)]


def test_two_families_together_are_wrong_no_more_often_than_one() -> None:
    """Four first rows and twelve others, which share half of their noise: all truly 0, then only the others, then only
    the first."""
    generator, wrong = np.random.default_rng(5), [0, 0, 0]
    null = (slice(0, 16), slice(4, 16), slice(0, 4))
    for _ in range(2000):
        noise = generator.standard_normal(16) + generator.standard_normal()
        for case, truly in enumerate(null):
            values = np.full(16, 8.0)
            values[truly] = 0
            values = (noise + values) / 2**0.5
            listed = [Interval(v, v - 1.96, v + 1.96, p=2 * tail(abs(v), 1.0, 1e9)) for v in values.tolist()]
            found = gated(listed, [at < 4 for at in range(16)])
            wrong[case] += any(each is not None and each.marked for each in found[truly])
    assert all(count < 2000 * 0.05 + 3 * (2000 * 0.05 * 0.95) ** 0.5 for count in wrong), wrong
    assert all(count > 0 for count in wrong)


def test_matrix_sets_the_own_set_apart(whole: Results) -> None:
    text = printed(ri_matrix(whole, "small", "finetune", None, 120), 120)
    rows = [line for line in text if re.match(r"(sketch|paint|foggy) ", line)]
    assert len(rows) == 3
    assert all(line.count("(") == 1 for line in rows)
    ri = next(row for row in whole.summaries if (row.model, row.method) == ("small", "finetune")).ri
    assert all(signed(ri[line.split()[0]].value) == line.split()[-1] for line in rows)  # type: ignore[union-attr]


def test_matrix_folds_into_blocks_where_it_does_not_fit(whole: Results) -> None:
    text = printed(ri_matrix(whole, "small", "finetune", None, 44), 44)
    assert all(cell_len(line) <= 44 for line in text)
    assert sum(line.startswith("sketch ") for line in text) > 1


# -- the finding ---------------------------------------------------------------------------------------------------


def test_finding_names_the_best_method_with_its_interval(whole: Results) -> None:
    said = finding(whole)
    assert said.startswith("finetune gained +")
    assert "At matched gain wise_ft kept most on both models" in said
    assert re.search(r"points \([+-]\d+\.\d to [+-]\d+\.\d\)", said)


def test_finding_of_one_model_says_what_is_not_distinguishable(tmp_path: Path) -> None:
    runs = [{"methods": ["finetune", "wise_ft", "wise_again"]}]
    method = {"wise_again": {"kind": "wise_ft", "alpha": 0.51}}
    said = finding(made_up(tmp_path, models=["small"], runs=runs, method=method, seeds=(0, 1, 2)))
    assert re.match(
        r"finetune gained \+\d+\.\d points on the set tuned on and lost \d+\.\d elsewhere, on small\.", said
    )
    assert re.search(r"Of the 3 methods that gained as much as any, wise_\w+ kept most elsewhere", said)
    assert "not distinguishable from wise_" in said


def test_finding_where_the_best_method_differs(tmp_path: Path) -> None:
    runs = [{"methods": ["finetune"], "models": ["small"]}, {"methods": ["finetune", "wise_ft"], "models": ["large"]}]
    said = finding(made_up(tmp_path, runs=runs))
    assert said.startswith("finetune gained +")
    assert "Only large has several methods to compare at matched gain. Of the 2 methods" in said
    assert "wise_ft kept most elsewhere" in said


def test_finding_claims_nothing_without_records(tmp_path: Path) -> None:
    results = made_up(tmp_path, lost=lambda step: True)
    assert finding(results).startswith("Nothing is measured yet: 0 of ")
    assert "missing" in "\n".join(printed(headline(results, 80), 80))


def test_without_tuned_models_the_starts_are_shown(untuned: Results) -> None:
    text = "\n".join(printed(headline(untuned, 80), 80))
    assert "starts with the highest mean OOD accuracy" in text
    score = next(score for score in untuned.scores if (score.model, score.tested_on) == ("large", "foggy"))
    assert f"{score.masked:.1f}" in next(line for line in text.splitlines() if line.startswith("large"))


def test_main_size_is_the_one_with_most_methods(varied: Results) -> None:
    assert main_size(varied.summaries) is None
    assert main_size(row for row in varied.summaries if row.size is not None) == 40


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.25, "+1.2"), (-0.04, "0.0"), (-0.06, "-0.1"), (float("nan"), "missing"), (0.0, "+0.0"), (-0.0, "+0.0")],
)
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text


# -- plain values --------------------------------------------------------------------------------------------------


def test_json_round_trips(broken: Results) -> None:
    document = results_json(broken)
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
    found = json.loads(json.dumps(document))
    assert len(found["summaries"]) == len(broken.summaries)
    assert len(found["scores"]) == len(broken.scores)
    assert any(change["change"] is None for change in found["changes"])
    assert found["provenance"]["suite"]["name"] == "made-up"
    assert found["provenance"]["bootstrap"]["draws"] == 300
    assert found["provenance"]["cost"]["Predict"]["steps"] > 0
    assert len(found["failures"]) == len(found["unfinished"]) > 0


def test_figure_data_marks_the_front_and_leaves_holes(broken: Results) -> None:
    data = figure_data(broken)
    place = data.comparisons[0].methods.index("linear_probe")
    assert data.comparisons[0].mri[place][0] is None
    assert data.comparisons[0].mri[place][1] is not None
    assert {point.method for point in data.tradeoffs[0].points} == {"pretrained", "finetune", "wise_ft"}
    assert any(point.front for point in data.tradeoffs[0].points)
    assert not data.curves


def test_sweeps_are_shades_of_one_colour(varied: Results) -> None:
    data = figure_data(varied)
    assert len({style.colour for style in data.methods}) == len(data.methods)
    assert data.curves[0].sizes == ["20", "40", "all"]
    assert "linear_probe" not in data.curves[0].methods


# -- files ---------------------------------------------------------------------------------------------------------


def test_parquet_has_a_row_for_every_example(broken: Results, tmp_path: Path) -> None:
    write_parquet(broken, tmp_path)
    table = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    counted = {
        (score.model, score.method, score.tuned_on, score.tested_on): score
        for score in broken.scores
        if score.masked is not None
    }
    found: dict[Any, list[bool]] = {}
    for row in table:
        place = (row["model"], row["method"], row["tuned_on"], row["tested_on"])
        found.setdefault(place, []).append(row["masked_right"])
    assert set(found) == set(counted)
    for place, right in found.items():
        assert len(right) == counted[place].examples
        assert 100 * np.mean(right) == pytest.approx(counted[place].masked)
    assert {row["cell"] for row in table} == {None}
    scores = pq.read_table(tmp_path / "scores.parquet")
    assert len(scores) == len(broken.scores)
    assert scores["masked"].null_count == len(broken.scores) - len(counted)
    summaries = pq.read_table(tmp_path / "summaries.parquet").to_pylist()
    assert summaries[1]["mri_low"] <= summaries[1]["mri"] <= summaries[1]["mri_high"]
    assert len(pq.read_table(tmp_path / "changes.parquet")) == len(broken.changes)
    assert len(pq.read_table(tmp_path / "ri.parquet")) == 6 * 3


@pytest.mark.parametrize("most", [50, 1 << 18])
def test_predictions_are_the_stored_rows_in_the_order_of_the_runs(
    broken: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """However many rows are written at once, and though the columns of examples are read once for each set."""
    for module in ("parquet", "prediction_table"):
        monkeypatch.setattr(f"rib.report.{module}.ROWS", most)
    write_parquet(broken, tmp_path)
    rows = iter(pq.read_table(tmp_path / "predictions.parquet").to_pylist())
    for run in broken.plan.runs:
        group = {"model": run.model, "method": run.method, "size": run.size, "seed": run.seed, "tuned_on": run.tuned_on}
        for name, predict in run.predictions:
            if predict.key not in broken.records:
                continue
            names, place = broken.plan.world[name].names("test"), {"tested_on": name, "role": broken.role(run, name)}
            for row in broken.store.predictions(predict.key).to_pylist():
                assert next(rows) == group | place | row | {"name": names[row["example"]], "cell": None}
    assert next(rows, None) is None


def test_parquet_names_lost_predictions_and_the_way_out(tmp_path: Path) -> None:
    results = made_up(tmp_path, models=["small"], runs=[])
    key = results.plan.runs[0].scores["paint"].key
    results.store.predictions_path(key).unlink()
    with pytest.raises(DamagedError, match=f"{key}.parquet is damaged: it is gone\n.*rib store verify --repair"):
        write_parquet(results, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_latex_is_well_formed(varied: Results, broken: Results, tmp_path: Path) -> None:
    for results in (varied, broken):
        write_latex(results, tmp_path / "table.tex")
        text = (tmp_path / "table.tex").read_text()
        body = text[text.index("\\toprule") : text.index("\\bottomrule")]
        columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])  # type: ignore[index]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {columns - 1}
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}")
        assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert "missing" in text


def test_latex_escapes() -> None:
    assert latex("a_b & 50% $x$ {y} \\") == r"a\_b \& 50\% \$x\$ \{y\} \textbackslash{}"


def test_figures_are_files_and_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = [{"methods": ["finetune", "wise_ft"]}, {"methods": ["finetune"], "sizes": [20]}]
    results = made_up(tmp_path, models=["$x_1$"], runs=runs)
    once, again = (write_figures(results, tmp_path / name, ("pdf",)) for name in ("a", "b"))
    kinds = ("accuracy", "mri", "change_-x_1-", "tradeoff")
    names = {f"{kind}_n{size}.pdf" for kind in kinds for size in ("20", "all")}
    assert {path.name for path in once} == names | {"sizes.pdf"}
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]


@pytest.mark.parametrize(("what", "first"), [("tables", "predictions.parquet"), ("figures", "accuracy.pdf .png")])
def test_a_report_names_each_file_that_it_wrote(
    whole: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, first: str
) -> None:
    from rib.cli.output import write_folder

    if what == "figures":
        pytest.importorskip("matplotlib")
    write_folder(whole, tmp_path / what, what)
    said = capsys.readouterr().err
    there = sorted(path.name for path in (tmp_path / what).iterdir())
    assert f"{what}: {len(there)} files in {tmp_path / what}: {first}" in said
    assert all(name.rpartition(".")[0] in said for name in there)


def test_figures_without_tuned_models(untuned: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert [path.name for path in write_figures(untuned, tmp_path, ("png",))] == ["accuracy.png"]


def test_figures_say_what_to_install(whole: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'rib-benchmark\[figures\]'"):
        write_figures(whole, tmp_path)


# -- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(varied: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "deep" / "page.html"
    write_page(varied, path)
    return path


def own_text(path: Path) -> str:
    """The page with its own scripts and data unpacked, and without the library inside it."""
    text = path.read_text("utf-8")
    return text + unpacked(text, "script") + unpacked(text, "figures")


def test_page_loads_nothing_from_elsewhere(page: Path) -> None:
    text = own_text(page)
    assert not re.search(r"""(src|action|url)\s*[=(]\s*["']?\s*(https?:)?//""", text)
    assert {*re.findall(r'<(\w+)[^<>]*href="https?:', text)} == {"a"}, "a link is followed only by a reader"
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert page.stat().st_size < 2.6e6, "so that the page of digits, with 1.5 MB of data, stays below 3 MB"


def test_page_escapes_what_the_user_wrote(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<script>alert" not in text
    assert not re.search(r'<img (?!class="strip" src="data:image/jpeg;base64,)', text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert json.loads(unpacked(text, "figures"))["models"][0]["name"] == "<script>alert(1)</script>"


def test_page_says_what_is_missing(broken: Results, tmp_path: Path) -> None:
    write_page(broken, tmp_path / "page.html")
    text = own_text(tmp_path / "page.html")
    assert "Missing and failed" in text
    assert "training diverged, loss nan" in text
    assert '<em class="missing">missing</em>' in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.04, "3.0 s"), (59.97, "1 min"), (90, "2 min"), (3600, "1 h 0 min"), (7261, "2 h 1 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
@pytest.mark.parametrize("name", ["varied", "broken", "untuned"])
def test_page_in_a_browser(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    write_page(request.getfixturevalue(name), tmp_path / "page.html")
    trouble: list[str] = []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS), timeout=1000 * PATIENCE)
        view = browser.new_page(viewport={"width": 390, "height": 844})
        view.set_default_timeout(1000 * PATIENCE)
        view.on("console", lambda message: trouble.append(message.text))
        view.on("pageerror", lambda error: trouble.append(str(error)))
        view.on("request", lambda sent: trouble.append(sent.url) if sent.url.startswith("http") else None)
        view.goto((tmp_path / "page.html").as_uri())
        view.wait_for_selector("#accuracy .main-svg")
        for width in (390, 1600):
            view.set_viewport_size({"width": width, "height": 900})
            view.wait_for_timeout(200)
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            assert view.evaluate(CUT_OFF) == []
        before = view.evaluate("getComputedStyle(document.body).backgroundColor")
        view.click("#theme")
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") != before
        if name != "untuned":
            check_sorting(view)
            check_selectors(view)
            check_panels(view)
        browser.close()
    assert not trouble


CUT_OFF = """
[...document.querySelectorAll(".figure")].filter((figure) => figure._fullLayout).flatMap((figure) =>
  figure._fullData.flatMap((trace) =>
    ["x", "y"].flatMap((letter) => {
      const own = (trace[letter + "axis"] || letter).slice(1);
      const axis = figure._fullLayout[letter + "axis" + own], error = trace["error_" + letter] || {};
      const alone = trace.type === "bar" && figure._fullData.length === 1;
      const half = alone && (trace.orientation === "h") === (letter === "y") ? 0.37 : 0;
      if (!axis || !["scatter", "bar"].includes(trace.type) || !trace[letter]) return [];
      const [low, high] = [...axis.range].sort((a, b) => a - b), room = 1e-9 * (high - low);
      return [...trace[letter]].flatMap((value, at) => {
        if (value === null || !Number.isFinite(Number(value))) return [];
        const up = (error.array || [])[at] || 0, down = (error.arrayminus || error.array || [])[at] || 0;
        const [from, to] = [Number(value) - down - half, Number(value) + up + half];
        const inside = from >= low - room && to <= high + room;
        return inside ? [] : [[figure.closest("section").id, letter, from, to, low, high]];
      });
    }),
  ),
)
"""
"""Ends of bars and of error bars that lie outside the range of their axis, with the section that they are in."""


def check_sorting(view: Any) -> None:
    """The mRI column sorts both ways and back, rows without a number last."""
    script = "[...document.querySelectorAll('.sortable tbody tr')].map((row) => row.dataset.mri)"
    orders = [view.evaluate(script)]
    for _ in range(3):
        view.click(".sortable thead button[data-key=mri]")
        orders.append(view.evaluate(script))
    known = [sorted((float(value) for value in order if value), reverse=True) for order in orders]
    assert [float(value) for value in orders[1] if value] == known[0]
    assert [float(value) for value in orders[2] if value] == known[0][::-1]
    assert orders[3] == orders[0]
    holes = orders[0].count("")
    assert all(order[len(order) - holes :] == [""] * holes for order in orders[1:3])


def check_selectors(view: Any) -> None:
    """Another method gives another matrix."""
    script = "document.querySelector('#matrix .figure').data[0].z.flat().join()"
    before = view.evaluate(script)
    chosen = view.evaluate("[...document.querySelector('#matrix select[name=method]').options].at(-1).value")
    view.select_option("#matrix select[name=method]", chosen)
    assert view.evaluate(script) != before


def check_panels(view: Any) -> None:
    """Every panel draws when it is opened, also for another choice; a signature says on focus what it means."""
    view.evaluate("document.querySelectorAll('.panel > details').forEach((fold) => { fold.open = true; })")
    view.wait_for_timeout(300)
    for panel in view.query_selector_all(".panel"):
        for select in panel.query_selector_all("select"):
            if select.is_visible():
                select.select_option(index=select.evaluate("(list) => list.options.length - 1"))
        name = panel.get_attribute("id")
        assert view.evaluate(f"document.querySelector('#{name} .figure').data.length") > 0, name
    assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not view.is_visible(".tip")
    view.focus(".sign")
    assert view.is_visible(".tip")


def test_steps_that_failed_for_one_reason_are_told_once() -> None:
    from rib.results.failures import alike

    failures = {"a": "no room", "b": "too fast", "c": "a failed: no room", "d": "b failed: a failed: no room"}
    found = alike(failures)
    assert [(one.titles, one.reason) for one in found] == [(("a", "c", "d"), "no room"), (("b",), "too fast")]
    assert [one.who for one in found] == ["a and 2 more steps", "b"]


def test_figures_of_names_that_one_file_would_have_are_told_apart() -> None:
    names = [
        "change_ResNet",
        "change_resnet",
        "change_a:b",
        "change_a-b",
        "change_resnet_2",
        "change_CAFÉ",
        "change_café",
    ]
    found = [name for name, _ in apart((slug(name), None) for name in names)]  # type: ignore[misc]
    assert found[:1] == ["change_ResNet"]
    assert len({name.casefold() for name in found}) == len(names)
    assert found == [name for name, _ in apart((slug(name), None) for name in names)]  # type: ignore[misc]


def test_the_file_of_a_figure_has_a_name_that_fits() -> None:
    """A name may have 200 characters, and a character four bytes; two that begin alike stay apart."""
    names = ["漢" * 199, "漢" * 198 + "字", "👩" * 200, "plain"]
    found = [slug(f"change_{name}_n200") for name in names]
    assert all(len(name.encode()) < 200 for name in found)
    assert len(set(found)) == len(names)
    assert found[-1] == "change_plain_n200"
