"""Overlap: images that are tuned on and tested on, sets under two names, and what is only told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image

from helpers import document, toml, write_tree
from rib.cli.data import data_check
from rib.cli.run import show_plan
from rib.data.catalogue import DataRow, open_data
from rib.data.digits import CLASSES as DIGITS
from rib.data.digits import render
from rib.data.overlap import Overlap, Roles, overlaps
from rib.errors import UserError
from rib.plan import make_plan
from rib.suite.load import parse_suite


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


# -- the same picture in other bytes -----------------------------------------------------------------------------------


def saved(root: Path, suffix: str, **options: Any) -> None:
    """Every image of a tree as a file of another kind, or with other options."""
    for file in sorted(root.rglob("*.png")):
        with Image.open(file) as image:
            image.load()
            file.unlink()
            image.save(file.with_suffix(suffix), **options)


def recoded(suffix: str, **options: Any) -> Callable[[Path], dict[str, Any]]:
    def make(root: Path) -> dict[str, Any]:
        shutil.copytree(root / "v", root / "w")
        saved(root / "w", suffix, **options)
        return {"folder": "w"}

    return make


def in_an_array(root: Path) -> dict[str, Any]:
    files = sorted((root / "v").rglob("*.*"))
    np.savez(
        root / "w.npz",
        images=np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]),
        labels=np.array([file.parent.name for file in files]),
    )
    return {"arrays": "w.npz"}


def in_parquet(root: Path) -> dict[str, Any]:
    recoded(".png", compress_level=1)(root)
    files = sorted((root / "w").rglob("*.png"))
    table = pa.table({"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]})
    shutil.rmtree(root / "w")
    (root / "w").mkdir()
    pq.write_table(table, root / "w" / "x.parquet")
    return {"parquet": "w"}


RECODED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "compression": recoded(".png", compress_level=1),
    "bmp": recoded(".bmp"),
    "tiff": recoded(".tif", compression="tiff_lzw"),
    "webp": recoded(".webp", lossless=True),
    "ppm": recoded(".ppm"),
    "array": in_an_array,
    "parquet": in_parquet,
}


@pytest.mark.parametrize("role", ["downstream", "evaluate"])
@pytest.mark.parametrize("form", RECODED)
def test_one_picture_in_two_kinds_of_file_is_the_same_image(tmp_path: Path, form: str, role: str) -> None:
    trees(tmp_path, "v")
    made = document(tmp_path, evaluate=["more"] if role == "evaluate" else [])
    made["data"] |= {"part": {"folder": "v"}, "more": RECODED[form](tmp_path)}
    made["data"] |= {"whole": made["data"]["more"]} if role == "downstream" else {}
    with pytest.raises(UserError, match=r"40 of 40 images .*pixel for pixel"):
        make_plan(parse_suite(made).based_at(tmp_path))


def test_a_photograph_and_what_was_decoded_from_it(tmp_path: Path) -> None:
    """JPEGs of which somebody made an array; and JPEGs that were encoded again, which are other pictures."""
    trees(tmp_path, "v")
    saved(tmp_path / "v", ".jpg", quality=80)
    row = in_an_array(tmp_path)
    with pytest.raises(UserError, match="pixel for pixel"):
        planned(tmp_path, part={"folder": "v"}, whole=row)
    shutil.copytree(tmp_path / "v", tmp_path / "u")
    for file in (tmp_path / "u").rglob("*.jpg"):
        with Image.open(file) as image:
            image.load()
            image.save(file, quality=40)
    assert planned(tmp_path, part={"folder": "v"}, whole={"folder": "u"}) == ()


def test_every_image_twice_in_two_kinds_of_file(tmp_path: Path) -> None:
    trees(tmp_path, "v")
    for file in list((tmp_path / "v").rglob("*.png")):
        with Image.open(file) as image:
            image.save(file.with_name(f"again-{file.stem}.bmp"))
    with pytest.raises(UserError, match=r"the test part of 'part' are pixel for pixel among its own tune part"):
        planned(tmp_path, part={"folder": "v", "test_fraction": 0.5})


def test_a_few_copies_among_pictures_of_other_sizes(tmp_path: Path) -> None:
    """However few of a set have the size of the other's: none of those that are looked at has."""
    trees(tmp_path, "v", "w")
    for place, file in enumerate(sorted((tmp_path / "w").rglob("*.png"))):
        Image.open(file).resize((20 + place % 3, 20)).save(file)
    for name in sorted(file.name for file in (tmp_path / "w").iterdir()):
        Image.open(tmp_path / "v" / name / "3.png").save(tmp_path / "w" / name / "1a.png", compress_level=1)
    with pytest.raises(UserError, match=r"4 of 4\d images .*pixel for pixel"):
        planned(tmp_path, part={"folder": "v"}, whole={"folder": "w"})


def test_pixels_of_too_many_images_are_compared_by_a_deep_check_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees(tmp_path, "v")
    rows = {"part": {"folder": "v"}, "whole": in_an_array(tmp_path)}
    sets = {name: open_data(name, DataRow.model_validate(row), tmp_path, None) for name, row in rows.items()}
    roles = Roles("", ("part", "whole"), (), ("part", "whole"))
    monkeypatch.setattr("rib.data.overlap.MOST_PIXELS", 100)
    (note,) = overlaps(sets, roles)
    assert not note.refused
    assert "copies of one picture in other bytes are not looked for: rib data check --deep does" in note.words
    assert overlaps(sets, roles, deep=True)[0].refused


def test_pixels_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees(tmp_path, "v", "w")
    saved(tmp_path / "w", ".bmp")
    suite = suite_of(tmp_path, part={"folder": "v"}, whole={"folder": "w"})
    assert make_plan(suite, tmp_path / "facts").notes == ()
    monkeypatch.setattr("rib.data.pictures.decode_pixels", lambda *_: pytest.fail("decoded again"))
    assert make_plan(suite, tmp_path / "facts").notes == ()
    file = next((tmp_path / "w").rglob("*.bmp"))
    Image.new("RGB", (12, 12)).save(file)
    with pytest.raises(pytest.fail.Exception):
        make_plan(suite, tmp_path / "facts")


def test_images_of_the_embedded_suite_in_a_tree_are_its_images(tmp_path: Path) -> None:
    rendered = render("sketch", "test", 40)
    for place, (image, label) in enumerate(zip(rendered.images, rendered.labels, strict=True)):
        folder = tmp_path / "v" / DIGITS[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{place}.png")
    sets = {
        "mine": open_data("mine", DataRow(folder="v"), tmp_path, None),
        "digits:sketch": open_data("digits:sketch", DataRow(digits="sketch"), tmp_path, None),
    }
    found = overlaps(sets, Roles("", ("mine", "digits:sketch"), (), ("mine",)))
    assert any(one.refused and "40 of" in one.words and "pixel for pixel" in one.words for one in found)
