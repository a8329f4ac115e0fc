"""Completion: the names that a shell suggests for the word being typed. It reads only suite files, so that it is
fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from rib.cli.inputs import is_suite
from rib.errors import RibError
from rib.text.names import short

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Suffixes of checkpoint files."""

Document = Mapping[str, Any]


def suites(incomplete: str) -> list[str]:
    """Shipped suites, suite files, and folders."""
    from rib.suite.load import shipped

    return [*_starting(incomplete, shipped()), *_paths(incomplete, (".toml",))]


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Models of the suite, for the last name of a comma-separated list."""
    return _last_of_several(incomplete, _models(_document(ctx)))


def one_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Models of the suite."""
    return _starting(incomplete, _models(_document(ctx)))


def methods(ctx: typer.Context, incomplete: str) -> list[str]:
    """Methods of the suite's runs and merges."""
    document = _document(ctx)
    runs = [run for key in ("runs", "merges") for run in _listed(document.get(key))]
    return _starting(incomplete, (name for run in runs for name in _listed(run.get("methods"))))


def downstream(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tuned sets of the suite."""
    return _starting(incomplete, map(short, _listed(_document(ctx).get("downstream"))))


def compared(ctx: typer.Context, incomplete: str) -> list[str]:
    """The next argument of `rib compare`: a suite, then one of its models, a checkpoint or a folder."""
    first = [] if _words(ctx) else suites(incomplete)
    return list(dict.fromkeys([*first, *one_model(ctx, incomplete), *_paths(incomplete, WEIGHTS)]))


def exported(ctx: typer.Context, incomplete: str) -> list[str]:
    """The next argument of `rib export`: a suite, then a folder."""
    return _paths(incomplete, ()) if any(map(is_suite, _words(ctx))) else suites(incomplete)


def studied(ctx: typer.Context, incomplete: str) -> list[str]:
    """The next argument of `rib study`: a suite, or a study that the line does not name yet."""
    from rib import studies

    words = _words(ctx)
    names = _starting(incomplete, [name for name in [*studies.names(), "all"] if name not in words])
    return names if words else [*names, *suites(incomplete)]


def _words(ctx: typer.Context) -> Sequence[str]:
    """The arguments so far. An argument that precedes an option whose value is being typed is not parsed yet."""
    return [*(ctx.params.get("words") or ()), *ctx.args]


def _document(ctx: typer.Context) -> Document:
    """The suite file of this command, unchecked; empty if it cannot be read, because a shell shows no errors."""
    from rib.files import read_toml
    from rib.suite.load import suite_file

    words = [word for word in _words(ctx) if is_suite(word)]  # set before the option's default
    default = "digits-studies" if ctx.command.name == "study" else "digits"
    try:
        return read_toml(suite_file(words[0] if words else ctx.params.get("suite") or default), "the suite file")
    except (RibError, OSError):
        return {}


def _models(document: Document) -> list[str]:
    return [short(name) for name in _listed(document.get("models")) if isinstance(name, str)]


def _listed(value: Any) -> list[Any]:
    """A list in a suite file; empty if the value is not a list."""
    return value if isinstance(value, list) else []


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _last_of_several(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + name for name in _starting(last, names) if name not in taken]


def _paths(incomplete: str, suffixes: Sequence[str]) -> list[str]:
    """Folders, and files with these suffixes, whose paths begin with `incomplete`."""
    folder, slash, name = incomplete.rpartition("/")
    try:
        found = sorted(path for path in Path(folder + slash or ".").iterdir() if path.name.startswith(name))
    except OSError:
        return []
    hidden = name.startswith(".")
    shown = [path for path in found if hidden or not path.name.startswith(".")]
    shown = [path for path in shown if path.is_dir() or path.suffix in suffixes]
    before = incomplete[: len(incomplete) - len(name)]
    return [before + path.name + ("/" if path.is_dir() else "") for path in shown]
