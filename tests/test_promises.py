"""SECURITY.md names a test for each guarantee, and docs/advisories.md the versions that are too old."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import Say, document, toml, write_tree
from rib.errors import UserError
from rib.files import DEEPEST, parse_json, read_toml
from rib.store.record import decode_record
from rib.suite.load import load_suite, parse_suite

ROOT = Path(__file__).parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")


def section(title: str) -> str:
    return SECURITY.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_each_guarantee_names_its_tests() -> None:
    promised = re.findall(r"^- \*\*(.+?)\*\*", section("What RIB guarantees"), re.MULTILINE)
    rows = re.findall(r"^\| (.+?) \| (.*::.*) \|$", section("The test of each guarantee"), re.MULTILINE)
    named = [title for title, _ in rows]
    assert len(promised) > 10
    assert [title.rstrip(".") for title in promised if not any(title.startswith(name) for name in named)] == []
    assert [name for name in named if not any(title.startswith(name) for title in promised)] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"test_\w+\.py::test_\w+", SECURITY))))
def test_each_named_test_exists(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def versions(text: str) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"^([\w.-]+)==([0-9.]+)", text, re.MULTILINE)
    return {name.lower(): tuple(map(int, version.strip(".").split("."))) for name, version in found}


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_no_allowed_version_has_an_advisory_that_concerns_rib(file: str) -> None:
    rows = re.findall(
        r"^\| ([\w-]+) \| [^|]+ \| ([0-9.]+) \|", (ROOT / "docs/advisories.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 5
    known = versions((ROOT / file).read_text("utf-8"))
    for package, fixed in rows:
        assert known[package] >= tuple(map(int, fixed.split("."))), package


# -- depth -------------------------------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_a_document_may_be_nested_a_hundred_deep() -> None:
    assert parse_json(nested(DEEPEST)) is not None
    assert parse_json(f'{{"a": {nested(DEEPEST - 1)}}}') is not None
    for depth in (DEEPEST + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            parse_json(nested(depth))


def of_suite(folder: Path, depth: int) -> None:
    (folder / "s.toml").write_text(f"a = {nested(depth)}")
    load_suite(folder / "s.toml")


def of_runtime(folder: Path, depth: int) -> None:
    (folder / "r.toml").write_text(f"[ray]\nenvironment = {nested(depth)}")
    read_toml(folder / "r.toml", "the runtime file")


def of_record(folder: Path, depth: int) -> None:
    try:
        decode_record(f'{{"key": {nested(depth)}}}'.encode())
    except ValueError as error:
        raise UserError(f"nested: {error}") from None


@pytest.mark.parametrize("depth", [101, 5_000, 100_000])
@pytest.mark.parametrize("read", [of_suite, of_runtime, of_record])
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, read: Callable[[Path, int], None], depth: int) -> None:
    with pytest.raises(UserError):
        read(tmp_path, depth)


@pytest.mark.parametrize("crop", [0, 1e-9, 0.04, -1, float("nan"), 1.1])
def test_a_crop_that_would_resize_without_bound_is_refused(tmp_path: Path, crop: float) -> None:
    made = document(tmp_path)
    made["model"]["resnet"]["crop"] = crop
    with pytest.raises(UserError, match="crop"):
        parse_suite(made)


@pytest.mark.parametrize("length", [100, 101, 10_000])
def test_a_suites_name_fits_a_file_and_an_archive(tmp_path: Path, length: int) -> None:
    made = document(tmp_path) | {"name": "x" * length}
    if length == 100:
        assert parse_suite(made).name == "x" * length
    else:
        with pytest.raises(UserError, match="name"):
            parse_suite(made)


@pytest.mark.parametrize("where", ["config.json", "classes.json", "GENERATED.json"])
def test_so_is_a_document_beside_data_or_weights(tmp_path: Path, where: str, rib_says: Say) -> None:
    made = document(tmp_path)
    write_tree(tmp_path / "tree")
    made["data"]["whole"] = {"folder": "tree", "test_fraction": 0.5}
    deep = json.dumps({"architecture": "resnet10t", "pretrained_cfg": 0}).replace("0", nested(3_000), 1)
    if where == "config.json":
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "model.safetensors").write_bytes(b"")
        (tmp_path / "folder" / where).write_text(deep.replace("resnet1" + nested(3_000), "resnet10"))
        made["model"]["resnet"] = {"hf": "folder"}
    else:
        (tmp_path / "tree" / where).write_text(nested(3_000))
    (tmp_path / "s.toml").write_text(toml(made))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2, said
    assert "nested" in said or where in said
    assert "Traceback" not in said
