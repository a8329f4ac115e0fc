"""docs/reference is what the code says, so it cannot go stale."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest

from helpers import module_at
from rib.methods import METHODS
from rib.report import parquet
from test_report import made_up

FOLDER = Path(__file__).parents[1] / "docs" / "reference"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return module_at(FOLDER / "make.py")


def test_the_page_is_that_of_the_code(maker: ModuleType) -> None:
    """If not: python docs/reference/make.py."""
    assert (FOLDER / "README.md").read_text("utf-8") == maker.reference_text()


def test_the_page_has_everything(maker: ModuleType) -> None:
    text = maker.reference_text()
    for name in METHODS.classes:
        assert f"| `{name}` |" in text
    for words in (
        "### `rib suite new DIR`",
        "`--fail-if`",
        "### `[model.NAME]`",
        "| `head` |",
        "| `mri_low` | double |",
    ):
        assert words in text
    assert "PydanticUndefined" not in text


def test_the_columns_are_those_that_are_written(tmp_path: Path) -> None:
    written = parquet.write_parquet(made_up(tmp_path), tmp_path / "out")
    assert {path.stem: pq.read_schema(path).names for path in written} == {
        name: schema.names for name, schema in parquet.schemas().items()
    }
