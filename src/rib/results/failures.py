"""Failures: failed steps, grouped by reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Alike:
    """Steps that failed for the same reason.

    Attributes:
        titles: titles of the steps, in order.
        reason: why the first of them failed.
    """

    titles: tuple[str, ...]
    reason: str

    @property
    def who(self) -> str:
        """The title of the first step, and the number of the others."""
        more = len(self.titles) - 1
        return self.titles[0] + (f" and {more:,} more {'steps' if more > 1 else 'step'}" if more else "")


def alike(failures: Mapping[str, str]) -> list[Alike]:
    """Failed steps grouped by reason, in the order of each reason's first step.

    A step that failed because another one failed has the reason of that other one.

    Args:
        failures: reason by title.
    """
    groups: dict[str, list[str]] = {}
    for title, reason in failures.items():
        groups.setdefault(_root(reason), []).append(title)
    return [Alike(tuple(titles), failures[titles[0]]) for titles in groups.values()]


def _root(reason: str) -> str:
    """A reason without the chain of steps that passed it on."""
    return reason.rpartition(" failed: ")[2]
