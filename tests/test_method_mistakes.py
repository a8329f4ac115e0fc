"""Every registered method, also a new one: how a bad hyper-parameter is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

from rib.errors import UserError
from rib.methods import METHODS, Method
from rib.suite.validation import validated


class _Neither:
    """A value of no type that a field has; every process gives it the same name."""

    def __repr__(self) -> str:
        return "neither"


NEITHER = _Neither()


def bad_values(kind: type[Method]) -> Iterator[tuple[str, Any]]:
    """For each field a value of another type, and one beyond each of its bounds."""
    for name, field in kind.model_fields.items():
        yield name, NEITHER
        for bound in field.metadata:
            if isinstance(bound, Ge):
                yield name, bound.ge - 1  # type: ignore[operator]
            elif isinstance(bound, Gt):
                yield name, bound.gt
            elif isinstance(bound, Le):
                yield name, bound.le + 1  # type: ignore[operator]
            elif isinstance(bound, Lt):
                yield name, bound.lt
        if field.annotation in (float, float | None):
            yield from ((name, value) for value in (math.nan, math.inf))


CASES = [(name, *case) for name, kind in sorted(METHODS.classes.items()) for case in bad_values(kind)]


@pytest.mark.parametrize(("name", "field", "value"), CASES, ids=[f"{n}-{f}-{v}"[:60] for n, f, v in CASES])
def test_a_bad_hyper_parameter_is_named(name: str, field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        validated(METHODS.find(name), {field: value}, "tiny: method")
    said = str(caught.value)
    assert field in said
    assert "got" in said


@pytest.mark.parametrize("name", sorted(METHODS.classes))
def test_an_unknown_hyper_parameter_is_named_with_those_there_are(name: str) -> None:
    kind = METHODS.find(name)
    with pytest.raises(UserError) as caught:
        validated(kind, {"lerning_rate": 1}, "tiny: method")
    said = str(caught.value)
    assert "lerning_rate" in said
    assert not kind.model_fields or any(field in said for field in kind.model_fields)


def test_every_number_of_a_method_has_bounds() -> None:
    """A field that takes any number takes one with which the method means nothing."""
    free = [
        f"{name}.{field}"
        for name, kind in METHODS.classes.items()
        for field, info in kind.model_fields.items()
        if info.annotation in (int, float, int | None, float | None)
        and not any(isinstance(bound, Ge | Gt | Le | Lt) for bound in info.metadata)
    ]
    assert free == []
