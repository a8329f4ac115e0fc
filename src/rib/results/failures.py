"""Failures: groups steps that failed for one reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Alike:
    """Steps that failed for one reason.

    Attributes:
        titles: of the steps, in order.
        reason: why the first of them failed.
    """

    titles: tuple[str, ...]
    reason: str

    @property
    def who(self) -> str:
        """The first step, and how many more."""
        more = len(self.titles) - 1
        return self.titles[0] + (f" and {more:,} more {'steps' if more > 1 else 'step'}" if more else "")


def alike(failures: Mapping[str, str]) -> list[Alike]:
    """Failed steps by reason, in the order of the first of each. A step that needed a failed one has its reason.

    Args:
        failures: reason by title.
    """
    groups: dict[str, list[str]] = {}
    for title, reason in failures.items():
        groups.setdefault(_root(reason), []).append(title)
    return [Alike(tuple(titles), failures[titles[0]]) for titles in groups.values()]


def _root(reason: str) -> str:
    """A reason without the steps through which it came."""
    return reason.rpartition(" failed: ")[2]
