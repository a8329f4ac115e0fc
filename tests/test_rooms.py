"""The order of the rooms: an import goes down, never up; and what must not be slow does not import torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rib

PACKAGE = Path(rib.__file__).parent

FLOORS = (
    ("__main__",),
    ("cli",),
    ("api",),
    ("studies",),
    ("execute", "report", "upkeep"),
    ("work",),
    ("pair",),
    ("plan",),
    ("sweep",),
    ("steps", "store", "suite"),
    ("methods", "analysis"),
    ("training",),
    ("objectives",),
    ("models",),
    ("data",),
    ("registry", "metrics", "recipe", "gates"),
    ("intervals", "resample", "remote"),
    ("identity", "files", "usercode"),
    ("errors", "text", "_compat", "__init__"),
)
"""Rooms from the top down. A room imports from its own floor and from those below it."""

EXCEPTIONS = {
    ("cli", "__init__"),  # the version
}

NEVER = (
    ("report", "execute"),
    ("report", "training"),
    ("execute", "methods.finetune"),
    ("methods", "store"),
    ("methods", "plan"),
    ("metrics", "torch"),
)
"""Pairs that must not meet even where the floors would allow it: report runs nothing, methods see no store."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Full names of what a file imports, anywhere in it but under TYPE_CHECKING, with the line."""
    tree = ast.parse(file.read_text("utf-8"))
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node.lineno


def rooms_imported(file: Path) -> Iterator[tuple[str, int]]:
    for name, line in imports(file):
        head, *rest = name.split(".")
        if head == "rib":
            yield (rest[0] if rest and rest[0] in FLOOR else "__init__"), line


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in FILES} <= set(FLOOR)


@pytest.mark.parametrize("room", sorted({room_of(file) for file in FILES}))
def test_no_import_goes_up(room: str) -> None:
    upward = [
        f"{file.relative_to(PACKAGE)}:{line} imports {other}"
        for file in FILES
        if room_of(file) == room
        for other, line in rooms_imported(file)
        if FLOOR[other] < FLOOR[room] and (room, other) not in EXCEPTIONS
    ]
    assert upward == []


@pytest.mark.parametrize(("room", "other"), NEVER)
def test_some_never_meet(room: str, other: str) -> None:
    met = [
        f"{file.relative_to(PACKAGE)}:{line} imports {name}"
        for file in FILES
        if room_of(file) == room
        for name, line in imports(file)
        if f"{name}.".startswith((f"rib.{other}.", f"{other}."))
    ]
    assert met == []


def test_the_search_finds_imports(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import rib.cli\ndef f():\n    from rib.plan import Plan\nif TYPE_CHECKING:\n    import rib.api\n")
    assert list(rooms_imported(file)) == [("cli", 1), ("plan", 3)]


@pytest.mark.parametrize(
    "code",
    [
        "import rib; rib.__version__",
        "import sys; sys.argv = ['rib', '--help']; from rib.cli import main\ntry: main()\nexcept SystemExit: pass",
        "from rib.errors import UserError; import rib.metrics, rib.recipe, rib.files",
    ],
    ids=["import rib", "rib --help", "lower rooms"],
)
def test_torch_is_not_imported_in_vain(code: str) -> None:
    check = f"{code}\nimport sys; sys.exit(', '.join({{'torch', 'timm', 'pandas'}} & set(sys.modules)) or 0)"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr


def test_public_names_are_there() -> None:
    assert set(rib.__all__) == set(rib._HOMES)
    assert all(getattr(rib, name).__name__ == name for name in rib.__all__)
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        rib.bogus  # noqa: B018
