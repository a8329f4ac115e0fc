"""The cached report: if a run has nothing to do and nothing has changed, it shows this text again.

For a suite of RIB's own data and models, the keys of the finished plan are cached too (`KeysCache`). Then a second run
needs neither the data nor torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from rib.data.catalogue import ROWS as SETS
from rib.files import read_fact, state, write_fact
from rib.identity import digest
from rib.models.catalogue import ROWS as MODELS
from rib.store.store import Store
from rib.suite.suite import Merges, Runs, Suite

HOME = Path(__file__).parents[1]
"""RIB's own files."""

CODE = (".py", ".toml", ".jinja", ".css", ".js")
"""Suffixes of the files whose content is read; the state of all others is enough."""

LIBRARIES = ("numpy", "scipy", "plotly", "rich")
"""Libraries other than RIB that compute and draw a report."""


class ReportCache:
    """The cached terminal output of a finished plan, valid while its page is unchanged.

    A report is a function of plan, records and code. If none of them has changed, neither has the report.

    Args:
        suite: the suite.
        keys: keys of the plan's steps.
        store: the store with its records; it caches one report per suite name.
        page: path of the HTML page.
        manner: everything else that determines the text: JSON or table, width, colours, encoding.
    """

    def __init__(self, suite: Suite, keys: Sequence[str], store: Store, page: Path, *manner: Any) -> None:
        self._file, self._page = store.facts / f"report-{suite.name}.json", page
        records = [(key, _state(store.record_path(key))) for key in keys]
        self.whole = all(found for _, found in records)
        """Whether every record is a file of this machine."""
        own = [_suite(suite), records, [version(name) for name in LIBRARIES], _code()]
        self._stamp = digest(json.dumps([*map(str, (page.absolute(), *manner)), *own]).encode())

    def read(self) -> str | None:
        """Return the cached text; None if there is none or something has changed since."""
        try:
            found = json.loads(read_fact(self._file) or b"")
            same = found["stamp"] == self._stamp and found["page"] == _state(self._page)
            return str(found["text"]) if same else None
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, text: str) -> None:
        """Cache the text of a report whose page has just been written. Failures to write are ignored."""
        cached = {"stamp": self._stamp, "page": _state(self._page), "text": text}
        write_fact(self._file, json.dumps(cached).encode())


class KeysCache:
    """The cached keys of a finished suite's steps.

    The plan of an embedded suite is a function of the suite, of RIB's files and of the installed libraries. If none of
    them has changed, neither has a key. RIB caches nothing for other suites, whose data, weights or modules may change.

    Args:
        suite: the suite.
        store: the store that caches them, one plan per suite name.
    """

    def __init__(self, suite: Suite, store: Store) -> None:
        self._file: Path | None = None
        if is_embedded(suite):
            with suppress(PackageNotFoundError):  # a library without its metadata: its version is not known
                self._stamp = digest(json.dumps([_suite(suite), _code(), _shipped(), _libraries()]).encode())
                self._file = store.facts / f"plan-{suite.name}.json"

    def read(self) -> list[str] | None:
        """Return the keys; None if there are none or something has changed since."""
        try:
            found = json.loads((self._file and read_fact(self._file)) or b"")
            return [str(key) for key in found["keys"]] if found["stamp"] == self._stamp else None
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, keys: Sequence[str]) -> None:
        """Cache the keys of a plan. Failures to write are ignored."""
        if self._file:
            write_fact(self._file, json.dumps({"stamp": self._stamp, "keys": list(keys)}).encode())


def is_embedded(suite: Suite) -> bool:
    """Whether everything behind a suite's plan is part of RIB: rendered data, shipped weights, RIB's own methods."""
    blocks: tuple[Runs | Merges, ...] = (*suite.runs, *suite.merges)
    named = [name for block in blocks for name in block.methods]
    named += [name for look in suite.analyses for name in look.names]
    tables = json.dumps([named, suite.method, suite.analysis])
    if suite.data or suite.model or ":" in re.sub(r'": ', "", tables):
        return False
    sets = [SETS.get(name) for name in (*suite.tested, *suite.roles.pretrained)]
    models = [MODELS.get(name) for name in suite.models]
    return all(row and (row.digits or row.fields) for row in sets) and all(
        row and row.weights and row.weights.startswith("zoo:") for row in models
    )


def _suite(suite: Suite) -> list[str]:
    return [suite.model_dump_json(), str(suite.base)]


@cache
def _code() -> str:
    """Digest of RIB's source."""
    return digest(b"\0".join(path.read_bytes() for path in sorted(HOME.rglob("*")) if path.suffix in CODE))


def _shipped() -> list[Any]:
    """The states of RIB's other files, such as shipped weights."""
    files = (path for path in sorted(HOME.rglob("*")) if path.suffix not in (*CODE, ".pyc") and path.is_file())
    return [(str(path.relative_to(HOME)), _state(path)) for path in files]


def _libraries() -> list[str]:
    """The versions of the libraries that RIB needs. Raises PackageNotFoundError."""
    needed = [line for line in requires("rib-benchmark") or () if "extra ==" not in line]
    return [version(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in needed]


def _state(path: Path) -> list[int] | None:
    """Size, times and inode of a file, which change with its bytes; None if the file is missing."""
    try:
        return state(path.stat())
    except OSError:
        return None
