"""Analyses in a suite: planned, done, recorded once, refused where they make no sense."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from rib.analysis import Analysis, Scene, Values
from rib.errors import StepError, UserError
from rib.execute.run import RunOutcome, execute
from rib.plan import Plan, make_plan, missing
from rib.results.results import Results
from rib.steps import Compare, How
from rib.store.store import Store
from rib.suite.load import parse_suite


def _images(scene: Scene) -> dict[str, int]:
    return {name: len(seen.examples) for name, seen in scene.data.items()}


class Moved(Analysis):
    """How many tensors moved by more than `least`, and what there was to look at."""

    name = "moved"
    least: float = 0.0

    def look(self, scene: Scene) -> Values:
        moved = [key for key in scene.before if float((scene.after[key] - scene.before[key]).abs().max()) > self.least]
        scene.watch(sum(_images(scene).values()))
        return {"moved": len(moved), "images": _images(scene)}


class Together(Moved):
    """The same, of all data sets in one step."""

    name = "together"
    on = "tested"
    together = True


class Bare(Moved):
    """Of weights alone."""

    name = "bare"
    on = "nothing"


class Alone(Moved):
    """Of the pretrained model alone."""

    name = "alone"
    of_pair = False
    on = "tested"
    together = True


class Refuses(Moved):
    """Sees nothing."""

    name = "refuses"

    def look(self, scene: Scene) -> Values:
        raise StepError("too few images to look at")


OWN: Mapping[str, dict[str, Any]] = {
    kind.name: {"kind": f"{__name__}:{kind.__name__}"} for kind in (Moved, Together, Bare, Alone, Refuses)
}
"""The analyses above, as a suite names a user's own."""

RUNS = ({"methods": ["finetune", "linear_probe"], "sizes": [10]}, {"methods": ["wise_ft"]})


def planned(folder: Path, *analyses: dict[str, Any], models: Sequence[str] = ("resnet",), **fields: Any) -> Plan:
    """The plan of a tiny suite with these blocks of analyses."""
    given: dict[str, Any] = {"runs": list(RUNS), "analyses": list(analyses), "analysis": dict(OWN)} | fields
    return make_plan(tiny(folder, models, **given))


def seen(plan: Plan) -> set[tuple[str | None, ...]]:
    """Name, method, tuned set, and the data sets of every look."""
    return {(look.name, look.run.method, look.run.tuned_on, *look.on) for look in plan.looks}


def do(plan: Plan, store: Store, **how: Any) -> RunOutcome:
    return execute(plan, store, How(workers=1, **how))


# -- planning ----------------------------------------------------------------------------------------------------------


def test_an_analysis_looks_at_every_tuned_model_on_the_reference(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"names": ["moved"]})
    methods, sets = ("finetune", "linear_probe", "wise_ft"), ("whole", "part")
    assert seen(plan) == {("moved", method, tuned, "clean") for method in methods for tuned in sets}
    steps = [step for step in plan.steps if isinstance(step, Compare)]
    assert len(steps) == len(plan.looks) == 6
    assert all(step.after is not None and step.before.method.name == "pretrained" for step in steps)
    places = {step.key: place for place, step in enumerate(plan.steps)}
    assert all(places[need.key] < places[step.key] for step in steps for need in step.needs)


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({"methods": ["finetune"]}, 4),
        ({"sizes": [10]}, 8),
        ({"sizes": ["all"]}, 4),
        ({"models": ["vit"]}, 6),
        ({"downstream": ["part"]}, 6),
        ({"seeds": [0]}, 12),
        ({"methods": ["finetune", "wise_ft"], "models": ["vit"], "downstream": ["whole"]}, 2),
    ],
)
def test_a_block_chooses_among_the_runs(chosen: dict[str, Any], count: int, tmp_path: Path) -> None:
    assert len(planned(tmp_path, {"names": ["moved"]} | chosen, models=("resnet", "vit")).looks) == count


def test_one_step_a_data_set_or_one_for_all_of_them(tmp_path: Path) -> None:
    on = ["clean", "whole", "other"]
    chosen = {"on": on, "methods": ["finetune"], "downstream": ["part"]}
    each = planned(tmp_path, {"names": ["moved"]} | chosen, evaluate=["other"])
    assert seen(each) == {("moved", "finetune", "part", name) for name in on}
    whole = planned(tmp_path, {"names": ["together"]} | chosen, evaluate=["other"])
    assert [look.on for look in whole.looks] == [tuple(on)]
    bare = planned(tmp_path, {"names": ["bare"]} | chosen, evaluate=["other"])
    assert [(look.on, look.step.data) for look in bare.looks] == [((), ())]


def test_a_tuned_set_without_images_of_its_own_is_left_out(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"names": ["together"], "methods": ["finetune"]})
    assert {look.run.tuned_on: look.on for look in plan.looks} == dict.fromkeys(
        ("whole", "part"), ("whole", "part", "clean")
    )
    rows = plan.suite.model_dump(mode="json", exclude_none=True)
    del rows["data"]["whole"]["test_fraction"]  # its images are all tuned on
    again = make_plan(parse_suite(rows).based_at(tmp_path))
    assert {look.run.tuned_on: look.on for look in again.looks} == {
        "whole": ("part", "clean"),
        "part": ("whole", "part", "clean"),
    }


def test_pretrained_models_are_looked_at_once(tmp_path: Path) -> None:
    block = {"names": ["alone"], "methods": ["finetune"], "sizes": [10]}
    plan = planned(tmp_path, block, {"names": ["alone"]}, models=("resnet", "vit"))
    assert [(look.run.model, look.run.method) for look in plan.looks] == [
        ("resnet", "pretrained"),
        ("vit", "pretrained"),
    ]
    assert all(look.step.after is None and len(look.step.needs) == 1 for look in plan.looks)


def test_blocks_that_overlap_share_their_steps(tmp_path: Path) -> None:
    twice = planned(tmp_path, {"names": ["moved"]}, {"names": ["moved", "again"], "methods": ["finetune"]},
                    analysis=dict(OWN) | {"again": OWN["moved"], "other": OWN["moved"] | {"least": 0.5}})  # fmt: skip
    assert Counter(look.name for look in twice.looks) == {"moved": 6, "again": 2}
    assert sum(isinstance(step, Compare) for step in twice.steps) == 6  # two names for one thing
    other = planned(tmp_path, {"names": ["moved", "other"]}, analysis=dict(twice.suite.analysis))
    assert sum(isinstance(step, Compare) for step in other.steps) == 12  # another parameter is another step


@pytest.mark.parametrize(("chosen", "variants"), [("wise", {"0.3", "0.6"}), ("wise alpha=0.6", {"0.6"})])
def test_the_name_of_a_sweep_chooses_all_of_it(chosen: str, variants: set[str], tmp_path: Path) -> None:
    sweep = {"wise": {"kind": "wise_ft", "sweep": {"alpha": [0.3, 0.6]}}}
    runs = [{"methods": ["finetune", "wise"], "sizes": [10]}]
    plan = planned(tmp_path, {"names": ["moved"], "methods": [chosen]}, runs=runs, method=sweep)
    assert {look.run.method for look in plan.looks} == {f"wise alpha={value}" for value in variants}


def test_analyses_change_no_other_key(tmp_path: Path) -> None:
    without, with_them = planned(tmp_path), planned(tmp_path, {"names": ["moved", "alone"]})
    assert {step.key for step in without.steps} == {
        step.key for step in with_them.steps if not isinstance(step, Compare)
    }


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"names": ["movd"]}, "did you mean 'moved'"),
        ({"names": ["moved"], "methods": ["finetune", "fintune"]}, "'fintune' is not among the suite's methods ("),
        ({"names": ["moved"], "sizes": [10, 11]}, "sizes 11 is not among the suite's sizes (10, all)"),
        ({"names": ["moved"], "seeds": [7, 0]}, "seeds 7 is not among the suite's seeds (0)"),
        ({"names": ["moved"], "methods": ["wise_ft"], "sizes": [10]}, "no run of the suite is chosen for 'moved'"),
        ({"names": ["moved"], "on": ["lost"]}, "data sets 'lost' is not among the suite's data sets ("),
        ({"names": ["moved"], "models": ["lost"]}, "models 'lost' is not among the suite's models (resnet)"),
        ({"names": []}, "analyses.0.names"),
        ({"names": ["moved"], "method": ["finetune"]}, "unknown key 'analyses.0.method'"),
        ({"names": ["rib.plan:Plan"]}, "is no analysis"),
    ],
)
def test_what_makes_no_sense_is_refused(block: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        planned(tmp_path, block)


def test_a_parameter_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="analysis 'moved': unknown key 'leest'"):
        planned(tmp_path, {"names": ["moved"]}, analysis={"moved": OWN["moved"] | {"leest": 1}})


# -- doing -------------------------------------------------------------------------------------------------------------


def test_what_was_found_is_recorded_and_found_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"names": ["moved", "alone"]}, {"names": ["together"], "methods": ["finetune"]})
    store = Store(tmp_path / "store")
    assert do(plan, store).failed == {}
    results = Results(plan, store, draws=50)
    found = [item for item in results.seen(Moved) if item.name == "moved"]
    assert [item.values["images"] for item in found] == [{"clean": 24}] * 6
    probed = {item.run.method: item.values["moved"] for item in found}
    assert 0 < probed["linear_probe"] < probed["finetune"]
    assert [item.values["moved"] for item in results.seen(Alone)] == [0]
    assert [list(item.values["images"]) for item in results.seen(Together)] == [["whole", "part", "clean"]] * 2
    record = results.records[plan.looks[0].step.key]
    assert (record.kind, record.images) == ("Compare", 24)
    again = do(plan, store)
    assert (again.done, again.before) == (0, len(plan.steps))


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
    code, asked = re.findall(r"```(?:python|toml)\n(.*?)```", text[text.index("## Your own analysis") :], re.DOTALL)[:2]
    (tmp_path / "myanalyses.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    plan = planned(tmp_path, runs=[{"methods": ["finetune"]}], **tomllib.loads(asked))
    store = Store(tmp_path / "store")
    assert do(plan, store).failed == {}
    assert [0 < seen.values["cosine"] < 1 for seen in Results(plan, store).seen(Analysis)] == [True, True]


def test_what_could_not_be_seen_is_a_failed_step_and_nothing_else(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"names": ["refuses", "moved"], "methods": ["finetune"]})
    store = Store(tmp_path / "store")
    failed = do(plan, store).failed
    assert set(failed.values()) == {"too few images to look at"}
    results = Results(plan, store, draws=50)
    assert results.seen(Refuses) == []
    assert len(results.seen(Moved)) == 2
    assert all(row.mri for row in results.summaries if row.method != "pretrained")


@pytest.mark.parametrize("keep", ["none", "pretrained"])
def test_weights_are_there_when_an_analysis_needs_them(keep: str, tmp_path: Path) -> None:
    """Weights are dropped after the last step that reads them; an analysis asked for later makes them anew."""
    pretrained = {"resnet": tiny(tmp_path).model["resnet"].model_dump(mode="json", exclude_none=True)}
    pretrained["resnet"] |= {"pretrain": {"recipe": {"epochs": 1, "batch_size": 8}}}
    del pretrained["resnet"]["weights"]
    fields = {"model": pretrained, "runs": [{"methods": ["wise_ft", "soup"]}]}
    store = Store(tmp_path / "store")
    first = planned(tmp_path, {"names": ["bare"]}, **fields)
    assert do(first, store, keep=keep).failed == {}
    later = planned(tmp_path, {"names": ["bare", "moved"], "methods": ["soup"]}, **fields)
    assert {type(step).__name__ for step in missing(later.steps, store)} >= {"Fit", "Compare"}
    assert do(later, store, keep=keep).failed == {}
    assert {item.values["moved"] > 0 for item in Results(later, store, draws=50).seen(Moved)} == {True}
