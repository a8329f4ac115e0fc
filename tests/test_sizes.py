"""Files, classes and functions stay small, the package's listing stays short, and a type's name has one meaning."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import rib

PACKAGE = Path(rib.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LONGEST_FILE, LONGEST_CLASS, LONGEST_FUNCTION = 410, 350, 50
MOST_MODULES = 12
"""Modules at the root of the package; folders do not count."""


def definitions(file: Path) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(file: Path) -> Iterator[str]:
    name = file.relative_to(PACKAGE).as_posix()
    if len(file.read_text("utf-8").splitlines()) > LONGEST_FILE:
        yield name
    for node in definitions(file):
        if lines(node) > (LONGEST_CLASS if isinstance(node, ast.ClassDef) else LONGEST_FUNCTION):
            yield f"{name}:{node.name}"


def shared_names(files: list[Path]) -> set[str]:
    homes: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(file)
            if isinstance(node, ast.Assign) and _is_type(node.value) and isinstance(node.targets[0], ast.Name):
                homes[node.targets[0].id].add(file)
    return {name for name, places in homes.items() if len(places) > 1 and not name.startswith("_")}


def _is_type(value: ast.expr) -> bool:
    """Whether an assignment makes an alias of a type, such as `Literal[...]` or `Mapping[str, X]`."""
    return isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id[0].isupper()


def test_nothing_is_too_long() -> None:
    assert [found for file in FILES for found in too_long(file)] == []


def test_a_public_type_name_is_defined_once() -> None:
    assert shared_names(FILES) == set()


def test_the_listing_of_the_package_is_short() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_MODULES


def test_long_code_and_shared_names_are_found(tmp_path: Path) -> None:
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("class Thing:\n    pass\n" + "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION)
    second.write_text("Thing = Literal['a']\n" + "\n" * LONGEST_FILE)
    assert shared_names([first, second]) == {"Thing"}
    assert [lines(node) for node in definitions(first) if node.name == "f"] == [LONGEST_FUNCTION + 1]
