"""The content of a user's module and of all user modules that it imports.

A builder, method, analysis or objective may come from a module outside RIB. Such a module is a user module if it
belongs neither to Python nor to an installed package. RIB reads the imports in its source, including those within
functions, without running it. Some modules load code or files whose names are known only at run time. RIB refuses
these, unless they declare the files:

    RIB_FILES = ("plugins/*.py", "table.csv")

These are patterns relative to the folder of the module. The matching files then become part of the identity.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rib.errors import UserError
from rib.usercode.imports import DECLARED, imported
from rib.usercode.modules import SourceFile, find, find_now, is_installed, origin_of


@dataclass
class FoundSources:
    """Sources of a module.

    Attributes:
        files: content by name of module or file, the module's own first.
        places: the file of each module.
        states: states of all files that were read and of the searched folders, to detect later changes.
        declares: whether one of the modules declares files.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    states: dict[Path, tuple[int, ...]] = field(default_factory=dict)
    declares: bool = False

    def is_current(self) -> bool:
        """Whether a search now would find the same files with the same content."""
        return all(origin_of(name, find(name)) == place for name, place in self.places.items()) and all(
            _state(path) == state for path, state in self.states.items()
        )


_known: dict[tuple[str, ...], FoundSources] = {}
"""Sources by the name of a module and the folders that are searched for modules."""


def sources(module: str) -> dict[str, bytes]:
    """The source of a module and of all user modules that it imports, and the files that they declare.

    Args:
        module: its name.

    Returns:
        Content by name, the module's own first; nothing if it has no file.

    Raises:
        UserError: one of them cannot be read or parsed, or imports something that its source does not name.
    """
    found = _current(module)
    _require_asimported(found)
    return found.files


def declared_or_none(module: str) -> frozenset[Path] | None:
    """The files of a module and of its imports; None if one of them declares files, and so answers for all.

    Raises:
        UserError: as `sources`.
    """
    found = _current(module)
    return None if found.declares else frozenset(path.resolve() for path in found.states)


def _current(module: str) -> FoundSources:
    asked = (module, *sys.path)
    found = _known.get(asked)
    if found is None or not found.is_current():
        _known[asked] = found = _walk(module)
    return found


_imported_as: dict[str, tuple[object, bytes]] = {}
"""Modules that this process has imported, and their content when RIB first read it."""


def _require_asimported(found: FoundSources) -> None:
    """Refuse modules whose files have changed since this process imported them, because it runs the old code.

    Raises:
        UserError: a file has changed.
    """
    for name, content in found.files.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        seen, before = _imported_as.setdefault(name, (module, content))
        if seen is not module:
            _imported_as[name] = (module, content)
        elif before != content:
            raise UserError(
                f"the module {name!r} was edited after this process had imported it",
                got=getattr(module, "__file__", name),
                remedy="start again; in a notebook, restart its kernel",
            )


def _require_one_place(name: str, path: Path, content: bytes) -> None:
    """Refuse a module that this process imported from one folder, and a new process would import from another.

    Raises:
        UserError: the folders differ.
    """
    now = origin_of(name, find_now(name)) if name in sys.modules and name != "__main__" else None
    if now is not None and now != path and _read(now) != content:
        raise UserError(
            f"the module {name!r} was imported from one file, and Python's path now leads to another",
            got=f"{path}, then {now}",
            remedy="start again; in a notebook, restart its kernel; or give one of the modules another name",
        )


def _walk(module: str) -> FoundSources:
    found, top = FoundSources(), module.partition(".")[0]
    found.states = {path: _state(path) for path in map(Path, sys.path) if not is_installed(path)}
    left = [module]
    while left:
        name = left.pop(0)
        if name in found.files or (source := _source(name, top)) is None:
            continue
        found.places[name] = source.path
        for path in (source.path, source.path.parent):
            found.states[path] = _state(path)
        content = _read(source.path)
        _require_one_place(name, source.path, content)
        found.files[name] = content
        tree = _parsed(content, source)
        declared = _declared(tree)
        found.declares = found.declares or declared is not None
        for path in _declared_files(source, declared):
            found.states |= {path: _state(path), path.parent: _state(path.parent)}
            found.files[f"{name}: {path.relative_to(source.path.parent).as_posix()}"] = _read(path)
        left += _parents(name)
        left += imported(tree, source, declared is not None)
    return found


def _source(name: str, top: str) -> SourceFile | None:
    """The file of a module, if it belongs to the user or to the package that a suite names."""
    if name.partition(".")[0] == "rib":
        return None
    spec = find(name)
    origin = origin_of(name, spec)
    if origin is None or (is_installed(origin) and name.partition(".")[0] != top):
        return None
    folders = tuple(spec.submodule_search_locations or ()) if spec else ()
    return SourceFile(name, origin, name if folders else name.rpartition(".")[0], folders)


def _parents(name: str) -> list[str]:
    """The packages that contain a module, whose code runs before it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _state(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}, which a suite uses", got=error.strerror) from None


def _parsed(content: bytes, source: SourceFile) -> ast.Module:
    if source.path.suffix != ".py":
        return ast.Module([], [])  # compiled: its imports are unknown, its bytes are known
    try:
        return ast.parse(content, str(source.path))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"cannot read the module {source.name!r} ({source.path})", got=error) from None


def _declared(tree: ast.Module) -> tuple[str, ...] | None:
    """The patterns that a module declares; None if it declares none."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == DECLARED for target in targets):
            value = node.value
            try:
                patterns = ast.literal_eval(value) if value is not None else ()
            except ValueError:
                patterns = None
            if isinstance(patterns, tuple | list) and all(isinstance(one, str) for one in patterns):
                return tuple(patterns)
            raise UserError(f"{DECLARED} is not a tuple of patterns", got=ast.unparse(node), valid='("table.csv",)')
    return None


def _declared_files(source: SourceFile, patterns: Iterable[str] | None) -> list[Path]:
    """The files beside a module that match its patterns.

    Raises:
        UserError: a pattern matches none.
    """
    found: list[Path] = []
    for pattern in patterns or ():
        try:
            matches = [path for path in source.path.parent.glob(pattern) if path.is_file()]
        except (ValueError, NotImplementedError):
            matches = []
        if not matches:
            raise UserError(
                f"{DECLARED} of module {source.name!r} names no file",
                got=pattern,
                valid=f"names or patterns of files below {source.path.parent}",
            )
        found += matches
    return sorted(set(found))


def text_of(content: bytes) -> str:
    """A source as Python reads it: uniform line ends, and a line end after the last line."""
    text = importlib.util.decode_source(content)
    return text if not text or text.endswith("\n") else text + "\n"
