"""Writes docs/reference/README.md from the code: commands, suite keys, methods, objectives, analyses, studies, columns.

python docs/reference/make.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main

from rib import studies
from rib.analysis import ANALYSES
from rib.cli.app import app
from rib.methods import METHODS
from rib.objectives import OBJECTIVES
from rib.report import parquet
from rib.suite.schema import suite_schema

PAGE = Path(__file__).with_name("README.md")


def reference_text() -> str:
    """The page."""
    parts = [
        "# Reference",
        "This page is made from the code by `python docs/reference/make.py`; a test compares the two.",
        *_commands(),
        *_keys(),
        *_kinds("Methods", METHODS.classes),
        *_kinds("Objectives", OBJECTIVES.classes),
        *_kinds("Analyses", ANALYSES.classes),
        *_studies(),
        *_columns(),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


# -- commands ----------------------------------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield from _command(typer.main.get_command(app), "rib")


def _command(command: Any, name: str) -> Iterator[str]:
    for each, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _command(inner, f"{name} {each}")
    if hasattr(command, "commands"):
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
    words = " ".join(each.metavar or each.name.upper() for each in arguments)
    yield f"### `{f'{name} {words}'.strip()}`"
    yield inspect.cleandoc(command.help or "")
    rows = [(f"`{each.name.upper()}`", _default(each), each.help or "") for each in arguments]
    rows += [(f"`{', '.join(each.opts)}`", _default(each), each.help or "") for each in options]
    yield _table(("argument or option", "default", ""), rows)


def _default(parameter: Any) -> str:
    default = parameter.default
    return "" if default is None or default is False or callable(default) else f"`{default}`"


# -- suite files -------------------------------------------------------------------------------------------------------

TABLES = {
    "the top level": None,
    "[[runs]]": "Runs",
    "[[analyses]]": "Looks",
    "[recipe]": "Recipe",
    "[data.NAME]": "DataRow",
    "[model.NAME]": "ModelRow",
    '[model.NAME.reference], for head = "new"': "HeadRow",
    "[model.NAME.pretrain]": "PretrainRow",
    "[model.NAME.pretrain.reference]": "ReferenceRow",
    "[study.NAME]": "StudyChoice",
}


def _keys() -> Iterator[str]:
    schema = suite_schema()
    yield "## Suite files"
    yield "The JSON Schema of the same is `src/rib/suites/suite.schema.json`."
    for title, definition in TABLES.items():
        table = schema if definition is None else schema["$defs"][definition]
        needed = set(table.get("required", ()))
        yield f"### `{title}`" if definition else "### Top level"
        rows = [
            (f"`{name}`", _type(each), "required" if name in needed else _value(each), each.get("description", ""))
            for name, each in table["properties"].items()
        ]
        yield _table(("key", "type", "default", ""), rows)


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kinds = [_type(each) for each in field["anyOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        return f"table ({field['$ref'].rpartition('/')[2]})"
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {'type': 'value'}))}"
    return {"object": "table", "null": "null"}.get(str(field.get("type")), str(field.get("type", "value")))


def _value(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    return "" if default in (None, "", [], {}) or isinstance(default, dict) else f"`{default}`"


# -- what a suite can name ---------------------------------------------------------------------------------------------


def _kinds(title: str, classes: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}"
    rows = []
    for name, kind in sorted(classes.items()):
        fields = ", ".join(f"`{field} = {info.default}`" for field, info in kind.model_fields.items())
        rows.append((f"`{name}`", inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0], fields))
    yield _table(("name", "", "fields and defaults"), rows)


def _studies() -> Iterator[str]:
    yield "## Studies"
    yield _table(("name", "question"), [(f"`{name}`", studies.STUDIES.find(name).question) for name in studies.names()])


def _columns() -> Iterator[str]:
    yield "## Columns of Parquet files"
    yield "`rib report SUITE --parquet DIR` writes these tables; [records](../records.md) says how to read them."
    for name, schema in sorted(parquet.schemas().items()):
        yield f"### `{name}.parquet`"
        yield _table(("column", "type"), [(f"`{field.name}`", str(field.type)) for field in schema])


if __name__ == "__main__":
    PAGE.write_text(reference_text(), "utf-8")
