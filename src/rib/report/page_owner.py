"""Pages: the owner of each file in a store's `reports/`. A suite's page replaces its own older page and no other."""

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
        origin: the suite's file and the command's question. So a suite keeps its page when it is edited.
        content: digest of the keys of its steps. So a suite keeps its page when it is moved.
    """

    origin: str
    content: str

    def is_of(self, other: PageOwner) -> bool:
        """Whether two owners are the same suite."""
        return self.origin == other.origin or self.content == other.content


def owner_of(origin: str, keys: Iterable[str]) -> PageOwner:
    """The owner of a page.

    Args:
        origin: the suite's file, or its name if RIB ships it; and the study's name.
        keys: keys of the steps behind the page.
    """
    return PageOwner(origin, digest(json.dumps(sorted(keys)).encode()))


def page_of(store: Store, name: str, owner: PageOwner) -> Path:
    """The file of a page in a store: NAME.html, or NAME-DIGEST.html if another suite of that name owns it. Records the
    owner.

    Args:
        store: the store with `reports/`.
        name: name of the suite, and of the study.
        owner: owner of the page.
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
