"""Values of analyses: a record that RIB did not write is refused in words, wherever it is read."""

from __future__ import annotations

from typing import Any

import pytest

from rib.analysis.base import typed
from rib.analysis.cka import CKAValues
from rib.errors import UserError

GOOD: dict[str, Any] = {"images": 8, "layers": ["a"], "matrix": [[1.0]], "diagonal": [None], "mean": 1}


def test_values_that_rib_writes_are_read_as_they_are() -> None:
    assert typed(GOOD | {"more": "of a later version"}, CKAValues)["diagonal"] == [None]


@pytest.mark.parametrize(
    ("name", "value"),
    [("diagonal", None), ("diagonal", 1.0), ("layers", [None]), ("matrix", [1.0]), ("images", "many"), ("mean", [])],
)
def test_a_value_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        typed(GOOD | {name: value}, CKAValues)
    assert name in str(caught.value)
    assert "remedy: take the records of a store that you trust" in str(caught.value)


def test_a_missing_value_is_refused() -> None:
    values = typed({name: value for name, value in GOOD.items() if name != "diagonal"}, CKAValues)
    assert values["layers"] == ["a"]
    with pytest.raises(UserError, match="diagonal"):
        _ = values["diagonal"]
