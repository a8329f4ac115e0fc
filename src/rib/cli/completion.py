"""Completion: the names that a shell offers for what is typed so far. It reads suite files only, to be quick."""

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
    """Shipped suites, and suite files and folders."""
    from rib.suite.load import shipped

    return [*_starting(incomplete, shipped()), *_paths(incomplete, (".toml",))]


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Models of the suite, the last of several that commas separate."""
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
    """Sets that the suite tunes on."""
    return _starting(incomplete, map(short, _listed(_document(ctx).get("downstream"))))


def compared(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `rib compare` takes next: a suite, then models of it, checkpoints and folders."""
    first = [] if _words(ctx) else suites(incomplete)
    return list(dict.fromkeys([*first, *one_model(ctx, incomplete), *_paths(incomplete, WEIGHTS)]))


def exported(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `rib export` takes next: a suite, then a folder."""
    return _paths(incomplete, ()) if any(map(is_suite, _words(ctx))) else suites(incomplete)


def studied(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `rib study` takes next: a suite, or a study that was not named yet."""
    from rib import studies

    words = _words(ctx)
    names = _starting(incomplete, [name for name in [*studies.names(), "all"] if name not in words])
    return names if words else [*names, *suites(incomplete)]


def _words(ctx: typer.Context) -> Sequence[str]:
    """The arguments so far; those before an option whose value is being typed are not parsed yet."""
    return [*(ctx.params.get("words") or ()), *ctx.args]


def _document(ctx: typer.Context) -> Document:
    """The suite file of this command, as it is; empty if it cannot be read: a shell shows no errors."""
    from rib.files import read_toml
    from rib.suite.load import suite_file

    words = [word for word in _words(ctx) if is_suite(word)]  # before the default of the parameter
    default = "digits-studies" if ctx.command.name == "study" else "digits"
    try:
        return read_toml(suite_file(words[0] if words else ctx.params.get("suite") or default), "the suite file")
    except (RibError, OSError):
        return {}


def _models(document: Document) -> list[str]:
    return [short(name) for name in _listed(document.get("models")) if isinstance(name, str)]


def _listed(value: Any) -> list[Any]:
    """A list of a suite file; empty if the file has something else there."""
    return value if isinstance(value, list) else []


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _last_of_several(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + name for name in _starting(last, names) if name not in taken]


def _paths(incomplete: str, suffixes: Sequence[str]) -> list[str]:
    """Folders, and files of these kinds, that begin like what was typed."""
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
