"""The published ImageNet sets: class order, label maps, counts, sources, containers, faults, preprocessing."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import trees
from rib import _compat
from rib.cli import main
from rib.data import published as published_module
from rib.data.base import DataSet
from rib.data.catalogue import ROWS, DataRow, open_data
from rib.data.check import check
from rib.data.imagenet_classes import class_names, objectnet, subset, wnids
from rib.data.images import SUFFIXES, apply_view, decode_image, read_image
from rib.data.labels import LabelMap, match_classes
from rib.data.published import PUBLISHED, VALIDATION
from rib.data.splits import tuning_rows
from rib.data.views import Pixels
from rib.errors import UserError
from rib.models.classifier import Classifier
from rib.models.small import small_resnet
from rib.models.weights import take_weights, write_weights
from rib.plan import World, make_plan
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.suite.suite import Suite
from rib.training.predict import judge

VIEW = Pixels(24)
MISLABELLED = {
    "Chair": "computer keyboard, keypad",
    "Trash bin": "digital watch",
    "Jeans": "teddy, teddy bear",
    "Skirt": "hamper",
    "Swimming trunks": "wok",
    "Weight scale": "Polaroid camera, Polaroid Land camera",
    "Iron (for clothes)": "vacuum, vacuum cleaner",
    "Binder (closed)": "bucket, pail",
}
SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "imagenet-sample-250.tar"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every class of every set but C, an image each."""
    root = tmp_path_factory.mktemp("whole")
    return trees.lay_out_all(root, 1000, 1, [name for name in trees.NAMES if name != "c"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen classes of every set, two images each; training images too."""
    root = trees.lay_out_all(tmp_path_factory.mktemp("small"), 12, 2)
    trees.lay_out(root, "train", 12, 30)
    return root


def opened(root: Path, key: str, **fields: Any) -> DataSet:
    """A set of a tree, which may be incomplete."""
    row = DataRow(imagenet=key, **({"allow_incomplete": True} | fields))
    return open_data(f"imagenet:{key}", row, root, None)


def map_of(data: DataSet) -> LabelMap:
    """Its label map into the 1000 classes."""
    return match_classes(data.name, data.classes, wnids(), data.targets, data.map_name)


def seen(data: DataSet) -> np.ndarray[Any, Any]:
    """The class that each test image shows, read from its pixels."""
    return trees.class_of(data.read("test", list(range(len(data.index("test")))), VIEW))


def planted(outputs: np.ndarray[Any, Any]) -> torch.Tensor:
    """Logits that name one output each."""
    return torch.nn.functional.one_hot(torch.from_numpy(outputs), 1000).float()


# -- the k-th class reaches the k-th logit ---------------------------------------------------------------------------


def test_class_lists() -> None:
    assert len(wnids()) == 1000
    assert list(wnids()) == sorted(wnids())
    assert class_names()["n01440764"] == "tench, Tinca tinca"
    assert wnids().index("n01440764") == 0
    assert len(subset("a")) == len(subset("r")) == 200
    assert len(set(subset("a")) & set(subset("r"))) == 86
    assert len(objectnet()) == 113
    assert sum(len(row.wnids) for row in objectnet().values()) == 125
    assert sum(len(row.wnids) > 1 for row in objectnet().values()) == 9
    assert len({wnid for row in objectnet().values() for wnid in row.wnids}) == 125


@pytest.mark.parametrize("key", ["val", "v2", "a", "r", "sketch", "cartoon", "drawing", "objectnet"])
def test_planted_predictions(whole: Path, key: str) -> None:
    data = opened(whole, key)
    index, label_map = data.index("test"), map_of(data)
    assert len(index) == len(data.classes) == len(np.unique(index.labels))
    shown = seen(data)
    right = judge(planted(shown), torch.from_numpy(index.labels), label_map)
    assert right.masked_right.all()
    assert right.unmasked_right.all()
    following = np.array([group[0] for group in label_map.groups])[(index.labels + 1) % len(data.classes)]
    wrong = judge(planted(following), torch.from_numpy(index.labels), label_map)
    assert not wrong.masked_right.any()
    assert not wrong.unmasked_right.any()


def test_unmasked_predictions_outside_the_classes_are_wrong(whole: Path) -> None:
    data = opened(whole, "a")
    outside = next(number for number, wnid in enumerate(wnids()) if wnid not in data.classes)
    logits = planted(seen(data)) + 2 * planted(np.full(200, outside))
    found = judge(logits, torch.from_numpy(data.index("test").labels), map_of(data))
    assert found.masked_right.all()
    assert not found.unmasked_right.any()


def test_corruptions_keep_their_classes_and_cells(small: Path) -> None:
    data = opened(small, "c")
    index = data.index("test")
    assert len(index.cell_names) == 75
    assert index.cells is not None
    assert np.bincount(index.cells).tolist() == [24] * 75
    assert (seen(data) == index.labels).all()
    assert index.cell_names[0] == "gaussian_noise/1"
    assert map_of(data).whole


def test_objectnet_takes_the_maximum_over_synonyms(whole: Path) -> None:
    data = opened(whole, "objectnet")
    label_map, labels = map_of(data), data.index("test").labels
    assert label_map.name == "ObjectNet 113, maximum over synonyms"
    last = np.array([label_map.groups[label][-1] for label in labels])
    found = judge(planted(last), torch.from_numpy(labels), label_map)
    assert found.masked_right.all()
    assert found.unmasked_right.all()
    assert len(label_map.groups[data.classes.index("skirt")]) == 3


def test_official_map_mislabels_eight_folders(whole: Path) -> None:
    data = opened(whole, "objectnet_official_105")
    index, label_map = data.index("test"), map_of(data)
    assert len(data.classes) == 105
    assert len(index) == 113
    assert label_map.name == "rib_official_105"
    folder_of = {wnids().index(row.wnids[0]): row for row in objectnet().values()}
    rows = [folder_of[number] for number in seen(data)]
    official = np.array([wnids().index(row.official) for row in rows])
    assert judge(planted(official), torch.from_numpy(index.labels), label_map).masked_right.all()
    given = {row.label: data.classes[label] for row, label in zip(rows, index.labels, strict=True)}
    wrong = {row.label: class_names()[given[row.label]] for row in rows if given[row.label] not in row.wnids}
    assert wrong == MISLABELLED


def test_a_wrong_mapping_file_is_refused(tmp_path: Path) -> None:
    where = trees.lay_out(tmp_path, "objectnet")
    file = where / "mappings" / "objectnet_to_imagenet_1k.json"
    file.write_text(file.read_text().replace("hoopskirt, crinoline; ", ""))
    with pytest.raises(UserError, match="skirt"):
        opened(tmp_path, "objectnet")
    shutil.rmtree(where / "mappings")
    assert len(opened(tmp_path, "objectnet").index("test")) == 24


def test_objectnet_without_the_images_folder_and_without_its_border(tmp_path: Path) -> None:
    where = trees.lay_out(tmp_path, "objectnet")
    for folder in (where / "images").iterdir():
        folder.rename(where / folder.name)
    (where / "images").rmdir()
    data = opened(tmp_path, "objectnet")
    pixels = data.read("test", [0], Pixels(24))
    assert abs(pixels.astype(int) - np.array(trees.colour(int(seen(data)[0])))).max() == 0  # to the very corner


# -- sources, families, draws ----------------------------------------------------------------------------------------


def test_renderings_of_the_validation_images_share_their_sources(small: Path) -> None:
    val = opened(small, "val")
    known = set(val.index("test").sources.tolist())
    assert 1 in known  # ILSVRC2012_val_00000001, of class 0
    for key in ("cartoon", "drawing", "c", "c_5k", "c_native"):
        data = opened(small, key)
        assert set(data.index("test").sources.tolist()) == known
        assert (data.family, data.units) == (val.family, val.units) == (VALIDATION, VALIDATION)
    for key in ("v2", "a", "r", "sketch", "objectnet", "train"):
        data = opened(small, key)
        assert data.family == data.units != VALIDATION
        assert len(set(data.index("test").sources.tolist())) == len(data.index("test"))


def test_draws_are_balanced_fixed_and_independent_between_cells(tmp_path: Path) -> None:
    trees.lay_out(tmp_path, "c", 3, 12)
    data = opened(tmp_path, "c_5k")
    index = data.index("test")
    assert index.cells is not None
    per_cell = [set(index.sources[index.cells == cell].tolist()) for cell in range(75)]
    assert all(len(chosen) == 15 for chosen in per_cell)
    assert len({frozenset(chosen) for chosen in per_cell}) > 70
    counts = np.zeros((75, 1000), int)
    np.add.at(counts, (index.cells, index.labels), 1)
    assert set(counts[counts > 0].tolist()) == {5}
    again = opened(tmp_path, "c_5k").index("test")
    assert (again.sources == index.sources).all()
    assert sorted(per_cell[0])[:5] == [1, 5, 8, 10, 11]  # pinned: the draw is part of what a result is


def test_training_set_has_a_test_part_of_its_own(small: Path) -> None:
    data = opened(small, "train")
    tune, test = data.index("tune"), data.index("test")
    assert data.disjoint
    assert not set(tune.sources.tolist()) & set(test.sources.tolist())
    assert len(tune) + len(test) == 12 * 30
    assert set(np.bincount(test.labels)[np.unique(test.labels)].tolist()) == {6}  # a fifth at most, else 10


def test_fewer_images_than_classes(tmp_path: Path) -> None:
    trees.lay_out(tmp_path, "train", 150, 3)
    index = opened(tmp_path, "train").index("tune")
    rows, _ = tuning_rows(index, 100, 0.0, 0, "train")
    assert len(set(index.labels[rows].tolist())) == 100
    more, _ = tuning_rows(index, 200, 0.0, 0, "train")
    assert set(rows.tolist()) < set(more.tolist())
    assert np.bincount(index.labels[more]).max() == 2
    with pytest.raises(UserError, match="99"):
        tuning_rows(index, 99, 0.0, 0, "train")


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sets that are whole by reduced counts: every class, an image each."""
    rows: dict[str, Any] = dict(PUBLISHED)
    for key, images in (("val", 1000), ("a", 200), ("objectnet", 113)):
        trees.lay_out(tmp_path, key, 1000, 1)
        rows[key] = replace(PUBLISHED[key], images=images, per_class=(1, 1))
    for key, row in rows.items():
        monkeypatch.setitem(published_module.PUBLISHED, key, row)  # type: ignore[arg-type]
    return tmp_path


def test_complete_sets_are_taken(counted: Path) -> None:
    for key in ("val", "a", "objectnet"):
        assert opened(counted, key, allow_incomplete=False).caveat == ""
        found = check(f"imagenet:{key}", ROWS[f"imagenet:{key}"], counted, deep=True)
        assert found.fine
        assert found.survey.state == "complete"
        assert found.decoded == PUBLISHED[key].images


def lose_a_class(where: Path) -> str:
    shutil.rmtree(where / "n01534433")
    return "class 'n01534433' has no folder"


def lose_an_image(where: Path) -> str:
    next((where / "n01534433").iterdir()).unlink()
    return "class 'n01534433' has 0 images, not 1"


def misname(where: Path) -> str:
    (where / "n01534433").rename(where / "n01534433 (1)")
    return "folder 'n01534433 (1)' is no class"


def nest(where: Path) -> str:
    inner = where / "imagenet-a"
    inner.mkdir()
    for folder in [path for path in where.iterdir() if path != inner]:
        folder.rename(inner / folder.name)
    return f"its folders are in {inner}"


def point_too_deep(where: Path) -> str:
    kept = where / "n01534433"
    for folder in [path for path in where.iterdir() if path != kept]:
        shutil.rmtree(folder)
    for file in list(kept.iterdir()):
        file.rename(where / file.name)
    kept.rmdir()
    return f"images lie in {where} itself"


def remove_all(where: Path) -> str:
    shutil.rmtree(where)
    return "there is no folder"


FAULTS = (lose_a_class, lose_an_image, misname, nest, point_too_deep, remove_all)


def words(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command's exit code."""
    monkeypatch.setattr(sys, "argv", ["rib", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_by_check_and_by_plan(
    counted: Path,
    fault: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = fault(counted / "imagenet-a")
    assert words(monkeypatch, "data", "check", "imagenet:a", "--data", str(counted), "--json") == 1
    found = json.loads(capsys.readouterr().out)[0]
    assert not found["fine"]
    assert any(named in text for text in found["faults"])
    assert found["remedy"]
    suite = suite_file(counted, models={"net": net_row(counted)}, sets=("val", "a", "objectnet"), allow=False)
    store = counted / "store"
    for command in ("run",) if fault is remove_all else ("plan", "run"):  # what is not there at all can be planned
        assert words(monkeypatch, command, str(suite), "--data", str(counted), "--store", str(store)) == 2
        said = capsys.readouterr().err
        assert named in said
        assert "remedy" in said


def test_a_truncated_image_is_named_by_check_and_by_plan(
    counted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next((counted / "imagenet-a" / "n01534433").iterdir())
    file.write_bytes(file.read_bytes()[:-200])
    monkeypatch.setenv("COLUMNS", str(1000 + len(str(file))))  # no line is broken within a name
    assert words(monkeypatch, "data", "check", "imagenet:a", "--data", str(counted), "--deep") == 1
    assert file.name in capsys.readouterr().out
    suite = suite_file(counted, models={"net": net_row(counted)}, sets=("val", "a", "objectnet"), allow=False)
    for command in ("plan", "run"):
        assert words(monkeypatch, command, str(suite), "--data", str(counted), "--store", str(counted / "s")) == 2
        assert str(file) in capsys.readouterr().err


def test_check_says_what_is_there(
    counted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = suite_file(counted, models={"net": net_row(counted)}, sets=("val", "a", "objectnet"), allow=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert words(monkeypatch, "data", "check", str(suite), "--data", str(counted)) == 0
    out = capsys.readouterr().out
    assert out.count("complete") == 3
    assert max(map(len, out.splitlines())) <= 80
    shutil.rmtree(counted / "imagenet" / "val")
    assert words(monkeypatch, "data", "check", str(suite), "--data", str(counted)) == 1
    out = capsys.readouterr().out
    assert "image-net.org" in out
    assert "non-commercial" in out


def test_missing_cells_and_wrongly_nested_corruptions(small: Path, tmp_path: Path) -> None:
    where = tmp_path / "imagenet-c"
    shutil.copytree(small / "imagenet-c", where)
    shutil.rmtree(where / "fog" / "3")
    survey = check("imagenet:c", ROWS["imagenet:c"], tmp_path).survey
    assert survey.state == "incomplete"
    assert survey.faults[0] == "cell 'fog/3' is missing"
    (where / "spatter" / "1" / "n01440764").mkdir(parents=True)  # one of the four extra corruptions
    assert not any("spatter" in fault for fault in check("imagenet:c", ROWS["imagenet:c"], tmp_path).survey.faults)
    (where / "weather").mkdir()
    for name in published_module.CORRUPTIONS:
        (where / name).rename(where / "weather" / name)
    survey = check("imagenet:c", ROWS["imagenet:c"], tmp_path).survey
    assert survey.state == "wrong folder"
    assert str(where / "weather") in survey.faults[0]


def test_an_incomplete_copy_is_taken_where_that_is_said_and_every_result_says_so(small: Path) -> None:
    suite = small_suite(small, ("val", "v2", "a"))
    part = World(suite, None).part("imagenet:v2", "test")
    assert part.label_map.name == "ImageNet class numbers, incomplete: 24 of 10,000 images"


# -- where they lie --------------------------------------------------------------------------------------------------


def test_paths_from_the_configuration_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.lay_out(tmp_path / "there", "v2", 12, 2)
    trees.lay_out(tmp_path / "there", "c", 2, 1)
    moved = (tmp_path / "there" / PUBLISHED["v2"].folders[0]).rename(tmp_path / "matched")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "rib").mkdir(parents=True)
    (tmp_path / "config" / "rib" / "config.toml").write_text(
        '[paths]\n"imagenet:v2" = "/nowhere"\n'
        f'"imagenet:c" = {{ folder = "{tmp_path}/there/imagenet-c", allow_incomplete = true }}\n'
    )
    (work / "rib.toml").write_text('[paths]\n"imagenet:v2" = "../matched"\n')
    by_file = opened(tmp_path, "v2")
    assert len(by_file.index("test")) == 24
    assert len(opened(tmp_path, "c_5k", allow_incomplete=False).index("test")) == 150  # the files of imagenet:c
    monkeypatch.setenv("RIB_PATH_IMAGENET_V2", str(moved))
    (work / "rib.toml").unlink()
    assert opened(tmp_path, "v2").fingerprint("test") == by_file.fingerprint("test")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[paths]\n"imagenet:v3" = "x"', "imagenet:v2"),
        ('[paths]\n"imagenet:v2" = { folder = "x", shards = "y" }', "at most one"),
        ('[paths]\n"imagenet:v2" = { fodler = "x" }', "fodler"),
        ("[paths", "TOML"),
    ],
)
def test_a_wrong_configuration_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rib.toml").write_text(text)
    with pytest.raises(UserError, match=named):
        opened(tmp_path, "v2")


def test_identity_holds_no_path(small: Path, tmp_path: Path) -> None:
    for key in ("v2", "objectnet"):
        folder = PUBLISHED[key].folders[0]
        shutil.copytree(small / folder, tmp_path / "elsewhere" / folder)
        assert opened(small, key).fingerprint("test") == opened(tmp_path / "elsewhere", key).fingerprint("test")


def test_maps_borders_and_native_files_are_part_of_identity(small: Path) -> None:
    pairs = (("objectnet", "objectnet_official_105"), ("c", "c_native"))
    for one, other in pairs:
        assert opened(small, one).fingerprint("test") != opened(small, other).fingerprint("test")


# -- other containers ------------------------------------------------------------------------------------------------


def assert_same(one: DataSet, other: DataSet) -> None:
    """The same images, labels, sources, identity."""
    index, same = one.index("test"), other.index("test")
    assert (index.labels == same.labels).all()
    assert (index.sources == same.sources).all()
    assert one.fingerprint("test") == other.fingerprint("test")
    rows = list(range(len(index)))
    assert (one.read("test", rows, VIEW) == other.read("test", rows, VIEW)).all()


@pytest.mark.parametrize("key", ["val", "v2", "a", "r", "objectnet"])
def test_parquet_equals_the_folders(small: Path, tmp_path: Path, key: str) -> None:
    folder = small / PUBLISHED[key].folders[0]
    folder = folder / "images" if key == "objectnet" else folder
    data = opened(small, key)
    assert_same(data, opened(tmp_path, key, parquet=str(trees.as_parquet(folder, tmp_path / "names"))))
    numbers = {path.name: place for place, path in enumerate(sorted(folder.iterdir()))}
    labelled = trees.as_parquet(folder, tmp_path / "class-labels", numbers)
    assert_same(data, opened(tmp_path, key, parquet=f"{labelled}/test-*.parquet"))


@pytest.mark.parametrize("key", ["val", "v2", "r", "objectnet", "c"])
def test_shards_equal_the_folders(small: Path, tmp_path: Path, key: str) -> None:
    folder = small / PUBLISHED[key].folders[0]
    folder = folder / "images" if key == "objectnet" else folder
    data = opened(small, key)
    assert_same(data, opened(tmp_path, key, shards=str(trees.as_shards(folder, tmp_path / "cls"))))
    if key == "val":
        numbers = {path.name: wnids().index(path.name) for path in folder.iterdir()}
        shards = trees.as_shards(folder, tmp_path / "json", numbers, fields=True)
        assert_same(data, opened(tmp_path, key, shards=f"{shards}/set-{{0000..0001}}.tar"))


def test_containers_of_the_users_own(tmp_path: Path) -> None:
    for number, name in enumerate(("ant", "bee", "cat")):
        trees._write(tmp_path / "tree" / name, [f"{image}.png" for image in range(6)], trees.encoded(number, "PNG"))
    rows = {
        "folder": DataRow(folder="tree", test_fraction=0.5),
        "parquet": DataRow(parquet=str(trees.as_parquet(tmp_path / "tree", tmp_path / "p")), test_fraction=0.5),
        "shards": DataRow(shards=str(trees.as_shards(tmp_path / "tree", tmp_path / "s")), test_fraction=0.5),
        "numbers": DataRow(
            shards=str(trees.as_shards(tmp_path / "tree", tmp_path / "n", {"ant": 0, "bee": 1, "cat": 2})),
            classes=("ant", "bee", "cat"),
            test_fraction=0.5,
        ),
    }
    sets = [open_data("own", row, tmp_path, tmp_path / "cache") for row in rows.values()]
    for data in sets:
        assert data.classes == ("ant", "bee", "cat")
        assert len(data.index("tune")) == 9
        for part in ("tune", "test"):
            assert data.fingerprint(part) == sets[0].fingerprint(part)
        assert_same(sets[0], data)
    assert all(check(name, row, tmp_path).fine for name, row in rows.items())


def test_a_truncated_shard_and_a_truncated_parquet_file_are_named(small: Path, tmp_path: Path) -> None:
    folder = small / PUBLISHED["v2"].folders[0]
    shard = trees.as_shards(folder, tmp_path / "s") / "set-0001.tar"
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
    shard.write_bytes(shard.read_bytes()[: members[-2].offset_data + 100])
    with pytest.raises(UserError, match=r"set-0001\.tar.*"):
        opened(tmp_path, "v2", shards=str(tmp_path / "s"))
    assert members[-2].name in check("v2", DataRow(imagenet="v2", shards="s"), tmp_path).survey.faults[0]
    file = trees.as_parquet(folder, tmp_path / "p") / "test-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match=file.name):
        opened(tmp_path, "v2", parquet=str(tmp_path / "p"))


def test_a_truncated_image_within_a_container_is_named(tmp_path: Path) -> None:
    where = trees.lay_out(tmp_path, "v2", 5, 2)
    file = next((where / "10").iterdir())
    file.write_bytes(file.read_bytes()[:300])
    for kind, make in (("parquet", trees.as_parquet), ("shards", trees.as_shards)):
        data = opened(tmp_path, "v2", **{kind: str(make(where, tmp_path / kind))})
        with pytest.raises(UserError, match=file.name):
            data.fingerprint("test")
        assert file.name in check("x", DataRow(imagenet="v2", **{kind: kind}), tmp_path).unreadable[0]


def test_rows_that_contradict_themselves_are_refused() -> None:
    for fields, named in (
        ({"imagenet": "v3"}, "v3"),
        ({"imagenet": "v2", "classes": ("a",)}, "classes"),
        ({"imagenet": "v2", "folder": "x", "shards": "y"}, "at most one"),
        ({"folder": "x", "parquet": "y"}, "exactly one"),
        ({"folder": "x", "allow_incomplete": True}, "allow_incomplete"),
        ({"parquet": "x", "test_shards": "y"}, "test_shards"),
    ):
        with pytest.raises(ValueError, match=named):
            DataRow(**fields)  # type: ignore[arg-type]


# -- pixels ----------------------------------------------------------------------------------------------------------


Photographs = list[tuple[str, Image.Image, Image.Image]]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """Name, our reading and Pillow's: made images of odd shapes, and real ones where they lie beside a checkout."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for number, (width, height) in enumerate([(500, 375), (375, 500), (224, 224), (256, 300), (97, 411), (640, 227)]):
        coarse = Image.fromarray(generator.integers(0, 255, (height // 9 + 1, width // 9 + 1, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"made-{number}.jpg", quality=92)
    if SAMPLE.is_file():
        with tarfile.open(SAMPLE) as archive:
            archive.extractall(folder, filter="data")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [(file.name, read_image(file), Image.open(file).convert("RGB")) for file in files]


@pytest.mark.parametrize("crop", [0.875, 0.9, 0.95, 1.0])
def test_preprocessing_equals_timm(photographs: Photographs, crop: float) -> None:
    _compat.declare_missing_operators()
    from timm.data import create_transform

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = create_transform((3, 224, 224), interpolation="bicubic", mean=mean, std=std, crop_pct=crop)
    assert_equal_tensors(photographs, theirs, Pixels(224, crop, "bicubic"), mean, std)


def test_preprocessing_equals_torchvision(photographs: Photographs) -> None:
    _compat.declare_missing_operators()
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    bilinear = InterpolationMode.BILINEAR
    theirs = Compose([Resize(256, bilinear), CenterCrop(224), ToTensor(), Normalize(mean, std)])
    assert_equal_tensors(photographs, theirs, Pixels(224, 0.875, "bilinear"), mean, std)


def assert_equal_tensors(
    photographs: Photographs, theirs: Callable[[Any], torch.Tensor], view: Pixels, mean: Any, std: Any
) -> None:
    """Pixels equal, and tensors after normalisation to 1e-6."""
    classifier = Classifier(torch.nn.Sequential(torch.nn.Linear(1, 2)), 2, mean, std)
    scale, offset = torch.tensor(std).view(3, 1, 1), torch.tensor(mean).view(3, 1, 1)
    for name, ours, reference in photographs:
        pixels = torch.from_numpy(apply_view(ours, view).copy())
        expected = theirs(reference)
        assert (classifier.prepared(pixels[None])[0] - expected).abs().max() <= 1e-6, name
        back = ((expected * scale + offset) * 255).round().to(torch.uint8).permute(1, 2, 0)
        assert torch.equal(back, pixels), name


def test_every_format_and_mode_is_read_as_rgb(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    colours = Image.fromarray(generator.integers(0, 255, (30, 20, 3), np.uint8)).resize((60, 90))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    files: dict[str, Image.Image] = {
        "rgb.jpg": colours,
        "cmyk.jpg": colours.convert("CMYK"),
        "grey.jpg": colours.convert("L"),
        "palette.png": colours.convert("P"),
        "alpha.png": colours.convert("RGBA"),
        "grey.png": colours.convert("LA"),
        "one.png": colours.convert("1"),
        "lossy.webp": colours,
        "turned.jpg": colours,
    }
    for name, image in files.items():
        image.save(tmp_path / name, **({"exif": exif} if name == "turned.jpg" else {}))
        with Image.open(tmp_path / name) as theirs:
            expected = np.asarray(theirs.convert("RGB"))
        assert (np.asarray(read_image(tmp_path / name)) == expected).all()
        assert read_image(tmp_path / name).size == (60, 90)  # EXIF orientation is not applied
        with pytest.raises(UserError, match=name):
            decode_image((tmp_path / name).read_bytes()[:120], name)


def test_native_images_are_left_as_they_are() -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 255, (224, 224, 3), np.uint8))
    assert (apply_view(image, Pixels(224, 0.9), native=True) == np.asarray(image)).all()
    assert (apply_view(image, Pixels(224, 0.9)) != np.asarray(image)).any()
    assert apply_view(image, Pixels(160, 0.9), native=True).shape == (160, 160, 3)


# -- the whole road --------------------------------------------------------------------------------------------------


def net_row(folder: Path) -> dict[str, Any]:
    """A model of 1000 classes with random weights."""
    write_weights(folder / "net.safetensors", take_weights(small_resnet(num_classes=1000, width=8)))
    return {
        "build": "rib.models.small:small_resnet",
        "arguments": {"width": 8},
        "size": 24,
        "weights": str(folder / "net.safetensors"),
    }


def suite_file(folder: Path, models: dict[str, Any], sets: tuple[str, ...], allow: bool) -> Path:
    """A suite of three published sets, in a file."""
    row = models["net"]
    lines = [
        'name = "trees"',
        f'reference = "imagenet:{sets[0]}"',
        f"downstream = {json.dumps([f'imagenet:{key}' for key in sets[1:]])}",
        'models = ["net"]',
        "[model.net]",
        f'build = "{row["build"]}"',
        "arguments = { width = 8 }",
        f"size = {row['size']}",
        f'weights = "{row["weights"]}"',
    ]
    if allow:
        lines += ["[data]"] + [f'"imagenet:{key}" = {{ imagenet = "{key}", allow_incomplete = true }}' for key in sets]
    file = folder / "trees.toml"
    file.write_text("\n".join(lines))
    return file


def small_suite(root: Path, sets: tuple[str, ...], **fields: Any) -> Suite:
    """A suite on the small trees, whose copies may be incomplete."""
    document = {
        "name": "trees",
        "reference": f"imagenet:{sets[0]}",
        "downstream": [f"imagenet:{key}" for key in sets[1:]],
        "models": ["net"],
        "model": {"net": net_row(root)},
        "data": {f"imagenet:{key}": {"imagenet": key, "allow_incomplete": True} for key in (*sets, "c_5k")},
        "recipe": {"epochs": 1, "batch_size": 16, "lr": 0.001},
    }
    return parse_suite(document | fields).based_at(root)


def test_a_suite_of_published_sets_runs(small: Path, tmp_path: Path) -> None:
    from rib.execute.run import execute
    from rib.report.headline import headline
    from rib.results.results import Results
    from rib.steps import How

    suite = small_suite(
        small,
        ("val", "v2", "a", "objectnet", "cartoon"),
        evaluate=["imagenet:c_5k"],
        runs=[{"methods": ["finetune"], "sizes": ["all"]}],
    )
    store = Store(tmp_path / "store")
    plan = make_plan(suite, store.facts)
    outcome = execute(plan, store, How(workers=1, device="cpu"))
    assert not outcome.failed
    results = Results(plan, store, draws=50)
    maps = {score.tested_on: score.label_map for score in results.scores}
    assert maps["objectnet"] == "ObjectNet 113, maximum over synonyms, incomplete: 24 of 18,574 images"
    assert results.caveats[0] == "v2: incomplete: 24 of 10,000 images"
    console = Console(file=io.StringIO(), width=100)
    console.print(headline(results, 100))
    assert "v2: incomplete: 24 of 10,000 images" in console.file.getvalue()  # type: ignore[attr-defined]
    row = next(row for row in results.summaries if row.method == "finetune")
    assert row.mri is not None
    assert row.missing == ()
