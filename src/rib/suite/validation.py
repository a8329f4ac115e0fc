"""Turns plain TOML values into validated objects, with readable errors."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

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
    if first["type"] == "missing" and isinstance(loc[-1], int):
        place = ".".join(map(str, loc[:-1])) or "the top level"
        return UserError(f"{where}: {place} has too few entries", got=f"{loc[-1]} entries or fewer")
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
    field, explained = _field_at(kind, loc), first["type"] == "value_error"
    return UserError(
        f"{where}: {place}: {first['msg'].removeprefix('Value error, ').replace('valid tuple', 'list')}{more}",
        got=got,
        valid=valid_values(field.annotation, field.metadata) if field and not explained else None,
        remedy=_remedy(str(loc[-1]) if isinstance(loc[-1], str) else place, field) if field else None,
    )


def _remedy(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return f"change {name!r}"
    default = field.get_default(call_default_factory=True, validated_data={})
    plain = isinstance(default, bool | int | float | str)
    return f"change {name!r}, or leave it out{f' for {json.dumps(default)}' if plain else ''}"


def _field_at(kind: type[BaseModel], loc: Sequence[int | str]) -> FieldInfo | None:
    """The field at the location of a validation error; None if the location is in no field."""
    current: type[BaseModel] | None = kind
    found: FieldInfo | None = None
    for part in loc:
        if current is not None and isinstance(part, str) and part in current.model_fields:
            found = current.model_fields[part]
            current = _inner_model(found.annotation)
    return found


_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_BOUNDS = (
    (Gt, "above {0.gt:g}"),
    (Ge, "of at least {0.ge:g}"),
    (Lt, "below {0.lt:g}"),
    (Le, "of at most {0.le:g}"),
    (MinLen, "of {0.min_length} or more"),
)


def valid_values(annotation: Any, metadata: Sequence[Any] = ()) -> str | None:
    """The values of a type in words: "a whole number of at least 1"; None if there are no plain words for it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [each for one in inner[1:] for each in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return valid_values(inner[0], [*bounds, *metadata])
    limits = [words.format(each) for kind, words in _BOUNDS for each in metadata if isinstance(each, kind)]
    bounded = " and ".join(limits)
    if annotation in _PLAIN:
        return " ".join(filter(None, (_PLAIN[annotation], bounded)))
    if origin is Literal:
        return " or ".join(map(json.dumps, inner))
    if origin in (tuple, list):
        item = valid_values(inner[0])
        return item and " ".join(filter(None, ("a list", bounded))) + f", each {item}"
    if origin is dict:
        return "a table"
    if origin in (Union, UnionType):
        parts = [valid_values(each, metadata) for each in inner if each is not NoneType]
        return ", or ".join(part for part in parts if part) if None not in parts else None
    return None


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
