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
    ("plan",),
    ("steps",),
    ("store", "suite"),
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


STEPS = {"Load", "Pretrain", "Embed", "Fit", "Predict", "Compare"}


def dispatches(file: Path) -> Iterator[int]:
    """Lines of a file that ask what kind of step something is: isinstance, case, a comparison, a table, type(step)."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        asked: list[ast.AST] = []
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                asked = [kinds]
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id="step")]):
                yield node.lineno
            case ast.MatchClass(cls=kind):
                asked = [kind]
            case ast.Compare(comparators=compared):
                asked = [*compared]
            case ast.Dict(keys=keys):
                asked = [key for key in keys if key is not None]
        parts = [part for kind in asked for part in ast.walk(kind)]
        names = {part.id for part in parts if isinstance(part, ast.Name)}
        if (names | {part.attr for part in parts if isinstance(part, ast.Attribute)}) & STEPS:
            yield getattr(node, "lineno", 0)


def test_steps_alone_ask_what_kind_a_step_is() -> None:
    """Elsewhere a step is asked for what it does, so that a new kind of step is one new file."""
    outside = [file for file in FILES if room_of(file) != "steps" and "rib.steps" in file.read_text("utf-8")]
    assert outside
    asked = [f"{file.name}:{line}" for file in outside for line in dispatches(file)]
    assert asked == []


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(step, Fit)",
        "isinstance(step, steps.Fit | Pretrain)",
        "match step:\n    case Predict(): pass",
        "{Fit: 1}[kind]",
        "kind is Fit",
        "type(step).__name__",
    ],
)
def test_the_search_finds_dispatch(code: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(code)
    assert len(list(dispatches(tmp_path / "x.py"))) == 1
    (tmp_path / "x.py").write_text("isinstance(step, str)\nPredict(fit)\n{'Fit': 1}")
    assert not list(dispatches(tmp_path / "x.py"))


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
