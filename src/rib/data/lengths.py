"""Lengths of texts: how many are longer than a model reads, which costs accuracy without an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rib.data.tokens import token_counts
from rib.data.views import Tokens, View, as_tokens
from rib.files import read_fact, write_fact
from rib.identity import digest

MOST = 20_000
"""Texts of a part to look at; of a larger part, as many that are evenly spread."""

Pairs = tuple[list[str], list[str] | None]
"""Texts, and the second text of each if they are pairs."""

NAMED = 4
"""Parts to name in a sentence, those with the largest shares."""

AT_ONCE = 1_000
"""Texts to tokenize together."""


@dataclass(frozen=True)
class Cut:
    """Texts that are longer than a view.

    Attributes:
        longer: how many of those that were looked at.
        looked: how many were looked at.
        total: texts of the part.
        longest: tokens of the longest that was looked at.
    """

    longer: int
    looked: int
    total: int
    longest: int

    def words(self, label: str) -> str:
        """The count for people: "reviews (test) 12 of 600", or "about 2.0 % of 90,000" from a sample."""
        if self.looked == self.total:
            return f"{label} {self.longer:,} of {self.total:,}"
        return f"{label} about {100 * self.longer / self.looked:.1f} % of {self.total:,}"


def count_cut(texts: Callable[[list[int]], Pairs], total: int, view: Tokens, known: Path | None) -> Cut:
    """Count the texts of a part that are longer than a view.

    Args:
        texts: gives the texts, and their second texts, of rows.
        total: number of rows.
        view: of the model.
        known: file that keeps the count; None to count again.

    Raises:
        UserError: the tokenizer cannot be read.
    """
    if known and (kept := read_fact(known)):
        return Cut(**json.loads(kept))
    rows = np.linspace(0, total - 1, min(MOST, total)).round().astype(np.int64).tolist()
    counts = [token_counts(view, *texts(rows[at : at + AT_ONCE])) for at in range(0, len(rows), AT_ONCE)]
    sizes = np.concatenate(counts) if counts else np.zeros(0, np.int64)
    found = Cut(int((sizes > view.length).sum()), len(rows), total, int(sizes.max(initial=0)))
    if known:
        write_fact(known, json.dumps(asdict(found)).encode())
    return found


def cut_fact(folder: Path | None, fingerprint: str, view: Tokens) -> Path | None:
    """The file of a folder that keeps the count of a part in a view."""
    return folder / f"{digest(json.dumps(['cut', fingerprint, view.name]).encode())}.json" if folder else None


def cut_words(view: View, found: Mapping[str, Cut]) -> str:
    """One sentence on the parts of data sets that have longer texts than a view; empty if none has."""
    cut = {label: one for label, one in found.items() if one.longer}
    if not cut:
        return ""
    tokens = as_tokens(view, next(iter(cut)))
    lost = "end" if tokens.keep == "start" else "start"
    most = sorted(cut, key=lambda label: -cut[label].longer / cut[label].looked)[:NAMED]
    counts = ", ".join(cut[label].words(label) for label in most)
    counts += f" and {len(cut) - NAMED} more parts" if len(cut) > NAMED else ""
    longest = max(one.longest for one in cut.values())
    return (
        f"texts of more than {tokens.length:,} tokens are read without their {lost}: {counts}; the longest has "
        f"{longest:,} (`length` and `keep` in the model's row)"
    )
