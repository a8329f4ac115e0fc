"""Arguments of Python calls and options: read as the caller meant them, or refused in words before any work."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import rib
from helpers import Say, tiny
from rib.errors import UserError
from rib.files import write_aside
from rib.given import at_home, number_in, numbers_in, path_in, text_in, texts_in
from rib.steps import How
from rib.suite.suite import Suite

ONE = How(workers=1, device="cpu")
NAN = math.nan
Function = Callable[..., Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("given")


@pytest.fixture(scope="module")
def finished(place: Path) -> rib.Finished:
    suite = tiny(
        place, per_class=8, downstream=["whole", "part", "other"], runs=[{"methods": ["finetune"], "sizes": [8]}]
    )
    return rib.run(suite, store=place / "store", how=ONE)


@pytest.fixture(scope="module")
def suite(finished: rib.Finished) -> Suite:
    return finished.results.suite


@pytest.fixture
def compared(place: Path, suite: Suite) -> Function:
    def compare(**changed: Any) -> Any:
        words = {"base": "resnet", "tuned": place / "resnet-0.safetensors", "suite": suite, "store": place / "store"}
        return rib.compare(**words | {"how": ONE} | changed)

    return compare


# -- the readers --------------------------------------------------------------------------------------------------


def test_a_path_is_a_text_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_in("a/b", "it") == path_in(Path("a/b"), "it") == Path("a/b")
    assert path_in("~/a", "it") == at_home(Path("~/a")) == tmp_path / "a"
    assert path_in(np.str_("a"), "it") == Path("a")


@pytest.mark.parametrize(
    "value", [None, 0, 3, True, b"a", ["a"], {"a": 1}, "", "a\0b", "a" * 256, "b/" + "é" * 128, "\ud800"]
)
def test_what_is_no_path_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="the store"):
        path_in(value, "the store")


def test_one_text_is_a_list_of_one() -> None:
    assert texts_in("ri < -2", "it") == texts_in(["ri < -2"], "it") == texts_in(iter(["ri < -2"]), "it") == ("ri < -2",)
    assert texts_in(None, "it") == texts_in((), "it") == ()
    assert texts_in({"b", "a"}, "it") == texts_in(np.array(["a", "b"]), "it") == ("a", "b")
    assert all(type(text) is str for text in texts_in(np.array(["a"]), "it"))


@pytest.mark.parametrize("value", [3, 1.5, b"a", {"a": 1}, [None], [b"a"], [["a"]], [3], [Path("a")], True])
def test_what_is_no_list_of_texts_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="gates"):
        texts_in(value, "gates")


@pytest.mark.parametrize("value", [7, np.int64(7), np.uint8(7), torch.tensor(7)])
def test_a_number_may_be_of_numpy(value: Any) -> None:
    assert number_in(value, "it") == 7
    assert type(number_in(value, "it")) is int


@pytest.mark.parametrize(
    "value",
    [None, True, False, np.True_, "7", b"7", 7.0, NAN, math.inf, np.float64(7), Fraction(7), [7], 0, -1, 10**13],
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="the number of images"):
        number_in(value, "the number of images")


def test_numbers_are_different() -> None:
    assert numbers_in(range(3), "it") == numbers_in(np.arange(3), "it") == numbers_in({2, 0, 1}, "it") == (0, 1, 2)
    assert numbers_in((one for one in (4, 1)), "it") == (4, 1)
    for wrong in ([], [1, 1], [1, np.int64(1)], [-1], [1.0], ["1"], "12", b"12", {1: 2}, 3, None, [True]):
        with pytest.raises(UserError, match="seeds"):
            numbers_in(wrong, "seeds")


# -- functions of the package -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, 3, b"digits", ["digits"], {"name": "x"}, "", True])
@pytest.mark.parametrize(
    "function", [rib.run, rib.plan, rib.recommend, rib.load_suite, lambda suite: rib.study("size", suite=suite)]
)
def test_a_suite_of_another_type_is_refused(
    function: Function, name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        function(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", [None, "", 3, b"store", ["store"], "a\0b"])
def test_a_store_of_another_type_is_refused(
    suite: Suite, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for function in (rib.run, rib.plan, rib.recommend):
        with pytest.raises(UserError, match="the store"):
            function(suite, store=store)
    assert list(tmp_path.iterdir()) == []


def test_home_is_expanded_in_every_path(
    place: Path, finished: rib.Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(tmp_path)
    found = rib.plan(finished.results.suite, store="~/store", data="~")
    assert found.cost.trained == 0
    finished.page("~/page.html")
    assert (place / "page.html").is_file()
    assert list(tmp_path.iterdir()) == []


def test_data_of_a_loaded_suite_are_not_ignored(suite: Suite, place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"clean\.npz"):
        rib.plan(suite, store=tmp_path / "store", data=tmp_path)
    assert rib.plan(suite, store=place / "store", data=str(place)).cost.trained == 0
    for wrong in ("", 0, 3, b"x", [place]):
        with pytest.raises(UserError, match="the folder of the data"):
            rib.plan(suite, store=place / "store", data=wrong)


@pytest.mark.parametrize("images", [0, -1, NAN, math.inf, 1.5, "8", None, True, 10**400, [8]])
def test_recommend_takes_a_number_of_images(suite: Suite, place: Path, images: Any, rib_says: Say) -> None:
    with pytest.raises(UserError, match="the number of images"):
        rib.recommend(suite, images=images, store=place / "store")


def test_recommend_takes_a_number_of_numpy(suite: Suite, place: Path) -> None:
    expected = repr(rib.recommend(suite, images=8, store=place / "store"))
    assert repr(rib.recommend(suite, images=np.int64(8), store=place / "store")) == expected


@pytest.mark.parametrize("name", [None, 3, b"size", ["size"], "", "all"])
def test_a_study_is_named_by_a_text(suite: Suite, place: Path, name: Any) -> None:
    with pytest.raises(UserError, match="study"):
        rib.study(name, suite=suite, store=place / "store", how=ONE)


def test_models_may_be_one_text(suite: Suite) -> None:
    assert suite.with_models("resnet").models == suite.with_models(iter(["resnet"])).models == ("resnet",)
    for wrong in ([], None, [None], [3], 3, b"resnet", {"resnet": 1}):
        with pytest.raises(UserError, match="model"):
            suite.with_models(wrong)


def test_sets_may_be_one_text(suite: Suite) -> None:
    """Not its letters: a set whose name is a part of the text stays."""
    assert suite.without_sets("whole").downstream == ("part", "other")
    assert suite.without_sets("whole part").downstream == suite.downstream
    with pytest.raises(UserError, match="data sets"):
        suite.without_sets(3)


def test_seeds_are_a_number_or_a_list(suite: Suite) -> None:
    for three in (3, np.int64(3), [0, 1, 2], np.arange(3), range(3), (seed for seed in range(3)), {0, 1, 2}):
        seeded = suite.with_seeds(three)
        assert seeded.seeds == (0, 1, 2)
        assert all(type(seed) is int for seed in seeded.seeds)


@pytest.mark.parametrize(
    "seeds", ["3", "01", 0, -1, True, 1.5, NAN, None, [], [1, 1], [1.0], ["1"], [-1], b"12", [True], 10**9]
)
def test_other_seeds_are_refused(suite: Suite, seeds: Any) -> None:
    with pytest.raises(UserError, match="seeds"):
        suite.with_seeds(seeds)


def test_seeds_of_a_generator_reach_every_block(place: Path) -> None:
    made = tiny(place, per_class=8, runs=[{"methods": ["finetune"], "seeds": [5]}, {"methods": ["linear_probe"]}])
    seeded = made.with_seeds(seed for seed in (1, 2))
    assert [block.seeds or seeded.seeds for block in seeded.runs] == [(1, 2), (1, 2)]


@pytest.mark.parametrize(
    "fields",
    [
        {"workers": 0}, {"workers": -1}, {"workers": "2"}, {"workers": 1.5}, {"workers": True},
        {"device": None}, {"device": torch.device("cpu")}, {"threads": 0}, {"threads": None},
        {"keep": "nothing"}, {"keep": None}, {"keep": True}, {"pack_budget": -1}, {"pack_budget": "2GB"},
        {"pack_budget": NAN}, {"at_once": 0}, {"at_once": "2"}, {"at_once": None}, {"chunk_bytes": 0},
        {"checkpoint_seconds": -1}, {"checkpoint_seconds": NAN}, {"checkpoint_seconds": "x"}, {"share": "no"},
    ],
)  # fmt: skip
def test_how_with_another_value_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(
        UserError,
        match=next(iter(fields)).replace("_", "."),
    ):
        How(**fields)


def test_how_takes_numbers_of_numpy() -> None:
    assert How(workers=np.int64(2)) == How(workers=2)
    assert How(checkpoint_seconds=math.inf).checkpoint_seconds == math.inf


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "cpu:", "meta", "mps"])
def test_a_device_that_is_not_here_is_refused_before_any_work(suite: Suite, device: str, tmp_path: Path) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError, match="device"):
        rib.run(suite, store=tmp_path / "store", how=How(device=device))
    assert not (tmp_path / "store" / "records").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("how", {"workers": 1}), ("how", 1), ("runtime", "ray"), ("runtime", {"executor": "ray"})]
)
def test_how_and_runtime_have_their_types(suite: Suite, place: Path, name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{name} has another type"):
        rib.run(suite, store=place / "store", **{name: value})


# -- compare ------------------------------------------------------------------------------------------------------


def test_one_gate_may_be_one_text(compared: Function) -> None:
    """A model compared with itself changes nothing, so that `ri < -2` holds and `ri > -2` is broken."""
    for holds in ("ri < -2", ["ri < -2"], iter(["ri < -2"]), np.array(["ri < -2"])):
        found = compared(fail_if=holds)
        assert [str(verdict.gate) for verdict in found.verdicts] == ["ri < -2"]
        assert [verdict.state for verdict in found.verdicts] == ["holds"]
    assert [verdict.state for verdict in compared(fail_if="ri > -2").verdicts] == ["broken"]


@pytest.mark.parametrize(
    "gates", ["", [""], "ri < -2, worst < -5", ["ri", "< -2"], 3, -2.0, [None], b"ri < -2", {"ri < -2": 1}]
)
def test_other_gates_are_refused(compared: Function, gates: Any) -> None:
    with pytest.raises(UserError, match=r"fail.if"):
        compared(fail_if=gates)


def test_layers_may_be_one_text_or_an_iterator(compared: Function) -> None:
    for given in ("head", ["head"], iter(["head"])):
        looks = [look.step.spec for look in compared(layers=given).pair.plan.looks if look.name == "cka"]
        assert looks
        assert all(spec["analysis"]["layers"] == ["head"] for spec in looks), looks
    for wrong in ("", "stem,head", 3, [None], b"head"):
        with pytest.raises(UserError, match="layer"):
            compared(layers=wrong)


@pytest.mark.parametrize(
    "field", ["weights", "timm", "build", "arguments", "outputs", "pretrain", "weights_key", "sise", 3]
)
def test_a_view_changes_the_preprocessing_alone(compared: Function, place: Path, field: Any) -> None:
    """A view with `weights` would replace those of both models, and show no change for any tuned model."""
    with pytest.raises(UserError, match="unknown field of the view"):
        compared(view={field: str(place / "resnet-0.safetensors")})


def test_a_view_is_a_table_with_values_in_range(compared: Function) -> None:
    assert compared(view={"size": np.int64(12), "mean": np.array([0.5] * 3), "std": [0.5] * 3}).pair.view == {
        "size": 12,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    for wrong in (
        "size",
        [("size", 12)],
        3,
        {"size": 10**9},
        {"size": NAN},
        {"mean": [0.5]},
        {"mean": 0.5},
        {"crop": NAN},
    ):
        with pytest.raises(UserError, match=r"view|options of"):
            compared(view=wrong)


WRONG: dict[str, tuple[Any, ...]] = {
    "base": (None, "", 3, b"resnet", ["resnet"], True, "a" * 300, "a\0"),
    "tuned": (None, "", 3, b"resnet", ["resnet"], True, "a" * 300, "a\0"),
    "tuned_on": ("", 0, 3, ["whole"], Path("whole"), True, "nope"),
    "images": (0, -5, 1.5, NAN, "8", True, [8]),
    "model": (3, ["resnet"]),
    "store": ("", 3, b"x"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_other_arguments_of_compare_are_refused(compared: Function, place: Path, name: str, value: Any) -> None:
    more = {"base": place / "resnet-0.safetensors"} if name == "model" else {}
    with pytest.raises(UserError):
        compared(**more | {name: value})


# -- outputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [None, "", 3, b"x", ".", "a\0b", "a" * 300])
def test_a_page_needs_a_path(
    finished: rib.Finished, path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        finished.page(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", [None, "", 3, ["mri"], "MRI", b"mri"])
def test_tables_and_plots_are_named_by_a_text(finished: rib.Finished, table: Any) -> None:
    with pytest.raises(UserError, match="table"):
        finished.rows(table)
    with pytest.raises(UserError, match="plot"):
        finished.plot(table)


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_no_writer_replaces_a_pipe_a_device_or_a_folder(tmp_path: Path) -> None:
    """A file that is renamed onto /dev/null removes the device, for every program of the machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    before = {path.name: path.lstat().st_ino for path in tmp_path.iterdir()}
    for name in before:
        with pytest.raises(UserError, match="cannot write"):
            write_aside(tmp_path / name, b"x")
    assert {path.name: path.lstat().st_ino for path in tmp_path.iterdir()} == before
    write_aside(tmp_path / "file", b"x")
    write_aside(tmp_path / "file", b"y")
    assert (tmp_path / "file").read_bytes() == b"y"


def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for below in ("page.html", "a/b/page.html"):
        with pytest.raises(UserError, match="cannot write") as told:
            write_aside(tmp_path / "file" / below, b"x")
        assert "choose another path" in str(told.value)
    with pytest.raises(UserError, match="cannot write"):
        write_aside(tmp_path / ("x" * 300), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"mine"


def drawn() -> Any:
    """A figure without content."""
    return pytest.importorskip("matplotlib.figure").Figure((1, 1))


@pytest.mark.parametrize("kind", ["page", "latex", "figures", "parquet", "archive"])
def test_a_file_of_another_kind_is_not_replaced(
    kind: str, place: Path, finished: rib.Finished, tmp_path: Path, rib_says: Say
) -> None:
    """Data, checkpoints and suite files stay; RIB's own file, and an empty one, are replaced."""
    from helpers import toml
    from rib.report.latex import write_latex
    from rib.report.parquet import write_parquet
    from rib.report.plotting import write_drawn
    from rib.upkeep.archive import pack

    results = finished.results
    name, write = {
        "page": ("x.html", lambda folder: finished.page(folder / "x.html")),
        "latex": ("x.tex", lambda folder: write_latex(results, folder / "x.tex")),
        "figures": ("accuracy.png", lambda folder: write_drawn([("accuracy", drawn())], folder, ("png",))),
        "parquet": ("labels.parquet", lambda folder: write_parquet(results, folder)),
        "archive": ("x.tar.gz", lambda folder: pack(results.store, results.plan, {}, folder / "x.tar.gz")),
    }[kind]
    for content in (toml({"name": "mine"}).encode(), (place / "resnet-0.safetensors").read_bytes(), b"\0"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="does not replace"):
            write(tmp_path)
        assert (tmp_path / name).read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).write_bytes(b"")
    write(tmp_path)
    first = (tmp_path / name).read_bytes()
    assert first
    write(tmp_path)
    assert len((tmp_path / name).read_bytes()) == len(first)


def test_a_table_of_the_users_own_is_not_replaced(finished: rib.Finished, tmp_path: Path) -> None:
    from rib.report.parquet import write_parquet

    pq.write_table(pa.table({"image": ["a.png"], "label": [3]}), tmp_path / "labels.parquet")
    with pytest.raises(UserError, match="a table of another kind"):
        write_parquet(finished.results, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.parquet"]


@pytest.mark.parametrize("option", ["--html", "--latex"])
def test_a_target_is_refused_before_any_work(option: str, place: Path, tmp_path: Path, rib_says: Say) -> None:
    (tmp_path / "mine.npz").write_bytes(b"PK\3\4 data")
    for target in ("mine.npz", "", ".", "mine.npz/page.html", "nul\tl/" + "x" * 300):
        for command in ("report",) if option == "--latex" else ("run", "report", "study", "compare"):
            words = (
                ["no.toml", "size"]
                if command == "study"
                else ["no.toml", "a", "b"]
                if command == "compare"
                else ["no.toml"]
            )
            code, said = rib_says(command, *words, option, target)
            assert code == 2
            assert "no.toml" not in said, "the target is looked at before the suite"
    assert (tmp_path / "mine.npz").read_bytes() == b"PK\3\4 data"


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--models", ""],
        ["plan", "--models", " , "],
        ["compare", "digits", "", "resnet_large"],
        ["compare", "digits", "resnet_large", ""],
        ["compare", "digits", "resnet_large", "resnet_large", "--tuned-on", ""],
        ["compare", "digits", "resnet_large", "resnet_large", "--fail-if", ""],
        ["compare", "digits", "resnet_large", "resnet_large", "--size", "1000000000"],
        ["report", "--store", ""],
        ["study", ""],
        ["export", "digits", "out", "--store", ""],
        ["store", "import", ""],
        ["store", "export", "digits", ""],
    ],
)
def test_empty_and_huge_options_are_refused(words: list[str], rib_says: Say, tmp_path: Path) -> None:
    assert rib_says(*words)[0] == 2
    assert text_in("a", "it") == "a"
    assert [path.name for path in tmp_path.iterdir() if path.name != "rib-store"] == []
