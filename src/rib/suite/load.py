"""Loads a suite from a TOML file, shipped or the user's own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from rib.errors import UserError, nearest, with_near_path
from rib.files import read_toml
from rib.given import path_in
from rib.suite.suite import MOST_SEEDS, Suite
from rib.suite.validation import validated
from rib.text.terminal import UNPRINTABLE, name_fault

SHIPPED = Path(__file__).parents[1] / "suites"


def parse_seeds(text: str) -> int | tuple[int, ...]:
    """Tuning seeds from text: their number, such as "3", or the seeds themselves, such as "0,1,4" or "7,".

    Raises:
        UserError: it is neither, or names a seed twice.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) > 1 and not names[-1]:
        names.pop()
    valid = "a number of seeds, e.g. 3; or seeds separated by commas, e.g. 0,1,4 (one seed: 7,)"
    if not all(re.fullmatch(r"[0-9]{1,9}", name) for name in names):
        raise UserError("--seeds is neither a number of seeds nor a list of them", got=text, valid=valid)
    seeds = tuple(map(int, names))
    if len(set(seeds)) != len(seeds):
        raise UserError("--seeds names a seed twice", got=text, valid=valid)
    if "," in text:
        return seeds
    if not 0 < seeds[0] <= MOST_SEEDS:
        raise UserError("--seeds is a number of seeds", got=text, valid=f"1 to {MOST_SEEDS:,}", remedy=valid)
    return seeds[0]


def shipped() -> dict[str, Path]:
    """The suites that come with RIB, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def suite_file(name: str | Path) -> Path:
    """The file of a shipped suite by name, or the given path.

    Raises:
        UserError: there is no suite of that name.
    """
    path = path_in(name, "the suite")
    if path.suffix == ".toml":
        return path
    if str(name) not in shipped() and path.is_dir():
        inside = path / "suite.toml"
        remedy = f"name the file: {inside}" if inside.is_file() else f"write a suite for it: rib suite new {path}"
        raise UserError("a folder is no suite", got=name, valid="a suite's name, or a .toml file", remedy=remedy)
    if str(name) not in shipped() and (path.suffix or "/" in str(name)):
        near = with_near_path(path)
        raise UserError("a suite is a name or a .toml file", got=name, valid="a path to a .toml file", remedy=near)
    if str(name) not in shipped():
        error = nearest(str(name), shipped(), "suite")
        raise UserError(error.problem, got=name, valid=f"{error.valid}, or a path to a .toml file", remedy=error.remedy)
    return shipped()[str(name)]


def load_suite(name: str | Path, data: str | Path | None = None) -> Suite:
    """Load a shipped suite by name, or a suite file by path.

    Args:
        name: a name such as "digits", or a path that ends in .toml.
        data: the folder that relative paths in the suite start from. Default: RIB_DATA; else the suite file's own
            folder, or the working folder for a shipped suite.

    Raises:
        UserError: there is no such suite, it is not valid TOML, or a key or value is wrong.
    """
    path = suite_file(name)
    if not path.exists():
        remedy = with_near_path(path, "check it")
        raise UserError("suite file not found", got=path, valid="a path to a .toml file", remedy=remedy)
    import_beside(path)
    document = read_toml(path, "the suite file")
    own = path.resolve().parent
    base = (os.environ.get("RIB_DATA") or None) if data is None else path_in(data, "the folder of the data")
    return parse_suite(document, path).based_at(base or (Path.cwd() if own == SHIPPED.resolve() else own))


def import_beside(suite: Path) -> None:
    """Allow a suite file to name modules beside it, or in the working folder."""
    real = os.path.realpath(suite)  # accepts a link to itself, which Path.resolve does not
    for folder in (Path(real).parent if suite.suffix == ".toml" else None, Path.cwd()):
        if folder and folder != SHIPPED and str(folder) not in sys.path:
            sys.path.append(str(folder))


def parse_suite(document: dict[str, Any], path: Path | str = "suite") -> Suite:
    """A suite from a TOML document.

    Raises:
        UserError: a key is unknown (the message has the valid ones) or a value is wrong.
    """
    _require_printable(document, str(path))
    _require_names(document, str(path))
    return validated(Suite, document, str(path))


def _require_printable(value: object, where: str) -> None:
    """Refuse text with control characters anywhere in the document, because it could change a terminal's display.

    Raises:
        UserError: a name or value has one.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            _require_printable(name, where)
            _require_printable(item, f"{where}: {name}")
    elif isinstance(value, list):
        for item in value:
            _require_printable(item, where)
    elif isinstance(value, str) and (found := UNPRINTABLE.search(value)):
        raise UserError(f"{where}: a control character", got=ascii(value), remedy=f"take {found[0]!a} out")


def _require_names(document: dict[str, Any], where: str) -> None:
    """Refuse names of sets, models or other items that do not fit a table, page or file name, before any work starts.

    Raises:
        UserError: a name does not fit.
    """
    for table in ("data", "model", "method", "analysis"):
        rows = document.get(table)
        for name in rows if isinstance(rows, dict) else ():
            if fault := name_fault(name):
                raise UserError(f"{where}: a name in [{table}] has {fault}", got=ascii(name)[:200], remedy="rename it")
