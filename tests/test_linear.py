"""What planning and a finished run cost grows with the number of steps and no faster: operations are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from rib import identity
from rib.execute import inline
from rib.execute.run import execute
from rib.execute.schedule import jobs
from rib.plan import Run, make_plan, missing
from rib.steps import How, Step, Workshop
from rib.steps.workshop import Runnable
from rib.store.store import Store
from rib.suite.suite import Suite

METHODS = ["finetune", "linear_probe", "lp_ft", "lwf", "wise_ft", "soup"]
"""The soup's members are made for it."""


@pytest.fixture
def sized(tmp_path: Path) -> Callable[[int], Suite]:
    """A suite with so many seeds; steps grow with them."""
    return lambda seeds: tiny(tmp_path, seeds=tuple(range(seeds)), runs=[{"methods": METHODS}])


def counted(monkeypatch: pytest.MonkeyPatch, home: Any, *names: str) -> Counter[str]:
    """Count the calls of some functions."""
    counts: Counter[str] = Counter()

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            counts[name] += 1
            return function(*args, **words)

        return call

    for name in names:
        monkeypatch.setattr(home, name, watched(name, getattr(home, name)))
    return counts


def test_a_key_is_worked_out_once_a_step_and_a_label_map_once_a_part(
    sized: Callable[[int], Suite], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, fields = [], []
    for seeds in (5, 10, 20):
        with monkeypatch.context() as patch:
            counts = counted(patch, identity, "digest", "identity_fields")
            plan = make_plan(sized(seeds))
            steps = plan.steps
        hashes.append(counts["digest"] / len(steps))
        fields.append(counts["identity_fields"])
    assert max(hashes) < 1.5  # with those of data and weights
    assert len(set(fields)) == 1  # of data parts and their label maps: as many whatever the number of steps


def test_a_finished_store_is_read_once_a_step(sized: Callable[[int], Suite], monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Store):
        reads = 0

        def is_done(self, key: str) -> bool:
            self.reads += 1
            return super().is_done(key)

        def record(self, key: str) -> Any:
            raise AssertionError("values are read where only what is there matters")

    for seeds in (5, 20):
        plan = make_plan(sized(seeds))
        store = Counting(plan.suite.base / f"store{seeds}")
        pretend(plan.steps, store)
        assert missing(plan.steps, store) == ()
        assert store.reads == len(plan.steps)


def pretend(steps: tuple[Step, ...], store: Store) -> None:
    """Records and weights as if the steps were done."""
    for step in steps:
        store.write(step, {"examples": 0}, 1.0, 1, "cpu")
        if step.keeps_weights:
            store.write_weights(step.key, {})


class Nothing(Workshop):
    """Does no work and records it."""

    def do(self, step: Runnable) -> None:
        assert isinstance(step, Step)
        pretend((step,), self.store)


def test_letting_go_of_weights_looks_at_each_reader_once(
    sized: Callable[[int], Suite], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --keep none every weight is dropped once, when its last reader is done."""
    monkeypatch.setattr(inline, "Workshop", Nothing)
    plan = make_plan(sized(10))
    store = Store(plan.suite.base / "store")
    dropped: list[str] = []
    monkeypatch.setattr(store, "drop_weights", dropped.append)
    outcome = execute(plan, store, How(workers=1, keep="none"))
    assert outcome.failed == {}
    kept = [step.key for step in plan.steps if step.keeps_weights]
    assert sorted(set(dropped) & set(kept)) == sorted(kept)
    assert max(Counter(dropped).values()) == 1


@pytest.mark.parametrize("more", [["l2_sp"], ["ewc", "greedy_soup"]])
def test_a_method_more_makes_only_its_own_steps(
    sized: Callable[[int], Suite], monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setattr(inline, "Workshop", Nothing)
    suite = sized(2)
    plan, store = make_plan(suite), Store(suite.base / "store")
    assert execute(plan, store, How(workers=1)).done == len(plan.steps)
    assert execute(plan, store, How(workers=1)).done == 0
    grown = make_plan(added(suite, more))
    todo = missing(grown.steps, store)
    own = [run for run in grown.runs if run.method in more]
    there = {step.key for step in plan.steps}
    assert {step.key for step in todo} == {key for run in own for key in keys_of(run)} - there
    assert execute(grown, store, How(workers=1)).done == len(todo) == len(grown.steps) - len(plan.steps)
    assert len(jobs(todo)) == len(own)


def keys_of(run: Run) -> set[str]:
    """Of a run's weights and predictions."""
    return {run.fit.key, *(predict.key for predict in run.scores.values())}


def added(suite: Suite, more: list[str]) -> Suite:
    """The suite with further methods."""
    runs = tuple(run.model_copy(update={"methods": (*run.methods, *more)}) for run in suite.runs)
    return suite.model_copy(update={"runs": runs}).based_at(suite.base)
