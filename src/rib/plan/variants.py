"""Variants: the methods behind a name in a suite: one per value of a sweep, or one that chooses among values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rib.errors import UserError, nearest
from rib.methods import METHODS, Method
from rib.methods.chosen import Chosen
from rib.recipe import Recipe
from rib.suite.suite import Suite
from rib.suite.validation import validated

Lists = Mapping[str, Sequence[Any]]


def variants(suite: Suite, name: str) -> list[tuple[str, Method]]:
    """The methods behind a name in the suite, with their labels; a sweep has several.

    Raises:
        UserError: the method does not exist, or its table is wrong.
    """
    if name not in suite.method and ":" not in name and name not in METHODS.classes:
        raise nearest(name, [*suite.method, *METHODS.classes], "method")
    table = dict(suite.method.get(name, {}))
    kind = METHODS.find(str(table.pop("kind", name)))
    where = f"{suite.name}: method {name!r}"
    if not kind.listed:
        what = f"{where}: {kind.name!r} is only an ingredient of other methods"
        raise UserError(what, valid=", ".join(METHODS.classes))
    sweep, choose = (_lists(table.pop(word, {}), word, where) for word in ("sweep", "choose"))
    return [(name + label, _chosen(kind, table | values, choose, where)) for label, values in _points(sweep)]


@dataclass(frozen=True)
class Swept:
    """The place of a method in a sweep of one hyper-parameter, which is the strength of the method.

    Attributes:
        name: name of the method in the suite, without the value.
        field: the hyper-parameter.
        value: its value.
    """

    name: str
    field: str
    value: float


def swept(suite: Suite) -> dict[str, Swept]:
    """Every method of the runs that comes from a sweep of one number, by its label."""
    found: dict[str, Swept] = {}
    for name in dict.fromkeys(name for block in suite.runs for name in block.methods):
        sweep = suite.method.get(name, {}).get("sweep", {})
        if not isinstance(sweep, dict) or len(sweep) != 1:
            continue
        ((field, values),) = sweep.items()
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            labels = (name + label for label, _ in _points({field: values}))
            found |= {label: Swept(name, field, value) for label, value in zip(labels, values, strict=True)}
    return found


def _lists(given: object, word: str, where: str) -> Lists:
    """A table of lists: values of a sweep, or values to choose from. Raises UserError for anything else."""
    if isinstance(given, dict) and all(isinstance(values, list) and values for values in given.values()):
        return given
    raise UserError(f"{where}: {word} is a table of lists", got=given, valid=f"{word} = {{ alpha = [0.25, 0.5] }}")


def _points(lists: Lists) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination of values, with a label such as " alpha=0.5"; without lists, one combination without a
    label."""
    for values in itertools.product(*lists.values()):
        point = dict(zip(lists, values, strict=True))
        label = "".join(
            f" {field}={_number(value) if isinstance(value, float) else value}" for field, value in point.items()
        )
        yield label, point


def _chosen(kind: type[Method], table: dict[str, Any], lists: Lists, where: str) -> Method:
    """A method; with values to choose from, one that takes the best of them on held-out images."""
    made = [(label.strip(), validated(kind, table | values, where)) for label, values in _points(lists)]
    if len(made) == 1:
        return made[0][1]
    if kind.merges_sets or not kind.needs_data:
        what = f"{where}: choose takes held-out images of the one set tuned on, and this method has none"
        raise UserError(what, got=dict(lists), valid="sweep, which makes one method of each value")
    return Chosen(candidates=tuple(method for _, method in made), labels=tuple(label for label, _ in made))


def at_rate(method: Method, factor: float, recipe: Recipe) -> Method:
    """A method with its learning rate multiplied. Raises UserError for a method without its own rate."""
    if "lr" not in type(method).model_fields:
        what = f"an ingredient trains at {factor:g} times its rate, and {method.name!r} has no rate of its own"
        raise UserError(what, valid="a method with the field lr", remedy="set rates = [1.0]")
    return method.model_copy(update={"lr": factor * (getattr(method, "lr", None) or recipe.lr)})


def _number(value: float) -> str:
    """The shortest text of a number that reads back equal: 0.5, 1e-05, 0.1234567."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
