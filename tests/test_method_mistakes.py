"""Every registered method, also a new one: how a bad hyper-parameter is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt

from rib.errors import UserError
from rib.methods import METHODS, Method
from rib.suite.load import load_suite
from rib.suite.validation import valid_values, validated


class _Neither:
    """A value of no type that a field has; every process gives it the same name."""

    def __repr__(self) -> str:
        return "neither"


NEITHER = _Neither()


NUMBERS = (int, float, int | None, float | None)


def items(annotation: Any) -> tuple[Any, list[Any]] | None:
    """Type and bounds of the entries of a list of numbers; None for other types."""
    if get_origin(annotation) is not tuple:
        return None
    inner = get_args(annotation)[0]
    kind, *rest = get_args(inner) if get_origin(inner) is Annotated else (inner,)
    return (kind, [bound for one in rest for bound in one.metadata]) if kind in NUMBERS else None


def bad_values(kind: type[Method]) -> Iterator[tuple[str, Any]]:
    """For each field a value of another type, and one beyond each of its bounds."""
    for name, field in kind.model_fields.items():
        yield name, NEITHER
        yield from ((name, value) for bound in field.metadata for value in _beyond(bound))
        if field.annotation in (float, float | None):
            yield from ((name, value) for value in (math.nan, math.inf))
        if found := items(field.annotation):
            beyond = [next(iter(_beyond(bound)), NEITHER) for bound in found[1]]
            yield from ((name, (value, 0.5)) for value in (NEITHER, math.nan, -math.inf, -1.0, *beyond))
            yield name, ()


def _beyond(bound: Any) -> Iterator[Any]:
    """A value that a bound excludes."""
    if isinstance(bound, Ge):
        yield bound.ge - 1  # type: ignore[operator]
    elif isinstance(bound, Gt):
        yield bound.gt
    elif isinstance(bound, Le):
        yield bound.le + 1  # type: ignore[operator]
    elif isinstance(bound, Lt):
        yield bound.lt


CASES = [(name, *case) for name, kind in sorted(METHODS.classes.items()) for case in bad_values(kind)]


@pytest.mark.parametrize(("name", "field", "value"), CASES, ids=[f"{n}-{f}-{v}"[:60] for n, f, v in CASES])
def test_a_bad_hyper_parameter_is_named_with_what_is_valid_and_a_remedy(name: str, field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        validated(METHODS.find(name), {field: value}, "tiny: method")
    error = caught.value
    assert f"tiny: method: {field}" in str(error) or f"'{field}'" in str(error)
    assert error.got is not None
    assert error.valid or "shares grow from above 0 to 1" in str(error)  # the words of its own say what is valid
    assert error.remedy
    for bound in METHODS.find(name).model_fields[field].metadata:
        for limit in ("ge", "gt", "le", "lt"):
            if (number := getattr(bound, limit, None)) is not None:
                assert f"{number:g}" in str(error.valid)


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
        if (info.annotation in NUMBERS and not bounded(info.metadata))
        or ((found := items(info.annotation)) and not bounded(found[1]) and field != "shares")  # checked as a whole
    ]
    assert free == []


def bounded(metadata: list[Any]) -> bool:
    return any(isinstance(bound, Ge | Gt | Le | Lt) for bound in metadata)


def test_valid_values_in_words() -> None:
    fields = METHODS.find("best_rate").model_fields
    assert valid_values(fields["rates"].annotation, fields["rates"].metadata) == (
        "a list of 2 or more, each a number above 0"
    )
    assert valid_values(fields["freeze"].annotation) == 'a list, each "norm" or "head" or "statistics"'
    assert valid_values(int | None, [Ge(1)]) == "a whole number of at least 1"
    assert valid_values(bool | str) == "true or false, or text"
    assert valid_values(object) is None


def test_the_suite_of_all_methods_has_all_of_them() -> None:
    suite = load_suite("digits-methods")
    named = {method for run in suite.runs for method in run.methods}
    named |= {method for merge in suite.merges for method in merge.methods}
    listed = {name for name, kind in METHODS.classes.items() if kind.listed}
    assert listed - named == {"pretrained", "peft"}, "the first is the baseline, the second needs an extra"
    assert {run.sizes for run in suite.runs} == {merge.sizes for merge in suite.merges} == {(1000,)}
