"""Overlap: images that are tuned on and tested on, sets under two names, and what is only told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers import document, toml, write_tree
from rib.cli.data import data_check
from rib.cli.run import show_plan
from rib.data.catalogue import DataRow, open_data
from rib.data.overlap import Overlap, Roles, overlaps
from rib.errors import UserError
from rib.plan import make_plan
from rib.suite import parse_suite


def suite_of(folder: Path, **rows: dict[str, Any]) -> Any:
    """The tiny suite, with rows of trees in place of some of its own."""
    made = document(folder)
    made["data"] |= rows
    return parse_suite(made).based_at(folder)


def planned(folder: Path, **rows: dict[str, Any]) -> tuple[str, ...]:
    return make_plan(suite_of(folder, **rows)).notes


def trees(folder: Path, *names: str, per_class: int = 10) -> None:
    for place, name in enumerate(names):
        write_tree(folder / name, per_class=per_class, seed=100 * (place + 1))


def copy(folder: Path, files: list[str], to: str) -> None:
    """Copies of files of one set in another: class folders are kept, names changed."""
    for file in files:
        target = folder / to / file.split("/")[1] / f"copy-{Path(file).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / file, target)


SPELLINGS: dict[str, Callable[[Path], str]] = {
    "itself": lambda root: "v",
    "dots": lambda root: "./w/../v",
    "absolute": lambda root: str(root / "v"),
    "link": lambda root: _made(os.symlink, root / "v", root / "link"),
    "copy": lambda root: _made(shutil.copytree, root / "v", root / "again"),
}


def _made(how: Callable[..., Any], source: Path, target: Path) -> str:
    how(source, target)
    return target.name


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_set_tested_on_what_it_is_tuned_on_is_refused(tmp_path: Path, spelling: str) -> None:
    trees(tmp_path, "v", "w")
    with pytest.raises(UserError, match="40 of 40 images of the test part of 'part' are byte for byte among its own"):
        planned(tmp_path, part={"folder": "v", "test_folder": SPELLINGS[spelling](tmp_path)})
    assert planned(tmp_path, part={"folder": "v", "test_folder": "w"}) == ()
    assert planned(tmp_path, part={"folder": "v"}) == ()  # both roles, as in the paper: not scored on itself


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("split", [0.0, 0.3])
def test_one_folder_as_two_downstream_sets_is_refused(tmp_path: Path, split: float, spelling: str) -> None:
    trees(tmp_path, "v", "w")
    rows = {"part": {"folder": "v"}, "whole": {"folder": SPELLINGS[spelling](tmp_path)}}
    with pytest.raises(UserError, match=r"'whole' and 'part'|'part' and 'whole'|'whole' that are tuned on"):
        planned(tmp_path, **{name: row | {"test_fraction": split} for name, row in rows.items()})


def test_one_folder_as_downstream_and_reference(tmp_path: Path) -> None:
    """What is tuned on is never tested on where the two are split alike: then it is only said."""
    trees(tmp_path, "v")
    with pytest.raises(UserError, match="'clean' are byte for byte among the images of 'part' that are tuned on"):
        planned(tmp_path, part={"folder": "v"}, clean={"folder": "v"})
    row = {"folder": "v", "test_fraction": 0.3}
    (note,) = planned(tmp_path, part=row, clean=row)
    assert "12 of 12 images tested on are the same in 'part' and 'clean'" in note


def test_one_folder_as_downstream_and_evaluation_set_is_refused(tmp_path: Path) -> None:
    trees(tmp_path, "v")
    made = document(tmp_path, evaluate=["more"])
    for split in (0.0, 0.3):
        made["data"] |= {name: {"folder": "v", "test_fraction": split} for name in ("part", "more")}
        with pytest.raises(UserError, match=r"'more'"):
            make_plan(parse_suite(made).based_at(tmp_path))


def test_every_image_twice(tmp_path: Path) -> None:
    trees(tmp_path, "v")
    copy(tmp_path, [str(file.relative_to(tmp_path)) for file in sorted((tmp_path / "v").rglob("*.png"))], "v")
    with pytest.raises(UserError, match=r"'part'.*copies of others there|of the test part of 'part' are byte for byte"):
        planned(tmp_path, part={"folder": "v", "test_fraction": 0.3})
    with pytest.raises(UserError, match="40 of 80 images of the test part are copies of others there"):
        planned(tmp_path, part={"folder": "v"})


def test_a_few_copies_are_told_and_more_than_one_in_a_hundred_are_refused(tmp_path: Path) -> None:
    trees(tmp_path, "v", "w", per_class=50)
    names = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "v").rglob("*.png"))
    row = {"folder": "v", "test_folder": "w"}
    copy(tmp_path, names[:2], "w")  # 2 of 202
    (note,) = planned(tmp_path, part=row)
    assert "2 of 202 images of the test part of 'part'" in note
    assert "ant/copy-" in note
    copy(tmp_path, names[2:3], "w")  # 3 of 203
    with pytest.raises(UserError, match="3 of 203"):
        planned(tmp_path, part=row)


def test_a_few_images_of_one_set_in_another(tmp_path: Path) -> None:
    trees(tmp_path, "v", "w")
    copy(tmp_path, ["v/ant/0.png", "v/bee/3.png"], "w")
    rows = {"part": {"folder": "v"}, "whole": {"folder": "w"}}
    with pytest.raises(UserError, match="2 of 40 images of 'part' are byte for byte among the images of 'whole'"):
        planned(tmp_path, **rows)
    family = {name: row | {"family": "f"} for name, row in rows.items()}
    assert len(planned(tmp_path, **family)) == 2  # either way round; what a family shares is left out of its own number


def test_a_declared_source_on_both_sides_is_refused(tmp_path: Path) -> None:
    trees(tmp_path, "v", "w", per_class=3)
    lines = [f"{name}/{place}.png,{name}{place}" for name in ("ant", "bee", "cat", "dog") for place in range(3)]
    (tmp_path / "s.csv").write_text("\n".join(["file,source", *lines]))
    with pytest.raises(UserError, match="12 of 12 images of the test part of 'part' show source images of its own"):
        planned(tmp_path, part={"folder": "v", "test_folder": "w", "source_file": "s.csv"})


def test_what_is_not_tuned_on_may_be_shared(tmp_path: Path) -> None:
    """A set that no run tunes on gives nothing away."""
    trees(tmp_path, "v", "w")
    copy(tmp_path, ["v/ant/0.png", "v/bee/3.png"], "w")
    made = document(tmp_path, runs=[{"methods": ["finetune"], "downstream": ["whole"]}])
    made["data"] |= {"part": {"folder": "v"}, "whole": {"folder": "w"}}
    with pytest.raises(UserError, match="of 'part' are byte for byte among the images of 'whole'"):
        make_plan(parse_suite(made).based_at(tmp_path))
    sets = {name: open_data(name, DataRow(folder=name), tmp_path, None) for name in ("v", "w")}
    assert overlaps(sets, Roles("", ("v", "w"), (), ())) == []


def test_sets_of_the_catalogue_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees(tmp_path, "v", per_class=3)
    sets = {name: open_data(name, DataRow(folder="v", family="f"), tmp_path, None) for name in "ab"}
    roles = Roles("", ("a", "b"), (), ("a", "b"))
    assert overlaps(sets, roles)
    for data in sets.values():
        data.shipped = True
        monkeypatch.setattr(data, "index", lambda part: pytest.fail("millions of rows are looked at"))
    assert overlaps(sets, roles) == []


def test_one_of_the_users_own_that_does_not_pair_with_the_catalogues_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path / "v", per_class=4, seed=1)
    write_tree(tmp_path / "w", per_class=1, seed=2)
    for file in (tmp_path / "w").rglob("*.png"):
        file.rename(file.with_name("other.png"))
    first, second = (open_data(name, DataRow(folder=name, family="f"), tmp_path, None) for name in "vw")
    first.shipped = True
    found = [one for one in overlaps({"v": first, "w": second}, Roles("", ("v", "w"), (), ())) if one.refused]
    assert ["w" in one.words and "do not pair" in one.words for one in found] == [True]


def test_digests_that_are_kept_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees(tmp_path, "v", "w")
    row = {"folder": "v", "test_folder": "w"}
    suite = suite_of(tmp_path, part=row)
    assert make_plan(suite, tmp_path / "facts").notes == ()
    monkeypatch.setattr("rib.data.folders.read_files", lambda paths: pytest.fail(f"{paths} are read again"))
    assert make_plan(suite, tmp_path / "facts").notes == ()


def test_check_and_plan_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = document(tmp_path)
    trees(tmp_path, "v")
    made["data"] |= {"part": {"folder": "v", "test_folder": "v"}}
    (tmp_path / "s.toml").write_text(toml(made))
    said = {}
    for as_json in (False, True):
        with pytest.raises(typer.Exit) as stop:
            data_check(str(tmp_path / "s.toml"), store=tmp_path / "none", as_json=as_json)
        assert stop.value.exit_code == 1
        said[as_json] = capsys.readouterr().out
    assert "refused: 40 of 40 images" in said[False]
    found = {one["name"]: one for one in json.loads(said[True])}
    assert [one["refused"] for one in found["part"]["shared"]] == [True]
    assert found["whole"]["shared"] == []
    with pytest.raises(UserError, match="40 of 40 images"):
        show_plan(str(tmp_path / "s.toml"), store=tmp_path / "store")


def test_those_refused_come_first() -> None:
    assert [Overlap(("a",), "x").refused, Overlap(("a",), "x", "y").refused] == [False, True]


@pytest.mark.parametrize("spelling", ["itself", "copy"])
@pytest.mark.parametrize("share", [1.0, 0.0])
def test_images_that_a_model_is_pretrained_on_are_not_tested_on(tmp_path: Path, spelling: str, share: float) -> None:
    """Else what the model could do before is what it has learned by heart."""
    trees(tmp_path, "v", "w")
    row = {"folder": SPELLINGS[spelling](tmp_path) if share else "w"}
    made = document(tmp_path)
    made["data"] |= {"whole": {"folder": "v", "test_fraction": 0.0}, "before": row}
    made["model"]["resnet"].pop("weights")
    made["model"]["resnet"]["pretrain"] = {"data": "before", "recipe": {"epochs": 1}}
    suite = parse_suite(made).based_at(tmp_path)
    if not share:
        assert not any("pretrained on" in note for note in make_plan(suite).notes)
        return
    with pytest.raises(UserError, match=r"images of 'whole' that are tested on .* that a model is pretrained on"):
        make_plan(suite)
