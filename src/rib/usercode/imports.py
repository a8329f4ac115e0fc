"""Reads the imports in a module's source, and refuses imports and files that the source does not name."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from rib.errors import UserError
from rib.usercode.modules import SourceFile, find

DECLARED = "RIB_FILES"
"""The variable in which a module lists the files that it reads, as a tuple of patterns."""

DYNAMIC = {
    *("__import__", "import_module", "exec", "eval", "run_path", "run_module", "spec_from_file_location"),
    *("module_from_spec", "load_module", "exec_module", "load_source", "SourceFileLoader", "entry_points"),
    *("resolve_name", "run_code", "zipimporter"),
}
"""Names of functions that load code which the source does not name."""

LOADERS = {
    **dict.fromkeys(("importlib", "importlib.util", "importlib.machinery", "importlib.metadata", "runpy"), frozenset()),
    **dict.fromkeys(("builtins", "__builtins__", "pkgutil", "zipimport", "imp", "torch.hub"), frozenset()),
    "pydoc": frozenset(("locate", "safeimport", "resolve")),
    "hydra.utils": frozenset(("instantiate", "call", "get_class", "get_method", "get_object", "get_static_method")),
}
"""Modules whose functions load code, with those of their functions whose names are too common for `DYNAMIC`.

Such a module used as a value (`getattr(importlib, name)`) may be any of its functions.
"""

READING = frozenset(
    ("load_file", "safe_open", "load_state_dict_from_url", "hf_hub_download", "snapshot_download", "from_pretrained")
)
"""Names of functions that read weights from files which the source does not name."""

READING_OF = frozenset(("torch", "jit", "np", "numpy", "pickle", "joblib", "dill", "cloudpickle"))
"""Modules whose `load` reads weights or objects."""

METHODS_TOO = frozenset(("exec", "eval"))
"""Names that have another meaning as an attribute: `model.eval()` sets a mode."""


def imported(tree: ast.Module, source: SourceFile, declares: bool) -> Iterator[str]:
    """Names of the modules and other objects that a source imports.

    Raises:
        UserError: the source loads code or files that it does not name.
    """
    written: set[int] = set()  # functions in calls whose module is written as a literal
    loaders, names = _loaders(tree), _full_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, source)
        elif isinstance(node, ast.Call) and (name := _written_out(node, source)):
            written.add(id(node.func))
            yield name
        if isinstance(node, ast.Attribute) and (path := _path(node.value)) in loaders:
            written.add(id(node.value))  # the module is not used as a value here: the attribute is one of its functions
            found = node.attr in loaders[path]
        else:
            found = _path(node) in loaders
        if not declares and id(node) not in written and (found or _is_dynamic(node)):
            raise _unknown(node, source)
        if not declares and _reads(node, names):
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
    """A name with its dots, as written; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    above = _path(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""


def _is_dynamic(node: ast.AST) -> bool:
    """Whether a name or an attribute is a function that loads code, under whatever name it is used later."""
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


def _full_names(tree: ast.Module) -> dict[str, str]:
    """The full name behind each imported name: "torch" for "t" after `import torch as t`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _reads(node: ast.AST, names: Mapping[str, str]) -> bool:
    """Whether a call reads weights or objects from a file that the source does not declare.

    Args:
        node: any node of the source.
        names: from `_full_names`.
    """
    if not isinstance(node, ast.Call):
        return False
    first, dot, rest = _path(node.func).partition(".")
    path = names.get(first, first) + dot + rest
    owner, _, name = path.rpartition(".")
    called = name or getattr(node.func, "attr", "")
    return called in READING or (called in ("load", "loads") and owner.rpartition(".")[2] in READING_OF)


def _written_out(node: ast.Call, source: SourceFile) -> str | None:
    """The module that a call of import_module imports, if its name is a literal."""
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
        return  # it would fail at run time
    yield base
    for alias in node.names:
        if alias.name != "*":
            yield f"{base}.{alias.name}"  # a submodule, or else a name that does not exist
        elif (spec := find(base)) and spec.submodule_search_locations is not None:
            for folder in spec.submodule_search_locations:
                yield from (f"{base}.{path.stem}" for path in sorted(Path(folder).glob("*.py")))
