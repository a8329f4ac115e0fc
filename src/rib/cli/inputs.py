"""Reads the arguments of commands: suites, names, devices, sizes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.errors import UserError
from rib.text.terminal import console, printable

if TYPE_CHECKING:
    from rib.plan import Plan
    from rib.store.store import Store
    from rib.suite.suite import Suite

MOST_NOTES = 5
"""Maximum number of notes about images in common that a command prints; `rib data check` prints all."""


def plan_of(
    suite: str,
    store: Path,
    data: Path | None,
    models: str | None = None,
    seeds: str | None = None,
    assume: bool = False,
    samples: bool = True,
) -> tuple[Plan, Store]:
    """The plan of a suite and its store. Without `samples`, pages contain no test images or texts."""
    from rib.plan import make_plan
    from rib.store.store import Store

    place = Store(store)
    with console(stderr=True).status("reading the suite, its data and its weights"):
        plan = make_plan(suite_of(suite, data, models, seeds, samples), place.facts, assume)
    for note in plan.notes[:MOST_NOTES]:
        print(printable(f"note: {note}"), file=sys.stderr)
    if (more := len(plan.notes) - MOST_NOTES) > 0:
        print(f"note: {more:,} more of these: rib data check {as_given(suite)}", file=sys.stderr)
    return plan, place


def suite_of(name: str, data: Path | None, models: str | None, seeds: str | None, samples: bool = True) -> Suite:
    """Load a suite, with only these models, these tuning seeds, and without samples on its page, if so given."""
    from rib.suite.load import load_suite, parse_seeds

    suite = load_suite(name, data)
    suite = suite if models is None else suite.with_models(names_in(models))
    suite = suite if seeds is None else suite.with_seeds(parse_seeds(seeds))
    return suite if samples else suite.without_samples()


def page_in(store: Store, made: Suite, keys: Sequence[str], suite: str, name: str | None = None) -> Path:
    """Path of the page of a suite's report, or of one of its studies.

    Args:
        store: the store with the results.
        made: the suite behind the page.
        keys: keys of its steps.
        suite: the name or path that the user gave.
        name: name of the page; by default the suite's.
    """
    from rib.report.page_owner import owner_of, page_of
    from rib.suite.load import SHIPPED, suite_file

    file = suite_file(suite).resolve()
    origin = file.stem if file.is_relative_to(SHIPPED.resolve()) else f"{file}, data of {made.base}"
    owner = owner_of(f"{origin}: {name or 'report'}", keys)
    page = page_of(store, name or made.name, owner)
    if page.stem != (name or made.name):
        print(printable(f"note: {page.with_stem(name or made.name)} is the page of another suite"), file=sys.stderr)
    return page


def is_suite(word: str | None) -> bool:
    """Whether an argument names a suite: a shipped one, or a suite file."""
    from rib.suite.load import shipped

    return word is not None and (word.endswith(".toml") or word in shipped())


def names_in(text: str | None) -> list[str]:
    """Split a comma-separated text into names."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def view_in(
    size: int | None,
    crop: float | None,
    resize: str | None,
    interpolation: str | None,
    mean: str | None,
    std: str | None,
) -> dict[str, Any]:
    """The preprocessing that the options state, by field; None where none does. Raises UserError."""
    view: dict[str, Any] = {"size": size, "crop": crop, "resize": resize, "interpolation": interpolation}
    return view | {"mean": channels_in("--mean", mean), "std": channels_in("--std", std)}


def channels_in(option: str, text: str | None) -> tuple[float, ...] | None:
    """Parse one number per channel, or one number for all three. Raises UserError."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise UserError(f"{option} is neither one number nor three", got=text, valid="0.5, or 0.485,0.456,0.406")
    return tuple(values * 3 if len(values) == 1 else values)


def bytes_in(text: str | None) -> int | None:
    """Parse a size such as 200GB into bytes."""
    from rib.data.budget import parse_bytes

    return None if text is None else parse_bytes(text)


def as_given(suite: str) -> str:
    """Return the suite, and the options of this call that select a part of it, for use in a suggested command."""
    words, kept = sys.argv[1:], []
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in ("--store", "--data", "--models", "--seeds"):
            kept += [word] if equals else words[place : place + 2]
        elif word == "--no-samples":
            kept.append(word)
    return shlex.join([suite, *kept])
