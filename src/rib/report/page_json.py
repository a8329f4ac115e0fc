"""JSON for the figures of a page. Only here does an interval become a list of three numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rib.metrics.intervals import Interval
from rib.results.inside.averages import Spread
from rib.results.words import size_name


def page_json(value: Any) -> Any:
    """A value as JSON types: an interval as [value, low, high], a size as text, a number with five digits."""
    match value:
        case Interval() | Spread():
            return [five_digits(number) for number in (value.value, value.low, value.high)]
        case bool() | None | str():
            return value
        case float() | int():
            return five_digits(value)
        case Mapping():
            return {key: page_json(item) for key, item in value.items()}
        case Iterable():
            return [page_json(item) for item in value]
    assert is_dataclass(value), type(value)
    return {field.name: _field_json(field.name, getattr(value, field.name)) for field in fields(value)}


def _field_json(name: str, value: Any) -> Any:
    return size_name(value) if name == "size" and not isinstance(value, str) else page_json(value)


def five_digits(value: float) -> float:
    """A number rounded to five significant digits, more than a figure can show."""
    return float(f"{value:.5g}")
