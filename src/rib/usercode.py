"""User code: the modules that a builder, method, analysis or objective of the user's own is made of, by content.

A module of the user's own is one that is neither RIB's, nor Python's, nor installed. What it imports is read off its
source, wherever an import stands in it; nothing is run. A module that finds others at run time, by names that only a
run knows, cannot be followed and is refused, unless it names the files itself:

    RIB_FILES = ("plugins/*.py", "table.csv")

a list of patterns beside the module, whose files are then part of the identity too.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from rib.errors import UserError

DECLARED = "RIB_FILES"
"""Name by which a module lists the files that it reads, as a tuple of patterns."""

DYNAMIC = {
    *("__import__", "import_module", "exec", "eval", "run_path", "run_module", "spec_from_file_location"),
    *("module_from_spec", "load_module", "exec_module", "load_source", "SourceFileLoader", "entry_points"),
    *("resolve_name", "run_code", "zipimporter"),
}
"""Names of functions that bring in code which the source does not name."""

LOADERS = {
    **dict.fromkeys(("importlib", "importlib.util", "importlib.machinery", "importlib.metadata", "runpy"), frozenset()),
    **dict.fromkeys(("builtins", "__builtins__", "pkgutil", "zipimport", "imp", "torch.hub"), frozenset()),
    "pydoc": frozenset(("locate", "safeimport", "resolve")),
    "hydra.utils": frozenset(("instantiate", "call", "get_class", "get_method", "get_object", "get_static_method")),
}
"""Modules whose functions bring in code, and those of their functions whose name in `DYNAMIC` would be too common.

As a value (`getattr(importlib, name)`), such a module may be any of its functions.
"""

READING = frozenset(
    ("load_file", "safe_open", "load_state_dict_from_url", "hf_hub_download", "snapshot_download", "from_pretrained")
)
"""Names of functions that read weights from files which the source does not name."""

READING_OF = frozenset(("torch", "jit", "np", "numpy", "pickle", "joblib", "dill", "cloudpickle"))
"""Modules whose `load` reads weights or objects."""

METHODS_TOO = frozenset(("exec", "eval"))
"""Names that mean something else as an attribute: `model.eval()` is a mode."""


@dataclass(frozen=True)
class SourceFile:
    """A module's file.

    Attributes:
        name: of the module.
        path: of its file.
        package: the package that its relative imports start from.
        folders: where its submodules are looked for; none where it is no package.
    """

    name: str
    path: Path
    package: str
    folders: tuple[str, ...] = ()


@dataclass
class FoundSources:
    """Sources of a module.

    Attributes:
        files: content by name of module or file, the module's own first.
        places: the file of each module.
        states: of all files that were read, and of the folders in which others would be found, to see later whether
            they are as they were.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    states: dict[Path, tuple[int, ...]] = field(default_factory=dict)

    def is_current(self) -> bool:
        """Whether the same files would be found now, with the same content."""
        return all(_origin(name, find(name)) == place for name, place in self.places.items()) and all(
            _state(path) == state for path, state in self.states.items()
        )


def find(module: str) -> ModuleSpec | None:
    """The spec of a module, imported or not. Imports nothing."""
    if module == "__main__":  # has a file, or was typed in
        return None
    known = sys.modules.get(module)
    if known is not None and isinstance(getattr(known, "__spec__", None), ModuleSpec):
        return known.__spec__
    return _found_now(module)


def _found_now(module: str) -> ModuleSpec | None:
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
        except (ImportError, AttributeError, ValueError):
            continue
    return None


def is_installed(place: Path) -> bool:
    """Whether a file is Python's own, or of an installed package."""
    full = place.resolve()
    if {"site-packages", "dist-packages"} & set(full.parts):
        return True
    return any(full.is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> frozenset[Path]:
    """Folders of Python's own modules and of installed packages."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return frozenset(Path(path).resolve() for path in (*paths, *site.getsitepackages(), site.getusersitepackages()))


_known: dict[tuple[str, ...], FoundSources] = {}
"""Sources by the name of a module and the folders in which modules are looked for."""


def sources(module: str) -> dict[str, bytes]:
    """The source of a module and of all modules of the user's own that it imports, and the files that they declare.

    Args:
        module: its name.

    Returns:
        Content by name, the module's own first; nothing where it has no file.

    Raises:
        UserError: one of them cannot be read or parsed, or imports what its source does not name.
    """
    asked = (module, *sys.path)
    found = _known.get(asked)
    if found is None or not found.is_current():
        _known[asked] = found = _walk(module)
    _require_as_imported(found)
    return found.files


_imported_as: dict[str, tuple[object, bytes]] = {}
"""Modules that this process has imported, and their content when that was first seen."""


def _require_as_imported(found: FoundSources) -> None:
    """Refuse modules whose files have changed since this process imported them: it runs the old code."""
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
    """Refuse a module that this process has imported from one folder, and a new process would from another."""
    now = _origin(name, _found_now(name)) if name in sys.modules and name != "__main__" else None
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
        for path in _declared_files(source, declared):
            found.states |= {path: _state(path), path.parent: _state(path.parent)}
            found.files[f"{name}: {path.relative_to(source.path.parent).as_posix()}"] = _read(path)
        left += _parents(name)
        left += _imported(tree, source, declared is not None)
    return found


def _source(name: str, top: str) -> SourceFile | None:
    """The file of a module that is the user's own, or part of the package that a suite names."""
    if name.partition(".")[0] == "rib":
        return None
    spec = find(name)
    origin = _origin(name, spec)
    if origin is None or (is_installed(origin) and name.partition(".")[0] != top):
        return None
    folders = tuple(spec.submodule_search_locations or ()) if spec else ()
    return SourceFile(name, origin, name if folders else name.rpartition(".")[0], folders)


def _origin(name: str, spec: ModuleSpec | None) -> Path | None:
    """The file of a module; None for a namespace, and what is built in."""
    if spec is None:
        file = getattr(sys.modules.get(name), "__file__", None)  # __main__ has no spec
        return Path(file) if file and Path(file).is_file() else None
    if not spec.has_location or not spec.origin:
        return None
    path = Path(spec.origin)
    while not path.exists() and path != path.parent:  # within an archive
        path = path.parent
    return path if path.is_file() else None


def _parents(name: str) -> list[str]:
    """The packages that a module is in, whose own code runs before it."""
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
        return ast.Module([], [])  # compiled: what it imports stays unknown, its bytes are known
    try:
        return ast.parse(content, str(source.path))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"cannot read the module {source.name!r} ({source.path})", got=error) from None


def _declared(tree: ast.Module) -> tuple[str, ...] | None:
    """The patterns that a module declares; None where it declares none."""
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
    """The files that a module's patterns name, beside it. Raises UserError: one names none."""
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


def _imported(tree: ast.Module, source: SourceFile, declares: bool) -> Iterator[str]:
    """Names of what a source imports, modules among them. Raises UserError: it does not name them."""
    written: set[int] = set()  # functions of calls whose module is written out
    loaders = _loaders(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, source)
        elif isinstance(node, ast.Call) and (name := _written_out(node, source)):
            written.add(id(node.func))
            yield name
        if isinstance(node, ast.Attribute) and (path := _path(node.value)) in loaders:
            written.add(id(node.value))  # the module is not a value here: one of its functions is named
            found = node.attr in loaders[path]
        else:
            found = _path(node) in loaders
        if not declares and id(node) not in written and (found or _is_dynamic(node)):
            raise _unknown(node, source)
        if not declares and _reads(node):
            raise _undeclared(node, source)


def _undeclared(node: ast.AST, source: SourceFile) -> UserError:
    return UserError(
        f"line {getattr(node, 'lineno', 0)} of {source.path} reads a file that the module does not declare: results "
        "could not be told from those with another file",
        got=ast.unparse(node)[:80],
        valid=f'the files that the module reads, by name or pattern, such as {DECLARED} = ("weights.pth",)',
        remedy=f"declare them beside the module ({DECLARED} = () says that there are none), or give them as `weights`",
    )


def _unknown(node: ast.AST, source: SourceFile) -> UserError:
    line = getattr(node, "lineno", 0)
    return UserError(
        f"line {line} of {source.path} loads code that the source does not name, "
        "so RIB could not tell its results from those of other code",
        got=ast.unparse(node)[:80],
        valid=f'imports by name, or files that the module declares, such as {DECLARED} = ("plugins/*.py",)',
        remedy=f"write the import out, declare the files ({DECLARED} = () says that there are none), or install the "
        "package that does so",
    )


def _loaders(tree: ast.Module) -> dict[str, frozenset[str]]:
    """The names under which a source imports modules that load code, with their loading functions."""
    found = {name: LOADERS[name] for name in ("__builtins__", "torch.hub", "hydra.utils")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _loaders_of(alias.name, alias.asname or alias.name)
                if alias.asname is None:
                    found |= _loaders_of(top := alias.name.partition(".")[0], top)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found |= _loaders_of(f"{node.module}.{alias.name}", alias.asname or alias.name)
    return found


def _loaders_of(module: str, name: str) -> dict[str, frozenset[str]]:
    return {name: LOADERS[module]} if module in LOADERS else {}


def _path(node: ast.AST) -> str:
    """A name with dots in it, as it is read; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    above = _path(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""


def _is_dynamic(node: ast.AST) -> bool:
    """Whether a name or an attribute is a function that brings in code, under whatever name it is then used."""
    if isinstance(node, ast.Name):
        return node.id in DYNAMIC and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.alias):
        return node.asname is not None and node.name in DYNAMIC
    if isinstance(node, ast.ImportFrom):
        told_by_module = LOADERS.get(node.module or "", frozenset())
        return any(alias.name in told_by_module for alias in node.names)
    if not isinstance(node, ast.Attribute):
        return False
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    if node.attr in METHODS_TOO:
        return owner == "builtins"
    return node.attr in DYNAMIC or (node.attr == "load" and owner == "hub")


def _reads(node: ast.AST) -> bool:
    """Whether a call reads weights or objects from a file that the source does not declare."""
    if not isinstance(node, ast.Call):
        return False
    path = _path(node.func)
    owner, _, name = path.rpartition(".")
    called = name or getattr(node.func, "attr", "")
    return called in READING or (called in ("load", "loads") and owner.rpartition(".")[2] in READING_OF)


def _written_out(node: ast.Call, source: SourceFile) -> str | None:
    """The module that a call of import_module imports, where its name is written out."""
    function = node.func
    called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    first = node.args[0] if node.args else None
    if called != "import_module" or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    try:
        return importlib.util.resolve_name(first.value, source.package)
    except ImportError:
        return None


def _imported_from(node: ast.ImportFrom, source: SourceFile) -> Iterator[str]:
    relative = "." * node.level + (node.module or "")
    try:
        base = importlib.util.resolve_name(relative, source.package) if node.level else relative
    except ImportError:
        return  # it would fail when it is run
    yield base
    for alias in node.names:
        if alias.name != "*":
            yield f"{base}.{alias.name}"  # a submodule, or else a name that is found nowhere
        elif (spec := find(base)) and spec.submodule_search_locations is not None:
            for folder in spec.submodule_search_locations:
                yield from (f"{base}.{path.stem}" for path in sorted(Path(folder).glob("*.py")))


def text_of(content: bytes) -> str:
    """A source as Python reads it: one kind of line ends, the last line ended."""
    text = importlib.util.decode_source(content)
    return text if not text or text.endswith("\n") else text + "\n"
