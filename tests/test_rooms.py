"""The order of the rooms (contracts in pyproject.toml); and what must not be slow does not import torch."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rib
from conftest import ROOMS
from helpers import PATIENCE

CONFIGURATION = Path(__file__).parents[1] / "pyproject.toml"
"""Its contracts say which rooms may import which."""


def keeps_contracts(configuration: Path) -> bool:
    cli = pytest.importorskip("importlinter.cli", reason="pip install import-linter")
    return bool(cli.lint_imports(config_filename=str(configuration), no_cache=True) == cli.EXIT_STATUS_SUCCESS)


def test_the_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert keeps_contracts(CONFIGURATION)


def test_the_table_of_test_files_names_each_once() -> None:
    """A file that is not in it counts as one of the house."""
    from conftest import ROOMS

    names = [name for files in ROOMS.values() for name in files.split()]
    assert len(names) == len(set(names))
    assert [name for name in names if not (Path(__file__).parent / f"test_{name}.py").exists()] == []


UPWARD = {
    "plain": "import house_NUMBER.top",
    "in a function": "def f() -> None:\n    from house_NUMBER.top import x",
    "for types alone": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house_NUMBER import top",
}


@pytest.mark.parametrize("way", UPWARD)
def test_no_way_to_import_is_overlooked(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"house_{list(UPWARD).index(way)}"
    (tmp_path / name).mkdir()
    for file, text in (("__init__", ""), ("top", "x = 1"), ("low", UPWARD[way].replace("house_NUMBER", name))):
        (tmp_path / name / f"{file}.py").write_text(text)
    configuration = tmp_path / "rooms.toml"
    layers = f'type = "layers"\nname = "n"\ncontainers = ["{name}"]\nlayers = ["top", "low"]\n'
    configuration.write_text(f'[tool.importlinter]\nroot_package = "{name}"\n[[tool.importlinter.contracts]]\n{layers}')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not keeps_contracts(configuration)


@pytest.mark.parametrize(
    "code",
    [
        "import rib; rib.__version__",
        "import sys; sys.argv = ['rib', '--help']; from rib.cli import main\ntry: main()\nexcept SystemExit: pass",
        "from rib.errors import UserError; import rib.metrics.estimates, rib.recipe, rib.files",
    ],
    ids=["import rib", "rib --help", "lower rooms"],
)
def test_torch_is_not_imported_in_vain(code: str) -> None:
    check = f"{code}\nimport sys; sys.exit(', '.join({{'torch', 'timm', 'pandas'}} & set(sys.modules)) or 0)"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert found.returncode == 0, found.stderr


def test_public_names_are_there() -> None:
    assert set(rib.__all__) == set(rib._HOMES)
    assert all(callable(getattr(rib, name)) for name in rib.__all__)  # rib.plan is a package and a function
    assert {getattr(rib, name).__name__.removeprefix("rib.") for name in rib.__all__} == set(rib.__all__)
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        rib.bogus  # noqa: B018


def test_markers_and_rooms_of_tests_are_the_same() -> None:
    listed = " ".join(ROOMS.values()).split()
    assert len(set(listed)) == len(listed)
    markers = tomllib.loads(CONFIGURATION.read_text("utf-8"))["tool"]["pytest"]["ini_options"]["markers"]
    assert {marker.partition(":")[0] for marker in markers} == {"quick", *ROOMS}
