"""What comes from others lets nothing in: weights, suites, data, names. SECURITY.md says what is meant to hold."""

from __future__ import annotations

import ast
import pickle
import re
import socket
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from rich.table import Table
from rich.text import Text

import rib
from helpers import CLASSES, Say, command, document, toml, write_arrays, write_tree
from rib.errors import UserError
from rib.identity import import_object
from rib.models.checkpoints import read_checkpoint
from rib.suite.load import parse_suite
from rib.text.terminal import console, printable

PACKAGE = Path(rib.__file__).parent

NASTY = "</script><script>alert(1)</script>"
QUOTE = "\"'><img src=x onerror=alert(2)>"
MARKUP = "[red]x[/red] [/] :smile:"


# -- weights -----------------------------------------------------------------------------------------------------------


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".pkl"])
@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_a_pickle_never_runs_and_the_way_out_is_named(tmp_path: Path, suffix: str, way: str) -> None:
    fired, file = tmp_path / "fired", tmp_path / f"model{suffix}"
    if way == "torch":
        torch.save({"a": Bomb(fired)}, file)
    else:
        file.write_bytes(pickle.dumps({"a": Bomb(fired)}))
    with pytest.raises(UserError, match=r"cannot read the checkpoint[^@]*torch\.save\(torch\.load\(FILE"):
        read_checkpoint(file)
    assert not fired.exists()


def test_arrays_of_objects_are_refused(tmp_path: Path, rib_says: Say) -> None:
    made = document(tmp_path)
    fired = tmp_path / "fired"
    labels = np.array([Bomb(fired)] * 3, dtype=object)
    np.savez(tmp_path / "whole.npz", images=np.zeros((3, 4, 4, 3), np.uint8), labels=labels)
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert "cannot read" in said
    assert not fired.exists()


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_nothing_in_the_source_reads_pickles_or_runs_text(file: Path) -> None:
    for name, call in calls(ast.parse(file.read_text("utf-8"))):
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert name not in {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.jit.load"}
        assert words.get("shell") in (None, "False"), f"{file}:{call.lineno}"
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"{file}:{call.lineno}"
        if name == "np.load":
            assert words.get("allow_pickle") == "False", f"{file}:{call.lineno}"
        if name.endswith((".extractall", ".extract")):
            raise AssertionError(f"{file}:{call.lineno}: archives are unpacked by upkeep/archive.py, member by member")


# -- code --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["os:system", "subprocess:run", "torch.hub:load", "builtins:eval", "timm:create_model", "sys:exit"]
)
def test_a_suite_cannot_choose_among_installed_code(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="a suite alone may not run it") as error:
        import_object(path, "model builder")
    assert f"RIB_TRUST={path.partition(':')[0].partition('.')[0]}" in str(error.value)
    monkeypatch.setenv("RIB_TRUST", "numpy,timm")
    if path.startswith("timm"):
        assert callable(import_object(path, "model builder"))
    else:
        with pytest.raises(UserError):
            import_object(path, "model builder")


def test_a_module_that_does_not_exist_is_not_called_installed() -> None:
    with pytest.raises(UserError, match="cannot import"):
        import_object("nowhere_at_all:x", "method")


def test_the_users_own_module_may_be_named() -> None:
    assert import_object("helpers:bn_net", "model builder").__name__ == "bn_net"
    assert import_object("rib.models.small:small_vit", "model builder").__name__ == "small_vit"


def test_a_suite_that_names_installed_code_stops_before_anything_runs(tmp_path: Path, rib_says: Say) -> None:
    made = document(tmp_path)
    made["model"]["resnet"] |= {"build": "torch.hub:load", "arguments": {"repo_or_dir": "evil/evil", "model": "x"}}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("run", tmp_path / "s.toml", "--workers", 1)
    assert code == 2
    assert "a suite alone may not run it" in said


# -- names that become files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "..", ".x", "", "a\x00b", "a\nb", "-x"])
def test_a_suite_is_not_named_as_another_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        parse_suite(document(tmp_path) | {"name": name})


@pytest.mark.parametrize("weights", ["zoo:../../../x", "zoo:/etc/x", "zoo:", "zoo:a/b"])
def test_shipped_weights_are_named_not_pathed(tmp_path: Path, weights: str) -> None:
    made = document(tmp_path)
    made["model"]["resnet"]["weights"] = weights
    with pytest.raises(UserError, match="names no shipped weights"):
        parse_suite(made)


def everything(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_nothing_is_written_outside_whatever_the_names(tmp_path: Path, rib_says: Say) -> None:
    """Names of models, methods and data sets that are paths: everything a run and its reports write stays in place."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    made = document(inner)
    made["models"] = ["../../../evil"]
    made["model"] = {"../../../evil": made["model"]["resnet"]}
    made["data"]["../../worse"] = made["data"].pop("part")
    made["downstream"] = ["whole", "../../worse"]
    made["method"] = {"../../../worst": {"kind": "finetune"}}
    made["runs"] = [{"methods": ["../../../worst"]}]
    (inner / "s.toml").write_text(toml(made))
    before = everything(tmp_path)
    where = ("--store", inner / "store")
    code, said = rib_says("run", inner / "s.toml", *where, "--workers", 1)
    assert code == 0, said
    assert rib_says("export", inner / "out", inner / "s.toml", *where)[0] == 0
    pytest.importorskip("matplotlib")
    words = ("--parquet", inner / "parquet", "--figures", inner / "figures", "--latex", inner / "t.tex")
    assert rib_says("report", inner / "s.toml", *where, *words)[0] == 0
    new = {path.parts[:3] for path in everything(tmp_path) - before}
    assert {parts[:3] for parts in new} == {
        ("a", "b", name) for name in ("store", "out", "parquet", "figures", "t.tex")
    }


# -- names that are shown ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite whose every name tries to be something else, run."""
    folder = tmp_path_factory.mktemp("nasty")
    made = document(folder)
    classes = (f"ant{NASTY}", f"bee{QUOTE}", f"cat{MARKUP}", "dog\\input{x}$&_")
    (folder / "x").mkdir()
    for number, name in enumerate(("clean", "whole", "other")):
        labels = np.tile(np.arange(4), 12)
        with np.load(write_arrays(folder / "x" / "a.npz", number, CLASSES)) as found:
            np.savez(folder / f"{name}.npz", images=found["images"], labels=labels, classes=np.array(classes))
    row = {"arrays": "other.npz", "test_fraction": 0.5}
    made["data"] = {name: row | {"arrays": f"{name}.npz"} for name in ("clean", "whole")} | {NASTY: row}
    made["downstream"] = ["whole", NASTY]
    made["models"] = [MARKUP]
    made["model"] = {MARKUP: made["model"]["resnet"]}
    made["method"] = {QUOTE: {"kind": "finetune"}}
    made["runs"] = [{"methods": [QUOTE]}]
    made["description"] = made["note"] = NASTY + QUOTE
    made["analyses"] = [{"names": ["drift", "forgetting"]}]
    (folder / "s.toml").write_text(toml(made))
    return folder


def test_names_are_escaped_wherever_they_are_shown(nasty: Path, rib_says: Say) -> None:
    where = (nasty / "s.toml", "--store", nasty / "store")
    code, said = rib_says("run", *where, "--workers", 1)
    assert code == 0, said
    for words in (("report",), ("plan", "--all"), ("status",)):
        code, said = rib_says(words[0], *where, *words[1:])
        assert code == 0, said
    assert MARKUP in rib_says("plan", *where, "--all")[1]
    assert MARKUP in rib_says("report", *where)[1]
    page = next((nasty / "store" / "reports").glob("*.html")).read_text()
    own = page[page.index("<header>") :]
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert len(re.findall("</script>", own)) == len(re.findall("<script", own))
    assert "Content-Security-Policy" in page
    assert rib_says("report", *where, "--latex", nasty / "t.tex")[0] == 0
    table = (nasty / "t.tex").read_text()
    assert "\\input{" not in table
    assert rib_says("data", "check", nasty / "s.toml")[0] == 0
    assert rib_says("report", *where, "--parquet", nasty / "it's; drop table a")[0] == 0
    file = str(nasty / "it's; drop table a" / "predictions.parquet")
    for column, name in (("model", MARKUP), ("method", QUOTE), ("tested_on", NASTY)):
        query = f"select count(*) from read_parquet($file) where {column} = $name"
        assert duckdb.execute(query, {"file": file, "name": name}).fetchall()[0][0] > 0


CONTROLS = ["\x1b[31m", "\x07", "\r", "\x9b2J", "\u202e", "\x00"]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_control_characters_are_refused_in_suites_and_classes(tmp_path: Path, control: str, rib_says: Say) -> None:
    made = document(tmp_path)
    for change in ({"description": control}, {"models": [control]}, {"data": {control: {}}}):
        with pytest.raises(UserError, match="a control character"):
            parse_suite(made | change)
    if control == "\x00":  # no folder can be named so
        return
    write_tree(tmp_path / "tree", (f"ant{control}", "bee"))
    made["data"]["whole"] = {"folder": "tree", "test_fraction": 0.5}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert "control characters" in said
    assert control not in said


def test_what_is_printed_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    for control in CONTROLS:
        assert printable(f"a{control}b") == "a" + control.encode("unicode_escape").decode() + "b"
    assert printable("a\tb\nc é 猫 −") == "a\tb\nc é 猫 −"
    table = Table("x\x1b[2Jy")
    table.add_row(Text("a\x9bb"))
    for shown in (MARKUP, table, Text("\x1b]0;evil\x07")):
        console().print(shown)
    out = capsys.readouterr().out
    assert MARKUP in out
    assert not re.search(r"[^\n -\U0010ffff]|\x9b", out)
    assert "x\\x1b" in out


def test_an_error_shows_no_escape_of_a_path(rib_says: Say) -> None:
    code, said = rib_says("plan", "x\x1b]0;evil\x07.toml")
    assert code == 2
    assert "\x1b" not in said
    assert "\\x1b]0;evil\\x07.toml" in said


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_every_console_is_the_one_without_markup(file: Path) -> None:
    made = [name for name, _ in calls(ast.parse(file.read_text("utf-8"))) if name.split(".")[-1] == "Console"]
    assert made == []


# -- the network -------------------------------------------------------------------------------------------------------


def test_no_command_asks_the_network(tmp_path: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(*words: Any, **named: Any) -> Any:
        asked.append(words)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    made = document(tmp_path)
    (tmp_path / "s.toml").write_text(toml(made))
    assert rib_says("run", tmp_path / "s.toml", "--workers", 1)[0] == 0
    made["model"]["resnet"] = {"timm": "resnet18.a1_in1k"}
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("run", tmp_path / "s.toml", "--workers", 1)
    assert code == 2
    assert "no weights for model 'resnet'" in said
    assert "with a network: hf download" in said
    assert asked == []


def test_libraries_are_told_to_stay_offline_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text(
        "import os\ndef net(num_classes, **_): raise TypeError(os.environ['HF_HUB_OFFLINE'])\n"
    )
    made = document(tmp_path)
    made["model"]["resnet"] |= {"build": "tell:net"}
    (tmp_path / "s.toml").write_text(toml(made))
    for given, found in (({}, "1"), ({"HF_HUB_OFFLINE": "0"}, "0")):
        done = command("run", tmp_path / "s.toml", "--workers", 1, cwd=tmp_path, **given)
        assert f"got:    TypeError: {found}" in done.stderr + done.stdout
