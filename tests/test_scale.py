"""Scale: the simulator against hand-computed schedules; jobs for many drivers; what a look at others costs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import classifier, examples, tiny
from rib.data.labels import LabelMap
from rib.execute.board import Board, RunOutcome
from rib.execute.cluster.fleet import share
from rib.execute.progress import Silent
from rib.execute.schedule import LARGE, Job, Queue, jobs
from rib.identity import key_of_spec
from rib.plan import Plan, make_plan
from rib.steps import Embed, Fit, How, Predict, Step
from rib.store import news as news_module
from rib.store.leases import Leases
from rib.store.news import News
from rib.store.record import encode_record, is_whole
from rib.store.store import Store
from rib.training.predict import JUDGED, predict
from rib.upkeep.verify import verify

sys.path.insert(0, str(Path(__file__).parents[1]))

from soak import metadata
from soak.scale import Piece, Setting, Simulation, longest


@dataclass(frozen=True)
class Bare:
    """A step that is nothing but its name."""

    key: str


def job(name: str, *needs: int, count: int = 1) -> Job:
    steps: Any = tuple(Bare(f"{name}{number}") for number in range(count))
    return Job(steps, frozenset(needs))


def simulation(
    listed: Sequence[Job], seconds: dict[str, float], setting: Setting, parts: int = 1, seed: int = 0
) -> Simulation:
    def pieces(one: Job) -> list[Piece]:
        return [Piece((step.key,), seconds[step.key], parts) for step in one.steps]

    return Simulation(listed, pieces, setting, seed)


# -- the simulator -----------------------------------------------------------------------------------------------------


def test_two_gpus_and_three_jobs_by_hand() -> None:
    """a and b begin; c waits for a, and is done by whoever did a."""
    listed = [job("a"), job("b"), job("c", 0)]
    found = simulation(listed, {"a0": 10.0, "b0": 20.0, "c0": 5.0}, Setting(2, start=3.0)).run()
    assert (found.wall, found.held, found.busy, found.lost, found.starting) == (23.0, 46.0, 35.0, 0.0, 6.0)
    assert found.utilisation == 35 / 46
    assert (found.steps, found.losses, found.full) == (3, 0, 18.0)


@pytest.mark.parametrize(("parts", "lost"), [(1, 7.0), (10, 7.0 % 1.0), (2, 2.0)])
def test_a_lost_node_goes_on_from_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch, parts: int, lost: float) -> None:
    """One GPU, a step of 10 s, lost after 7 s: what was done since the last of its equal parts is done anew."""
    lives = iter([7.0, 1e9])
    made = simulation([job("a")], {"a0": 10.0}, Setting(1, up=1.0, down=50.0, start=0.0, expiry=20.0), parts)
    monkeypatch.setattr(made._random, "expovariate", lambda rate: next(lives))
    found = made.run()
    assert found.lost == pytest.approx(lost)
    assert found.busy == pytest.approx(10.0 + lost)
    assert found.wall == pytest.approx(7.0 + 50.0 + 3.0 + lost)


def test_a_lease_of_the_dead_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, one step each; the first is lost at 4 s for good, and the other takes its step up after the expiry."""
    lives = iter([4.0, 1e9])
    setting = Setting(2, up=1.0, down=1e9, start=0.0, expiry=120.0)
    made = simulation([job("a"), job("b")], {"a0": 10.0, "b0": 6.0}, setting)
    monkeypatch.setattr(made._random, "expovariate", lambda rate: next(lives))
    monkeypatch.setattr(made._random, "uniform", lambda low, high: low)
    found = made.run()
    assert found.wall == 4.0 + 120.0 + 10.0
    assert (found.busy, found.lost, found.held) == (20.0, 4.0, 4.0 + 134.0)


graphs = st.lists(
    st.tuples(st.floats(0.1, 100.0), st.integers(1, 3), st.sets(st.integers(1, 6), max_size=2)), min_size=1, max_size=12
)


def drawn(graph: list[tuple[float, int, set[int]]]) -> tuple[list[Job], dict[str, float]]:
    """Jobs that need some of those before them."""
    listed = [
        job(f"j{number}-", *(number - back for back in backs if back <= number), count=count)
        for number, (_, count, backs) in enumerate(graph)
    ]
    seconds = {step.key: graph[number][0] for number, one in enumerate(listed) for step in one.steps}
    return listed, seconds


@settings(max_examples=60, deadline=None)
@given(graphs, st.integers(1, 5), st.booleans(), st.integers(1, 4), st.integers(0, 99))
def test_losses_never_lose_steps(
    graph: list[tuple[float, int, set[int]]], gpus: int, late: bool, parts: int, seed: int
) -> None:
    """Each step is done once, and what was computed is what there was to do and what was lost."""
    listed, seconds = drawn(graph)
    setting = Setting(gpus, up=150.0, down=20.0, start=2.0, expiry=30.0, late=late)
    made = simulation(listed, seconds, setting, parts, seed)
    found = made.run()
    assert made.done == Counter(seconds.keys())
    assert found.busy == pytest.approx(sum(seconds.values()) + found.lost)
    assert found.busy + found.starting <= found.held + 1e-6
    assert found.wall >= longest(listed, lambda one: sum(seconds[step.key] for step in one.steps)) - 1e-6


@settings(max_examples=60, deadline=None)
@given(graphs, st.integers(1, 5))
def test_no_gpu_idles_while_there_is_work(graph: list[tuple[float, int, set[int]]], gpus: int) -> None:
    """Graham's bound, of jobs that need none: all are in every driver's queue."""
    listed, seconds = drawn([(time, count, set()) for time, count, _ in graph])
    found = simulation(listed, seconds, Setting(gpus, start=0.0)).run()
    each = [sum(seconds[step.key] for step in one.steps) for one in listed]
    assert found.wall <= sum(each) / gpus + (1 - 1 / gpus) * max(each) + 1e-6


# -- jobs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("planned")
    return make_plan(tiny(folder, runs=[{"methods": ["finetune", "linear_probe", "lp_ft", "soup"]}]))


def test_a_large_step_is_a_job_of_its_own(planned: Plan) -> None:
    chosen = next(step for step in planned.steps if isinstance(step, Fit) and step.method.name == "finetune")
    others = jobs(planned.steps)
    together = next(one for one in others if chosen in one.steps)
    assert len(together.steps) > 1

    found = jobs(planned.steps, passes=lambda step: LARGE if step is chosen else LARGE - 1)
    apart = next(number for number, one in enumerate(found) if chosen in one.steps)
    assert found[apart].steps == (chosen,)
    assert Counter(step.key for one in found for step in one.steps) == Counter(step.key for step in planned.steps)
    rest = next(one for one in found if together.steps[1] in one.steps)
    assert rest.steps == together.steps[1:]
    assert rest.needs == {apart}
    soups = [one for one in found if isinstance(one.steps[0], Fit) and chosen in one.steps[0].ingredients]
    assert soups
    number = found.index(rest)
    assert all(apart in one.needs and number not in one.needs for one in soups)  # not what is asked of it


def test_what_reads_large_features_holds_nothing_else_up(planned: Plan) -> None:
    large = next(step for step in planned.steps if isinstance(step, Embed))
    found = jobs(planned.steps, passes=lambda step: LARGE if step.key == large.key else 0.0)
    place = next(number for number, one in enumerate(found) if one.steps == (large,))
    waiting = [one for one in found if place in one.needs]
    assert waiting
    for one in waiting:
        assert [step.features for step in one.steps] == [large]


def test_ranks_and_the_order_of_the_queue_by_hand() -> None:
    listed = [
        replace(job("short"), rank=1.0),
        replace(job("long"), rank=9.0),
        replace(job("after-a", 1), rank=2.0),
        replace(job("after-b", 1), rank=3.0),
        replace(job("equal"), rank=1.0),
    ]
    queue = Queue(listed)
    assert queue.take() == 1
    queue.done(1)
    assert [queue.take() for _ in range(5)] == [3, 2, 0, 4, None]  # ready after it first, then by rank, then in order


def test_ranks_are_the_work_of_the_longest_chain(planned: Plan) -> None:
    found = jobs(planned.steps, work=lambda step: float(len(step.title)))
    for number, one in enumerate(found):
        own = float(sum(len(step.title) for step in one.steps))
        users = [other.rank for other in found if number in other.needs]
        assert one.rank == own + max(users, default=0.0)
    assert {one.rank for one in jobs(planned.steps)} == {0.0}


def test_every_joiner_finds_passes_to_make(planned: Plan) -> None:
    listed = jobs(planned.steps)
    asked = Counter(step.data.name for step in planned.steps if isinstance(step, Predict))
    most = max(asked.values())
    assert most >= 8
    assert share(listed, 1, 16) == min(16, most // 4)
    assert share(listed, 2, 16) == most // 8
    assert share(listed, 500, 16) == 1
    assert share(listed, 1, 1) == 1


def test_what_others_have_done_comes_before_anything_new(planned: Plan, tmp_path: Path) -> None:
    """A driver that has yet to do sees that another has ended a job, and begins what waited for that."""
    store = Store(tmp_path)
    store.prepare()
    listed = jobs(planned.steps)
    first = next(number for number in range(len(listed)) if any(one.needs == {number} for one in listed))
    assert not listed[first].needs
    with Leases(tmp_path) as own, Leases(tmp_path) as other:
        board = Board(planned, store, How(), Silent(), RunOutcome(), listed, own)
        names = [step.key for step in listed[first].steps]
        assert all(other.take(name) for name in names)
        while first not in board._elsewhere:
            assert board.take() not in (None, first)
        for step in listed[first].steps:
            if step.keeps_weights:
                store.write_weights(step.key, {})
            if isinstance(step, Embed):
                store.write_features(step.key, 1, [torch.zeros(1, 1).numpy()])
            store.write(step, {"examples": 0}, 0.0, 1, "cpu")
            assert other.drop(step.key)
        board._next_look = 0.0
        after = board.take()
        assert after is not None
        assert first in listed[after].needs
        assert board.outcome.elsewhere == len(names)


# -- what comes in -----------------------------------------------------------------------------------------------------


def touch(folder: Path, key: str, when: int) -> None:
    """A record, in a folder that says that it changed then."""
    (folder / key[:2]).mkdir(parents=True, exist_ok=True)
    (folder / key[:2] / f"{key}.json").touch()
    os.utime(folder / key[:2], ns=(when, when))


def test_news_are_told_once_and_never_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, listings = [0.0], list[int]()
    monkeypatch.setattr(news_module.time, "monotonic", lambda: now[0])
    plain = os.scandir
    monkeypatch.setattr(news_module.os, "scandir", lambda place: (listings.append(place), plain(place))[1])
    news = News(tmp_path, ["aa1", "aa2", "aa3", "bb1"])
    assert news.take() == set()  # no folder yet
    touch(tmp_path, "aa1", 100)
    touch(tmp_path, "aa9", 100)  # not waited for
    assert news.take() == {"aa1"}
    touch(tmp_path, "aa2", 100)  # within the grain of the folder's time: it looks as if nothing had changed
    assert news.take() == {"aa2"}
    now[0] = 2.5
    assert news.take() == set()
    seen = len(listings)
    assert news.take() == set()
    assert len(listings) == seen  # quiet for long enough: not listed again
    touch(tmp_path, "aa3", 200)
    assert news.take() == {"aa3"}
    touch(tmp_path, "bb1", 50)
    assert news.take() == {"bb1"}
    seen = len(listings)
    assert news.take() == set()
    assert len(listings) == seen  # nothing is waited for any more


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Step]]:
    """Some records of the paper's sweep, as the measurement writes them."""
    store, plan = Store(tmp_path_factory.mktemp("filled")), metadata.plan_of(1)
    store.prepare()
    steps = [*plan.steps[:4], *[step for step in plan.steps if isinstance(step, Predict)][:4]]
    predictions = metadata.stand_in()
    with metadata.canonical_once():
        for step in steps:
            metadata.record(store, plan, step, predictions)
    return store, steps


def test_the_measurement_writes_what_the_store_would(filled: tuple[Store, list[Step]], tmp_path: Path) -> None:
    store, steps = filled
    found = verify(store)
    assert (found.files, found.faults) == (len({step.key for step in steps}) + 4, [])
    other, plan, predictions = Store(tmp_path), metadata.plan_of(1), metadata.stand_in()
    for step in steps:
        metadata.record(other, plan, step, predictions)
        assert other.record_path(step.key).read_bytes() == store.record_path(step.key).read_bytes()
        record = store.record(step.key)
        assert record is not None
        assert key_of_spec(record.kind, record.spec) == step.key


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whole_is_what_can_be_read(filled: tuple[Store, list[Step]], data: st.DataObject) -> None:
    store, steps = filled
    content = bytearray(store.record_path(steps[0].key).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    assert not is_whole(bytes(content), steps[0].key)
    assert not is_whole(bytes(content[:place]), steps[0].key)


def test_whole_records_of_now_and_before(filled: tuple[Store, list[Step]]) -> None:
    store, steps = filled
    content = store.record_path(steps[0].key).read_bytes()
    assert is_whole(content, steps[0].key)
    assert not is_whole(content, steps[1].key)
    assert store.is_done(steps[0].key)
    assert not store.is_done("0" * 40)
    before = (
        b'{"key": "k", "kind": "Fit", "title": "", "spec": {}, "values": {}, "seconds": 1, "images": 1, "made_by": {}}'
    )
    assert is_whole(before, "k")
    assert not is_whole(before[:-1], "k")
    document = {"kind": "Fit", "key": "k", "title": "", "spec": {}, "values": {}, "seconds": 1, "images": 1}
    assert is_whole(encode_record({**document, "made_by": {}, "files": {}}), "k")  # its key is not the first field


# -- predictions that are cut off --------------------------------------------------------------------------------------


@dataclass
class Kept:
    """A checkpoint in memory; the work is cut off when it has been told so often."""

    cut_off: int
    state: dict[str, Any] | None = None
    told: list[int] = field(default_factory=list)

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: Any) -> None:
        self.state = {name: value.clone() for name, value in state().items()}
        self.told.append(len(self.state["masked_right"]))
        if len(self.told) == self.cut_off:
            raise KeyboardInterrupt


@pytest.mark.parametrize("cut_off", [1, 2])
def test_a_prediction_goes_on_where_it_was_cut_off(cut_off: int) -> None:
    net, seen = classifier("resnet"), examples(count=2 * JUDGED * 2 + 7)
    whole = LabelMap("identity", ((0,), (1,), (2,), (3,)), 4)
    expected = predict(net, seen, whole, batch_size=2)
    kept, looked = Kept(cut_off), list[int]()
    with pytest.raises(KeyboardInterrupt):
        predict(net, seen, whole, batch_size=2, checkpoint=kept)
    assert kept.told[-1] == cut_off * 2 * JUDGED
    found = predict(net, seen, whole, batch_size=2, checkpoint=replace(kept, cut_off=0), watch=looked.append)
    assert sum(looked) == len(seen) - cut_off * 2 * JUDGED
    for name, values in vars(expected).items():
        assert (vars(found)[name] == values).all()
