"""Studies: all of them on a tiny world; their arithmetic by hand; growing tuning sets; what is refused."""

from __future__ import annotations

import copy
import html
import io
import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import rib
from helpers import WHOLE, classifier, command, document, examples, model_row, same_weights
from rib.data.examples import Examples
from rib.errors import UserError
from rib.methods.curriculum import Curriculum
from rib.metrics.estimates import Estimate
from rib.metrics.intervals import Interval
from rib.metrics.missing import interval_of, minus
from rib.models.catalogue import ModelRow
from rib.models.weights import take_weights
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.report.answer_text import answer_lines
from rib.results.answer import Contrast, as_one_family, power, verdict
from rib.results.results import Results
from rib.steps import How
from rib.store.store import Store
from rib.studies import ORDER, find_study, names
from rib.studies.cohorts import cohorts
from rib.studies.numbers import StudyNumbers
from rib.suite.load import load_suite, parse_suite
from rib.suite.suite import Suite
from rib.training.loop import train
from rib.training.schedule import prefixes
from rib.training.training import Training

ALONE = How(workers=1)
SIZES = [6, 12]
"""The first in one step and the second in two."""

WAYS = (
    ("supervised", "little", 100, 0),
    ("supervised", "much", 900, 0),
    ("supervised", "much", 900, 1),
    ("simclr", "little", 100, 0),
)
"""Objective, pretraining set, its images, seed of the tiny world's models."""


def base(folder: Path, **fields: Any) -> Suite:
    """A suite of four models, one of them a replicate, ready for every study."""
    rows = {}
    for at, (objective, pretraining, images, seed) in enumerate(WAYS):
        row = model_row(folder, "resnet", at)
        facts = {"objective": objective, "pretraining": pretraining, "pretraining_images": images}
        rows[f"m{at}"] = row | facts | {"family": "resnet", "pretraining_seed": seed}
    given = {
        "models": list(rows),
        "model": rows,
        "runs": [{"methods": ["finetune", "wise_ft"], "sizes": SIZES}],
        "method": {"best_rate": {"rates": [0.001, 0.01]}},
        "recipe": {"epochs": 1, "batch_size": 6, "lr": 0.01},
    }
    return parse_suite(document(folder) | given | fields).based_at(folder)


def with_pair(suite: Suite) -> Suite:
    """With two more models: one row's weights with a new head, without and with a stage on the reference set."""
    recipe = {"epochs": 1, "batch_size": 8, "lr": 0.01}
    row = suite.model["m0"].model_dump(exclude_none=True) | {"head": "new", "pretraining_seed": None}
    rows = {
        "plain": row | {"reference": {"probe": recipe}},
        "staged": row | {"reference": {"probe": recipe, "finetune": recipe}, "pretraining": "small, staged"},
    }
    made = {name: ModelRow.model_validate(fields) for name, fields in rows.items()}
    changed = {"model": {**suite.model, **made}, "models": (*suite.models, *made)}
    return suite.model_copy(update=changed).based_at(suite.base)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store all studies share."""
    return tmp_path_factory.mktemp("studies")


def test_studies_are_found_and_listed_in_order() -> None:
    assert tuple(names()[: len(ORDER)]) == ORDER


CHOICES = {
    "architecture": {"methods": ["adapter", "l2_sp", "wise_ft"], "sizes": [12], "models": ["m[01]"]},
    "remedies": {"methods": ["finetune", "lines", "linear_probe"], "sizes": [12], "models": ["m[01]"]},
    "trajectory": {"sizes": [12], "models": ["m0"]},
}
"""What the studies that have many runs take here."""


@pytest.mark.parametrize("name", names())
def test_every_study_runs(name: str, place: Path) -> None:
    # a correlation needs the six pairs of three sets
    fields = {"study": {name: CHOICES[name]}} if name in CHOICES else {}
    suite = base(place, downstream=["whole", "part", "other"], **fields)
    if name == "stage":
        suite = with_pair(suite)
    studied = rib.study(name, suite=suite, store=place / "store", how=ALONE)
    assert studied.complete
    assert rib.study(name, suite=suite, store=place / "store", how=ALONE).outcome.done == 0
    answer = studied.answer
    assert answer.study == name
    assert answer.contrasts
    assert answer.panels
    assert answer.limits
    assert all(one.claimed in ("above", "below") and one.says for one in answer.contrasts)
    assert all(len(line.spans) == len(panel.ticks) for panel in answer.panels for line in panel.lines)
    shown = [span for panel in answer.panels for line in panel.lines for span in line.spans if span]
    assert shown
    assert all(span.low <= span.high for span in shown)
    assert json.loads(json.dumps(studied.to_json()))["verdict"] == answer.verdict
    for width in (80, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(answer_lines(answer, width))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert answer.question.split()[0] in text
    page = place / f"{name}.html"
    studied.page(page)
    assert answer.claim in html.unescape(page.read_text("utf-8")).replace("−", "-")


def test_an_answer_says_what_is_wrong_with_data_and_models(place: Path) -> None:
    suite = base(place)
    studied = rib.study("rate", suite=suite, store=place / "store", how=ALONE)
    studied.results.__dict__["caveats"] = ("clean: half of its images are missing",)  # cached
    answer = find_study("rate", suite).answer(studied.results)
    console = Console(width=120, file=io.StringIO())
    console.print(answer_lines(answer, 120))
    assert "data: clean: half of its images are missing" in console.file.getvalue()  # type: ignore[attr-defined]
    studied.page(place / "caveat.html")
    assert "half of its images are missing" in (place / "caveat.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["map", "rate"])
def test_figures_are_written(name: str, place: Path) -> None:
    studied = rib.study(name, suite=base(place), store=place / "store", how=ALONE)
    assert [path.name for path in studied.figures(place / "figures")] == [f"{name}.pdf", f"{name}.png"]


def test_studies_share_their_steps(tmp_path: Path) -> None:
    suite = base(tmp_path)
    keys = {name: {step.key for step in make_plan(find_study(name, suite).suite(suite)).steps} for name in ORDER}
    assert keys["map"] < keys["size"]
    assert keys["map"] == keys["pretraining"]
    everything = make_plan(suite)
    assert keys["methods"] <= {step.key for step in everything.steps}
    assert {step.key for step in everything.steps if "finetune" in step.title} <= keys["size"]


def test_a_suite_says_what_a_study_takes(tmp_path: Path) -> None:
    choice = {"map": {"sizes": [12, 6, "all"], "models": ["m[01]"], "seeds": [3]}}
    derived = find_study("map", base(tmp_path)).suite(base(tmp_path, study=choice))
    assert (derived.models, derived.seeds, derived.runs[0].sizes) == (("m0", "m1"), (3,), (6, 12, "all"))
    assert derived.evaluate == ()


# -- answers by hand -----------------------------------------------------------------------------------------------


def asked(
    name: str, mri: Callable[[str, str, int], float | None], noise: float = 0.1, suite: Suite | None = None
) -> Any:
    """The answer of a study to made-up mRIs, with draws that lie evenly within ± noise."""
    study = find_study(name, load_suite("digits-studies"))
    derived = study.suite(suite or load_suite("digits-studies"))
    groups: dict[Any, Any] = {}
    for block in derived.runs:
        for model in derived.models:
            groups |= {(model, method, size): [] for method in block.methods for size in block.sizes}
    order = dict.fromkeys(method for _, method, _ in groups)

    def found(group: tuple[str, str, int], kind: str = "masked") -> Estimate | None:
        value = mri(*group)
        return None if value is None else Estimate(value, value + np.linspace(-noise, noise, 41))

    results = SimpleNamespace(
        suite=derived,
        groups=groups,
        estimates=SimpleNamespace(mri=found),
        notes=[],
        summaries=[],
        plan=SimpleNamespace(runs=[SimpleNamespace(method=method) for method in order]),
    )
    taken = study.taken(derived)
    numbers = StudyNumbers(results, taken, study.cohorts(taken))  # type: ignore[arg-type]
    return numbers, study.contrasts(numbers), study.panels(numbers)


SCALE = {"small": 0, "varied": 1, "medium": 2, "narrow": 3, "large": 4}


def scale(model: str) -> int:
    return next(rank for word, rank in SCALE.items() if word in model)


CLAIMED: dict[str, Callable[[str, str, int], float]] = {
    "size": lambda model, method, size: -10 + size / 100,
    "pretraining": lambda model, method, size: -float(scale(model)),
    "map": lambda model, method, size: -5 * (scale(model) == 4 and size == 50) - scale(model) * 10 / size,
    "objective": lambda model, method, size: -float(scale(model)) * (1 + ("clr" in model) + ("unicl" in model)) - 1,
    "rate": lambda model, method, size: -1 - float(scale(model)),
    "methods": lambda model, method, size: 0 if method == "finetune" else 3,
    "curriculum": lambda model, method, size: -2 if method == "finetune" else -1,
}
"""For each study numbers that are just as it claims."""


@pytest.mark.parametrize("name", ORDER)
def test_verdicts(name: str) -> None:
    claimed = CLAIMED[name]
    assert verdict(asked(name, claimed)[1]) == "shown"
    assert verdict(asked(name, lambda *group: -claimed(*group))[1]) == "reversed"
    assert verdict(asked(name, lambda *group: 0.0)[1]) == "not shown"
    assert verdict(asked(name, lambda *group: None if "small_1" in group[0] else 0.0)[1]) in ("incomplete", "not shown")


def values(contrasts: list[Contrast]) -> dict[tuple[str, str], float]:
    return {(one.family, one.says): round(one.interval.value, 6) for one in contrasts if one.interval}


def test_size_by_hand() -> None:
    def mri(model: str, method: str, size: int) -> float:
        return (100 if "steps" in method else 1) * {50: -4.0, 200: -2.0}.get(size, -1.0)

    _, contrasts, panels = asked("size", mri)
    for family in ("resnet", "vit"):
        assert values(contrasts)[family, "10 epochs: n = 50 minus n = 1,000"] == -3
        assert values(contrasts)[family, "70 steps: n = 50 minus n = 1,000"] == -300
    fixed = next(panel for panel in panels if panel.title == "vit, 70 steps")
    assert fixed.ticks == ("50", "200", "1,000")
    assert [[span.value for span in line.spans if span] for line in fixed.lines] == [[-400, -2, -100]] * 3
    assert [(line.name, line.rank) for line in fixed.lines] == [("small", 0), ("medium", 1), ("large", 2)]


def test_size_and_diversity_are_told_apart() -> None:
    given = {"small": 0.0, "varied": -1.0, "narrow": -2.0, "large": -7.0, "medium": 50.0}

    def mri(model: str, method: str, size: int) -> float:
        return next(value for word, value in given.items() if word in model)

    found = values(asked("pretraining", mri)[1])
    assert found["resnet", "large minus small"] == -7
    assert found["resnet", "size alone, at equal diversity"] == (-2 - 6) / 2
    assert found["resnet", "diversity alone, at equal size"] == (-1 - 5) / 2
    assert ("vit", "size alone, at equal diversity") not in found


def test_the_map_by_hand() -> None:
    corner = -15.0

    def mri(model: str, method: str, size: int) -> float:
        return corner if "large" in model and size == 50 else -1.0

    found = values(asked("map", mri)[1])
    assert found["vit", "the corner minus the rest of the map"] == -14
    assert found["vit", "largest minus smallest pretraining set: at n = 50 minus at n = 1,000"] == -14


def test_pretraining_seeds_make_a_t_interval() -> None:
    """Of 50, 53 and 56, whose standard error is the root of 3: 53 ± 4.303 of it."""

    def mri(model: str, method: str, size: int) -> float:
        return {"0": 0.0, "1": 3.0, "2": 6.0}.get(model[-1], 0.0) + size

    numbers, contrasts, _ = asked("size", mri, noise=0.0)
    small, *_, large = numbers.families["resnet"]
    spread = interval_of(numbers.mri(small, "finetune", 50))
    half = 4.302653 * 3**0.5
    assert (spread.value, spread.low, spread.high) == pytest.approx((53, 53 - half, 53 + half))
    paired = interval_of(minus(numbers.mri(small, "finetune", 50), numbers.mri(small, "finetune", 200)))
    assert paired == Interval(-150, -150, -150)  # the same models at both sizes
    apart = interval_of(minus(numbers.mri(small, "finetune", 50), numbers.mri(large, "finetune", 50)))
    assert apart.low < 0 < apart.high  # other models: another draw
    assert apart.se == pytest.approx(6**0.5)
    assert contrasts[0].interval is not None
    assert contrasts[0].interval.low == contrasts[0].interval.high


def test_verdict_of_a_contrast() -> None:
    def one(low: float, high: float) -> Contrast:
        return Contrast("", "x", "below", Interval((low + high) / 2, low, high))

    assert [one(*ends).verdict for ends in ((-2, -1), (1, 2), (-1, 1), (-1, 0))] == [
        "shown", "reversed", "not shown", "not shown",
    ]  # fmt: skip
    assert verdict([one(-2, -1), one(1, 2)]) == "not shown"
    assert verdict([one(-2, -1), Contrast("", "x", "below", None)]) == "incomplete"
    lacking = Contrast("", "x", "below", Interval(-2, -3, -1, lacks=("pretraining seeds",)))
    assert (lacking.verdict, lacking.alone) == ("not shown", "not shown")


def test_a_contrast_is_tested_among_all_and_a_claim_needs_each() -> None:
    """p 0.03 and 0.04: neither is shown among two, both together show the claim; p 0.01 is shown among two."""
    both = as_one_family([Contrast("", "x", "above", Interval(1, 0.1, 2, p=p)) for p in (0.03, 0.04)])
    assert [one.verdict for one in both] == ["not shown"] * 2
    assert verdict(both) == "shown"
    clear = as_one_family([Contrast("", "x", "above", Interval(1, 0.1, 2, p=p)) for p in (0.01, 0.04)])
    assert [one.verdict for one in clear] == ["shown", "shown"]
    untested = Interval(1, 0.1, 2, lacks=("tuning seeds",), p=0.0)
    few = as_one_family([*both, Contrast("", "y", "above", untested)])
    assert [one.interval.adjusted for one in few if one.interval] == [0.06, 0.06, None]
    assert verdict(few) == "not shown"


def test_power_is_said_of_what_can_be_tested() -> None:
    """With an infinite number of degrees of freedom, 1.96 + 0.84 standard errors."""
    one = Contrast("vit", "x", "above", Interval(1, 0.1, 2, se=1.0))
    assert "truly 2.8 or more" in power([one])
    wide = Contrast("vit", "y", "above", Interval(1, 0.1, 2, se=2.0))
    assert "truly 2.8 to 5.6 (the largest: vit y)" in power([one, wide])
    assert not power([Contrast("", "x", "above", None), Contrast("", "x", "above", Interval(1, 1, 1, lacks=("x",)))])


def test_models_without_a_seed_stand_alone() -> None:
    suite = load_suite("imagenet_sizes")
    found = cohorts(suite.models, {})
    assert [one.models for one in found] == [(name,) for name in suite.models]
    derived = find_study("map", suite).suite(suite)
    assert derived.runs[0].downstream == ("imagenet:train_120k",)
    assert "imagenet:vit_l16_in21k_augreg" not in derived.models  # alone of its family


# -- growing tuning sets -------------------------------------------------------------------------------------------

TEN = Recipe(epochs=6, batch_size=5, lr=0.03, warmup_fraction=0.1)


def trained(stages: tuple[float, ...], checkpoint: Any = None) -> tuple[dict[str, Any], list[list[int]]]:
    """Weights after training on 20 examples of four classes, and the rows of every batch."""
    seen: list[list[int]] = []

    class Watched(Examples):
        def batch(self, chosen: Any) -> Any:
            seen.append(chosen.tolist())
            return super().batch(chosen)

    pool, net = examples(20), classifier("resnet")
    train(
        net,
        Training(Watched(pool.images, pool.index, pool.rows), WHOLE, TEN, seed=3, stages=stages),
        checkpoint=checkpoint,
    )
    return dict(take_weights(net.net)), seen


def test_the_last_stage_alone_is_fine_tuning() -> None:
    plain, _ = trained((1.0,))
    net = classifier("resnet")
    train(net, Training(examples(20), WHOLE, TEN, seed=3))
    assert same_weights(plain, take_weights(net.net))
    assert Curriculum(shares=(1.0,)).stages() == (1.0,)


def test_a_curriculum_takes_as_many_steps_and_ends_on_the_whole() -> None:
    _, plain = trained((1.0,))
    _, grown = trained((0.1, 0.4, 1.0))
    assert [len(batch) for batch in grown] == [len(batch) for batch in plain]
    third = len(grown) // 3
    stages = [set(itertools.chain(*grown[at * third : (at + 1) * third])) for at in range(3)]
    assert stages == [set(range(4)), set(range(8)), set(range(20))]  # 0.1 of 20 is less than one a class
    counts = np.bincount(list(itertools.chain(*grown[:third])))
    assert counts.max() - counts.min() <= 2  # two epochs of rounds that are cut off at most once each


def test_prefixes_hold_every_class() -> None:
    labels = np.array([2, 0, 1] * 30)
    assert prefixes(labels, (0.01, 0.2, 1.0)) == (3, 18, 90)


def test_a_curriculum_goes_on_where_it_was_stopped() -> None:
    whole, _ = trained((0.1, 0.4, 1.0))

    class Kept:
        state: Any = None

        def load(self) -> Any:
            return self.state

        def save(self, state: Callable[[], Any]) -> None:
            self.state = copy.deepcopy(state())
            if self.state["epoch"] == 3:
                raise KeyboardInterrupt

    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        trained((0.1, 0.4, 1.0), kept)
    assert same_weights(trained((0.1, 0.4, 1.0), kept)[0], whole)


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0), (1.0, 0.5)])
def test_shares_grow_to_the_whole(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        Curriculum(shares=shares)


# -- what is refused -----------------------------------------------------------------------------------------------


def retold(suite: Suite, changes: dict[str, dict[str, Any]]) -> Suite:
    """The suite with other facts about some of its models."""
    rows = {name: row.model_copy(update=changes.get(name, {})) for name, row in suite.model.items()}
    return suite.model_copy(update={"model": rows}).based_at(suite.base)


UNKNOWN = {"pretraining": "", "pretraining_images": None}


@pytest.mark.parametrize("name", ["pretraining", "map", "similarity", "objective"])
def test_models_whose_pretraining_is_not_declared_are_not_compared(name: str, tmp_path: Path) -> None:
    """Two nets of one family, in either order: which of them was shown more is not known."""
    suite = base(tmp_path)
    unknown = retold(suite, {model: UNKNOWN | {"pretraining_seed": None} for model in suite.models})
    for order in (suite.models, suite.models[::-1]):
        listed = unknown.model_copy(update={"models": order}).based_at(tmp_path)
        with pytest.raises(UserError, match=r"different pretraining sets|with another pretraining"):
            find_study(name, listed).suite(listed)


@pytest.mark.parametrize(
    ("fact", "value"), [("family", ""), ("pretraining", ""), ("pretraining_images", None), ("pretraining_images", 100)]
)
def test_one_fact_that_is_missing_or_equal_is_enough_to_refuse(fact: str, value: Any, tmp_path: Path) -> None:
    suite = retold(base(tmp_path), {model: {fact: value} for model in ("m1", "m2")})
    chosen = suite.model_copy(update={"models": ("m0", "m1", "m2")}).based_at(tmp_path)
    for name in ("pretraining", "map"):
        with pytest.raises(UserError, match="different pretraining sets"):
            find_study(name, chosen).suite(chosen)


def test_an_objective_that_is_not_declared_is_none(tmp_path: Path) -> None:
    suite = retold(base(tmp_path), {"m3": {"objective": ""}})
    with pytest.raises(UserError, match="with another pretraining"):
        find_study("objective", suite).suite(suite)


def test_two_spellings_of_one_objective_are_refused(tmp_path: Path) -> None:
    suite = retold(base(tmp_path), {"m3": {"objective": "Supervised"}})
    with pytest.raises(UserError, match="differ in case alone"):
        find_study("objective", suite).suite(suite)


def test_those_that_are_not_declared_are_left_out_of_the_rest(tmp_path: Path) -> None:
    suite = retold(base(tmp_path), {"m3": UNKNOWN})
    assert find_study("map", suite).suite(suite).models == ("m0", "m1", "m2")


@given(st.permutations(load_suite("digits-studies").models))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", ["pretraining", "map", "objective", "rate"])
def test_the_order_of_models_changes_no_number(name: str, order: list[str]) -> None:
    def mri(model: str, method: str, size: int) -> float:
        return zlib.crc32(f"{model} {method} {size}".encode()) / 2**32

    suite = load_suite("digits-studies")

    def found(listed: Suite) -> list[tuple[Any, ...]]:
        contrasts = asked(name, mri, suite=listed)[1]
        spans = [(one.interval.value, one.interval.low, one.interval.high) for one in contrasts]
        numbers = [tuple(round(number, 9) for number in span) for span in spans]
        return sorted((one.family, one.says, *span) for one, span in zip(contrasts, numbers, strict=True))

    assert found(suite.model_copy(update={"models": tuple(order)}).based_at(suite.base)) == found(suite)


def test_unknown_studies(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'size'"):
        rib.study("sizes", suite=base(tmp_path), store=tmp_path / "store")
    with pytest.raises(UserError, match="did you mean 'map'"):
        find_study("size", base(tmp_path, study={"mapp": {}}))
    with pytest.raises(UserError, match="matches none of the models"):
        base(tmp_path, study={"map": {"models": ["vit_*"]}})


def test_the_command_names_the_nearest_study(tmp_path: Path) -> None:
    found = command("study", "size", "curiculum", cwd=tmp_path)
    assert found.returncode == 2
    assert "did you mean 'curriculum'" in found.stderr
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("map", {"runs": [{"methods": ["finetune"], "sizes": [6]}]}, "at least 2 sizes"),
        ("size", {"runs": [{"methods": ["finetune"]}]}, "at least 2 sizes"),
        ("map", {"study": {"map": {"models": ["m[12]"]}}}, "different pretraining sets"),
        ("pretraining", {"study": {"pretraining": {"models": ["m0"]}}}, "different pretraining sets"),
        ("objective", {"study": {"objective": {"models": ["m[012]"]}}}, "with another pretraining"),
        ("methods", {"runs": [{"methods": ["finetune"], "sizes": [6]}]}, "no method but finetune"),
        ("rate", {"runs": []}, "at least 1 size"),
    ],
)
def test_a_suite_with_too_little_to_ask(name: str, fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    suite = base(tmp_path, **fields)
    with pytest.raises(UserError, match=words):
        find_study(name, suite).suite(suite)


def test_what_is_missing_is_not_averaged_over(place: Path) -> None:
    suite = base(place)
    study = find_study("curriculum", suite)
    answer = study.answer(Results(make_plan(study.suite(suite)), Store(place / "empty")))
    assert answer.verdict == "incomplete"
    assert answer.missing
