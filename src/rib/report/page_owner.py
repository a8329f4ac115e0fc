"""Pages: which file in a store's `reports/` is whose. A page replaces its own suite's page and no other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rib.files import read_fact, write_fact
from rib.identity import digest
from rib.store.store import Store


@dataclass(frozen=True)
class PageOwner:
    """Owner of a page file.

    Attributes:
        origin: if the suite comes from, and what was asked of it: an edited suite keeps its page.
        content: digest of the keys of its steps: a suite that was moved keeps its page.
    """

    origin: str
    content: str

    def is_of(self, other: PageOwner) -> bool:
        """Whether two owners are one."""
        return self.origin == other.origin or self.content == other.content


def owner_of(origin: str, keys: Iterable[str]) -> PageOwner:
    """The owner of a page.

    Args:
        origin: the suite's file, or its name where it comes with RIB; and the study's name.
        keys: of the steps that it rests on.
    """
    return PageOwner(origin, digest(json.dumps(sorted(keys)).encode()))


def page_of(store: Store, name: str, owner: PageOwner) -> Path:
    """The file of a page in a store: NAME.html, or NAME-DIGEST.html where another suite of that name has it.

    Args:
        store: holds `reports/`.
        name: of the suite, and of the study.
        owner: whose page it is; it is noted.
    """
    note, folder = store.facts / f"page-{name}.json", store.root / "reports"
    owners = _read(note)
    mine = next((file for file, other in owners.items() if other.is_of(owner)), f"{name}.html")
    if mine in owners and not owners[mine].is_of(owner) and (folder / mine).exists():
        mine = f"{name}-{digest(owner.origin.encode())[:8]}.html"
    if owners.get(mine) != owner:
        kept = {file: asdict(other) for file, other in (owners | {mine: owner}).items()}
        write_fact(note, json.dumps(kept).encode())
    return folder / mine


def _read(note: Path) -> dict[str, PageOwner]:
    try:
        return {file: PageOwner(**fields) for file, fields in json.loads(read_fact(note) or b"{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
