"""One grammar: rib VERB SUITE …; hints name absolute places; help is whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from helpers import Say, document, model_row, toml
from rib import studies
from rib.analysis import ANALYSES
from rib.cli import completion
from rib.data.catalogue import ROWS as DATA
from rib.execute.progress import Announced, Silent
from rib.methods import METHODS
from rib.metrics.intervals import Interval
from rib.models.catalogue import ROWS as MODELS
from rib.objectives import OBJECTIVES
from rib.report.recommend import advised
from rib.results import words as in_words
from rib.results.recommendation import Advice, Candidate
from rib.suite.load import shipped


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    made = document(tmp_path)
    made["runs"] = []
    (tmp_path / "s.toml").write_text(toml(made))
    model_row(tmp_path, "resnet", 1)
    return tmp_path / "s.toml"


def test_compare_takes_the_suite_first(suite: Path, rib_says: Say) -> None:
    tuned = suite.parent / "resnet-1.safetensors"
    words = ("--workers", 1, "--store", "store", "--json")
    first = rib_says("compare", suite, "resnet", tuned, *words)[1]
    second = rib_says("compare", "resnet", tuned, "--suite", suite, *words)[1]
    assert '"suite": "tiny"' in first
    assert first[first.index("{") : first.rindex("}")] == second[second.index("{") : second.rindex("}")]
    for wrong in (["resnet"], [suite, "resnet", tuned, "x"], [suite, "resnet", tuned, "--suite", suite]):
        code, said = rib_says("compare", *wrong, *words)
        assert (code, "valid:  SUITE BASE TUNED" in said) == (2, True)


def test_export_takes_the_suite_first(suite: Path, rib_says: Say) -> None:
    for words in ((suite, "out"), ("out", suite)):
        code, said = rib_says("export", *words, "--store", "empty")
        assert code == 2
        assert "is finished" in said
    code, said = rib_says("export", "one", "two")
    assert (code, "valid:  SUITE FOLDER" in said) == (2, True)


def test_study_takes_the_suite_first(rib_says: Say) -> None:
    listed = rib_says("study")[1]
    assert "size" in listed
    assert rib_says("study", "digits-studies")[1] == listed
    code, said = rib_says("study", "digits-studies", "sise")
    assert (code, "did you mean 'size'?" in said) == (2, True)


def test_a_study_says_what_there_is_to_do_before_it_begins() -> None:
    said: list[str] = []

    class Watcher(Silent):
        def begin(self, steps: int, done: int, work: float) -> None:
            said.append("begins")

        def say(self, line: str) -> None:
            said.append(line)

    Announced(Watcher(), "size").begin(1200, 200, 34567.0)
    Announced(Watcher(), "size").begin(5, 5, 0.0)
    assert said == [
        *("size: 1,000 of 1,200 steps to do, 34,567 forward passes", "begins"),
        *("size: 0 of 5 steps to do", "begins"),
    ]


def test_a_hint_names_the_store_in_full(suite: Path, rib_says: Say, tmp_path: Path) -> None:
    code, said = rib_says("report", suite, "--store", "nowhere")
    assert code == 2
    assert f"got:    {tmp_path / 'nowhere'}" in said
    assert "--store DIR" in said


OFFERED = [
    ("run digits-q", ["digits-quick"]),
    ("run mi", ["mine.toml", "miles/"]),
    ("run digits-quick --models ", ["resnet_small", "resnet_large"]),
    ("run digits-quick --models resnet_small,", ["resnet_small,resnet_large"]),
    ("run mine.toml --models r", ["resnet"]),
    ("export digits-quick out --method l", ["linear_probe", "lp_ft"]),
    ("export digits-quick out --model resnet_l", ["resnet_large"]),
    ("export digits-quick out --tuned-on ", ["v2", "renditions", "sketch"]),
    ("export digits-quick mi", ["miles/"]),
    ("study si", ["size", "similarity"]),
    ("study digits-studies size met", ["methods"]),
    ("study digits-st", ["digits-studies"]),
    ("compare digits-quick resnet_l", ["resnet_large"]),
    ("compare digits-quick resnet_large tu", ["tuned.pth"]),
    ("compare mi", ["mine.toml", "miles/"]),
    ("report broken.toml --models ", []),
]


@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_a_shell_completes_names(
    typed: str, offered: list[str], rib_says: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bash asks for it: the words, and which of them the cursor is in."""
    (tmp_path / "mine.toml").write_text('models = ["resnet"]\n')
    (tmp_path / "broken.toml").write_text("models = [")
    (tmp_path / "miles").mkdir()
    (tmp_path / "mist.txt").touch()
    (tmp_path / "tuned.pth").touch()
    monkeypatch.setenv("_RIB_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"rib {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" "))))
    code, said = rib_says()
    assert (code, sorted(said.split())) == (0, sorted(offered))


def test_completion_of_suites_has_all_that_are_shipped() -> None:
    assert set(completion.suites("")) >= {"digits", "imagenet_rib", "fields", "photos"}


VERBS = "run,plan,status,report,compare,study,recommend,export,verify,suite,suite new,suite check,list,data,data check"


@pytest.mark.parametrize("verb", ["", *VERBS.split(","), "data corrupt", "store", "store gc"])
def test_help_is_not_cut(verb: str, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns, as on a terminal of the usual width."""
    monkeypatch.setenv("COLUMNS", "80")
    code, said = rib_says(*verb.split(), "--help")
    assert code == 0
    assert "…\n" not in said.replace("< -5', …", "")
    assert "..." not in said.partition("\n\n")[2].replace("[STUDY]...", ""), "apart from the line of usage"
    assert all(len(line) <= 80 for line in said.splitlines())


@pytest.mark.parametrize("kind", ["suites", "data", "models", "methods", "objectives", "analyses", "studies"])
def test_every_registered_name_is_listed(kind: str, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "suites": list(shipped()),
        "data": list(DATA),
        "models": list(MODELS),
        "methods": [name for name, each in METHODS.classes.items() if each.listed],
        "objectives": list(OBJECTIVES.classes),
        "analyses": list(ANALYSES.classes),
        "studies": list(studies.names()),
    }
    monkeypatch.setenv("COLUMNS", "80")
    code, said = rib_says("list", kind)
    assert (code, len(known[kind]) > 2) == (0, True)
    assert [name for name in known[kind] if not re.search(rf"^{re.escape(name)} ", said, re.MULTILINE)] == []
    assert all(cell_len(line) <= 80 for line in said.splitlines())


def test_a_hint_keeps_what_selects_a_part(suite: Path, rib_says: Say) -> None:
    options = ("--store", "my store", "--models", "resnet", "--seeds", "0,")
    for verb in (("report",), ("recommend",), ("export",)):
        code, said = rib_says(*verb, suite, *(["out"] if verb == ("export",) else []), *options)
        assert code == 2
        assert f"{suite} --store 'my store' --models resnet --seeds 0," in said
    said = rib_says("plan", suite, *options)[1]
    assert f"rib plan {suite} --store 'my store' --models resnet --seeds 0, --calibrate" in said


def test_a_suite_is_explained_with_the_classes_that_a_set_lacks(suite: Path, rib_says: Say) -> None:
    said = rib_says("suite", "check", suite)[1]
    assert "reference  clean: 4 classes, 24 to tune on" in said
    assert "downstream part: 3 classes of 4, without cat, 18 to tune on" in said


def test_no_number_for_people_is_minus_zero() -> None:
    """Every number with decimals is formatted with a sign, by `signed`, or with z, which drops the sign of zero."""
    for room in ("report", "results"):
        for file in (Path(in_words.__file__).parents[1] / room).rglob("*.py"):
            plain = re.findall(r"\{[^{}\n]*?:\.[12]f\}", file.read_text("utf-8"))
            assert plain == [], file.name
    assert [in_words.signed(value) for value in (-0.04, -0.0, -0.06)] == ["0.0", "+0.0", "-0.1"]


def candidate(model: str, method: str, own: float, ood: float, front: bool, **more: Any) -> Candidate:
    spans = {"own": Interval(own, own - 1, own + 1), "ood": Interval(ood, ood - 1, ood + 1)}
    mri = Interval(-2.0, -3.0, -1.0)
    fields = {"present": None, "absent": None, "worst": None, "beaten_by": None} | more
    return Candidate(model, method, mri=mri, front=front, **spans, **fields)


def test_the_recommendation_is_a_sentence_with_gain_and_cost() -> None:
    tuned = candidate("large", "wise_ft", 80.0, 60.0, True, gain=Interval(5.0, 4.0, 6.0))
    start = candidate("large", "pretrained", 75.0, 62.0, True)
    behind = candidate("small", "finetune", 81.0, 20.0, False, gain=Interval(9.0, 8.0, 10.0))
    said = advised(Advice(100, 100, (behind, tuned, start), 3, (), ()))
    assert said == [
        "Most accurate on the set tuned on: large wise_ft, 80.0 %: +5.0 [+4.0, +6.0] points over large pretrained, and "
        "-2.0 [-3.0, -1.0] points on the other sets, to 60.0 %.",
        "Most accurate on the other sets: large pretrained, without tuning: 75.0 % there, 62.0 % on the others.",
    ]
    assert len(advised(Advice(100, 100, (tuned,), 0, (), ()))) == 1
    assert advised(Advice(100, 100, (), 0, (), ())) == []
    Console(quiet=True).print(said)
