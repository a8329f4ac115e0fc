"""The table of rooms in docs/architecture.md names every module of the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import rib
from rib.methods import METHODS

ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"
PACKAGE = Path(rib.__file__).parent


def documented() -> Iterator[str]:
    """The modules that the table names, as paths without suffix."""
    section = ARCHITECTURE.read_text("utf-8").partition("\n## Rooms\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if re.match(r"\| (`\w.*?/`)? ?\|", line):
            folder, _, modules = (cell.strip() for cell in line.strip("|").split("|"))
            names = re.sub(r"\([^)]*\)", "", modules)
            yield from (folder.strip("`") + name for name in re.findall(r"`(\w+)`", names))


def test_the_table_of_rooms_names_every_module() -> None:
    there = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")}
    modules = {name for name in there if not name.rpartition("/")[2].startswith("__")}
    methods = {kind.__module__.removeprefix("rib.").replace(".", "/") for kind in METHODS.classes.values()}
    named = list(documented())
    assert sorted(modules - methods - set(named)) == []
    assert sorted(set(named) - modules) == []
    assert len(named) == len(set(named))
