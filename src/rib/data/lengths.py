"""Counts the texts that are longer than a model's inputs. They are cut off, which costs accuracy without an error."""

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
"""Maximum number of texts of a part that are counted; of a larger part, evenly spaced texts are."""

Pairs = tuple[list[str], list[str] | None]
"""Texts, and the second text of each if they are pairs."""

NAMED = 4
"""Maximum number of parts that a sentence names: those with the largest shares."""

AT_ONCE = 1_000
"""Number of texts that are tokenized together."""


@dataclass(frozen=True)
class Cut:
    """Texts that are longer than a view.

    Attributes:
        longer: number of longer texts among those counted.
        looked: number of texts counted.
        total: number of texts of the part.
        longest: number of tokens of the longest text counted.
    """

    longer: int
    looked: int
    total: int
    longest: int

    def words(self, label: str) -> str:
        """The count as text: "reviews (test) 12 of 600", or "about 2.0 % of 90,000" from a sample."""
        if self.looked == self.total:
            return f"{label} {self.longer:,} of {self.total:,}"
        return f"{label} about {100 * self.longer / self.looked:.1f} % of {self.total:,}"


def count_cut(texts: Callable[[list[int]], Pairs], total: int, view: Tokens, known: Path | None) -> Cut:
    """Count the texts of a part that are longer than a view.

    Args:
        texts: returns the texts of rows, and their second texts.
        total: number of rows.
        view: the view of the model.
        known: file that caches the count; None to count again.

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
    """The file that caches the count of a part in a view; None without a folder."""
    return folder / f"{digest(json.dumps(['cut', fingerprint, view.name]).encode())}.json" if folder else None


def cut_words(view: View, found: Mapping[str, Cut]) -> str:
    """A sentence about the parts of data sets with texts that are longer than a view; empty if there are none."""
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
