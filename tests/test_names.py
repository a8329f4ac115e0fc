"""Names: short where nothing else is called that, full where something is, and refused where neither helps."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rib
from helpers import Say, document, toml
from rib.errors import UserError
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import How
from rib.suite.load import parse_suite
from rib.text.names import RESERVED, Names, few, folded

NAMES = st.lists(st.from_regex(r"(([abAé]|own):){0,2}([abAé]|own|mean)", fullmatch=True), min_size=1, unique=True)


@given(NAMES)
def test_shown_names_differ_and_lead_back(full: list[str]) -> None:
    """Two names are never shown alike, case and Unicode form aside, and what is shown can be given."""
    names = Names(full)
    shown = [names.short(name) for name in full]
    plain = {folded(name) for name in full}
    if len(plain) == len(full):
        assert len({folded(name) for name in shown}) == len(full)
    for name, seen in zip(full, shown, strict=True):
        assert names.find(name, "data set") == name
        assert names.find(seen, "data set") == name
        assert seen in (name, name.rpartition(":")[2])
        assert seen == name or folded(seen) not in RESERVED


def test_an_ambiguous_name_is_refused_with_the_full_ones() -> None:
    names = Names(["one:set", "two:set", "three:SET", "digits:v2", "plain"])
    assert [names.short(name) for name in names.full] == ["one:set", "two:set", "three:SET", "v2", "plain"]
    with pytest.raises(UserError, match="ambiguous") as error:
        names.find("set", "data set")
    assert error.value.valid == "one:set, two:set"
    with pytest.raises(UserError, match="unknown data set"):
        names.find("one:v2", "data set")


def test_a_set_and_a_namespaced_set_of_one_name() -> None:
    names = Names(["set", "one:set"])
    assert names.find("set", "data set") == "set"
    assert names.short("one:set") == "one:set"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished suite in which every short name is taken twice."""
    folder = tmp_path_factory.mktemp("names")
    made = document(folder, models=["resnet", "vit"], runs=[{"methods": ["finetune", "Finetune"], "sizes": [12]}])
    data, model = made["data"], made["model"]
    sets = [name for name in data if name != made["reference"]]
    made["data"] = {made["reference"]: data[made["reference"]], "one:set": data[sets[0]], "two:set": data[sets[1]]}
    made["downstream"], made["evaluate"] = ["two:set", "one:set"], []
    made["model"] = {"a:m": model["resnet"], "b:m": model["vit"]}
    made["models"] = ["a:m", "b:m"]
    made["method"] = {"Finetune": {"kind": "finetune", "lr": 0.001}}
    (folder / "twice.toml").write_text(toml(made))
    rib.run(folder / "twice.toml", store=folder / "rib-store", how=How(workers=1, device="cpu"))
    return folder


def test_everything_that_is_written_tells_them_apart(
    place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    code, said = rib_says("report", "twice.toml", "--json")
    assert code == 0, said
    found = json.loads(said)
    scores = found["scores"]
    key = ("model", "method", "size", "seed", "tuned_on", "tested_on")
    assert len({tuple(score[name] for name in key) for score in scores}) == len(scores)
    assert {score["tested_on"] for score in scores} == {"one:set", "two:set", "clean"}
    assert {score["model"] for score in scores} == {"a:m", "b:m"}
    for row in found["summaries"]:
        assert row["method"] == "pretrained" or set(row["ri"]) == {"one:set", "two:set"}
    code, said = rib_says("report", "twice.toml", "--html", "p.html", "--latex", "t.tex", "--parquet", "out")
    assert code == 0, said
    assert "a:m" in said
    for text in (Path("p.html").read_text(), Path("t.tex").read_text()):
        assert "a:m" in text
        assert "b:m" in text
    written = pq.read_table("out/scores.parquet").to_pylist()
    assert {row["tuned_on"] for row in written} == {None, "one:set", "two:set"}
    runs = pq.read_table("out/ri.parquet").to_pylist()
    assert len({(row["model"], row["method"], row["tuned_on"]) for row in runs}) == len(runs) == 8


def test_every_model_is_exported_to_a_place_of_its_own(
    place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    code, said = rib_says("export", "out", "twice.toml")
    assert code == 0, said
    paths = [Path(line) for line in said.splitlines() if line.startswith("out")]
    assert len({folded(str(path)) for path in paths}) == len(paths) == 2 * (1 + 2 * 2)
    assert rib_says("export", "out", "twice.toml")[0] == 0, "the same models may be written again"
    code, said = rib_says("export", "one", "twice.toml", "--model", "m")
    assert (code, "ambiguous" in said) == (2, True), said
    code, said = rib_says(
        "export", "one", "twice.toml", "--model", "a:m", "--tuned-on", "one:set", "--method", "finetune"
    )
    assert code == 0, said
    assert len([line for line in said.splitlines() if line.startswith("one")]) == 1
    code, said = rib_says("export", "one", "twice.toml", "--method", "fine")
    assert (code, "did you mean 'finetune'" in said) == (2, True), said


def test_export_overwrites_no_other_model(place: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words = ("export", "held", "twice.toml", "--model", "a:m", "--method", "finetune", "--tuned-on", "one:set")
    code, said = rib_says(*words)
    assert code == 0, said
    file = Path(next(line for line in said.splitlines() if line.startswith("held")))
    card = file.with_suffix(".md")
    card.write_text(card.read_text().replace("Key of the step: `", "Key of the step: `x"))
    before = file.read_bytes()
    code, said = rib_says(*words)
    assert code == 2
    assert "would overwrite another model" in said
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["own", "mean", "Pretrained", "reference", "the set tuned on"])
def test_a_set_is_not_called_by_a_word_of_the_tables(tmp_path: Path, name: str) -> None:
    made = document(tmp_path)
    first = made["downstream"][0]
    made["data"][name] = made["data"].pop(first)
    made["downstream"][0] = name
    with pytest.raises(UserError, match="tables use that word"):
        parse_suite(made)
    made["data"][f"mine:{name}"] = made["data"].pop(name)
    made["downstream"][0] = f"mine:{name}"
    assert parse_suite(made).set_names.short(f"mine:{name}") == f"mine:{name}"


def test_two_methods_of_one_name_are_refused(tmp_path: Path) -> None:
    made = document(tmp_path, runs=[{"methods": ["w", "w alpha=0.5"]}])
    made["method"] = {
        "w": {"kind": "wise_ft", "sweep": {"alpha": [0.5, 0.25]}},
        "w alpha=0.5": {"kind": "wise_ft", "alpha": 0.75},
    }
    with pytest.raises(UserError, match=r"two methods of the suite have the name 'w alpha=0\.5'"):
        make_plan(parse_suite(made).based_at(tmp_path))
    made["method"]["pretrained"] = {"kind": "finetune"}
    with pytest.raises(UserError, match="tables use that word"):
        parse_suite(made)


def test_close_values_of_a_sweep_stay_apart(tmp_path: Path) -> None:
    made = document(tmp_path, runs=[{"methods": ["w"]}])
    made["method"] = {"w": {"kind": "wise_ft", "sweep": {"alpha": [0.1234567, 0.12345671, 0.5]}}}
    plan = make_plan(parse_suite(made).based_at(tmp_path))
    assert {run.method for run in plan.runs} == {
        "pretrained", "w alpha=0.1234567", "w alpha=0.12345671", "w alpha=0.5",
    }  # fmt: skip


def test_models_by_short_name_are_those_of_the_suite_first(tmp_path: Path) -> None:
    made = document(tmp_path)
    made["model"]["mine:resnet_small"] = made["model"].pop("resnet")
    made["models"] = ["mine:resnet_small"]
    suite = parse_suite(made)
    assert suite.with_models(["resnet_small"]).models == ("mine:resnet_small",)
    assert suite.with_models(["digits:resnet_small"]).models == ("digits:resnet_small",)
    made["model"]["yours:resnet_small"] = made["model"]["mine:resnet_small"]
    made["models"].append("yours:resnet_small")
    with pytest.raises(UserError, match="ambiguous"):
        parse_suite(made).with_models(["resnet_small"])


# -- what a plan says --------------------------------------------------------------------------------------------------


def test_plan_says_every_setting_that_changes_a_number(tmp_path: Path, rib_says: Say) -> None:
    made = document(tmp_path, models=["resnet", "vit"], runs=[{"methods": ["finetune", "slow"], "sizes": [12, "all"]}])
    made["recipe"] = {"epochs": 3, "batch_size": 7, "lr": 0.0123, "warmup_fraction": 0.25, "weight_decay": 0.125}
    made["tuning"] = {"vit": {"optimizer": "adamw", "label_smoothing": 0.0625}}
    made["method"] = {"slow": {"kind": "finetune", "lr": 0.00077, "freeze": ["norm"]}}
    (tmp_path / "tiny.toml").write_text("\ufeff" + toml(made), "utf-8")
    code, said = rib_says("plan", "tiny.toml")
    assert code == 0, said
    assert "resnet: sgd, lr 0.0123, momentum 0.9, weight decay 0.125, 3 epochs, batches of 7, warm-up 25 %" in said
    assert "vit: adamw, lr 0.0123, weight decay 0.125, 3 epochs" in said
    assert "label smoothing 0.0625, fp32; predictions in fp32, batches of 256" in said
    assert "slow: lr 0.00077, freeze norm" in said
    assert "seeds 0; sizes 12, all; 25 % of each tuning pool held out" in said
    assert "images decoded: exact" in said
    code, said = rib_says("plan", "tiny.toml", "--json")
    assert code == 0, said
    settings = json.JSONDecoder().raw_decode(said)[0]["settings"]  # notes follow, on standard error
    assert set(settings["recipes"]["vit"]) == set(Recipe.model_fields)
    assert settings["recipes"]["vit"]["optimizer"] == "adamw"
    assert settings["methods"]["slow"]["lr"] == 0.00077
    assert (settings["held_out"], settings["decode"], settings["seeds"]) == (0.25, "exact", [0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "cannot read the suite file"),
        ("name = 'é'".encode("utf-16"), "save it as UTF-8"),
        ("name = 'é'".encode("latin-1"), "save it as UTF-8"),
        (None, "neither a file nor a link to one"),
    ],
)
def test_a_suite_file_that_cannot_be_read(tmp_path: Path, rib_says: Say, content: bytes | None, said: str) -> None:
    file = tmp_path / "suite.toml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    code, words = rib_says("plan", file)
    assert (code, said in words) == (2, True), words


def test_few_names() -> None:
    assert few([str(number) for number in range(6)]) == "0, 1, 2, 3, 4, 5"
    assert few([str(number) for number in range(9)]) == "0, 1, 2, 3, 5 more"
