"""Finds the file of a module without importing it."""

from __future__ import annotations

import site
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path


@dataclass(frozen=True)
class SourceFile:
    """A module's file.

    Attributes:
        name: name of the module.
        path: its file.
        package: the package that its relative imports start from.
        folders: the folders that are searched for its submodules; empty if it is no package.
    """

    name: str
    path: Path
    package: str
    folders: tuple[str, ...] = ()


def find(module: str) -> ModuleSpec | None:
    """The spec of a module, imported or not. It imports nothing."""
    if module == "__main__":  # has a file, or was entered interactively
        return None
    known = sys.modules.get(module)
    if known is not None and isinstance(getattr(known, "__spec__", None), ModuleSpec):
        return known.__spec__
    return find_now(module)


def find_now(module: str) -> ModuleSpec | None:
    """The spec that an import would find in a process that has not imported the module."""
    parent, _, _ = module.rpartition(".")
    above = find(parent) if parent else None
    if parent and (above is None or above.submodule_search_locations is None):
        return None
    folders = list(above.submodule_search_locations or ()) if above else None
    for finder in sys.meta_path:
        try:
            if spec := finder.find_spec(module, folders, None):
                return spec
        except (ImportError, AttributeError, ValueError, KeyError):  # KeyError: a namespace that is not imported yet
            continue
    inner = [str(path) for folder in folders or () if (path := Path(folder) / module.rpartition(".")[2]).is_dir()]
    if not inner:
        return None
    spec = ModuleSpec(module, None, is_package=True)
    spec.submodule_search_locations = inner
    return spec


def is_installed(place: Path) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    full = place.resolve()
    if {"site-packages", "dist-packages"} & set(full.parts):
        return True
    return any(full.is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> frozenset[Path]:
    """Folders of Python's own modules and of installed packages."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return frozenset(Path(path).resolve() for path in (*paths, *site.getsitepackages(), site.getusersitepackages()))


def origin_of(name: str, spec: ModuleSpec | None) -> Path | None:
    """The file of a module; None for a namespace package and for built-in modules."""
    if spec is None:
        file = getattr(sys.modules.get(name), "__file__", None)  # __main__ has no spec
        return Path(file) if file and Path(file).is_file() else None
    if not spec.has_location or not spec.origin:
        return None
    path = Path(spec.origin)
    while not path.exists() and path != path.parent:  # within an archive
        path = path.parent
    return path if path.is_file() else None
