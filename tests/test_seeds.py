"""Tuning seeds named from outside a suite: which they are, what is reused, what is refused."""

from pathlib import Path

import pytest

from helpers import Say, document, tiny, toml
from rib.errors import UserError
from rib.plan import make_plan
from rib.steps import Fit
from rib.suite.load import load_suite, parse_seeds


@pytest.mark.parametrize(
    ("own", "seeds", "expected"),
    [
        ((0,), 3, (0, 1, 2)),
        ((5, 1), 4, (5, 1, 0, 2)),  # what the suite has comes first, so that it is reused
        ((0, 1, 2), 2, (0, 1)),
        ((0, 1, 2), (0, 4), (0, 4)),
    ],
)
def test_a_number_extends_the_suites_own_seeds_and_a_list_replaces_them(
    tmp_path: Path, own: tuple[int, ...], seeds: int | tuple[int, ...], expected: tuple[int, ...]
) -> None:
    suite = tiny(tmp_path, seeds=own).with_seeds(seeds)
    assert suite.seeds == expected
    assert {run.seed for run in make_plan(suite).runs if run.tuned_on} == set(expected)


def test_blocks_studies_and_analyses_with_seeds_of_their_own_follow(tmp_path: Path) -> None:
    runs = [{"methods": ["finetune"], "seeds": [3]}, {"methods": ["linear_probe"]}]
    looks = [{"names": ["drift"], "seeds": [3]}, {"names": ["cka"], "seeds": [0]}, {"names": ["distance"]}]
    suite = tiny(tmp_path, runs=runs, analyses=looks, study={"size": {"seeds": [0]}, "rate": {}})
    more = suite.with_seeds(2)
    assert [block.seeds for block in more.runs] == [(3, 0), None]
    assert (more.study["size"].seeds, more.study["rate"].seeds) == ((0, 1), None)
    assert [(block.names, block.seeds) for block in more.analyses] == [
        (("drift",), (3,)),
        (("cka",), (0,)),
        (("distance",), None),
    ]
    assert [block.names for block in suite.with_seeds([3]).analyses] == [("drift",), ("distance",)]


def test_steps_of_the_seeds_that_a_suite_has_keep_their_keys(tmp_path: Path) -> None:
    suite = tiny(tmp_path, runs=[{"methods": ["finetune", "lp_ft", "soup"]}], analyses=[{"names": ["cka", "drift"]}])
    one, three = ({step.key for step in make_plan(item).steps} for item in (suite, suite.with_seeds(3)))
    assert one < three


def test_every_command_takes_seeds_and_reuses_what_is_done(tmp_path: Path, rib_says: Say) -> None:
    (tmp_path / "tiny.toml").write_text(toml(document(tmp_path, per_class=8)))
    place = ("tiny.toml", "--store", "store")
    code, said = rib_says("run", *place, "--workers", 1)
    assert (code, "1 seed" in said) == (0, True)
    first = int(said.split(" steps done")[0].split()[-1])
    code, said = rib_says("run", *place, "--workers", 1, "--seeds", "2")
    assert (code, f"{first} done before" in said, "2 seeds" in said) == (0, True, True)
    for words in (("report", *place), ("status", *place), ("plan", *place), ("recommend", *place)):
        assert rib_says(*words, "--seeds", "0,1")[1] != rib_says(*words)[1]
    assert rib_says("export", "out", *place, "--seeds", "1,", "--method", "finetune")[0] == 0
    assert "0 to do" in rib_says("status", *place, "--seeds", "2")[1].splitlines()[1]


@pytest.mark.parametrize("text", ["", ",", "0", "-1", "-1,0", "2.5", "three", "0,0", "1001", "1;2", "1,,2", "²"])
def test_other_words_than_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError) as told:
        parse_seeds(text)
    assert (told.value.got, "0,1,4" in f"{told.value}") == (text, True)


def test_one_seed_and_several_by_name() -> None:
    assert [parse_seeds(text) for text in ("3", "0,1,4", " 0, 7 ", "7,")] == [3, (0, 1, 4), (0, 7), (7,)]


@pytest.mark.parametrize("name", ["digits", "digits-quick", "imagenet_rib", "imagenet_rib_lite", "imagenet_rib_8"])
def test_shipped_suites_have_three_seeds(name: str) -> None:
    suite = load_suite(name)
    assert suite.seeds == (0, 1, 2)
    assert all(block.seeds is None for block in suite.runs)


def test_a_plan_says_that_several_seeds_cost_and_how_to_take_one(tmp_path: Path, rib_says: Say) -> None:
    (tmp_path / "tiny.toml").write_text(toml(document(tmp_path, per_class=8)))
    assert "one costs" not in rib_says("plan", "tiny.toml")[1]
    said = rib_says("plan", "tiny.toml", "--seeds", "3")[1]
    assert "0, 1, 2: one costs 1/3 of the tuning and its scores (--seeds 1)" in said


def test_whatever_is_trained_is_trained_for_each_seed(tmp_path: Path) -> None:
    """Also what a method starts from: a probe that two seeds shared would make them dependent."""
    methods = ["finetune", "linear_probe", "lp_ft", "wise_ft", "wise_ft_held_out", "soup", "greedy_soup", "ewc", "lwf"]
    suite = tiny(tmp_path, seeds=(0, 1), held_out=0.25, runs=[{"methods": methods, "sizes": [6, "all"]}])
    fits: dict[int, dict[str, Fit]] = {0: {}, 1: {}}
    for run in make_plan(suite).runs:
        if run.seed is not None:
            fits[run.seed] |= {fit.key: fit for fit in reached(run.fit)}
    assert {fit.method.name for fit in fits[0].values()} >= {"linear_probe", "lp_ft", "finetune"}
    assert not [fit.title for key, fit in fits[0].items() if key in fits[1] and (fit.data or fit.ingredients)]


def reached(fit: Fit) -> list[Fit]:
    """A fit and all that it is made of."""
    return [fit, *(found for part in fit.ingredients for found in reached(part))]
