"""Fuzz: random input from outside, checked by the rules of tests/fuzzing.py. Needs POSIX."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import fuzzing
import fuzzing_archives
import fuzzing_doors as doors

SHARES = {
    "suites": 0.2,
    "checkpoints": 0.15,
    "trees": 0.1,
    "builders": 0.2,
    "configurations": 0.15,
    "names": 0.1,
    "specials": 0.02,
    "archives": 0.08,
}
"""Share of each kind among all cases."""

MEMORY = 8 << 30
"""Limit of the address space in bytes, so that a case that wants more fails instead of exhausting the machine."""


def main(words: Sequence[str]) -> int:
    """Try cases until one breaks a rule; then exit with 1 and print the smallest such case."""
    options = arguments(words)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    fuzzing.PATIENCE = options.patience
    for kind in options.kinds:
        began, outcomes = time.perf_counter(), Counter[str]()
        cases = max(1, round(options.cases * SHARES[kind]))
        try:
            fuzzing.in_turn(lambda place: tries(kind, place, cases, options.seed, outcomes))  # noqa: B023
        except BaseException as error:
            print(f"{kind}: a rule is broken (seed {options.seed}): {type(error).__name__}: {error}")
            raise
        counts = ", ".join(f"{count:,} {word}" for word, count in sorted(outcomes.items()))
        spent = time.perf_counter() - began
        print(f"{kind}: {sum(outcomes.values()):,} cases in {spent:,.0f} s, seed {options.seed}: {counts}", flush=True)
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m soak fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(SHARES), help=f"of {', '.join(SHARES)}; default all")
    parser.add_argument("--cases", type=int, default=20_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=int, default=10, help="wall time a case may take, per processor time")
    return parser.parse_args(words)


def tries(kind: str, place: fuzzing.Ground, cases: int, start: int, outcomes: Counter[str]) -> None:
    """Try `cases` cases of a kind."""

    def suite(content: bytes) -> None:
        outcomes["refused" if fuzzing.try_suite(place, content) else "planned"] += 1

    def checkpoint(case: tuple[str, bytes]) -> None:
        outcomes["taken" if fuzzing.try_checkpoint(place, *case) else "refused"] += 1

    def tree(case: tuple[fuzzing.Tree, float]) -> None:
        outcomes["refused" if fuzzing.try_tree(place, *case) else "decoded"] += 1

    def builder(row: dict[str, Any]) -> None:
        outcomes["built" if doors.try_builder(place, row) else "refused"] += 1

    def configuration(content: bytes) -> None:
        outcomes["built" if doors.try_configuration(place, content) else "refused"] += 1

    def name(made: dict[str, Any]) -> None:
        outcomes["refused" if doors.try_named(place, made) else "planned"] += 1

    def special(case: tuple[str, str]) -> None:
        outcomes["refused" if doors.try_special(place, *case) else "planned"] += 1

    def archive(content: bytes) -> None:
        outcomes["refused" if fuzzing_archives.try_archive(place, content) else "taken"] += 1

    drawn, one = {
        "archives": (fuzzing_archives.archives(fuzzing_archives.whole(place)) if kind == "archives" else None, archive),
        "builders": (doors.builders(), builder),
        "configurations": (doors.configurations(), configuration),
        "names": (doors.named(place.suite), name),
        "specials": (doors.specials, special),
        "suites": (fuzzing.suites(place.suite), suite),
        "checkpoints": (fuzzing.checkpoints(place.root), checkpoint),
        "trees": (fuzzing.trees(), tree),
    }[kind]
    run = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    seed(start)(run(given(drawn)(one)))()
