"""Turns plain TOML values into validated objects, with readable errors."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from rib.errors import UserError

T = TypeVar("T", bound=BaseModel)


def validated(kind: type[T], values: dict[str, Any], where: str) -> T:
    """An object of type `kind` from plain values.

    Args:
        kind: the type.
        values: the values of its fields.
        where: names the values in errors.

    Raises:
        UserError: a key is unknown or a value is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explained(kind, error, where) from None


def _explained(kind: type[BaseModel], error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    markers = {"after", "before"} - kind.model_fields.keys()  # pydantic's own, where no field has the name
    loc = [part for part in first["loc"] if part not in markers]
    place = ".".join(str(part) for part in loc) or "the top level"
    if first["type"] == "extra_forbidden":
        fields = _fields_at(kind, loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), fields, n=1, cutoff=0.5)
        return UserError(
            f"{where}: unknown key {place!r}",
            got=loc[-1],
            valid=", ".join(fields),
            remedy=f"did you mean {close[0]!r}?" if close else None,
        )
    if first["type"] == "missing":
        return UserError(
            f"{where}: {place!r} is missing",
            got=", ".join(first["input"]) if isinstance(first["input"], dict) and first["input"] else "nothing",
            valid=", ".join(_fields_at(kind, loc[:-1])),
            remedy=f"add {loc[-1]!r}",
        )
    if first["type"] == "too_short":
        return UserError(
            f"{where}: {place!r} is an empty list", got="[]", valid="one entry or more", remedy=f"fill {place!r}"
        )
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    got = first["input"] if not isinstance(first["input"], dict) else None
    return UserError(
        f"{where}: {place}: {first['msg'].removeprefix('Value error, ').replace('valid tuple', 'list')}{more}", got=got
    )


def _fields_at(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Field names of the type at a location of a validation error."""
    current: Any = kind
    for part in loc:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            if part not in current.model_fields:
                continue
            current = current.model_fields[part].annotation
        current = _inner_model(current) or current
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _inner_model(inner))), None)
