"""The cached report: if a run has nothing to do and nothing has changed, it shows this text again."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rib.files import read_fact, state, write_fact
from rib.identity import digest
from rib.plan import Plan
from rib.store.store import Store

LIBRARIES = ("numpy", "scipy", "plotly", "rich")
"""Libraries other than RIB that compute and draw a report."""


class ReportCache:
    """The cached terminal output of a finished plan, valid while its page is unchanged.

    A report is a function of plan, records and code. If none of them has changed, neither has the report.

    Args:
        plan: the plan.
        store: the store with its records; it caches one report per suite name.
        page: path of the HTML page.
        manner: everything else that determines the text: JSON or table, width, colours, encoding.
    """

    def __init__(self, plan: Plan, store: Store, page: Path, *manner: Any) -> None:
        self._file, self._page = store.facts / f"report-{plan.suite.name}.json", page
        self._stamp = digest(json.dumps([*map(str, (page.absolute(), *manner)), *_sources(plan, store)]).encode())

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


def _sources(plan: Plan, store: Store) -> list[Any]:
    """The inputs of a report: the suite, the records on disk, the code."""
    home = Path(__file__).parents[1]
    code = sorted(path for path in home.rglob("*") if path.suffix in (".py", ".toml", ".jinja", ".css", ".js"))
    return [
        plan.suite.model_dump_json(),
        str(plan.suite.base),
        [(step.key, _state(store.record_path(step.key))) for step in plan.steps],
        [version(name) for name in LIBRARIES],
        digest(b"\0".join(path.read_bytes() for path in code)),
    ]


def _state(path: Path) -> list[int] | None:
    """Size, times and inode of a file, which change with its bytes; None if the file is missing."""
    try:
        return state(path.stat())
    except OSError:
        return None
